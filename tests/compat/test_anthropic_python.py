"""The real `anthropic` package, which vLLM brings, against the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from tests.support.asking import WEATHER, user
from tests.support.servers import Server

pytestmark = pytest.mark.engine

QUESTION = user("What is vllm-wsgi?")
WEATHER_TOOL: Any = {
    "name": WEATHER["function"]["name"],
    "description": WEATHER["function"]["description"],
    "input_schema": WEATHER["function"]["parameters"],
}


@pytest.fixture(scope="module")
def official(engine_server: Server) -> Iterator[Anthropic]:
    with Anthropic(base_url=engine_server.url, api_key="none", max_retries=0) as client:
        yield client


def asked(messages: Any, **fields: Any) -> dict[str, Any]:
    """Greedy and without thinking unless a test says otherwise."""
    greedy = {"max_tokens": 200, "thinking": {"type": "disabled"}, "extra_body": {"temperature": 0}}
    return {"model": "demo", **greedy, "messages": messages, **fields}


def test_a_message_streamed_and_not_streamed_says_the_same(official: Anthropic) -> None:
    whole = official.messages.create(**asked(QUESTION))
    with official.messages.stream(**asked(QUESTION)) as stream:
        text = "".join(stream.text_stream)
        last = stream.get_final_message()
    assert "vLLM" in text
    assert [block.text for block in whole.content if block.type == "text"] == [text]
    assert [block.text for block in last.content if block.type == "text"] == [text]
    assert (whole.stop_reason, last.stop_reason) == ("end_turn", "end_turn")
    assert last.usage == whole.usage


def test_thinking_is_a_block_with_a_signature_and_is_counted(official: Anthropic) -> None:
    with official.messages.stream(**asked(user("Why is the sky blue?"), thinking={"type": "adaptive"})) as stream:
        message = stream.get_final_message()
    thought, text = message.content
    assert thought.type == "thinking"
    assert text.type == "text"
    assert thought.thinking
    assert thought.signature
    assert message.usage.output_tokens_details is not None
    assert 0 < message.usage.output_tokens_details.thinking_tokens < message.usage.output_tokens
    turns = [*user("Why is the sky blue?"), message.to_param(), *QUESTION]
    assert official.messages.create(**asked(turns)).content


def test_a_tool_is_called_and_its_result_read(official: Anthropic) -> None:
    question = user("What is the weather in Paris?")
    with official.messages.stream(**asked(question, tools=[WEATHER_TOOL])) as stream:
        called = stream.get_final_message()
    (use,) = called.content
    assert use.type == "tool_use"
    assert (use.name, use.input, called.stop_reason) == ("get_current_weather", {"city": "Paris"}, "tool_use")
    assert official.messages.create(**asked(question, tools=[WEATHER_TOOL])).content[0].type == "tool_use"
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "21 degrees, sunny"}]}
    turns = [*question, called.to_param(), {"role": "user", "content": [result]}]
    (said,) = official.messages.create(**asked(turns, tools=[WEATHER_TOOL])).content
    assert said.type == "text"
    assert "21" in said.text


def test_a_tool_can_be_forced_and_forbidden(official: Anthropic) -> None:
    tools = {"tools": [WEATHER_TOOL], "tool_choice": {"type": "tool", "name": "get_current_weather"}}
    forced = official.messages.create(**asked(user("What is the weather in Paris?"), **tools))
    assert [block.type for block in forced.content] == ["tool_use"]
    tools["tool_choice"] = {"type": "none"}
    forbidden = official.messages.create(**asked(user("What is the weather in Paris?"), **tools))
    assert [block.type for block in forbidden.content] == ["text"]


def test_a_stop_sequence_is_named(official: Anthropic) -> None:
    message = official.messages.create(**asked(QUESTION, stop_sequences=["vLLM"]))
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "vLLM")
    assert official.messages.create(**asked(QUESTION, max_tokens=2)).stop_reason == "max_tokens"


def test_tokens_are_counted_as_the_model_will_read_them(official: Anthropic) -> None:
    prompt: Any = {"model": "demo", "messages": QUESTION, "thinking": {"type": "disabled"}, "tools": [WEATHER_TOOL]}
    counted = official.messages.count_tokens(**prompt).input_tokens
    usage = official.messages.create(**asked(QUESTION, tools=[WEATHER_TOOL])).usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    del prompt["tools"]
    assert official.messages.count_tokens(**prompt).input_tokens < counted
    prompt["messages"] = user("word " * 40_000)
    assert official.messages.count_tokens(**prompt).input_tokens > 40_000


def test_the_start_of_a_stream_tells_the_length_of_the_prompt(official: Anthropic) -> None:
    start = next(iter(official.messages.create(**asked(QUESTION, stream=True))))
    usage = official.messages.create(**asked(QUESTION)).usage
    assert start.message.usage.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_errors_are_the_clients_own(official: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        official.messages.create(**asked(QUESTION, model="unknown"))
    assert unknown.value.request_id
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: [0-9]+ tokens > [0-9]+ maximum"):
        official.messages.create(**asked(user("word " * 40_000), stream=True))


def test_a_failure_mid_stream_raises(server: Server) -> None:
    """On a scripted engine, which fails when it is told to."""
    with Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        stream = client.messages.create(**asked(user("a b !sleep:0.1 !fail:oh"), stream=True))
        with pytest.raises(anthropic.APIStatusError, match="oh"):
            list(stream)
