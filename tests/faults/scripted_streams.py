"""Streams of a scripted engine, in every dialect, that wait at gates, and how they compare with undisturbed ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.answers import chat, generate
from tests.support.servers import Server
from tests.support.waiting import one_is_done, until

WORDS = [f"w{number}" for number in range(30)]
# The last words before the first gate, and between the two.
FIRST, SECOND = 10, 20

# Status, words (in order, where there is one answer), and how often the answer says that it has ended.
Said = tuple[int, list[str], int]


def requests(gates: Path) -> list[tuple[str, dict[str, Any]]]:
    """Bodies whose answers wait for two files in the directory `gates`: after FIRST words and after SECOND."""
    parts = " ".join(WORDS[:FIRST]), " ".join(WORDS[FIRST:SECOND]), " ".join(WORDS[SECOND:])
    words = f"{parts[0]} !until:{gates}/1 {parts[1]} !until:{gates}/2 {parts[2]}"
    script = f"!think:hm {words}"
    return [
        *[("/api/chat", chat(script, **fields)) for fields in ({}, {"stream": "sse"}, {"stream": False})],
        *[("/api/generate", generate(script, **fields)) for fields in ({}, {"stream": "sse"}, {"stream": False})],
        *[("/v1/chat/completions", chat(script, **more)) for more in ({"stream": True}, {"n": 3, "stream": True}, {})],
        ("/v1/completions", {"model": "demo", "prompt": [script, words], "n": 2, "stream": True}),
        ("/v1/completions", {"model": "demo", "prompt": script, "max_tokens": 25}),
        *[("/v1/responses", {"model": "demo", "input": script, "stream": stream}) for stream in (True, False)],
        *[("/v1/messages", {**chat(script), "max_tokens": 100, "stream": stream}) for stream in (True, False)],
    ]


# The engine counts requests, whatever their `n`; each of the two prompts above is one.
RUNNING = len(requests(Path())) + 1


class Post:
    """A request, and what of its answer has come."""

    def __init__(self, pool: ThreadPoolExecutor, server: Server, path: str, body: dict[str, Any]) -> None:
        self._body = body
        self._status = 0
        self._text = ""
        self.is_streamed = body.get("stream", path.startswith("/api/")) is not False
        self.future: Future[None] = pool.submit(self._run, f"{server.url}{path}")

    def _run(self, url: str) -> None:
        with httpx.stream("POST", url, json=self._body, timeout=120) as answer:
            self._status = answer.status_code
            for text in answer.iter_text():
                self._text += text

    def has(self, word: str) -> bool:
        return word in self._words()

    def said(self) -> Said:
        """Wait for the end."""
        self.future.result()
        words = self._words()
        several = "n" in self._body or isinstance(self._body.get("prompt"), list)
        ends = sum(self._text.count(mark) for mark in ('"done":true', "[DONE]", '"error"'))
        return self._status, sorted(words) if several else words, ends

    def _words(self) -> list[str]:
        return re.findall(r"w\d+", self._text.replace("\\n", "\n"))


class Streams:
    """All of the requests, asked at once. They wait at the first gate."""

    def __init__(self, pool: ThreadPoolExecutor, server: Server, gates: Path) -> None:
        self._gates = gates
        self._server = server
        self._posts = [Post(pool, server, path, body) for path, body in requests(gates)]

    def wait_until_all_run(self) -> None:
        posts = [post.future for post in self._posts]
        until(lambda: self._server.status().get("running", 0) >= RUNNING, 120, "all run", one_is_done(posts))

    def pass_first_gate(self) -> None:
        """Until each that is streamed has brought words from behind it."""
        (self._gates / "1").touch()
        streamed = [post for post in self._posts if post.is_streamed]
        until(lambda: all(post.has(WORDS[SECOND - 1]) for post in streamed), 120, "all have passed the gate")

    def end(self) -> list[Said]:
        """Open all gates, and return all answers."""
        for gate in ("1", "2"):
            (self._gates / gate).touch()
        return [post.said() for post in self._posts]


@contextmanager
def streams(server: Server, gates: Path) -> Iterator[Streams]:
    """Streams that all run, and wait at the first gate. `gates` is a new directory."""
    # The server's numbers are those of the last second: streams that have just ended must not pass for these.
    server.wait_until_idle()
    with ThreadPoolExecutor(RUNNING) as pool:
        begun = Streams(pool, server, gates)
        try:
            begun.wait_until_all_run()
            yield begun
        finally:
            # Whatever fails must not leave threads waiting.
            for gate in ("1", "2"):
                (gates / gate).touch()


def undisturbed_answers(server: Server, gates: Path) -> list[Said]:
    with streams(server, gates) as begun:
        return begun.end()
