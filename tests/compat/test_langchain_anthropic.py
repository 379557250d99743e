"""LangChain's Anthropic model against the real engine."""

from __future__ import annotations

import functools
import operator
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool

from tests.support.servers import Server

pytestmark = pytest.mark.engine

QUESTION = "What is vllm-wsgi?"
ASKED = HumanMessage("What is the weather in Paris?")


@tool
def get_current_weather(city: str) -> str:
    """Get the weather of a city"""
    return "21 degrees, sunny"


def model(server: Server, **fields: Any) -> ChatAnthropic:
    plain = {"max_tokens": 200, "temperature": 0, "max_retries": 0, "thinking": {"type": "disabled"}}
    return ChatAnthropic(base_url=server.url, api_key="none", model="demo", **{**plain, **fields})


def test_a_stream_says_what_invoke_says(engine_server: Server) -> None:
    whole = model(engine_server).invoke(QUESTION)
    streamed = functools.reduce(operator.add, model(engine_server).stream(QUESTION))
    assert "vLLM" in whole.text
    assert streamed.text == whole.text
    assert streamed.usage_metadata["input_tokens"] == whole.usage_metadata["input_tokens"]
    assert streamed.response_metadata["stop_reason"] == whole.response_metadata["stop_reason"] == "end_turn"


def test_thinking_comes_beside_the_text_and_goes_back(engine_server: Server) -> None:
    thinking = model(engine_server, thinking={"type": "enabled", "budget_tokens": 1024}, temperature=1)
    answer = functools.reduce(operator.add, thinking.stream("Why is the sky blue?"))
    assert [block["type"] for block in answer.content_blocks if block["type"] == "reasoning"] == ["reasoning"]
    assert thinking.invoke([HumanMessage("Why is the sky blue?"), answer, HumanMessage(QUESTION)]).text


def test_a_tool_is_called_and_its_result_read(engine_server: Server) -> None:
    bound = model(engine_server).bind_tools([get_current_weather])
    called = functools.reduce(operator.add, bound.stream([ASKED]))
    (call,) = called.tool_calls
    assert (call["name"], call["args"]) == ("get_current_weather", {"city": "Paris"})
    result = ToolMessage(get_current_weather.invoke(call["args"]), tool_call_id=call["id"])
    assert "21" in bound.invoke([ASKED, called, result]).text
    assert bound.get_num_tokens_from_messages([ASKED]) > 0


def test_a_tool_can_be_forced(engine_server: Server) -> None:
    bound = model(engine_server).bind_tools([get_current_weather], tool_choice="get_current_weather")
    assert [call["name"] for call in bound.invoke([ASKED]).tool_calls] == ["get_current_weather"]
