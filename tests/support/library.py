"""What tests ask of a server whose models clients change."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx

from tests.support.answers import NDJSON, chat, parse, text
from tests.support.servers import ROOT

DEMO = ROOT / "models" / "demo"
WEIGHTS = {"config.json": b'{"model_type": "tiny"}', "model.safetensors": b"\x02\0\0\0\0\0\0\0{}"}


def names(client: httpx.Client) -> set[str]:
    return {model["name"] for model in client.get("/api/tags").json()["models"]}


def delete(client: httpx.Client, name: str) -> httpx.Response:
    return client.request("DELETE", "/api/delete", json={"model": name})


def create(client: httpx.Client, name: str, **fields: Any) -> httpx.Response:
    return client.post("/api/create", json={"model": name, "from": "demo", **fields})


def said(client: httpx.Client, model: str, script: str) -> str:
    return text(parse(client.post("/api/chat", json=chat(script, model=model)).content, NDJSON)).strip()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def upload(client: httpx.Client, files: dict[str, bytes]) -> dict[str, str]:
    for data in files.values():
        client.post(f"/api/blobs/{digest(data)}", content=data)
    return {path: digest(data) for path, data in files.items()}
