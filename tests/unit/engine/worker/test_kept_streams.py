"""How much an engine worker keeps: by key and in all. The engine is the test's own."""

from __future__ import annotations

import msgspec
import pytest

from service.engine.listener import Emit
from service.engine.worker.kept_streams import StreamStore
from service.errors import TooManyRequests
from service.protocol.events import Delta, Finished
from service.protocol.kept import SHARES, Keep, SubmitKept
from service.protocol.request import Defaults, Request, Text
from tests.support.loop import in_loop

LIMIT = 1000
KEEP = Keep("1", "alice", b"", 60.0, True, 0, 1000, LIMIT)


async def generate(request: Request, defaults: Defaults, emit: Emit) -> None:
    """The prompt is the answer, too."""
    assert isinstance(request.prompt, Text)
    emit(Delta(1, 0, request.prompt.text, [1]))
    emit(Finished(1, "stop", 1, 1, 0, 0, 0, 0))


async def kept(store: StreamStore, text: str, **fields: object) -> None:
    """Keep a stream with this answer; return when it is whole."""
    keep = msgspec.structs.replace(KEEP, **fields)
    request = Request("m", Text(text))
    async for _ in store._submit(SubmitKept(1, keep, [request], [0], 1)):
        pass


@in_loop
async def test_a_key_whose_streams_hold_too_many_bytes_gets_no_further_one():
    store = StreamStore(generate)
    await kept(store, "a" * LIMIT)
    with pytest.raises(
        TooManyRequests, match=rf"the key keeps would take \d+ bytes, and VLLM_WSGI_RESUME_BYTES.*{LIMIT}"
    ):
        await kept(store, "a", stream="2")
    await kept(store, "a", stream="3", owner="bob")


@in_loop
async def test_a_request_counts_before_its_answer():
    with pytest.raises(TooManyRequests, match="VLLM_WSGI_RESUME_BYTES"):
        await kept(StreamStore(generate), "a", recipe=b"a" * (LIMIT + 1))


@in_loop
async def test_all_keys_together_have_a_limit():
    with pytest.raises(TooManyRequests, match=f"the model keeps would take .* allows {LIMIT * SHARES}"):
        await kept_for_many_keys(StreamStore(generate))


async def kept_for_many_keys(store: StreamStore) -> None:
    """One stream for each key, each within its key's limit."""
    for number in range(2 * SHARES):
        await kept(store, "a" * LIMIT, stream=str(number), owner=f"key {number}")
