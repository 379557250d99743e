"""Asking a server as its clients do, and reading what it answers."""

from __future__ import annotations

import json
from typing import Any

import httpx
from httpx_sse import connect_sse


def tool(name: str, description: str, **arguments: str) -> dict[str, Any]:
    """Return a tool in OpenAI's form. `arguments` are the types of its arguments, all of which are required."""
    properties = {argument: {"type": kind} for argument, kind in arguments.items()}
    parameters = {"type": "object", "properties": properties, "required": [*arguments]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


WEATHER = tool("get_current_weather", "Get the weather of a city", city="string")
ADD = tool("add", "Add two numbers", a="integer", b="integer")


def user(content: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


class Asker:
    """One model on one server. Thinking is off unless a test asks for it."""

    def __init__(self, url: str, model: str = "demo") -> None:
        self._http = httpx.Client(base_url=url, timeout=120, verify=False)
        self._model = model

    def close(self) -> None:
        self._http.close()

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self._http.post(path, json={"model": self._model, **body})

    def chat(self, messages: list[dict[str, Any]] | str, **body: Any) -> dict[str, Any]:
        """The one record of an answer that is not streamed."""
        messages = user(messages) if isinstance(messages, str) else messages
        return self._record("/api/chat", {"think": False, "messages": messages, **body})

    def generate(self, prompt: str, **body: Any) -> dict[str, Any]:
        return self._record("/api/generate", {"think": False, "prompt": prompt, **body})

    def ndjson(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """The records of a stream."""
        with self._http.stream("POST", path, json={"model": self._model, **body}) as response:
            assert response.headers["content-type"] == "application/x-ndjson", response.read()
            return [json.loads(line) for line in response.iter_lines()]

    def sse(self, path: str, **body: Any) -> list[dict[str, Any]]:
        with connect_sse(self._http, "POST", path, json={"model": self._model, **body}) as source:
            return [event.json() for event in source.iter_sse()]

    def _record(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self.post(path, **body, stream=False)
        assert response.status_code == 200, response.text
        record: dict[str, Any] = response.json()
        return record


def content(records: list[dict[str, Any]]) -> str:
    """The text of a chat's or a generation's records."""
    return "".join(record["message"]["content"] if "message" in record else record["response"] for record in records)
