"""How much an engine worker keeps: by key and in all. The engine is the test's own."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from service.engine.listener import Emit
from service.engine.worker.kept_streams import StreamStore
from service.errors import TooManyRequests
from service.protocol.events import Delta, Event, Finished, Head, TokenLogprob
from service.protocol.kept import SHARES, Attach, EndStream, Keep, KeptState, ListStreams, SubmitKept
from service.protocol.request import Defaults, Request, Text
from service.protocol.wire import Unpacker, decode_command, pack
from tests.support.loop import in_loop, settle

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
    await store._submit(SubmitKept(1, keep, [request], [0], 1), lambda event: None)


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
@pytest.mark.parametrize(
    "delta",
    [Delta(1, 0, "a" * 10_000, [1]), Delta(1, 0, "a", [1], logprobs=[TokenLogprob("a", -1.0)] * 200)],
    ids=["text", "log probabilities"],
)
async def test_a_running_stream_ends_where_its_keys_streams_hold_too_many_bytes(delta: Delta):
    emitted: list[Event] = []

    async def generate_on(request: Request, defaults: Defaults, emit: Emit) -> None:
        while len(emitted) < 1000:
            emit(msgspec.structs.replace(delta))
            await asyncio.sleep(0)

    store, most = StreamStore(generate_on), 1_000_000
    keep = msgspec.structs.replace(KEEP, most_bytes=most)
    submit = SubmitKept(1, keep, [Request("m", Text("a"))], [0], 1)
    with pytest.raises(TooManyRequests, match=r"keeps hold \d+ bytes, and VLLM_WSGI_RESUME_BYTES allows 1000000"):
        await store._submit(submit, emitted.append)
    assert most < store._shelf.bytes("alice") < 3 * most
    assert [state.state for state in await listed(store)] == ["failed"]
    with pytest.raises(TooManyRequests, match="VLLM_WSGI_RESUME_BYTES"):
        await kept(store, "a", stream="2", most_bytes=most)


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


async def generate_nothing(request: Request, defaults: Defaults, emit: Emit) -> None:
    await asyncio.Event().wait()


@in_loop
async def test_a_cancelled_stream_gives_its_place_to_the_next_one():
    store = StreamStore(generate_nothing)
    submits = []
    for stream in ("1", "2", "3", "4"):
        submits.append(asyncio.ensure_future(kept(store, "a", stream=stream, most_streams=2)))
        await settle()
        if stream == "1":
            [_ async for _ in store._end(EndStream(1, stream, KEEP.owner))]
            assert [state.state for state in await listed(store)] == ["cancelled"]
    assert [(state.stream, state.state) for state in await listed(store)] == [("2", "running"), ("3", "running")]
    with pytest.raises(TooManyRequests, match="the key has 2 streams"):
        await submits[3]
    for submit in submits:
        submit.cancel()


async def listed(store: StreamStore) -> list[KeptState]:
    return [state async for event in store._list(ListStreams(1, KEEP.owner)) for state in event.streams]


@in_loop
async def test_whole_streams_are_handed_over_the_newest_first_as_far_as_they_fit(caplog: pytest.LogCaptureFixture):
    store, other = StreamStore(generate), StreamStore(generate)
    for number in ("1", "2", "3"):
        await kept(store, f"answer {number}", stream=number)
    whole = store.whole(10_000)
    assert [each.keep.stream for each in whole] == ["3", "2", "1"]
    most = sum(each.bytes for each in store._shelf.streams()[1:])
    assert [each.keep.stream for each in store.whole(most)] == ["3", "2"]
    assert "1 ended streams are lost" in caplog.text
    got: list[Event] = []
    for each in whole:
        await other._submit(decoded(each), got.append)
    assert [type(event) for event in got] == [Head] * 3
    assert [(state.stream, state.model, state.state) for state in await listed(other)] == [
        (number, "m", "done") for number in ("3", "2", "1")
    ]
    first, again = list[Event](), list[Event]()
    await store._attach(Attach(9, "2", KEEP.owner), first.append)
    await other._attach(Attach(9, "2", KEEP.owner), again.append)
    assert again == first


def decoded(command: SubmitKept) -> SubmitKept:
    """As it comes from the queue."""
    (payload,) = Unpacker().feed(pack(command))
    return decode_command(payload)


class Gated:
    """A store whose one stream begins with "a" and waits, read by its web worker (7) and by a client (8)."""

    def __init__(self) -> None:
        self._gate = asyncio.Event()
        self._store = StreamStore(self._generate)
        self.events: dict[int, list[Event]] = {7: [], 8: []}

    async def _generate(self, request: Request, defaults: Defaults, emit: Emit) -> None:
        emit(Delta(1, 0, "a", [1]))
        await self._gate.wait()
        for seq, letter in enumerate("bcd", 1):
            emit(Delta(1, seq, letter, [seq]))
        emit(Finished(1, "stop", 1, 4, 0, 0, 0, 0))

    async def begin(self) -> None:
        submit = SubmitKept(7, KEEP, [Request("m", Text(""))], [0], 1)
        self.guard = asyncio.ensure_future(self._store._submit(submit, self.events[7].append))
        await settle()
        attach = Attach(8, KEEP.stream, KEEP.owner)
        self.reader = asyncio.ensure_future(self._store._attach(attach, self.events[8].append))
        await settle()

    async def end(self) -> None:
        self._gate.set()
        await asyncio.gather(self.guard, self.reader, return_exceptions=True)

    def text(self, id: int) -> str:
        return "".join(event.text for event in self.events[id] if isinstance(event, Delta))


@in_loop
async def test_readers_get_each_event_once_under_their_own_ids_whenever_they_come():
    """What follows is pushed: a reader is one task for the whole stream, and sleeps until its end."""
    gated = Gated()
    await gated.begin()
    await gated.end()
    for number, events in gated.events.items():
        assert [type(event) for event in events] == [Head, Delta, Delta, Delta, Delta, Finished]
        assert {event.id for event in events} == {number}
        assert gated.text(number) == "abcd"


@in_loop
async def test_the_streams_of_a_key_have_as_many_readers_as_it_may_have_streams():
    store = StreamStore(generate_nothing)
    submits = [asyncio.ensure_future(kept(store, "a", stream=each, most_streams=3)) for each in ("1", "2")]
    submits.append(asyncio.ensure_future(kept(store, "a", stream="3", owner="bob")))
    await settle()
    readers = [
        asyncio.ensure_future(store._attach(Attach(number, stream, KEEP.owner), lambda event: None))
        for number, stream in enumerate(("1", "1", "2"))
    ]
    await settle()
    with pytest.raises(TooManyRequests, match="the key have 3 readers, and VLLM_WSGI_RESUME_STREAMS allows 3"):
        await store._attach(Attach(9, "2", KEEP.owner), lambda event: None)
    got: list[Event] = []
    readers.append(asyncio.ensure_future(store._attach(Attach(9, "3", "bob"), got.append)))
    readers[0].cancel()
    await settle()
    readers.append(asyncio.ensure_future(store._attach(Attach(9, "2", KEEP.owner), got.append)))
    await settle()
    assert [type(event) for event in got] == [Head, Head]
    for task in (*readers, *submits):
        task.cancel()


@in_loop
async def test_a_reader_that_has_left_gets_nothing_more_and_disturbs_nobody():
    gated = Gated()
    await gated.begin()
    gated.reader.cancel()
    await settle()
    await gated.end()
    assert (gated.text(7), gated.text(8)) == ("abcd", "a")
    assert [type(event) for event in gated.events[7][-1:]] == [Finished]
