"""What makes it fast, in numbers that no busy machine changes: messages, writes and objects, not seconds."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from service.dialects.anthropic import answer as anthropic_answer
from service.dialects.anthropic.request import parse_messages
from service.dialects.ollama import answer as ollama_answer
from service.dialects.ollama import request as ollama_request
from service.dialects.ollama.answer import OllamaGenerateAnswer
from service.dialects.ollama.request import parse_generate
from service.dialects.openai import chat_answer, chat_request, responses_answer
from service.dialects.openai import completions as openai_completions
from service.dialects.openai.responses_request import parse_responses
from service.engine.listener import WebWorkerConnection
from service.engine.worker.kept_stream import Follower, KeptStream
from service.engine_client.connections import Connections
from service.engine_client.cursor import Cursor
from service.engine_client.disconnect import Presence
from service.engine_client.exchange import Times
from service.engine_client.guarded_stream import GuardedStream
from service.engine_client.inbox import Inbox
from service.engine_client.moves import Moves
from service.engine_client.stream import Stream, StreamOrder
from service.protocol.commands import Submit
from service.protocol.events import Delta, Event
from service.protocol.kept import Keep, SubmitKept
from service.protocol.request import Request, Text
from service.protocol.wire import Unpacker, decode_events, pack
from service.telemetry.request_stats import RequestStats
from service.web.fast_path import StreamFastPath
from service.web.framing import NDJSON, SSE, CursorFraming, Framing, stream
from service.web.kept_answers import KINDS, KeptRecords
from tests.support.asking import Asker
from tests.support.loop import settle

USER = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
PROMPT = {"model": "m", "input": "a"}
ANSWERS: dict[str, Any] = {
    "/api/chat": lambda: ollama_answer.OllamaChatAnswer(ollama_request.parse_chat(USER)),
    "/api/generate": lambda: OllamaGenerateAnswer(parse_generate({"model": "m", "prompt": "a"})),
    "/v1/chat/completions": lambda: chat_answer.ChatAnswer(chat_request.parse_chat(USER)),
    "/v1/completions": lambda: openai_completions.CompletionAnswer(
        openai_completions.parse_completion({"model": "m", "prompt": "a"})
    ),
    "/v1/responses": lambda: responses_answer.ResponsesAnswer(parse_responses(PROMPT), ""),
    "/v1/messages": lambda: anthropic_answer.MessagesAnswer(parse_messages(USER | {"max_tokens": 9}), ""),
}


# What a resumable stream's token costs more: the answer so far, which the next engine would get, and the cursor.
MOST_CALLS_OF_A_CURSOR = 4


class Wire:
    """The writer of an asyncio stream, as far as a peer uses it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.transport = self

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing."""


def test_a_step_of_many_streams_is_one_message():
    next_step = asyncio.Event()

    async def two_steps(command: Submit) -> AsyncGenerator[Event, None]:
        yield Delta(command.id, 0, "a", [0])
        await next_step.wait()
        yield Delta(command.id, 1, "a", [1])

    async def main() -> list[bytes]:
        reader, wire = asyncio.StreamReader(), Wire()
        connection = WebWorkerConnection({Submit: two_steps}, reader, wire)
        serving = asyncio.create_task(connection.serve())
        for number in range(50):
            reader.feed_data(pack(Submit(number, Request("m", Text("a")))))
        await settle()
        next_step.set()
        await settle()
        reader.feed_eof()
        await serving
        return wire.written

    _hello, *steps = asyncio.run(main())
    assert [len(decode_events(payload)) for each in steps for payload in Unpacker().feed(each)] == [50, 50]


def calls(run: Callable[[], Any], where: str = "/engine_client/") -> int:
    """How many functions of these files are called while `run` runs."""
    count = 0

    def called(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and where in frame.f_code.co_filename

    sys.setprofile(called)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("limit", [0, 2])
@pytest.mark.parametrize("tokens", [1, 100])
def test_what_a_move_would_need_costs_a_call_a_delta_and_one_for_thirty_two(limit: int, tokens: int):
    moves = Moves([Submit(1, Request("m", Text("a")))], limit)
    counts = [calls(partial(moves.add, Delta(1, 0, "a" * tokens, list(range(tokens))))) for _ in range(64)]
    assert counts == ([1] * 31 + [2]) * 2


def test_an_undisturbed_stream_spends_two_calls_a_delta_and_one_a_batch():
    order = StreamOrder([Request("m", Text("a"))], None, moves=2)
    stream = Stream(Connections("/nowhere"), Times(10.0), Presence(), order)
    stream._open[stream._submits[0].id] = 1
    batches = [[_delta(stream, number) for number in range(size)] for size in (1, 30)]
    assert [calls(partial(stream._take, batch)) for batch in batches] == [3, 61]
    stream.close()


def _kept() -> Keep:
    return Keep("s" * 43, "", b"", 300.0, False, 0, 100, 1 << 26)


def test_a_kept_delta_is_not_copied_for_its_one_reader_and_costs_the_same_in_a_long_answer():
    kept, got = KeptStream(SubmitKept(1, _kept(), [Request("m", Text("a"))], [0], 1)), list[Event]()
    loop = asyncio.new_event_loop()
    kept._followers.append(Follower(7, got.append, loop.create_future()))
    loop.close()
    counts = []
    for number in range(5000):
        delta = Delta(1, number, "a", [number])
        counts.append(calls(partial(kept.add, 0, delta), "/service/") if number % 1000 == 1 else kept.add(0, delta))
        assert got.pop() is delta
    assert set(counts) == {None, 2}


@pytest.mark.parametrize("framing", [NDJSON, SSE])
def test_a_resumable_delta_costs_a_few_calls_more_however_long_its_answer_is(framing: Framing):
    order, call = StreamOrder([Request("m", Text("a"))], None, moves=2), ollama_request.parse_chat(USER)
    plain, answer = Stream(Connections("/nowhere"), Times(10.0), Presence(), order), ANSWERS["/api/chat"]()
    answer.streams = True
    kept = GuardedStream(Connections("/nowhere"), Times(10.0), Presence(), order, _kept())
    records = KeptRecords(KINDS["ollama.chat"].answer(call, 0), Cursor("s" * 43), 1, ends_with_record=True)
    costs = _costs(plain, lambda events: framing.frames(answer.records_of_all(events)))
    framed = CursorFraming(framing)
    kept_costs = _costs(kept, lambda events: framed.frames(records.records_of_all(events)))
    kept._is_over = True
    kept.close()
    assert kept_costs[0] == kept_costs[1] <= costs[0] + MOST_CALLS_OF_A_CURSOR


def _costs(stream: Stream, frames: Callable[[list[Event]], bytes]) -> list[int]:
    """How many calls a delta costs on the fast path, early in the answer and late in it."""
    path = StreamFastPath(stream, RequestStats("/api/chat"), frames)
    path._sink = Sink()
    stream._open[stream._submits[0].id] = 1
    takes = [partial(path.take, _delta(stream, number)) for number in range(2000)]
    counts = [calls(take, "/service/") for take in takes]
    assert path._error is None
    # Some calls come once a second, or once a stream.
    return [min(counts[:100]), min(counts[-100:])]


class Sink:
    def send(self, piece: bytes) -> bytes:
        return b""

    def finish(self, rest: bytes) -> None:
        """Nothing."""


def _delta(stream: Stream, number: int) -> Delta:
    return Delta(stream._submits[0].id, number, "a", [number])


@pytest.mark.parametrize("route", ANSWERS)
def test_what_has_piled_up_for_a_stream_is_one_write(route: str):
    inbox, answer = Inbox(1), ANSWERS[route]()
    list(answer.records([[Delta(1, 0, "a", [0])]]))
    for number in range(1, 100):
        inbox.put(Delta(1, number, "a", [number]))
    (written,) = stream(answer.records([inbox.get()]), NDJSON, lambda error: {})
    (line,) = written.splitlines()
    assert b"a" * 99 in line


@pytest.mark.parametrize("route", ["/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions"])
def test_no_token_is_made_a_dictionary(route: str):
    answer = ANSWERS[route]()
    (_, records) = answer.records([[Delta(1, 0, "a", [0])], [Delta(1, 1, "b", [1])]])
    assert [type(record) for record in records if not isinstance(record, msgspec.Struct)] == []


def test_under_load_a_write_brings_several_tokens(client: Any):
    asker = Asker(str(client.base_url))
    records = asker.ndjson("/api/generate", prompt="!rate:5000 !repeat:5000:a")
    asker.close()
    assert records[-1]["eval_count"] == 5000
    assert len(records) < 2500


def test_a_first_token_waits_for_no_other(client: Any):
    asker = Asker(str(client.base_url))
    first, *rest = asker.ndjson("/api/generate", prompt="a !sleep:0.5 b c")
    asker.close()
    assert first["response"].strip() == "a"
    assert "".join(record["response"] for record in rest).split() == ["b", "c"]
