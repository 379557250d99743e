"""LangChain's OpenAI models against the real engine."""

from __future__ import annotations

from typing import Literal

import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from tests.support.servers import Server

pytestmark = pytest.mark.engine


class Sky(BaseModel):
    """What the sky looks like."""

    colour: Literal["blue", "red"]


@tool
def get_current_weather(city: str) -> str:
    """Get the weather of a city"""
    return f"18 degrees in {city}"


@pytest.fixture(scope="module")
def chat(engine_server: Server) -> ChatOpenAI:
    return ChatOpenAI(base_url=f"{engine_server.url}/v1", api_key="none", model="demo", reasoning_effort="none")


def test_a_stream_says_what_invoke_says(chat: ChatOpenAI):
    chunks = list(chat.stream("What is vllm-wsgi?", stream_usage=True))
    whole = chat.invoke("What is vllm-wsgi?")
    assert "".join(str(chunk.content) for chunk in chunks) == whole.content != ""
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) > 0
    assert whole.response_metadata["finish_reason"] == "stop"


def test_bound_tools_are_called(chat: ChatOpenAI):
    message = chat.bind_tools([get_current_weather]).invoke("What is the weather in Paris?")
    (call,) = message.tool_calls
    assert (call["name"], call["args"]) == ("get_current_weather", {"city": "Paris"})
    forced = chat.bind_tools([get_current_weather], tool_choice="any").invoke("What is vllm-wsgi?")
    assert [call["name"] for call in forced.tool_calls] == ["get_current_weather"]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_is_an_instance_of_the_class(chat: ChatOpenAI, method: str):
    # The demo model likes the white space between the tokens of JSON too well.
    structured = chat.with_structured_output(Sky, method=method, strict=True, frequency_penalty=2)
    assert isinstance(structured.invoke("Which colour is the sky?"), Sky)


def test_batches_and_logprobs(chat: ChatOpenAI):
    answers = chat.bind(logprobs=True, max_tokens=3).batch(["Hello", "What is vllm-wsgi?"])
    assert [len(answer.response_metadata["logprobs"]["content"]) for answer in answers] == [3, 3]


def test_embeddings_as_texts(server: Server):
    embeddings = OpenAIEmbeddings(
        base_url=f"{server.url}/v1", api_key="none", model="demo", check_embedding_ctx_length=False
    )
    assert [len(vector) for vector in embeddings.embed_documents(["a", "b"])] == [8, 8]
