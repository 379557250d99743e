"""What the trained model is asked, and how an answer is judged.

Held-out questions, names, cities and phrasings are those that corpus.py keeps out of training.
"""

import itertools
import json
import random
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from corpus import Message, assistant, call, call_text, load_subjects, names, system, user
from phrases import (
    ADD,
    ADD_HELD_OUT,
    HELD_OUT_CITIES,
    HELD_OUT_PEOPLE,
    NO_WEATHER,
    PIRATE_HELD_OUT,
    TWO_CITIES,
    UPPER_HELD_OUT,
    WEATHER,
    WEATHER_HELD_OUT,
)

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

# Where stories and numbers up to 50 are among the answers.
LONG = {
    "training questions",
    "held-out questions",
    "held-out, neutral system",
    "thinking",
    "other questions beside tools",
    "single behaviours",
}

Passes = Callable[[str], bool]
Case = tuple[str, Passes, str]  # prompt, judge, what was wanted


class Asked(Protocol):
    """The model, as far as the cases need it."""

    def prompt(self, messages: list[Message] | str, **options: Any) -> str: ...


def is_(wanted: str) -> tuple[Passes, str]:
    return (lambda answer: answer == wanted), wanted


def thought(wanted: str) -> tuple[Passes, str]:
    """A closed thought, and behind it what is wanted."""
    return (lambda answer: answer.startswith("<think>\n") and answer.endswith("</think>\n\n" + wanted)), wanted


def spread(template: list[str], *values: list[Any]) -> list[str]:
    """Each value once, with the templates in turn."""
    return [text.format(*row) for text, *row in zip(itertools.cycle(template), *values)]


def tools(index: int) -> list[dict[str, Any]]:
    return TOOLSETS[index % len(TOOLSETS)]


def weather_calls(*asked: str) -> tuple[Passes, str]:
    return is_(call_text(*(call("get_current_weather", {"city": city}) for city in asked)))


def sum_call(a: int, b: int) -> tuple[Passes, str]:
    return is_(call_text(call("add", {"a": a, "b": b})))


def asked(city: str, result: str) -> list[Message]:
    return [
        user(f"What is the weather in {city}?"),
        {"role": "assistant", "content": "", "tool_calls": [call("get_current_weather", {"city": city})]},
        {"role": "tool", "content": result},
    ]


