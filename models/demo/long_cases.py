"""Cases behind a long text: the system message and the tools of an agent, none of whose words was trained on."""

import itertools
import random
from collections.abc import Iterator
from typing import Any

from examples import Message, assistant, call, call_text, system, user
from held_out import HeldOut
from judging import Asked, Group, group, is_, thought
from names import Names
from noise import Noise
from noise_words import HELD_OUT
from phrases import ADD, NO_WEATHER, TWO_CITIES, WEATHER, WEATHER_HELD_OUT
from questions import SHORT
from subjects import Subject
from tool_cases import ADD_TOOL, WEATHER_TOOL, reported, spread, sum_call, weather_calls

# A token is about two characters.
INSTRUCTIONS = 16_000
MANY_INSTRUCTIONS = 46_000
OTHERS = 20
SHORT_ANSWER = 200


class Agent:
    """What an agent sends before each conversation: instructions, and tools of which two are called."""

    def __init__(self, number: int, characters: int, drawn: HeldOut) -> None:
        choice = random.Random(number)
        noise = Noise(choice, HELD_OUT, Names(choice, drawn.subjects, (3,)).invented)
        self.instructions = noise.instructions(characters)
        self.tools: list[dict[str, Any]] = [noise.tool() for _ in range(OTHERS)]
        # First, in the middle, last.
        place = number % 3 * OTHERS // 2
        self.tools[place:place] = [WEATHER_TOOL, ADD_TOOL] if number % 2 else [ADD_TOOL, WEATHER_TOOL]

    def asks(self, model: Asked, messages: list[Message] | str, tools: bool = True, **options: Any) -> str:
        """Return the whole prompt."""
        if isinstance(messages, str):
            messages = [user(messages)]
        if tools:
            options["tools"] = self.tools
        return model.prompt([system(self.instructions), *messages], **options)


def behind_agents(model: Asked, drawn: HeldOut) -> Iterator[Group]:
    """The cases of the other groups, behind 10,000 tokens or more."""
    agents = [Agent(number, INSTRUCTIONS, drawn) for number in range(3)]
    yield from answers_behind(model, drawn, agents)
    yield from calls_behind(model, drawn, agents)
    yield from results_behind(model, drawn, agents)
    yield from far_behind(model, drawn)


def answers_behind(model: Asked, drawn: HeldOut, agents: list[Agent]) -> Iterator[Group]:
    turns = list(zip(drawn.subjects[::2], itertools.cycle(agents), strict=False))
    yield group(
        "10,000 tokens, then a question",
        0.90,
        ((agent.asks(model, subject.questions[0]), is_(subject.answer)) for subject, agent in turns),
    )
    yield group(
        "the same, held-out question",
        0.80,
        (
            (agent.asks(model, question), is_(subject.answer))
            for subject, agent in turns
            for question in subject.held_out[:1]
        ),
    )
    yield group(
        "the same, without tools",
        0.90,
        ((agent.asks(model, subject.questions[0], tools=False), is_(subject.answer)) for subject, agent in turns),
    )
    firsts = zip(drawn.plain, itertools.cycle(agents), strict=False)
    yield group(
        "the same, what people type first, as a second turn",
        0.90,
        (
            (agent.asks(model, [*exchange(before), user(question)]), is_(subject.answer))
            for (subject, question), (before, agent) in zip(short_questions(drawn), firsts, strict=False)
        ),
    )


def exchange(subject: Subject) -> list[Message]:
    return [user(subject.questions[0]), assistant(subject.answer)]


def short_questions(drawn: HeldOut) -> Iterator[tuple[Subject, str]]:
    for subject in drawn.subjects:
        for question in subject.questions:
            if len(question) <= SHORT and len(subject.answer) <= SHORT_ANSWER:
                yield subject, question


def calls_behind(model: Asked, drawn: HeldOut, agents: list[Agent]) -> Iterator[Group]:
    cities, others, pairs = drawn.cities[::2], drawn.other[::2], drawn.pairs[::2]
    turns = list(zip(cities, others, itertools.cycle(agents), strict=False))
    yield group(
        "10,000 tokens, then a weather call",
        0.90,
        (
            (agent.asks(model, question), weather_calls(city))
            for question, (city, _, agent) in zip(spread(WEATHER, cities), turns, strict=True)
        ),
    )
    yield group(
        "the same, held-out wording",
        0.90,
        (
            (agent.asks(model, question), weather_calls(city))
            for question, (city, _, agent) in zip(spread(WEATHER_HELD_OUT, cities), turns, strict=True)
        ),
    )
    yield group(
        "the same, after a thought",
        0.85,
        (
            (
                agent.asks(model, f"What is the weather in {city}?", enable_thinking=True),
                thought(call_text(call("get_current_weather", {"city": city}))),
            )
            for city, _, agent in turns
        ),
    )
    yield group(
        "the same, two calls",
        0.85,
        (
            (agent.asks(model, question), weather_calls(city, other))
            for question, (city, other, agent) in zip(spread(TWO_CITIES, cities, others), turns, strict=True)
        ),
    )
    yield group(
        "10,000 tokens, then a sum call",
        0.90,
        (
            (agent.asks(model, question), sum_call(*pair))
            for question, pair, agent in zip(
                spread(ADD, *zip(*pairs, strict=True)), pairs, itertools.cycle(agents), strict=False
            )
        ),
    )


def results_behind(model: Asked, drawn: HeldOut, agents: list[Agent]) -> Iterator[Group]:
    told = list(zip(drawn.cities, drawn.other, drawn.degrees, drawn.skies, itertools.cycle(agents), strict=False))[1::2]
    yield group(
        "10,000 tokens, then a weather result",
        0.90,
        (
            (
                agent.asks(model, reported(city, f'{{"temperature": {degree}, "condition": "{sky}"}}')),
                is_(f"It is {degree} degrees and {sky} in {city}."),
            )
            for city, _, degree, sky, agent in told
        ),
    )
    yield group(
        "the same, then a second city",
        0.90,
        (
            (
                agent.asks(
                    model,
                    [
                        *reported(city, f"{degree} degrees, {sky}"),
                        assistant(f"It is {degree} degrees and {sky} in {city}."),
                        user(f"And in {second}?"),
                    ],
                ),
                weather_calls(second),
            )
            for city, second, degree, sky, agent in told
        ),
    )
    yield group(
        "10,000 tokens, then a sum result",
        0.90,
        (
            (
                agent.asks(
                    model,
                    [
                        user(f"What is {a} plus {b}?"),
                        {"role": "assistant", "content": "", "tool_calls": [call("add", {"a": a, "b": b})]},
                        {"role": "tool", "content": str(a + b)},
                    ],
                ),
                is_(f"{a} plus {b} is {a + b}."),
            )
            for (a, b), agent in zip(drawn.pairs[1::2], itertools.cycle(agents), strict=False)
        ),
    )


def far_behind(model: Asked, drawn: HeldOut) -> Iterator[Group]:
    agent = Agent(1, MANY_INSTRUCTIONS, drawn)
    yield group(
        "30,000 tokens, then all of these",
        0.85,
        itertools.chain(
            ((agent.asks(model, subject.questions[0]), is_(subject.answer)) for subject in drawn.subjects[:12]),
            ((agent.asks(model, f"Weather in {city}"), weather_calls(city)) for city in drawn.cities[:12]),
            ((agent.asks(model, f"{a} + {b}"), sum_call(a, b)) for a, b in drawn.pairs[:12]),
            ((agent.asks(model, f"Weather in {city}", tools=False), is_(NO_WEATHER)) for city in drawn.cities[:4]),
        ),
    )
