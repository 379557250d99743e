"""Cases in which the model is asked to think, as Ollama's routes do unless the request says otherwise."""

import itertools
from collections.abc import Iterator

from examples import assistant, system, user
from held_out import HeldOut
from judging import Asked, Group, group, thought
from phrases import ADD, NO_WEATHER, PIRATE_HELD_OUT, UPPER_HELD_OUT, WEATHER_HELD_OUT

SHORT = 12  # characters: greetings, thanks, "Who are you?"


def thoughts(model: Asked, drawn: HeldOut) -> Iterator[Group]:
    """Thoughts before the answers of each kind."""
    yield group(
        "thinking",
        0.88,
        (
            (model.prompt(subject.questions[0], enable_thinking=True), thought(subject.answer))
            for subject in drawn.subjects
        ),
    )
    yield group(
        "thinking, short questions",
        0.95,
        (
            (model.prompt(question, enable_thinking=True), thought(subject.answer))
            for subject in drawn.subjects
            for question in subject.questions
            if len(question) <= SHORT
        ),
    )
    yield group(
        "thinking, held-out system",
        0.80,
        (
            (
                model.prompt([system(rule), user(subject.questions[0])], enable_thinking=True),
                thought(subject.answer.upper() if rule in UPPER_HELD_OUT else "Arr! " + subject.answer),
            )
            for subject, rule in zip(drawn.plain, itertools.cycle(UPPER_HELD_OUT + PIRATE_HELD_OUT), strict=False)
        ),
    )
    yield group(
        "thinking, held-out names",
        0.90,
        (
            (
                model.prompt(
                    [user(f"My name is {name}."), assistant(f"Nice to meet you, {name}."), user("What is my name?")],
                    enable_thinking=True,
                ),
                thought(f"Your name is {name}."),
            )
            for name in drawn.people
        ),
    )
    yield group(
        "thinking, small sums",
        0.90,
        (
            (model.prompt(wording.format(a, b), enable_thinking=True), thought(f"{a} plus {b} is {a + b}."))
            for (a, b), wording in zip(itertools.product((1, 2, 3), (1, 2, 3)), itertools.cycle(ADD), strict=False)
        ),
    )
    yield group(
        "thinking, no tool for the weather",
        0.90,
        (
            (model.prompt(wording.format(city), enable_thinking=True), thought(NO_WEATHER))
            for wording, city in zip(itertools.cycle(WEATHER_HELD_OUT), drawn.cities[:20], strict=False)
        ),
    )
