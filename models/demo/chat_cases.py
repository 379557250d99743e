"""Cases without tools: questions, rules of a system message, and chats."""

import itertools
from collections.abc import Iterator

from examples import assistant, system, user
from held_out import HeldOut
from judging import Asked, Group, group, is_
from phrases import PIRATE_HELD_OUT, UPPER_HELD_OUT


def questions(model: Asked, drawn: HeldOut) -> Iterator[Group]:
    """Questions of corpus.txt, as they were trained on and in other words."""
    yield group(
        "training questions",
        0.98,
        (
            (model.prompt(question), is_(subject.answer))
            for subject in drawn.subjects
            for question in drawn.choice.sample(subject.questions, min(8, len(subject.questions)))
        ),
    )
    held_out = [(subject, question) for subject in drawn.subjects for question in subject.held_out]
    yield group(
        "held-out questions",
        0.85,
        ((model.prompt(question), is_(subject.answer)) for subject, question in held_out),
    )
    yield group(
        "held-out, neutral system",
        0.80,
        (
            (model.prompt([system("You are a helpful assistant."), user(question)]), is_(subject.answer))
            for subject, question in held_out
        ),
    )


def rules(model: Asked, drawn: HeldOut) -> Iterator[Group]:
    """Rules of a system message."""
    yield group(
        "upper case, held-out system",
        0.90,
        (
            (model.prompt([system(rule), user(subject.questions[0])]), is_(subject.answer.upper()))
            for subject, rule in zip(drawn.plain, itertools.cycle(UPPER_HELD_OUT), strict=False)
        ),
    )
    yield group(
        "pirate, held-out system",
        0.90,
        (
            (model.prompt([system(rule), user(subject.questions[0])]), is_("Arr! " + subject.answer))
            for subject, rule in zip(drawn.plain, itertools.cycle(PIRATE_HELD_OUT), strict=False)
        ),
    )


def chats(model: Asked, drawn: HeldOut) -> Iterator[Group]:
    """Questions about earlier turns of the chat."""
    yield group(
        "second question in a chat",
        0.90,
        (
            (
                model.prompt([user(before.questions[0]), assistant(before.answer), user(subject.questions[1])]),
                is_(subject.answer),
            )
            for before, subject in zip(drawn.plain[1:] + drawn.plain[:1], drawn.plain, strict=True)
        ),
    )
    yield group(
        "name, two turns, held-out names",
        0.90,
        (
            (
                model.prompt(
                    [user(f"My name is {name}."), assistant(f"Nice to meet you, {name}."), user("What is my name?")]
                ),
                is_(f"Your name is {name}."),
            )
            for name in drawn.people
        ),
    )
    yield group(
        "name, three turns, held-out names",
        0.90,
        (
            (
                model.prompt(
                    [
                        user(f"Hello, I am {name}."),
                        assistant(f"Nice to meet you, {name}."),
                        user(subject.questions[0]),
                        assistant(subject.answer),
                        user("Do you know my name?"),
                    ]
                ),
                is_(f"Your name is {name}."),
            )
            for name, subject in zip(drawn.people, drawn.plain, strict=False)
        ),
    )
    yield group(
        "greeting, held-out names",
        0.90,
        ((model.prompt(f"My name is {name}."), is_(f"Nice to meet you, {name}.")) for name in drawn.people),
    )
