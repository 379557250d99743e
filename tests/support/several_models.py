"""A server with several models on scripted engines, and what tests ask of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.answers import chat, text
from tests.support.servers import SCRIPTED, Server
from tests.support.waiting import PATIENCE_SECONDS, until


class Models:
    """A server with several models, and what is asked of it."""

    def __init__(self, directory: Path, declaration: str, **settings: str) -> None:
        (directory / "weights").mkdir()
        (directory / "chat.jinja").write_text("{{ messages }}")
        path = directory / "models.toml"
        path.write_text(declaration)
        env = {f"VLLM_WSGI_{name.upper()}": value for name, value in settings.items()}
        self.server = Server(directory, {**SCRIPTED, "VLLM_WSGI_MODELS": str(path), **env})
        self.server.wait_until_serving()
        self.client = httpx.Client(base_url=self.server.url, timeout=120, limits=httpx.Limits(max_connections=None))

    def stop(self) -> None:
        self.client.close()
        self.server.stop()

    def ask(self, model: str, script: str = "a b", **fields: Any) -> httpx.Response:
        return self.client.post("/api/chat", json=chat(script, **{"model": model, "stream": False, **fields}))

    def load(self, model: str, **fields: Any) -> None:
        answer = self.client.post("/api/generate", json={"model": model, **fields})
        assert (answer.status_code, answer.json()["done_reason"]) == (200, "load")

    def unload(self, *models: str) -> None:
        for model in models:
            answer = self.client.post("/api/generate", json={"model": model, "keep_alive": 0})
            assert (answer.status_code, answer.json()["done_reason"]) == (200, "unload")

    def loaded(self) -> list[str]:
        """The names of the loaded models, as `/api/ps` orders them."""
        return [entry["name"].removesuffix(":latest") for entry in self.client.get("/api/ps").json()["models"]]

    def loads(self, model: str) -> int:
        """How many times it has begun to be loaded."""
        return self.server.output.count(f"{model}:latest: loading from")

    def wait_until_loaded(self, *models: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Until these are loaded, and no others."""
        until(lambda: sorted(self.loaded()) == sorted(models), seconds, f"{models} are loaded")


def only_pinned(models: Models) -> Models:
    models.unload(*(name for name in models.loaded() if name != "pinned"))
    models.load("pinned")
    models.wait_until_loaded("pinned")
    return models


@contextmanager
def streaming(models: Models, model: str, script: str) -> Iterator[Callable[[], str]]:
    """A stream whose first token has come; what is yielded reads the rest of it."""
    with models.client.stream("POST", "/api/chat", json=chat(f"first {script}", model=model)) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines))["message"]["content"] == "first "
        yield lambda: text([json.loads(line) for line in lines])
