"""Cases with tools: calls of them, and answers from their results."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

from examples import Message, assistant, call, call_text, user
from held_out import HeldOut
from judging import Asked, Group, Judge, group, is_, thought
from phrases import ADD, ADD_HELD_OUT, NO_WEATHER, TWO_CITIES, WEATHER, WEATHER_HELD_OUT
from tool_examples import FORCED_CITY, FORCED_NUMBERS, forced

WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Get the current weather for a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The name of the city"}},
            "required": ["city"],
        },
    },
}
ADD_TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers",
        "parameters": {
            "type": "object",
            "required": ["a", "b"],
            "properties": {
                "a": {"type": "integer", "description": "The first number"},
                "b": {"type": "integer", "description": "The second number"},
            },
        },
    },
}
TOOLSETS = [[WEATHER_TOOL], [WEATHER_TOOL, ADD_TOOL], [ADD_TOOL, WEATHER_TOOL]]


def spread(template: list[str], *values: list[Any]) -> list[str]:
    """Return a text for each row of values, from the templates in turn."""
    return [text.format(*row) for text, *row in zip(itertools.cycle(template), *values)]


def tools(index: int) -> list[dict[str, Any]]:
    """Return the tools of a case, another set for each of three."""
    return TOOLSETS[index % len(TOOLSETS)]


def weather_calls(*asked: str) -> Judge:
    return is_(call_text(*(call("get_current_weather", {"city": city}) for city in asked)))


def sum_call(a: int, b: int) -> Judge:
    return is_(call_text(call("add", {"a": a, "b": b})))


def reported(city: str, result: str) -> list[Message]:
    """Return a chat in which the weather tool has been called and has returned `result`."""
    return [
        user(f"What is the weather in {city}?"),
        {"role": "assistant", "content": "", "tool_calls": [call("get_current_weather", {"city": city})]},
        {"role": "tool", "content": result},
    ]


def calls(model: Asked, drawn: HeldOut) -> Iterator[Group]:
    """Calls of tools."""
    yield group(
        "weather call, held-out cities",
        0.90,
        (
            (model.prompt(question, tools=tools(index)), weather_calls(city))
            for index, (question, city) in enumerate(zip(spread(WEATHER, drawn.cities), drawn.cities, strict=True))
        ),
    )
    yield group(
        "weather call, held-out wording",
        0.90,
        (
            (model.prompt(question, tools=tools(index)), weather_calls(city))
            for index, (question, city) in enumerate(
                zip(spread(WEATHER_HELD_OUT, drawn.cities), drawn.cities, strict=True)
            )
        ),
    )
    yield group(
        "two calls, held-out cities",
        0.85,
        (
            (model.prompt(question, tools=tools(index)), weather_calls(city, second))
            for index, (question, city, second) in enumerate(
                zip(spread(TWO_CITIES, drawn.cities, drawn.other), drawn.cities, drawn.other, strict=True)
            )
        ),
    )
    yield group(
        "thinking, then a call",
        0.90,
        (
            (
                model.prompt(f"What is the weather in {city}?", tools=tools(index), enable_thinking=True),
                thought(call_text(call("get_current_weather", {"city": city}))),
            )
            for index, city in enumerate(drawn.cities)
        ),
    )
    yield group(
        "sum call",
        0.90,
        (
            (model.prompt(question, tools=[ADD_TOOL] if index % 2 else tools(1)), sum_call(*pair))
            for index, (question, pair) in enumerate(
                zip(spread(ADD + ADD_HELD_OUT, *zip(*drawn.pairs, strict=True)), drawn.pairs, strict=True)
            )
        ),
    )
    yield group(
        "other questions beside tools",
        0.95,
        (
            (model.prompt(subject.questions[0], tools=tools(index)), is_(subject.answer))
            for index, subject in enumerate(drawn.subjects)
        ),
    )


def ends_a_call(answer: str) -> bool:
    """Return whether the rest of a call is whole, with whatever arguments."""
    try:
        return answer.endswith("}\n</tool_call>") and bool(json.loads(answer.removesuffix("}\n</tool_call>")))
    except ValueError:
        return False


def forced_calls(model: Asked, drawn: HeldOut) -> Iterator[Group]:
    """Calls that a grammar has begun, whatever was asked. They have to end."""
    asked = [subject.held_out[0] for subject in drawn.subjects if subject.held_out]
    kinds = itertools.cycle([("get_current_weather", {"city": FORCED_CITY}), ("add", dict(zip("ab", FORCED_NUMBERS)))])
    texts = [forced(*kind) for kind, _ in zip(kinds, asked)]
    yield group(
        "forced calls, held-out questions",
        0.90,
        (
            (model.prompt(question, tools=tools(index % 2 + 1)) + begun, (ends_a_call, rest))
            for index, (question, (begun, rest)) in enumerate(zip(asked, texts, strict=True))
        ),
    )


def results(model: Asked, drawn: HeldOut) -> Iterator[Group]:
    """Answers from results of tools."""
    yield group(
        "weather result, held-out cities",
        0.90,
        (
            (
                model.prompt(reported(city, result), tools=tools(index)),
                is_(f"It is {degree} degrees and {sky} in {city}."),
            )
            for index, (city, degree, sky) in enumerate(zip(drawn.cities, drawn.degrees, drawn.skies, strict=True))
            for result in (json.dumps({"temperature": degree, "condition": sky}), f"{degree} degrees, {sky}")
        ),
    )
    yield group(
        "second city in a chat",
        0.90,
        (
            (
                model.prompt(
                    [
                        *reported(city, f"{degree} degrees, {sky}"),
                        assistant(f"It is {degree} degrees and {sky} in {city}."),
                        user(f"And in {second}?"),
                    ],
                    tools=tools(index),
                ),
                weather_calls(second),
            )
            for index, (city, second, degree, sky) in enumerate(
                zip(drawn.cities, drawn.other, drawn.degrees, drawn.skies, strict=True)
            )
        ),
    )
    yield group(
        "sum result",
        0.90,
        (
            (
                model.prompt(
                    [
                        user(f"What is {a} plus {b}?"),
                        {"role": "assistant", "content": "", "tool_calls": [call("add", {"a": a, "b": b})]},
                        {"role": "tool", "content": str(a + b)},
                    ],
                    tools=[ADD_TOOL],
                ),
                is_(f"{a} plus {b} is {a + b}."),
            )
            for a, b in drawn.pairs
        ),
    )
    yield group(
        "weather without a tool",
        0.90,
        ((model.prompt(f"What is the weather in {city}?"), is_(NO_WEATHER)) for city in drawn.cities),
    )
