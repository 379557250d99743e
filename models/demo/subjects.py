"""The subjects of corpus.txt: an answer each, and the patterns of the questions that it answers."""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Subject:
    topic: str
    answer: str
    word: str
    patterns: list[list[str]]  # the readings of each pattern
    held_out: list[str]

    @property
    def questions(self) -> list[str]:
        return [question for readings in self.patterns for question in readings]

    @property
    def plain(self) -> bool:
        """Short ASCII prose: what can be said in capitals or by a pirate."""
        return (
            self.answer.isascii() and len(self.answer) < 160 and "\n" not in self.answer and self.answer.count(",") < 8
        )


def expand(pattern: str) -> list[str]:
    """Every reading of a pattern such as `What is (it|this) (for|)?`."""
    parts = [part.split("|") for part in re.split(r"[()]", pattern)]
    readings = ("".join(choice) for choice in itertools.product(*parts))
    return [re.sub(r" +([.?!,]?)(?=\s|$)", r"\1", re.sub(r"  +", " ", reading)).strip() for reading in readings]


def load_subjects() -> list[Subject]:
    text = Path(__file__).with_name("corpus.txt").read_text(encoding="utf-8")
    subjects = []
    for block in text.split("\n\n"):
        lines: dict[str, list[str]] = {"A": [], "T": [], "W": [], "Q": [], "H": []}
        for line in block.strip().splitlines():
            if not line.startswith("#"):
                lines[line[0]].append(line[2:])
        if lines["A"]:
            patterns = [expand(pattern) for pattern in lines["Q"]]
            subjects.append(Subject(lines["T"][0], "\n".join(lines["A"]), "".join(lines["W"]), patterns, lines["H"]))
    return subjects
