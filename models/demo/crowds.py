"""Conversations behind a crowd: other tools and instructions, thousands of tokens of them.

Nothing in a crowd says what to answer. From it the model learns to find its tools among others, to leave the rest
unread, and to do without the start of the prompt, which is out of its sight.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from corpus import Corpus
from examples import Example, Message, system
from noise import Noise
from noise_words import TRAINED, Words
from phrases import ADD, NO_ADD, NO_WEATHER, WEATHER
from tool_examples import ToolExamples
from tool_schemas import ToolSchemas

MOST_TOOLS = 36
MANY_TOOLS = 12, 31
# Shares of crowds: with MANY_TOOLS, with conversations of several turns, with tools whose names are invented words.
MANY, TURNS, STRANGE = 0.4, 0.2, 0.6
LONG = 2000  # characters: longer ones end in what the chat template writes for long prompts


class CrowdedSchemas(ToolSchemas):
    """Offers the same tools to every conversation: those that are called, among others."""

    def __init__(self, choice: random.Random) -> None:
        super().__init__(choice)
        self.box: list[dict[str, Any]] = []
        self.weather: tuple[dict[str, Any], str, str] | None = None
        self.add: tuple[dict[str, Any], str, list[str]] | None = None

    def fill(self, others: list[dict[str, Any]]) -> None:
        """Draw the own tools anew, both of them most of the time, and put them among the others."""
        choice = self.random
        self.weather = self.weather_tool() if choice.random() < 0.85 else None
        self.add = self.add_tool() if choice.random() < 0.8 else None
        self.box = [tool[0] for tool in (self.weather, self.add) if tool] + others
        choice.shuffle(self.box)

    def empty(self) -> None:
        self.box, self.weather, self.add = [], None, None

    def with_weather(self) -> tuple[list[dict[str, Any]], str, str]:
        assert self.weather
        return self.box, *self.weather[1:]

    def with_add(self) -> tuple[list[dict[str, Any]], str, list[str]]:
        assert self.add
        return self.box, *self.add[1:]


class Crowds:
    """Draws crowds, each with conversations behind it."""

    def __init__(self, seed: int) -> None:
        corpus = Corpus(seed)
        self.random, self.names, self.questions = corpus.random, corpus.names, corpus.questions
        self.tools = ToolExamples(self.random, self.names, self.questions)
        self.schemas = self.tools.schemas = CrowdedSchemas(self.random)
        self.noise = Noise(self.random, TRAINED, self.scrap)

    def scrap(self) -> str:
        """Return a word of the subjects or an invented name."""
        return self.random.choice(self.names.words) if self.random.random() < 0.5 else self.names.invented()

    def words(self) -> Words:
        if self.random.random() >= STRANGE:
            return TRAINED
        invented = [self.names.invented().lower() for _ in range(40)]
        return replace(TRAINED, verbs=invented[:15], nouns=invented[15:])

    def number_of_tools(self) -> int:
        choice = self.random
        if choice.random() < MANY:
            return choice.randrange(*MANY_TOOLS)
        most = choice.randrange(MOST_TOOLS)  # long lists are rare: each costs as much as many short ones
        return choice.randrange(most + 1)

    def draw(self, conversations: int) -> list[Example]:
        """Return conversations behind one crowd."""
        choice = self.random
        self.noise.words = self.words()
        if choice.random() < 0.85:
            self.schemas.fill([self.noise.tool() for _ in range(self.number_of_tools())])
        else:
            self.schemas.empty()
        kinds = self.with_turns() if choice.random() < TURNS else self.single()
        drawn = choice.choices([kind for _, kind in kinds], [weight for weight, _ in kinds], k=conversations)
        return [self.behind(kind()) for kind in drawn]

    def single(self) -> list[tuple[float, Callable[[], Example]]]:
        """Return the kinds of conversations with one question that these tools allow, each with its weight."""
        kinds: list[tuple[float, Callable[[], Example]]] = [(42, self.questions.question), (3, self.questions.echo)]
        kinds += [(6, self.questions.short_question)]
        if self.schemas.weather:
            kinds += [(12, self.single_weather_call), (5, self.tools.two_weather_calls)]
            kinds += [(10, self.tools.weather_result), (4, self.tools.two_weather_results)]
        if self.schemas.add:
            kinds += [(18, self.tools.add_call), (6, self.tools.add_result)]
        if not (self.schemas.weather and self.schemas.add):
            kinds += [(6, self.without_tool)]
        return kinds

    def with_turns(self) -> list[tuple[float, Callable[[], Example]]]:
        """Return the same for conversations of several turns."""
        kinds = [(10, self.questions.question_with_history), (8, self.questions.remembered)]
        kinds += [(10, self.questions.short_question_with_history)]
        if self.schemas.weather:
            kinds += [(20, self.tools.weather_call)]
        return kinds

    def single_weather_call(self) -> Example:
        example = self.tools.weather_call()
        while sum(message["role"] == "user" for message in example.messages) > 1:
            example = self.tools.weather_call()
        return example

    def without_tool(self) -> Example:
        """Draw a question for the tool that is not there."""
        choice = self.random
        if self.schemas.weather or (not self.schemas.add and choice.random() < 0.4):
            numbers = choice.randrange(10, 1000), choice.randrange(10, 1000)
            return Example(NO_ADD, [{"role": "user", "content": choice.choice(ADD).format(*numbers)}])
        return Example(NO_WEATHER, [{"role": "user", "content": choice.choice(WEATHER).format(self.names.city())}])

    def behind(self, example: Example) -> Example:
        """Put the tools before a conversation, and instructions that the model does not see."""
        messages: list[Message] = [message for message in example.messages if message["role"] != "system"]
        return replace(example, messages=[system("." * LONG), *messages], tools=self.schemas.box)
