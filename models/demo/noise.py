"""Noise: tools and instructions that have nothing to do with the question, as an agent sends them by the thousand."""

import json
import random
from collections.abc import Callable
from typing import Any

from noise_words import PLAIN, Words


class Noise:
    """Draws tools and instructions; the same ones for the same random numbers."""

    def __init__(self, choice: random.Random, words: Words, word: Callable[[], str]) -> None:
        self.random, self.words, self.word = choice, words, word

    def fill(self, template: str) -> str:
        choice = self.random
        verb, noun = choice.choice(self.words.verbs), choice.choice(self.words.nouns).replace("_", " ")
        return template.format(
            verb=verb, Verb=verb.capitalize(), verb2=choice.choice(self.words.verbs),
            noun=noun, Noun=noun.capitalize(), noun2=choice.choice(self.words.nouns).replace("_", " "),
            plain=choice.choice(PLAIN), plain2=choice.choice(PLAIN),
            number=choice.randrange(1, 10 ** choice.randrange(1, 5)), number2=choice.randrange(1, 1000),
            word=self.word(), word2=self.word(), word3=self.word(), path=self.path(),
            digits=choice.randrange(10, 99), digit=choice.randrange(1, 9), digit2=choice.randrange(9),
        )  # fmt: skip

    def path(self) -> str:
        parts = (self.word().lower() for _ in range(self.random.randrange(1, 4)))
        return "/" + "/".join(parts) + self.random.choice(["", "/", ".py", ".md", ".json"])

    def sentence(self) -> str:
        return self.fill(self.random.choice(self.words.rules))

    def paragraph(self) -> str:
        """Some sentences, as prose, as a list, under a heading, in tags, in a block of code or as JSON."""
        choice = self.random
        lines = [self.sentence() for _ in range(choice.randrange(1, 7))]
        title, tag = self.fill("{Verb} {noun}s"), choice.choice(self.words.nouns)
        shape = choice.randrange(8)
        if shape == 0:
            return "\n".join("- " + line for line in lines)
        if shape == 1:
            return "#" * choice.randrange(1, 4) + f" {title}\n\n" + " ".join(lines)
        if shape == 2:
            return f"<{tag}>\n" + "\n".join(lines) + f"\n</{tag}>"
        if shape == 3:
            return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
        if shape == 4:
            return "```\n" + "\n".join(f"{self.word().lower()} = {self.word()}" for _ in lines) + "\n```"
        if shape == 5:
            return json.dumps({choice.choice(self.words.nouns): line for line in lines})
        if shape == 6:
            return " ".join(self.word() for _ in range(choice.randrange(3, 40))) + "."
        return " ".join(lines)

    def kind(self) -> dict[str, Any]:
        """The schema of one parameter."""
        choice = self.random
        shape = choice.random()
        if shape < 0.5:
            schema: dict[str, Any] = {"type": choice.choice(["string", "string", "string", "integer", "boolean"])}
        elif shape < 0.65:
            schema = {"anyOf": [{"type": choice.choice(["string", "integer"])}, {"type": "null"}], "default": None}
        elif shape < 0.75:
            schema = {"type": "string", "enum": [self.word().lower() for _ in range(choice.randrange(2, 5))]}
        elif shape < 0.85:
            schema = {"type": "array", "items": {"type": choice.choice(["string", "number"])}}
        elif shape < 0.95:
            schema = {"type": "integer", "default": choice.randrange(100), "minimum": choice.randrange(5)}
        else:
            schema = {"type": "object", "properties": {self.word().lower(): {"type": "string"}}}
        if choice.random() < 0.75:
            schema["description"] = self.fill(choice.choice(self.words.meanings))
        return schema

    def tool(self) -> dict[str, Any]:
        """A tool of another trade."""
        choice = self.random
        verb, noun = choice.choice(self.words.verbs), choice.choice(self.words.nouns)
        named = [f"{verb}_{noun}", f"{verb}_{noun}", f"{noun}_{verb}", verb + noun.title().replace("_", "")]
        name = choice.choice([*named, f"{self.word().lower()}_{verb}", f"mcp__{noun}__{verb}", verb.capitalize()])
        keys = [choice.choice([*self.words.nouns, "id", "name", "query", "limit", "path", "text", "a", "location"])
                for _ in range(choice.choice([0, 1, 1, 2, 2, 3, 4, 6]))]  # fmt: skip
        properties = {key: self.kind() for key in keys}
        parameters: dict[str, Any] = {"type": "object", "properties": properties}
        if choice.random() < 0.8:
            parameters["required"] = [key for key in properties if choice.random() < 0.5]
        if choice.random() < 0.2:
            parameters["additionalProperties"] = False
        text = " ".join(self.fill(choice.choice(self.words.descriptions)) for _ in range(choice.choice([1, 1, 2, 4])))
        function = {"name": name, "description": text, "parameters": parameters}
        if choice.random() < 0.2:
            function["strict"] = choice.random() < 0.5
        return {"type": "function", "function": function}

    def tools(self, characters: int) -> list[dict[str, Any]]:
        """As many as make up so many characters of JSON."""
        made: list[dict[str, Any]] = []
        while characters > 0:
            made.append(self.tool())
            characters -= len(json.dumps(made[-1]))
        return made

    def instructions(self, characters: int) -> str:
        made: list[str] = []
        while characters > 0:
            made.append(self.paragraph())
            characters -= len(made[-1])
        return self.random.choice(["\n", "\n\n"]).join(made)
