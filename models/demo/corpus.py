"""From corpus.txt and the lists of phrases.py to training examples, of each kind as many as its weight says.

An Example is what the model reads (messages and tools for the chat template, or a raw prompt)
and what it has to write. Nothing here knows tokens or weights.
"""

import random

from examples import Example
from names import Names
from questions import Questions
from raw_texts import RawTexts
from subjects import load_subjects
from tool_examples import ToolExamples


# Most numbers have three or four digits.
DIGITS = (1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7)


class Corpus:
    """Draws any number of examples, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.subjects = load_subjects()
        self.names = Names(self.random, self.subjects, DIGITS)
        self.questions = Questions(self.random, self.subjects, self.names)
        tools = ToolExamples(self.random, self.names, self.questions)
        raw = RawTexts(self.random, self.subjects, self.names)
        self.kinds = [
            (57, self.questions.question),
            (16, self.questions.short_question),
            (25, self.questions.upper),
            (8, self.questions.pirate),
            (4, self.questions.one_word),
            (1.5, self.questions.named),
            (9, self.questions.question_with_history),
            (8, self.questions.short_question_with_history),
            (9, self.questions.remembered),
            (1, self.questions.again),
            (3, self.questions.echo),
            (11, tools.weather_call),
            (3, tools.two_weather_calls),
            (6, tools.add_call),
            (8, tools.unrelated_with_tools),
            (10, tools.weather_result),
            (4, tools.two_weather_results),
            (3, tools.add_result),
            (8, tools.missing_tool),
            (4, tools.forced_call),
            (8, raw.fill_in),
            (1.5, raw.fill_in_text),
            (3, raw.raw),
        ]

    def draw(self, copying: float = 0.0) -> Example:
        """Return the next example, with the probability `copying` one in which words are only to be copied."""
        if self.random.random() < copying:
            return self.questions.echo()
        (kind,) = self.random.choices([kind for _, kind in self.kinds], [weight for weight, _ in self.kinds])
        return kind()
