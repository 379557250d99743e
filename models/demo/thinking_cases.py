"""Cases in which the model is asked to think, as Ollama's routes do unless the request says otherwise."""

import itertools
from collections.abc import Iterator

from examples import Message, assistant, system, user
from held_out import HeldOut
from judging import Asked, Group, group, thought
from phrases import ADD, NO_WEATHER, PIRATE_HELD_OUT, UPPER_HELD_OUT, WEATHER_HELD_OUT
from questions import SHORT


def thoughts(model: Asked, drawn: HeldOut) -> Iterator[Group]:
    """Questions of corpus.txt, and of these what people type first."""
    yield group(
        "thinking",
        0.88,
        ((think(model, subject.questions[0]), thought(subject.answer)) for subject in drawn.subjects),
    )
    yield group(
        "thinking, short questions",
        0.95,
        (
            (think(model, question), thought(subject.answer))
            for subject in drawn.subjects
            for question in subject.questions
            if len(question) <= SHORT
        ),
    )


def thoughts_in_chats(model: Asked, drawn: HeldOut) -> Iterator[Group]:
    """Rules of a system message, and a name that was said earlier."""
    rules = itertools.cycle(UPPER_HELD_OUT + PIRATE_HELD_OUT)
    yield group(
        "thinking, held-out system",
        0.80,
        (
            (think(model, [system(rule), user(subject.questions[0])]), thought(said(rule, subject.answer)))
            for subject, rule in zip(drawn.plain, rules, strict=False)
        ),
    )
    yield group(
        "thinking, held-out names",
        0.90,
        ((think(model, introduced(name)), thought(f"Your name is {name}.")) for name in drawn.people),
    )


def thoughts_without_tools(model: Asked, drawn: HeldOut) -> Iterator[Group]:
    """Sums that are known by heart, and weather that no tool can tell."""
    numbers = itertools.product((1, 2, 3), (1, 2, 3))
    yield group(
        "thinking, small sums",
        0.90,
        (
            (think(model, wording.format(a, b)), thought(f"{a} plus {b} is {a + b}."))
            for (a, b), wording in zip(numbers, ADD, strict=False)
        ),
    )
    yield group(
        "thinking, no tool for the weather",
        0.90,
        (
            (think(model, wording.format(city)), thought(NO_WEATHER))
            for wording, city in zip(itertools.cycle(WEATHER_HELD_OUT), drawn.cities[:20], strict=False)
        ),
    )


def think(model: Asked, messages: list[Message] | str) -> str:
    """Return the prompt of a question before whose answer the model has to think."""
    return model.prompt(messages, enable_thinking=True)


def said(rule: str, answer: str) -> str:
    """Return an answer as a held-out rule wants it."""
    return answer.upper() if rule in UPPER_HELD_OUT else f"Arr! {answer}"


def introduced(name: str) -> list[Message]:
    """Return a chat in which the user says a name, and then asks for it."""
    return [user(f"My name is {name}."), assistant(f"Nice to meet you, {name}."), user("What is my name?")]
