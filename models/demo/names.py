"""Names of people, cities and variables, most of them invented, so that the model has to copy them."""

import random
import re
from collections.abc import Sequence

from phrases import CITIES, IDENTIFIERS, PEOPLE
from subjects import Subject


def names(text: str) -> list[str]:
    """Names parted by spaces; those with a space in them stand behind a `|`."""
    single, *spaced = text.split("|")
    return single.split() + [name.strip() for name in spaced]


class Names:
    """Draws names and numbers from `choice`."""

    def __init__(self, choice: random.Random, subjects: list[Subject], digits: Sequence[int]) -> None:
        self.random = choice
        self.digits = digits
        self.cities = names(CITIES)
        self.people = names(PEOPLE)
        self.words = sorted({word for subject in subjects for word in re.findall(r"[a-z]{4,}", subject.answer)})
        self.joinable = [name for name in self.cities + self.people if " " not in name]

    def invented(self) -> str:
        """A name that nobody bears: scraps of words, two real ones spliced, or syllables."""
        choice = self.random
        kind = choice.random()
        if kind < 0.3:
            pieces = (
                word[start : start + choice.randrange(1, 5)]
                for word in choice.choices(self.words, k=3)
                for start in [choice.randrange(3)]
            )
            return "".join(pieces).capitalize()
        if kind < 0.65:
            first, second = choice.choices(self.joinable, k=2)
            return (first[: choice.randrange(1, len(first))] + second[choice.randrange(1, len(second)) :]).capitalize()
        syllables = choice.choices([1, 2, 3], [1, 5, 3])[0]
        onset, vowel = (
            "b br c ch d dr f fl g gr h j k kl l m n p pr qu r s sch sh st t th tr v w y z".split(),
            "a e i o u ai ea ee ie oo ou".split(),
        )
        coda = ["", "", "", "n", "r", "s", "l", "m", "t", "ck", "rg", "nd", "lle", "x", "ng"]
        name = "".join(choice.choice(onset) + choice.choice(vowel) + choice.choice(coda) for _ in range(syllables))
        if choice.random() < 0.06:
            name = name.translate(str.maketrans("aeou", choice.choice(["áéóú", "äéöü", "âêôû", "ãëõù"])))
        return name.capitalize()

    def identifier(self) -> str:
        return self.random.choice(IDENTIFIERS) if self.random.random() < 0.5 else self.invented().lower()

    def city(self) -> str:
        choice = self.random
        if choice.random() < 0.25:
            return choice.choice(self.cities)
        if choice.random() < 0.12:
            return (
                choice.choice(["New", "San", "Port", "Saint", "Los", "Fort", "Santa", "Rio de"]) + " " + self.invented()
            )
        if choice.random() < 0.08:
            return self.invented() + choice.choice([" City", " Beach", "-Nord", " an der Oder", " Falls"])
        return self.invented()

    def person(self) -> str:
        return self.random.choice(self.people) if self.random.random() < 0.3 else self.invented()

    def number(self) -> int:
        return self.random.randrange(10 ** self.random.choice(self.digits))
