"""The real `openai` package against the real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from openai import APIError, APIStatusError, AsyncOpenAI, BadRequestError, NotFoundError, OpenAI
from pydantic import BaseModel

from tests.support.asking import ADD, WEATHER, Asker, user
from tests.support.servers import Server

pytestmark = pytest.mark.engine

QUESTION, PARIS = user("What is vllm-wsgi?"), user("What is the weather in Paris?")


class Sky(BaseModel):
    colour: Literal["blue", "red"]


@pytest.fixture(scope="module")
def official(engine_server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{engine_server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def plain(official: OpenAI, messages: list[dict[str, Any]] = QUESTION, **fields: Any) -> Any:
    """A completion without thinking."""
    return official.chat.completions.create(model="demo", messages=messages, reasoning_effort="none", **fields)


def test_a_chat_says_what_ollamas_route_says(official: OpenAI, demo: Asker):
    said = plain(official).choices[0].message.content
    assert said == demo.chat(QUESTION)["message"]["content"]
    chunks = list(plain(official, stream=True, stream_options={"include_usage": True}))
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == said
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == plain(official).usage.completion_tokens


def test_thinking_has_both_names_and_is_counted(official: OpenAI):
    answer = official.chat.completions.create(model="demo", messages=user("Why is the sky blue?"))
    message = answer.choices[0].message
    assert message.reasoning == message.reasoning_content != ""
    assert 0 < answer.usage.completion_tokens_details.reasoning_tokens < answer.usage.completion_tokens


def test_the_stream_of_events_puts_the_chat_together(official: OpenAI):
    with official.chat.completions.stream(model="demo", messages=PARIS, tools=[WEATHER, ADD]) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "tool_calls.function.arguments.done"} <= kinds
    (call,) = final.choices[0].message.tool_calls or []
    assert (call.function.name, call.function.arguments) == ("get_current_weather", '{"city":"Paris"}')
    assert final.choices[0].finish_reason == "tool_calls"


def test_a_tools_answer_is_taken_up(official: OpenAI):
    asked = plain(official, PARIS, tools=[WEATHER]).choices[0].message
    history = [*PARIS, asked.model_dump(exclude_none=True),
               {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": "18 degrees, cloudy"}]  # fmt: skip
    assert "18" in plain(official, history, tools=[WEATHER]).choices[0].message.content


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("none", []),
        ("required", ["get_current_weather"]),
        ({"type": "function", "function": {"name": "add"}}, ["add"]),
    ],
)
def test_a_tool_choice_is_obeyed_whatever_the_question(official: OpenAI, choice: Any, called: list[str]):
    messages = PARIS if choice == "none" else QUESTION
    tools = [WEATHER, ADD] if choice != "required" else [WEATHER]
    message = plain(official, messages, tools=tools, tool_choice=choice).choices[0].message
    assert [call.function.name for call in message.tool_calls or []] == called


def test_parse_gives_an_instance_of_the_class(official: OpenAI):
    # The demo model likes the white space between the tokens of JSON too well.
    answer = official.chat.completions.parse(
        model="demo",
        messages=user("Which colour is the sky?"),
        response_format=Sky,
        reasoning_effort="none",
        frequency_penalty=2,
    )
    assert isinstance(answer.choices[0].message.parsed, Sky)


def test_a_json_object_is_one(official: OpenAI):
    answer = plain(official, response_format={"type": "json_object"}, max_tokens=5)
    assert answer.choices[0].message.content.startswith("{")


def test_several_answers_of_one_prompt(official: OpenAI):
    answers = plain(official, n=3, max_completion_tokens=4, temperature=1, seed=1)
    assert [choice.index for choice in answers.choices] == [0, 1, 2]
    assert (answers.usage.completion_tokens, answers.choices[2].finish_reason) == (12, "length")


def test_stop_and_bias_and_penalties_reach_the_sampler(official: OpenAI):
    said = plain(official).choices[0].message.content
    stopped = plain(official, stop=[said[10:14]]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == (said[:10], "stop")
    first = plain(official, logprobs=True, max_tokens=1).choices[0].message.content
    biased = plain(official, logit_bias={"42": 100}, max_tokens=1, frequency_penalty=0.1, presence_penalty=0.1)
    assert biased.choices[0].message.content != first


def test_logprobs_name_each_token_and_its_rivals(official: OpenAI):
    choice = plain(official, logprobs=True, top_logprobs=2, max_tokens=3).choices[0]
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens) == choice.message.content
    assert [len(token.top_logprobs) for token in tokens] == [2, 2, 2]
    assert tokens[0].top_logprobs[0].logprob == tokens[0].logprob


def test_completions_continue_texts_and_token_ids(official: OpenAI):
    both = official.completions.create(model="demo", prompt=["The message", "The sky"], max_tokens=4)
    one = official.completions.create(model="demo", prompt="The sky", max_tokens=4)
    assert both.choices[1].text == one.choices[0].text
    stream = official.completions.create(model="demo", prompt="The sky", max_tokens=4, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == one.choices[0].text
    ids = official.completions.create(model="demo", prompt=[[5, 6, 7]], max_tokens=4)
    assert ids.usage.prompt_tokens == 3


def test_an_echo_scores_the_prompt(official: OpenAI):
    scored = official.completions.create(model="demo", prompt="The sky is", max_tokens=0, echo=True, logprobs=1)
    (choice,) = scored.choices
    assert (choice.text, "".join(choice.logprobs.tokens)) == ("The sky is", "The sky is")
    assert choice.logprobs.token_logprobs[0] is None
    assert all(logprob < 0 for logprob in choice.logprobs.token_logprobs[1:])
    assert scored.usage.completion_tokens == 0


def test_models_are_listed_and_retrieved(official: OpenAI):
    assert [model.id for model in official.models.list()] == ["demo:latest"]
    assert official.models.retrieve("demo").id == "demo"


def test_errors_are_the_clients_own(official: OpenAI):
    with pytest.raises(NotFoundError, match="model 'unknown' not found"):
        official.chat.completions.create(model="unknown", messages=QUESTION)
    with pytest.raises(BadRequestError, match="out-of-vocab"):
        plain(official, logit_bias={"99999999": 1})
    with pytest.raises(APIStatusError, match="does not support embeddings") as unsupported:
        official.embeddings.create(model="demo", input="a")
    assert unsupported.value.status_code == 501


async def _async_text(url: str) -> str:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        stream = await client.chat.completions.create(
            model="demo", messages=QUESTION, reasoning_effort="none", stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


def test_the_async_client_reads_the_same(engine_server: Server, official: OpenAI):
    assert asyncio.run(_async_text(engine_server.url)) == plain(official).choices[0].message.content


# --- what needs no model ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scripted(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_failure_in_the_stream_is_an_exception(scripted: OpenAI):
    stream = scripted.chat.completions.create(model="demo", messages=user("a !fail:oh"), stream=True)
    said = []
    with pytest.raises(APIError, match="oh"):
        said += [chunk.choices[0].delta.content for chunk in stream]


def test_embeddings_in_base64_are_those_in_numbers(scripted: OpenAI):
    # Left to itself the client asks for base64.
    packed = scripted.embeddings.create(model="demo", input=["a", "b"], dimensions=4)
    plain = scripted.embeddings.create(model="demo", input=["a", "b"], dimensions=4, encoding_format="float")
    assert [each.embedding for each in packed.data] == [pytest.approx(each.embedding) for each in plain.data]
