"""The real `ollama` package against the real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import ollama
import pytest
from ollama import Client, ResponseError

from tests.support.asking import WEATHER, Asker, content, user
from tests.support.servers import Server

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def official(engine_server: Server) -> Iterator[Client]:
    client = Client(host=engine_server.url)
    yield client
    client._client.close()


def test_a_chat_streams_what_an_sse_client_reads(official: Client, demo: Asker) -> None:
    question = user("What is vllm-wsgi?")
    parts = list(official.chat("demo", question, stream=True, think=False))
    events = demo.sse("/api/chat", messages=question, think=False)
    assert "".join(part.message.content or "" for part in parts) == content(events)
    assert parts[-1].done
    assert parts[-1].done_reason == "stop"


def test_a_chat_that_is_not_streamed(official: Client) -> None:
    answer = official.chat("demo", user("What is vllm-wsgi?"), think=False)
    assert "vLLM" in (answer.message.content or "")
    assert answer.eval_count


def test_thinking_and_tools(official: Client) -> None:
    thought = official.chat("demo", user("Why is the sky blue?"), think=True)
    assert thought.message.thinking
    called = official.chat("demo", user("What is the weather in Paris?"), tools=[WEATHER], think=False)
    assert called.message.tool_calls is not None
    assert called.message.tool_calls[0].function.arguments == {"city": "Paris"}


def test_generate_with_context(official: Client) -> None:
    first = official.generate("demo", "My name is Anna.", think=False)
    second = official.generate("demo", "What is my name?", context=list(first.context or []), think=False)
    assert "Anna" in second.response


def test_list_show_and_ps(official: Client) -> None:
    assert [model.model for model in official.list().models] == ["demo:latest"]
    assert official.list().models[0].size or 0 > 0
    shown = official.show("demo")
    assert shown.modelinfo is not None
    assert shown.modelinfo["qwen2.context_length"] == 32_768
    assert "tools" in (shown.capabilities or [])
    running = official.ps().models[0]
    assert running.model == "demo:latest"
    assert running.expires_at is not None


def test_errors_have_their_status(official: Client) -> None:
    with pytest.raises(ResponseError) as unknown:
        official.chat("unknown", user("x"))
    assert unknown.value.status_code == 404
    with pytest.raises(ResponseError) as bad:
        list(official.generate("demo", "x", options={"temperature": "hot"}, stream=True))
    assert bad.value.status_code == 400


async def _async_text(url: str) -> str:
    stream = await ollama.AsyncClient(host=url).chat("demo", user("What is vllm-wsgi?"), stream=True, think=False)
    return "".join([part.message.content or "" async for part in stream])


def test_the_async_client_reads_the_same(engine_server: Server, official: Client) -> None:
    expected = official.chat("demo", user("What is vllm-wsgi?"), think=False).message.content
    assert asyncio.run(_async_text(engine_server.url)) == expected
