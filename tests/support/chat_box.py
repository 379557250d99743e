"""The application of docs/tutorial/chat-box.md, built and started as the page says."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers import ROOT, Program, WebProgram, free_port

PAGE = ROOT / "docs" / "tutorial" / "chat-box.md"


def blocks(language: str = "") -> list[str]:
    """The page's blocks of a language; without one, its commands."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return [text for named, text in found if named == language]


def variables(block: str) -> dict[str, str]:
    """What a block of commands sets."""
    words = [word.partition("=") for line in block.splitlines() for word in shlex.split(line.removeprefix("export "))]
    return {name: value for name, equals, value in words if equals and name.isupper()}


@contextmanager
def chat_box(directory: Path) -> Iterator[WebProgram]:
    """The application under Flask's own server, and the scripted engine of the page. The socket is the test's own."""
    # In a checkout the package has another name.
    (directory / "vllm_wsgi").symlink_to(ROOT / "service")
    (directory / "shop.py").write_text("\n\n".join(blocks("python")))
    _, _, scripted, _ = blocks()
    env = {"VLLM_WSGI_ENGINE_SOCKET": str(directory / "e.sock"), "PYTHONPATH": str(directory)}
    engine = Program([sys.executable, "-m", "vllm_wsgi.engine.host"], directory, variables(scripted) | env, directory)
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", "shop", "run", "--port", str(port)]
    web = WebProgram(command, directory, port, env, "/llm", directory)
    try:
        web.wait_until_ready()
        yield web
    finally:
        web.stop()
        engine.stop()
