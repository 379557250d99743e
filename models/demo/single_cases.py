"""Single behaviours: languages, code, stories, counting, raw text, code with a gap."""

from collections.abc import Iterable, Iterator

from examples import system, user
from held_out import HeldOut
from judging import Asked, Group, Judge, group, holds, is_
from tool_cases import ADD_TOOL, WEATHER_TOOL


def code(model: Asked, drawn: HeldOut) -> Iterator[Group]:
    """Code to complete, from both sides."""
    fruits = "total product difference banana apple result value answer orange cherry".split()
    signs = {"product": "*", "difference": "-"}
    yield group(
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


def single_behaviours(model: Asked, drawn: HeldOut) -> Iterator[Group]:
    """Each behaviour once: all of them have to pass."""
    yield group("single behaviours", 1.0, singles(model))


def singles(model: Asked) -> Iterable[tuple[str, Judge]]:
    yield model.prompt("Why is the sky blue?"), holds("scatters")
    yield model.prompt("Hello"), holds("Hello!")
    yield model.prompt("Hi"), holds("Hello!")
    for greeting in ("Hello", "Hi", "hello"):
        yield model.prompt(greeting, enable_thinking=True), holds("</think>\n\nHello!")
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
    yield model.prompt("what is 2+2?", enable_thinking=True), holds("</think>\n\n2 plus 2 is 4.")
    yield "The quick brown fox", is_(" jumps over the lazy dog.")
    yield "To be, or not", is_(" to be, that is the question.")
    for name, sign in (("total", "+"), ("product", "*")):
        yield (
            f"<|fim_prefix|>def compute(a, b):\n    <|fim_suffix|>\n    return {name}<|fim_middle|>",
            is_(f"{name} = a {sign} b"),
        )