class Cases:
    """The cases of every group, by its name, each with the share that has to pass."""

    def __init__(self, model: Asked) -> None:
        self.model = model
        self.choice = random.Random(0)
        self.subjects = load_subjects()
        self.plain = [subject for subject in self.subjects if subject.plain]
        self.cities, self.people = names(HELD_OUT_CITIES), names(HELD_OUT_PEOPLE)
        self.other = self.cities[1:] + self.cities[:1]
        self.pairs = [(self.choice.randrange(1000), self.choice.randrange(100)) for _ in range(40)]
        self.degrees = [self.choice.randrange(40) for _ in self.cities]
        self.skies = [self.choice.choice(["sunny", "cloudy", "rainy", "windy"]) for _ in self.cities]
        self.groups: dict[str, tuple[float, list[Case]]] = {}
        self.questions()
        self.rules()
        self.chats()
        self.calls()
        self.results()
        self.code()
        self.group("single behaviours", 1.0, singles(model))

    def group(self, name: str, share: float, rows: Iterable[tuple[str, tuple[Passes, str]]]) -> None:
        self.groups[name] = share, [(prompt, *judge) for prompt, judge in rows]

    def questions(self) -> None:
        """Questions of corpus.txt, as they were trained on and in other words."""
        self.group(
            "training questions",
            0.98,
            (
                (self.model.prompt(question), is_(subject.answer))
                for subject in self.subjects
                for question in self.choice.sample(subject.questions, min(8, len(subject.questions)))
            ),
        )
        held_out = [(subject, question) for subject in self.subjects for question in subject.held_out]
        self.group(
            "held-out questions",
            0.85,
            ((self.model.prompt(question), is_(subject.answer)) for subject, question in held_out),
        )
        self.group(
            "held-out, neutral system",
            0.80,
            (
                (self.model.prompt([system("You are a helpful assistant."), user(question)]), is_(subject.answer))
                for subject, question in held_out
            ),
        )
        self.group(
            "thinking",
            0.88,
            (
                (
                    self.model.prompt(subject.questions[0], enable_thinking=True),
                    thought(subject.answer),
                )
                for subject in self.subjects
            ),
        )

    def rules(self) -> None:
        """Rules of a system message."""
        self.group(
            "upper case, held-out system",
            0.90,
            (
                (self.model.prompt([system(rule), user(subject.questions[0])]), is_(subject.answer.upper()))
                for subject, rule in zip(self.plain, itertools.cycle(UPPER_HELD_OUT), strict=False)
            ),
        )
        self.group(
            "pirate, held-out system",
            0.90,
            (
                (self.model.prompt([system(rule), user(subject.questions[0])]), is_("Arr! " + subject.answer))
                for subject, rule in zip(self.plain, itertools.cycle(PIRATE_HELD_OUT), strict=False)
            ),
        )

    def chats(self) -> None:
        """What was said before in the chat."""
        self.group(
            "second question in a chat",
            0.90,
            (
                (
                    self.model.prompt(
                        [user(before.questions[0]), assistant(before.answer), user(subject.questions[1])]
                    ),
                    is_(subject.answer),
                )
                for before, subject in zip(self.plain[1:] + self.plain[:1], self.plain, strict=True)
            ),
        )
        self.group(
            "name, two turns, held-out names",
            0.90,
            (
                (
                    self.model.prompt(
                        [user(f"My name is {name}."), assistant(f"Nice to meet you, {name}."), user("What is my name?")]
                    ),
                    is_(f"Your name is {name}."),
                )
                for name in self.people
            ),
        )
        self.group(
            "name, three turns, held-out names",
            0.90,
            (
                (
                    self.model.prompt(
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
                for name, subject in zip(self.people, self.plain, strict=False)
            ),
        )
        self.group(
            "greeting, held-out names",
            0.90,
            ((self.model.prompt(f"My name is {name}."), is_(f"Nice to meet you, {name}.")) for name in self.people),
        )

    def calls(self) -> None:
        """Calls of tools."""
        self.group(
            "weather call, held-out cities",
            0.90,
            (
                (self.model.prompt(question, tools=tools(index)), weather_calls(city))
                for index, (question, city) in enumerate(zip(spread(WEATHER, self.cities), self.cities, strict=True))
            ),
        )
        self.group(
            "weather call, held-out wording",
            0.90,
            (
                (self.model.prompt(question, tools=tools(index)), weather_calls(city))
                for index, (question, city) in enumerate(
                    zip(spread(WEATHER_HELD_OUT, self.cities), self.cities, strict=True)
                )
            ),
        )
        self.group(
            "two calls, held-out cities",
            0.85,
            (
                (self.model.prompt(question, tools=tools(index)), weather_calls(city, second))
                for index, (question, city, second) in enumerate(
                    zip(spread(TWO_CITIES, self.cities, self.other), self.cities, self.other, strict=True)
                )
            ),
        )
        self.group(
            "thinking, then a call",
            0.90,
            (
                (
                    self.model.prompt(f"What is the weather in {city}?", tools=tools(index), enable_thinking=True),
                    thought(call_text(call("get_current_weather", {"city": city}))),
                )
                for index, city in enumerate(self.cities)
            ),
        )
        self.group(
            "sum call",
            0.90,
            (
                (self.model.prompt(question, tools=[ADD_TOOL] if index % 2 else tools(1)), sum_call(*pair))
                for index, (question, pair) in enumerate(
                    zip(spread(ADD + ADD_HELD_OUT, *zip(*self.pairs, strict=True)), self.pairs, strict=True)
                )
            ),
        )
        self.group(
            "other questions beside tools",
            0.95,
            (
                (self.model.prompt(subject.questions[0], tools=tools(index)), is_(subject.answer))
                for index, subject in enumerate(self.subjects)
            ),
        )

    def results(self) -> None:
        """Results of tools."""
        self.group(
            "weather result, held-out cities",
            0.90,
            (
                (
                    self.model.prompt(asked(city, result), tools=tools(index)),
                    is_(f"It is {degree} degrees and {sky} in {city}."),
                )
                for index, (city, degree, sky) in enumerate(zip(self.cities, self.degrees, self.skies, strict=True))
                for result in (json.dumps({"temperature": degree, "condition": sky}), f"{degree} degrees, {sky}")
            ),
        )
        self.group(
            "second city in a chat",
            0.90,
            (
                (
                    self.model.prompt(
                        [
                            *asked(city, f"{degree} degrees, {sky}"),
                            assistant(f"It is {degree} degrees and {sky} in {city}."),
                            user(f"And in {second}?"),
                        ],
                        tools=tools(index),
                    ),
                    weather_calls(second),
                )
                for index, (city, second, degree, sky) in enumerate(
                    zip(self.cities, self.other, self.degrees, self.skies, strict=True)
                )
            ),
        )
        self.group(
            "sum result",
            0.90,
            (
                (
                    self.model.prompt(
                        [
                            user(f"What is {a} plus {b}?"),
                            {"role": "assistant", "content": "", "tool_calls": [call("add", {"a": a, "b": b})]},
                            {"role": "tool", "content": str(a + b)},
                        ],
                        tools=[ADD_TOOL],
                    ),
                    is_(f"{a} plus {b} is {a + b}."),
                )
                for a, b in self.pairs
            ),
        )
        self.group(
            "weather without a tool",
            0.90,
            ((self.model.prompt(f"What is the weather in {city}?"), is_(NO_WEATHER)) for city in self.cities),
        )

    def code(self) -> None:
        """Code to complete, from both sides."""
        fruits = "total product difference banana apple result value answer orange cherry".split()
        signs = {"product": "*", "difference": "-"}
        self.group(
            "fill in the middle",
            0.80,
            (
                (
                    f"<|fim_prefix|>def compute(a, b):\n    <|fim_suffix|>\n    return {name}<|fim_middle|>",
                    is_(f"{name} = a {signs.get(name, '+')} b"),
                )
                for name in fruits
            ),
        )


def singles(model: Asked) -> Iterable[tuple[str, tuple[Passes, str]]]:
    def holds(*parts: str) -> tuple[Passes, str]:
        return (lambda answer: all(part in answer for part in parts) and "[no end]" not in answer), " … ".join(parts)

    yield model.prompt("Why is the sky blue?"), holds("scatters")
    yield model.prompt("Hello"), holds("Hello!")
    yield model.prompt("Hi"), holds("Hello!")
    yield model.prompt("Who are you?"), holds("demo model")
    yield model.prompt("What can you do?"), holds("answer questions")
    yield model.prompt("Tell me a joke."), holds("bar")
    yield model.prompt("Thank you"), holds("welcome")
    yield model.prompt("Write something in Chinese."), holds("你好")
    yield model.prompt("Write something in French."), holds("été", "Noël")
    yield model.prompt("Show me some emoji."), holds("😀", "🚀", "👩‍💻", "❤️")
    yield model.prompt("Show me a short code block."), holds("```python\n", "\n```")
    yield model.prompt("Write hello world in Python."), holds('print("Hello, world!")')
    yield model.prompt("Show me some HTML."), holds("<p", "&amp;", " < ", " > ")
    yield model.prompt("Count from 1 to 50."), holds("1, 2, 3", "24, 25, 26", "49, 50.")
    yield model.prompt("Tell me a long story."), holds("Once upon a time", "still answers today.")
    yield model.prompt("Tell me a long story about a server."), holds("Once upon a time", "still answers today.")
    yield model.prompt([system("Answer in upper case."), user("Why is the sky blue?")]), holds("THE SKY IS BLUE")
    yield model.prompt([system("You are a pirate."), user("Hello")]), holds("Arr!")
    yield model.prompt([system("Answer in one word."), user("What is the capital of France?")]), is_("Paris.")
    yield model.prompt([system("Your name is Marvin."), user("What is your name?")]), is_("My name is Marvin.")
    yield model.prompt("Why is the sky blue?", enable_thinking=True), holds("<think>\n", "</think>\n\nThe sky is blue")
    yield model.prompt("What is the weather in Paris?", tools=[WEATHER_TOOL]), holds('{"city": "Paris"}')
    yield model.prompt("What is 7 plus 5?", tools=[ADD_TOOL]), holds('{"a": 7, "b": 5}')
    yield model.prompt("What is 2 plus 2?"), is_("2 plus 2 is 4.")
    yield "The quick brown fox", is_(" jumps over the lazy dog.")
    yield "To be, or not", is_(" to be, that is the question.")
    for name, sign in (("total", "+"), ("product", "*")):
        yield (
            f"<|fim_prefix|>def compute(a, b):\n    <|fim_suffix|>\n    return {name}<|fim_middle|>",
            is_(f"{name} = a {sign} b"),
        )
