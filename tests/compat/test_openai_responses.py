"""The real `openai` package, which vLLM brings, and its Responses against the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.support.asking import WEATHER
from tests.support.servers import Server

pytestmark = pytest.mark.engine

QUESTION = "What is vllm-wsgi?"
WEATHER_TOOL: Any = {"type": "function", "strict": False, **WEATHER["function"]}


class Sky(BaseModel):
    colour: Literal["blue", "red"]


@pytest.fixture(scope="module")
def official(engine_server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{engine_server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def asked(said: Any, **fields: Any) -> dict[str, Any]:
    """Greedy and without thinking unless a test says otherwise."""
    return {"model": "demo", "input": said, "temperature": 0, "reasoning": {"effort": "none"}, **fields}


def test_a_response_streamed_and_not_streamed_says_the_same(official: OpenAI) -> None:
    whole = official.responses.create(**asked(QUESTION))
    with official.responses.stream(**asked(QUESTION)) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        last = stream.get_final_response()
    assert "vLLM" in text
    assert text == whole.output_text == last.output_text
    assert last.usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens


def test_the_tokens_of_a_prompt_are_counted_as_a_response_counts_them(official: OpenAI) -> None:
    kept = official.responses.create(**asked(QUESTION, tools=[WEATHER_TOOL], store=True))
    prompt = {"model": "demo", "input": QUESTION, "tools": [WEATHER_TOOL], "reasoning": {"effort": "none"}}
    counted = official.responses.input_tokens.count(**prompt)
    assert kept.usage is not None
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", kept.usage.input_tokens)
    longer = official.responses.input_tokens.count(**prompt, previous_response_id=kept.id)
    assert longer.input_tokens > counted.input_tokens
    # Far more than the context holds.
    assert official.responses.input_tokens.count(model="demo", input="a b c " * 20_000).input_tokens > 40_000


def test_reasoning_is_an_item_of_its_own_and_comes_back(official: OpenAI) -> None:
    question: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]
    with official.responses.stream(**asked(question, reasoning={"effort": "low"})) as stream:
        summary = "".join(event.delta for event in stream if event.type == "response.reasoning_summary_text.delta")
        response = stream.get_final_response()
    reasoning, message = response.output
    assert reasoning.type == "reasoning"
    assert message.type == "message"
    assert reasoning.summary[0].text == summary
    assert "sky" in summary
    assert response.usage is not None
    assert 0 < response.usage.output_tokens_details.reasoning_tokens < response.usage.output_tokens
    again = [*question, *(item.to_dict() for item in response.output), {"role": "user", "content": QUESTION}]
    assert "vLLM" in official.responses.create(**asked(again)).output_text


def test_a_tool_is_called_and_its_result_read(official: OpenAI) -> None:
    question: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    with official.responses.stream(**asked(question, tools=[WEATHER_TOOL])) as stream:
        (call,) = stream.get_final_response().output
    assert call.type == "function_call"
    assert (call.name, call.arguments) == ("get_current_weather", '{"city":"Paris"}')
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees, sunny"}
    # What the helper parsed of the arguments is no part of the item.
    returned = call.to_dict() | {"parsed_arguments": None}
    said = official.responses.create(**asked([*question, returned, output], tools=[WEATHER_TOOL]))
    assert "21" in said.output_text


def test_a_tool_can_be_forced_and_forbidden(official: OpenAI) -> None:
    question = "What is the weather in Paris?"
    forced = official.responses.create(**asked(question, tools=[WEATHER_TOOL], tool_choice="required"))
    assert [item.type for item in forced.output] == ["function_call"]
    forbidden = official.responses.create(**asked(question, tools=[WEATHER_TOOL], tool_choice="none"))
    assert [item.type for item in forbidden.output] == ["message"]


def test_a_structured_output_is_parsed(official: OpenAI) -> None:
    # The demo model likes the white space between the tokens of JSON too well.
    sparse = {"text_format": Sky, "extra_body": {"frequency_penalty": 2}}
    parsed = official.responses.parse(**asked("Which colour is the sky?", **sparse))
    assert isinstance(parsed.output_parsed, Sky)


def test_a_response_that_was_cut_off_is_incomplete(official: OpenAI) -> None:
    response = official.responses.create(**asked(QUESTION, max_output_tokens=3))
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


def test_a_prompt_that_is_too_long_is_refused_unless_it_may_be_truncated(official: OpenAI) -> None:
    turns = [{"role": "user", "content": "word " * 40_000}, {"role": "user", "content": QUESTION}]
    with pytest.raises(openai.BadRequestError, match=r"maximum context length is [0-9]+ tokens"):
        official.responses.create(**asked(turns))
    assert "vLLM" in official.responses.create(**asked(turns, truncation="auto")).output_text


def test_errors_are_the_clients_own(official: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        official.responses.create(**asked(QUESTION, model="unknown"))
    with pytest.raises(openai.BadRequestError, match="Previous response with id 'resp_1' not found") as caught:
        official.responses.create(**asked(QUESTION, previous_response_id="resp_1"))
    assert (caught.value.param, caught.value.code) == ("previous_response_id", "previous_response_not_found")


def test_a_stored_response_is_gone_on_from_retrieved_and_deleted(official: OpenAI) -> None:
    first = official.responses.create(**asked("What is the weather in Paris?", tools=[WEATHER_TOOL], store=True))
    (call,) = first.output
    assert call.type == "function_call"
    output = [{"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees, sunny"}]
    fields = asked(output, tools=[WEATHER_TOOL], previous_response_id=first.id, store=True)
    with official.responses.stream(**fields) as stream:
        second = stream.get_final_response()
    assert "21" in second.output_text
    assert official.responses.retrieve(second.id).output_text == second.output_text
    items = list(official.responses.input_items.list(second.id, limit=1, order="asc"))
    assert [item.type for item in items] == ["message", "function_call", "function_call_output"]
    official.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        official.responses.retrieve(second.id)


def test_a_failure_mid_stream_is_a_failed_response(server: Server) -> None:
    """On a scripted engine, which fails when it is told to."""
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        *_, last = client.responses.create(**asked("a b !sleep:0.1 !fail:oh", stream=True))
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.message == "oh"
