"""Asks the trained model everything, greedily, through transformers: prints what passes, exits 1 below the thresholds.

Held-out questions, names, cities and phrasings are those that corpus.py keeps out of training.
"""

import argparse
import itertools
import json
import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from corpus import (
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
    Message,
    assistant,
    call,
    call_text,
    load_subjects,
    names,
    system,
    user,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent

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


class Model:
    def __init__(self, path: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.stops = [self.tokenizer.convert_tokens_to_ids(text) for text in ("<|im_end|>", "<|endoftext|>")]

    def prompt(self, messages: list[Message] | str, **options: Any) -> str:
        if isinstance(messages, str):
            messages = [user(messages)]
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **options)

    @torch.inference_mode()
    def answers(self, prompts: list[str], limit: int = 120, batch: int = 48) -> list[str]:
        """Greedy answers, special tokens left out."""
        answers: dict[int, str] = {}
        encoded = [self.tokenizer.encode(prompt) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
        for chosen in (order[start : start + batch] for start in range(0, len(order), batch)):
            longest = max(len(encoded[index]) for index in chosen)
            ids = torch.tensor([[0] * (longest - len(encoded[index])) + encoded[index] for index in chosen])
            mask = torch.tensor([[0] * (longest - len(encoded[index])) + [1] * len(encoded[index]) for index in chosen])
            output = self.model.generate(
                ids, attention_mask=mask, max_new_tokens=limit, do_sample=False, eos_token_id=self.stops, pad_token_id=0
            )
            for index, row in zip(chosen, output[:, longest:].tolist(), strict=True):
                ended = any(stop in row for stop in self.stops)
                text = self.tokenizer.decode(row, skip_special_tokens=True)
                answers[index] = text if ended else text + " [no end]"
        return [answers[index] for index in range(len(prompts))]


def is_(wanted: str) -> tuple[Passes, str]:
    return (lambda answer: answer == wanted), wanted


def thought(wanted: str) -> tuple[Passes, str]:
    """A closed thought, and behind it what is wanted."""
    return (lambda answer: answer.startswith("<think>\n") and answer.endswith("</think>\n\n" + wanted)), wanted


def spread(template: list[str], *values: list[Any]) -> list[str]:
    """Each value once, with the templates in turn."""
    return [text.format(*row) for text, *row in zip(itertools.cycle(template), *values)]


def groups(model: Model) -> dict[str, tuple[float, list[Case]]]:
    """By name: the share that has to pass, and the cases."""
    choice = random.Random(0)
    subjects = load_subjects()
    plain = [subject for subject in subjects if subject.plain]
    cities, people = names(HELD_OUT_CITIES), names(HELD_OUT_PEOPLE)
    other = cities[1:] + cities[:1]
    pairs = [(choice.randrange(1000), choice.randrange(100)) for _ in range(40)]
    degrees = [choice.randrange(40) for _ in cities]
    skies = [choice.choice(["sunny", "cloudy", "rainy", "windy"]) for _ in cities]
    cases: dict[str, tuple[float, list[Case]]] = {}

    def group(name: str, share: float, rows: Iterable[tuple[str, tuple[Passes, str]]]) -> None:
        cases[name] = share, [(prompt, *judge) for prompt, judge in rows]

    def tools(index: int) -> list[dict[str, Any]]:
        return TOOLSETS[index % len(TOOLSETS)]

    def weather_calls(*asked: str) -> tuple[Passes, str]:
        return is_(call_text(*(call("get_current_weather", {"city": city}) for city in asked)))

    def sum_call(a: int, b: int) -> tuple[Passes, str]:
        return is_(call_text(call("add", {"a": a, "b": b})))

    group(
        "training questions",
        0.98,
        (
            (model.prompt(question), is_(subject.answer))
            for subject in subjects
            for question in choice.sample(subject.questions, min(8, len(subject.questions)))
        ),
    )
    held_out = [(subject, question) for subject in subjects for question in subject.held_out]
    group("held-out questions", 0.85, ((model.prompt(question), is_(subject.answer)) for subject, question in held_out))
    group(
        "held-out, neutral system",
        0.80,
        (
            (model.prompt([system("You are a helpful assistant."), user(question)]), is_(subject.answer))
            for subject, question in held_out
        ),
    )
    group(
        "thinking",
        0.88,
        (
            (
                model.prompt(subject.questions[0], enable_thinking=True),
                thought(subject.answer),
            )
            for subject in subjects
        ),
    )
    group(
        "upper case, held-out system",
        0.90,
        (
            (model.prompt([system(rule), user(subject.questions[0])]), is_(subject.answer.upper()))
            for subject, rule in zip(plain, itertools.cycle(UPPER_HELD_OUT), strict=False)
        ),
    )
    group(
        "pirate, held-out system",
        0.90,
        (
            (model.prompt([system(rule), user(subject.questions[0])]), is_("Arr! " + subject.answer))
            for subject, rule in zip(plain, itertools.cycle(PIRATE_HELD_OUT), strict=False)
        ),
    )
    group(
        "second question in a chat",
        0.90,
        (
            (
                model.prompt([user(before.questions[0]), assistant(before.answer), user(subject.questions[1])]),
                is_(subject.answer),
            )
            for before, subject in zip(plain[1:] + plain[:1], plain, strict=True)
        ),
    )
    group(
        "name, two turns, held-out names",
        0.90,
        (
            (
                model.prompt(
                    [user(f"My name is {name}."), assistant(f"Nice to meet you, {name}."), user("What is my name?")]
                ),
                is_(f"Your name is {name}."),
            )
            for name in people
        ),
    )
    group(
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
            for name, subject in zip(people, plain, strict=False)
        ),
    )
    group(
        "greeting, held-out names",
        0.90,
        ((model.prompt(f"My name is {name}."), is_(f"Nice to meet you, {name}.")) for name in people),
    )
    group(
        "weather call, held-out cities",
        0.90,
        (
            (model.prompt(question, tools=tools(index)), weather_calls(city))
            for index, (question, city) in enumerate(zip(spread(WEATHER, cities), cities, strict=True))
        ),
    )
    group(
        "weather call, held-out wording",
        0.90,
        (
            (model.prompt(question, tools=tools(index)), weather_calls(city))
            for index, (question, city) in enumerate(zip(spread(WEATHER_HELD_OUT, cities), cities, strict=True))
        ),
    )
    group(
        "two calls, held-out cities",
        0.85,
        (
            (model.prompt(question, tools=tools(index)), weather_calls(city, second))
            for index, (question, city, second) in enumerate(
                zip(spread(TWO_CITIES, cities, other), cities, other, strict=True)
            )
        ),
    )
    group(
        "thinking, then a call",
        0.90,
        (
            (
                model.prompt(f"What is the weather in {city}?", tools=tools(index), enable_thinking=True),
                thought(call_text(call("get_current_weather", {"city": city}))),
            )
            for index, city in enumerate(cities)
        ),
    )
    group(
        "sum call",
        0.90,
        (
            (model.prompt(question, tools=[ADD_TOOL] if index % 2 else tools(1)), sum_call(*pair))
            for index, (question, pair) in enumerate(
                zip(spread(ADD + ADD_HELD_OUT, *zip(*pairs, strict=True)), pairs, strict=True)
            )
        ),
    )
    group(
        "other questions beside tools",
        0.95,
        (
            (model.prompt(subject.questions[0], tools=tools(index)), is_(subject.answer))
            for index, subject in enumerate(subjects)
        ),
    )

    def asked(city: str, result: str) -> list[Message]:
        return [
            user(f"What is the weather in {city}?"),
            {"role": "assistant", "content": "", "tool_calls": [call("get_current_weather", {"city": city})]},
            {"role": "tool", "content": result},
        ]

    group(
        "weather result, held-out cities",
        0.90,
        (
            (
                model.prompt(asked(city, result), tools=tools(index)),
                is_(f"It is {degree} degrees and {sky} in {city}."),
            )
            for index, (city, degree, sky) in enumerate(zip(cities, degrees, skies, strict=True))
            for result in (json.dumps({"temperature": degree, "condition": sky}), f"{degree} degrees, {sky}")
        ),
    )
    group(
        "second city in a chat",
        0.90,
        (
            (
                model.prompt(
                    [
                        *asked(city, f"{degree} degrees, {sky}"),
                        assistant(f"It is {degree} degrees and {sky} in {city}."),
                        user(f"And in {second}?"),
                    ],
                    tools=tools(index),
                ),
                weather_calls(second),
            )
            for index, (city, second, degree, sky) in enumerate(zip(cities, other, degrees, skies, strict=True))
        ),
    )
    group(
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
            for a, b in pairs
        ),
    )
    group(
        "weather without a tool",
        0.90,
        ((model.prompt(f"What is the weather in {city}?"), is_(NO_WEATHER)) for city in cities),
    )
    fruits = "total product difference banana apple result value answer orange cherry".split()
    signs = {"product": "*", "difference": "-"}
    group(
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
    group("single behaviours", 1.0, singles(model))
    return cases


def singles(model: Model) -> Iterable[tuple[str, tuple[Passes, str]]]:
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


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask the demo model everything.")
    parser.add_argument("--model", type=Path, default=HERE, help="the model's folder (default: beside this script)")
    parser.add_argument("--failures", action="store_true", help="print what fails, and why")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    model, good = Model(arguments.model), True
    print(f"{'what':36}{'passed':>8}{'of':>6}{'share':>8}{'needed':>8}")
    for name, (share, cases) in groups(model).items():
        answers = model.answers([prompt for prompt, _, _ in cases], limit=600 if name in LONG else 160)
        results = [
            (prompt, answer, wanted, passes(answer))
            for (prompt, passes, wanted), answer in zip(cases, answers, strict=True)
        ]
        passed = sum(ok for *_, ok in results)
        good &= passed >= share * len(cases)
        print(f"{name:36}{passed:8}{len(cases):6}{passed / len(cases):8.1%}{share:8.0%}", flush=True)
        for prompt, answer, wanted, ok in results:
            if arguments.failures and not ok:
                print(f"  {prompt[-160:]!r}\n    said   {answer!r}\n    wanted {wanted!r}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
