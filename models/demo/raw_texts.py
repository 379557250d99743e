"""Examples without the chat template: code and sentences with a gap to fill, and text that goes on."""

import random

from examples import Example
from names import Names
from phrases import OPERATORS, RAW
from subjects import Subject


class RawTexts:
    """Draws examples that have a prompt and no messages."""

    def __init__(self, choice: random.Random, subjects: list[Subject], names: Names) -> None:
        self.random = choice
        self.names = names
        self.plain = [subject for subject in subjects if subject.plain]

    def fill_in(self) -> Example:
        """Code whose suffix says what belongs into the middle."""
        choice = self.random
        name = choice.choice(list(OPERATORS)) if choice.random() < 0.25 else self.names.identifier()
        function, (a, b) = (
            choice.choice(["compute", "work", "run", "f", "get"]),
            choice.choice([("a", "b"), ("a", "b"), ("x", "y")]),
        )
        operator = OPERATORS.get(name, "+")
        prefix, middle, suffix = choice.choice(
            [
                (f"def {function}({a}, {b}):\n    ", f"{name} = {a} {operator} {b}", f"\n    return {name}"),
                (f"def {function}({a}, {b}):\n    ", f"{name} = {a} {operator} {b}", f"\n    return {name}\n"),
                (f"def {function}({a}, {b}):\n", f"    {name} = {a} {operator} {b}", f"\n    return {name}\n"),
                (f"def {name}({a}, {b}):\n    return ", f"{a} {operator} {b}", "\n"),
                (f"{name} = 1\nprint(", name, ")\n"),
            ]
        )
        return Example(middle, prompt=f"<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>")

    def fill_in_text(self) -> Example:
        """The middle of a sentence that the corpus holds."""
        words = self.random.choice(self.plain).answer.split(" ")
        if len(words) < 5:
            words = RAW[0].split(" ")
        start = self.random.randrange(1, len(words) - 2)
        end = min(start + self.random.randrange(1, 4), len(words) - 1)
        prefix, middle, suffix = " ".join(words[:start]) + " ", " ".join(words[start:end]), " " + " ".join(words[end:])
        return Example(middle, prompt=f"<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>")

    def raw(self) -> Example:
        """Plain text that goes on."""
        text = self.random.choice(RAW) if self.random.random() < 0.6 else self.random.choice(self.plain).answer
        words = text.split(" ")
        cut = self.random.randrange(2, max(3, len(words) - 1))
        return Example((" " + " ".join(words[cut:])) if words[cut:] else "", prompt=" ".join(words[:cut]))
