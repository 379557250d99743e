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
from service.engine_client.connections import Connections
from service.engine_client.disconnect import Presence
from service.engine_client.exchange import Times
from service.engine_client.inbox import Inbox
from service.engine_client.moves import Moves
from service.engine_client.stream import Stream, StreamOrder
from service.protocol.commands import Submit
from service.protocol.events import Delta, Event
from service.protocol.request import Request, Text
from service.protocol.wire import Unpacker, decode_events, pack
from service.web.framing import NDJSON, stream
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


def calls(run: Callable[[], Any]) -> int:
    """How many of our functions are called while `run` runs."""
    count = 0

    def called(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and "/engine_client/" in frame.f_code.co_filename

    sys.setprofile(called)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("limit", [0, 2])
def test_what_a_move_would_need_costs_two_calls_a_delta_however_many_tokens_it_joins(limit: int):
    moves = Moves([Submit(1, Request("m", Text("a")))], limit)
    for tokens in (1, 100):
        assert calls(partial(moves.add, Delta(1, 0, "a" * tokens, list(range(tokens))))) == 2


def test_an_undisturbed_stream_spends_two_calls_a_delta_and_one_a_batch():
    order = StreamOrder([Request("m", Text("a"))], None, moves=2)
    stream = Stream(Connections("/nowhere"), Times(10.0), Presence(), order)
    stream._open[stream._submits[0].id] = 1
    batches = [[_delta(stream, number) for number in range(size)] for size in (1, 50)]
    assert [calls(partial(stream._take, batch)) for batch in batches] == [3, 101]
    stream.close()


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
