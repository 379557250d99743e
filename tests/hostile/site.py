"""A host over a store, in this process, and configurations that mean harm to it.

The host is the real one: its handlers are called as the queue calls them, what they answer is encoded and decoded as on
the queue, and a restart is another host over the same store.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
import tempfile
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.config import Settings
from service.engine.host.host import Host
from service.errors import BadRequest, ModelNotFound
from service.protocol.commands import Command, Copy, Create, Delete, ListLoaded, ListModels, PutBlob, ShowModel
from service.protocol.events import Event, Loaded, Models, Shown
from service.protocol.model_info import Recipe
from service.protocol.wire import decode_command, decode_events, pack

DEEP = 200_000
CONFIG = {"model_type": "qwen2", "max_position_embeddings": 64}
TOKENIZER = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 2, "content": "c"}]}

BAD_CONFIGS = [
    b'{"model_type":"qwen2","text_config":5}',
    b"[" * DEEP,
    b'{"a":' * DEEP,
    b'{"model_type":"qwen2","max_position_embeddings":"x"}',
    b'{"model_type":"qwen2","max_position_embeddings":NaN}',
    b'{"model_type":"qwen2","max_position_embeddings":-1}',
    b'{"model_type":"qwen2","max_position_embeddings":' + b"9" * 40 + b"}",
    b'{"model_type":"qwen2","max_position_embeddings":' + b"9" * 100_000 + b"}",
    b'{"hidden_size":[1]}',
    b'{"num_attention_heads":["x"]}',
    b'{"model_type":5}',
    b'{"model_type":"\\ud800"}',
    b'{"architectures":5}',
    b'{"quantization_config":5}',
    b'{"quantization_config":{"quant_method":"\\udfff"}}',
    b'{"torch_dtype":"\\ud800"}',
    b"{",
    b"5",
    b"\xff\xfe",
    b"",
]


def safetensors(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def weights(**tensors: Any) -> bytes:
    return safetensors(json.dumps(tensors or {"w": {"dtype": "BF16", "shape": [2, 3]}}).encode())


class Site:
    """A host over a store, with one model of the operator's."""

    def __init__(self, directory: Path) -> None:
        self.store = directory / "store"
        (directory / "declared").mkdir()
        (directory / "declared" / "config.json").write_text(json.dumps(CONFIG))
        (directory / "declared" / "model.safetensors").write_bytes(weights())
        self._settings = Settings(
            model=str(directory / "declared"), model_name="declared", store=str(self.store),
            engine_socket=str(directory / "engine.sock"), engine="scripted",
        )  # fmt: skip
        self.restart()

    def restart(self, **changes: Any) -> None:
        self._handlers = Host(replace(self._settings, **changes))._handlers

    def do(self, command: Command) -> list[Event]:
        """What the command brings, through the queue. Raises ServiceError."""

        async def collect() -> list[Event]:
            sent: Command = decode_command(pack(command)[4:])
            async with aclosing(self._handlers[type(sent)](sent)) as events:
                return [event async for event in events]

        return decode_events(pack(asyncio.run(collect()))[4:])

    def upload(self, files: dict[str, bytes]) -> dict[str, str]:
        digests = {path: f"sha256:{hashlib.sha256(data).hexdigest()}" for path, data in files.items()}
        for path, data in files.items():
            self.do(PutBlob(1, "0" * 32, digests[path], data, last=True))
        return digests

    def create(self, files: dict[str, bytes], name: str = "planted", **fields: Any) -> bool:
        """Whether the model was made; what else but a BadRequest refuses it fails the test."""
        try:
            self.do(Create(1, name, Recipe(files=self.upload(files), **fields)))
        except BadRequest:
            return False
        return True

    def names(self) -> set[str]:
        (models,) = self.do(ListModels(1))
        assert isinstance(models, Models)
        return {info.name for info in models.models}

    def left_out(self) -> dict[str, str]:
        (loaded,) = self.do(ListLoaded(1))
        assert isinstance(loaded, Loaded)
        return {model.name: model.reason for model in loaded.left_out}

    def show(self, name: str) -> Shown:
        (models,) = self.do(ShowModel(1, name))
        (shown,) = self.do(ShowModel(1, name, verbose=True))
        assert isinstance(models, Models)
        assert isinstance(shown, Shown)
        assert models.models == [shown.model]
        return shown

    def tree(self) -> set[str]:
        return {str(path.relative_to(self.store)) for path in self.store.rglob("*") if not path.is_dir()}


@contextmanager
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory() as directory:
        yield Site(Path(directory))


def assert_all_is_well(site: Site, made: bool, name: str = "planted") -> None:
    """List, show, copy, restart and delete: nothing fails, and nothing is left."""
    planted = {f"{name}:latest"} if made else set()
    for _ in range(2):
        assert site.names() == {"declared:latest"} | planted
        assert site.left_out() == {}
        site.show("declared")
        if made:
            site.show(name)
        site.restart()
    if made:
        site.do(Copy(1, name, "twin"))
        site.show("twin")
        for each in (name, "twin"):
            site.do(Delete(1, each))
    else:
        with pytest.raises(ModelNotFound):
            site.do(Delete(1, name))
    assert site.names() == {"declared:latest"}
    assert site.tree() == set()
