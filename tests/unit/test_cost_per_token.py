"""What makes it fast, in numbers that no busy machine changes: messages, writes and objects, not seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
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
from service.engine_client.inbox import Inbox
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
