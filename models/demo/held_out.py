"""What the cases ask about: the subjects, and names, cities and numbers that corpus.py keeps out of training."""

import random

from names import names
from phrases import HELD_OUT_CITIES, HELD_OUT_PEOPLE
from subjects import load_subjects


class HeldOut:
    """Drawn with a fixed seed, so that each evaluation asks the same."""

    def __init__(self) -> None:
        self.choice = random.Random(0)
        self.subjects = load_subjects()
        self.plain = [subject for subject in self.subjects if subject.plain]
        self.cities, self.people = names(HELD_OUT_CITIES), names(HELD_OUT_PEOPLE)
        self.other = self.cities[1:] + self.cities[:1]
        self.pairs = [(self.choice.randrange(1000), self.choice.randrange(100)) for _ in range(40)]
        self.degrees = [self.choice.randrange(40) for _ in self.cities]
        self.skies = [self.choice.choice(["sunny", "cloudy", "rainy", "windy"]) for _ in self.cities]
