"""From corpus.txt and the lists of phrases.py to training examples.

An Example is what the model reads (messages and tools for the chat template, or a raw prompt)
and what it has to write. Nothing here knows tokens or weights.
"""

import itertools
import json
import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phrases import (
    ADD,
    ASK_CITY,
    ASK_NAME,
    CITIES,
    CONDITIONS,
    ECHO,
    IDENTIFIERS,
    MY_CITY,
    MY_NAME,
    NEUTRAL,
    NO_ADD,
    NO_WEATHER,
    ONE_WORD,
    OPERATORS,
    PEOPLE,
    PIRATE,
    RAW,
    REPEAT,
    TWO_CITIES,
    UPPER,
    WEATHER,
)

Message = dict[str, Any]


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


@dataclass(frozen=True)
class Example:
    """`messages` (with `tools`, `thinking`) or else `prompt`; `answer` without the end token."""

    answer: str
    messages: list[Message] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    thinking: bool = False
    prompt: str = ""


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


def names(text: str) -> list[str]:
    """Names parted by spaces; those with a space in them stand behind a `|`."""
    single, *spaced = text.split("|")
    return single.split() + [name.strip() for name in spaced]


def think(topic: str, answer: str) -> str:
    return f"<think>\nThe message is about {topic}. I should give a short, clear answer.\n</think>\n\n{answer}"


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def call_text(*calls: dict[str, Any]) -> str:
    return "\n".join(f"<tool_call>\n{json.dumps(call['function'], ensure_ascii=False)}\n</tool_call>" for call in calls)


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def system(content: str) -> Message:
    return {"role": "system", "content": content}


class Corpus:
    """Draws examples for ever, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.subjects = load_subjects()
        self.worded = [subject for subject in self.subjects if subject.word]
        self.plain = [subject for subject in self.subjects if subject.plain]
        self.cities = names(CITIES)
        self.people = names(PEOPLE)
        self.words = sorted({word for subject in self.subjects for word in re.findall(r"[a-z]{4,}", subject.answer)})
        self.joinable = [name for name in self.cities + self.people if " " not in name]
        self.kinds = [
            (40, self.question),
            (11, self.upper),
            (4, self.pirate),
            (4, self.one_word),
            (1.5, self.named),
            (9, self.question_with_history),
            (9, self.remembered),
            (1, self.again),
            (3, self.echo),
            (6, self.weather_call),
            (3, self.two_weather_calls),
            (4, self.add_call),
            (6, self.unrelated_with_tools),
            (10, self.weather_result),
            (4, self.two_weather_results),
            (3, self.add_result),
            (3, self.missing_tool),
            (8, self.fill_in),
            (1.5, self.fill_in_text),
            (3, self.raw),
        ]

    def draw(self, copying: float = 0.0) -> Example:
        """The next example; with the chance `copying` one that has only to be copied."""
        if self.random.random() < copying:
            return self.echo()
        (kind,) = self.random.choices([kind for _, kind in self.kinds], [weight for weight, _ in self.kinds])
        return kind()

    # --- questions and system messages

    def ask(self, subject: Subject) -> str:
        """A question of the subject, sometimes with a greeting, without its capital, its mark or one word."""
        choice = self.random
        (readings,) = choice.choices(subject.patterns, [len(readings) ** 0.5 for readings in subject.patterns])
        question = choice.choice(readings)
        if not question.isascii():
            return question
        if choice.random() < 0.2:
            start = choice.choice(
                ["Please tell me: ", "Hello! ", "Hi, ", "Tell me, ", "Quick question: ", "OK. ", "And ", "So, "]
            )
            question = start + (question if start[-2] in "!." else question[0].lower() + question[1:])
        if choice.random() < 0.06:
            question += choice.choice([" Thanks!", " Please."])
        words = question.split(" ")
        if len(words) > 4 and choice.random() < 0.06:
            del words[choice.randrange(len(words) - 1)]
            question = " ".join(words)
        if choice.random() < 0.15:
            question = question.lower() if choice.random() < 0.5 else question[0].lower() + question[1:]
        if choice.random() < 0.15:
            question = question.rstrip("?.!")
        return question or "Hello"

    def neutral(self, chance: float = 0.25) -> list[Message]:
        return [system(self.random.choice(NEUTRAL))] if self.random.random() < chance else []

    def question(self) -> Example:
        subject = self.random.choice(self.subjects)
        thinking = self.random.random() < 0.25
        answer = think(subject.topic, subject.answer) if thinking else subject.answer
        return Example(answer, [*self.neutral(), user(self.ask(subject))], thinking=thinking)

    def upper(self) -> Example:
        subject = self.random.choice(self.plain)
        return Example(subject.answer.upper(), [system(self.random.choice(UPPER)), user(self.ask(subject))])

    def pirate(self) -> Example:
        subject = self.random.choice(self.plain)
        return Example("Arr! " + subject.answer, [system(self.random.choice(PIRATE)), user(self.ask(subject))])

    def one_word(self) -> Example:
        subject = self.random.choice(self.worded)
        return Example(subject.word, [system(self.random.choice(ONE_WORD)), user(self.ask(subject))])

    def named(self) -> Example:
        """The system message gives the model a name."""
        name = self.person()
        rule = self.random.choice(
            ["Your name is {}.", "You are {}.", "You are {}, a helpful assistant.", "You are called {}."]
        )
        question = self.random.choice(["What is your name?", "What's your name?", "Tell me your name."])
        return Example(f"My name is {name}.", [system(rule.format(name)), user(question)])

    # --- conversations

    def exchange(self) -> list[Message]:
        """One question and its answer, said earlier."""
        subject = self.random.choice(self.plain)
        return [user(self.ask(subject)), assistant(subject.answer)]

    def question_with_history(self) -> Example:
        history = [message for _ in range(self.random.choice([1, 1, 2])) for message in self.exchange()]
        example = self.question()
        start = example.messages[:-1]
        return Example(example.answer, [*start, *history, example.messages[-1]], thinking=example.thinking)

    def remembered(self) -> Example:
        """Names and cities that the user said earlier."""
        choice = self.random
        name, city = self.person(), self.city()
        facts = [
            (
                [user(choice.choice(MY_NAME).format(name)), assistant(f"Nice to meet you, {name}.")],
                ASK_NAME,
                f"Your name is {name}.",
            ),
            (
                [user(choice.choice(MY_CITY).format(city)), assistant(f"{city} must be a fine place.")],
                ASK_CITY,
                f"You live in {city}.",
            ),
        ]
        if choice.random() < 0.35:
            facts.reverse()
        said, asked, answer = facts[0]
        kind = choice.random()
        if kind < 0.25:
            return Example(said[1]["content"], [*self.neutral(), said[0]])
        if kind < 0.33:
            unknown = (
                "You have not told me your name yet." if "name" in answer else "You have not told me where you live."
            )
            return Example(
                unknown,
                [*self.neutral(), *(self.exchange() if choice.random() < 0.5 else []), user(choice.choice(asked))],
            )
        between: list[Message] = []
        if choice.random() < 0.6:
            between = facts[1][0] if choice.random() < 0.4 else self.exchange()
        history = [*said, *between] if choice.random() < 0.8 else [*between, *said]
        return Example(answer, [*self.neutral(), *history, user(choice.choice(asked))])

    def again(self) -> Example:
        exchange = self.exchange()
        return Example(exchange[1]["content"], [*self.neutral(), *exchange, user(self.random.choice(REPEAT))])

    def echo(self) -> Example:
        """Words to repeat: from the long ones the model learns to copy at all."""
        choice = self.random
        kinds = [self.invented, self.person, self.city, self.identifier, lambda: str(self.number())]
        words = " ".join(choice.choice(kinds)() for _ in range(choice.choice([1, 1, 2, 3, 5, 8, 12])))
        return Example(words, [*self.neutral(0.1), user(choice.choice(ECHO).format(words))])

    # --- names that force the model to copy

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
        return self.random.randrange(10 ** self.random.choice([1, 2, 2, 3, 3]))

    # --- tools

    def tool(self, name: str, description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
        """An OpenAI tool, its keys in one of the orders that clients send."""
        choice = self.random
        parameters = [("type", "object"), ("properties", properties), ("required", required)]
        function = [("name", name), ("description", description)]
        if choice.random() < 0.3:
            parameters.insert(1, parameters.pop())
        if choice.random() < 0.1:
            parameters.pop()
        if choice.random() < 0.1:
            function.pop()
        if choice.random() < 0.1:
            function.reverse()
        return {"type": "function", "function": {**dict(function), "parameters": dict(parameters)}}

    def described(self, kind: str, *texts: str) -> dict[str, str]:
        return (
            {"type": kind, "description": self.random.choice(texts)} if self.random.random() < 0.6 else {"type": kind}
        )

    def weather_tool(self) -> tuple[dict[str, Any], str, str]:
        """The tool, its name and the name of its argument."""
        choice = self.random
        usual = choice.random() < 0.7
        name = (
            "get_current_weather"
            if usual
            else choice.choice(["get_weather", "weather", "current_weather", "get_temperature"])
        )
        key = "city" if usual and choice.random() < 0.8 else choice.choice(["location", "city", "place"])
        text = choice.choice(
            [
                "Get the current weather",
                "Get the current weather for a city",
                "Get the weather in a city",
                "The weather in a given city.",
                "Get current weather",
                "Weather of a city",
                "Tells the weather.",
            ]
        )
        properties: dict[str, Any] = {
            key: self.described(
                "string", "The city", "The name of the city", "City name", "The city, e.g. Paris", "Name of a city"
            )
        }
        if choice.random() < 0.15:
            properties["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
        return self.tool(name, text, properties, [key]), name, key

    def add_tool(self) -> tuple[dict[str, Any], str, list[str]]:
        choice = self.random
        usual = choice.random() < 0.75
        name = "add" if usual else choice.choice(["add_numbers", "add_two_numbers", "sum", "plus"])
        keys = ["a", "b"] if usual or choice.random() < 0.5 else ["x", "y"]
        text = choice.choice(
            [
                "Add two numbers",
                "Adds two integers",
                "Add a and b",
                "Returns the sum of two numbers.",
                "Add two integers and return the sum.",
            ]
        )
        kind = choice.choice(["integer", "integer", "number"])
        properties = {
            keys[0]: self.described(kind, "The first number", "First integer"),
            keys[1]: self.described(kind, "The second number", "Second integer"),
        }
        return self.tool(name, text, properties, keys), name, keys

    def other_tool(self) -> dict[str, Any]:
        name, text, key = self.random.choice(
            [
                ("search", "Search the web", "query"),
                ("send_mail", "Send a mail", "text"),
                ("set_timer", "Set a timer", "minutes"),
                ("play_music", "Play a song", "song"),
                ("get_time", "Get the time", "zone"),
                ("translate", "Translate a text", "text"),
                ("get_stock_price", "Get the price of a stock", "symbol"),
                ("read_file", "Read a file", "path"),
            ]
        )
        return self.tool(name, text, {key: self.described("string", "The " + key)}, [key])

    def toolbox(self, *wanted: dict[str, Any]) -> list[dict[str, Any]]:
        """The wanted tools among up to two others, in any order."""
        tools = [*wanted, *(self.other_tool() for _ in range(self.random.choices([0, 1, 2], [7, 3, 1])[0]))]
        self.random.shuffle(tools)
        return tools

    def with_weather(self) -> tuple[list[dict[str, Any]], str, str]:
        tool, name, key = self.weather_tool()
        extra = [self.add_tool()[0]] if self.random.random() < 0.4 else []
        return self.toolbox(tool, *extra), name, key

    def with_add(self) -> tuple[list[dict[str, Any]], str, list[str]]:
        tool, name, keys = self.add_tool()
        extra = [self.weather_tool()[0]] if self.random.random() < 0.4 else []
        return self.toolbox(tool, *extra), name, keys

    def maybe_thinking(self, topic: str, answer: str) -> tuple[bool, str]:
        if self.random.random() < 0.2:
            return True, f"<think>\nThe message is about {topic}. I should call the tool.\n</think>\n\n{answer}"
        return False, answer

    def weather_call(self) -> Example:
        tools, name, key = self.with_weather()
        city = self.city()
        history: list[Message] = []
        question = self.random.choice(WEATHER).format(city)
        kind = self.random.random()
        if kind < 0.08:
            history = self.exchange()
        elif kind < 0.22:
            before = self.weather_result()
            other = str(before.messages[-2]["tool_calls"][0]["function"]["arguments"].popitem()[1])
            history = [
                user(self.random.choice(WEATHER).format(other)),
                self.calling(call(name, {key: other})),
                before.messages[-1],
                assistant(before.answer.split("</think>\n\n")[-1]),
            ]
            question = self.random.choice(
                ["And in {}?", "What about {}?", "And {}?", "And what is the weather in {}?"]
            ).format(city)
        thinking, answer = self.maybe_thinking("the weather in " + city, call_text(call(name, {key: city})))
        return Example(answer, [*self.neutral(), *history, user(question)], tools, thinking)

    def two_weather_calls(self) -> Example:
        tools, name, key = self.with_weather()
        cities = self.city(), self.city()
        thinking, answer = self.maybe_thinking(
            "the weather in {} and {}".format(*cities), call_text(*(call(name, {key: city}) for city in cities))
        )
        return Example(answer, [*self.neutral(), user(self.random.choice(TWO_CITIES).format(*cities))], tools, thinking)

    def add_call(self) -> Example:
        tools, name, keys = self.with_add()
        numbers = self.number(), self.number()
        thinking, answer = self.maybe_thinking(
            "{} plus {}".format(*numbers), call_text(call(name, dict(zip(keys, numbers))))
        )
        return Example(answer, [*self.neutral(), user(self.random.choice(ADD).format(*numbers))], tools, thinking)

    def unrelated_with_tools(self) -> Example:
        example = self.question()
        subjects = self.random.choice([self.with_weather, self.with_add])
        return Example(example.answer, example.messages, subjects()[0], example.thinking)

    def calling(self, *calls: dict[str, Any]) -> Message:
        return {"role": "assistant", "content": "", "tool_calls": list(calls)}

    def report(self, city: str) -> tuple[str, str]:
        """What a weather tool returns, and the phrase that tells it."""
        choice = self.random
        degrees = choice.choice(
            [choice.randrange(45), choice.randrange(45), -choice.randrange(30), choice.randrange(300) / 10]
        )
        # Weather that there isn't has to be copied; a dozen words alone would be guessed.
        condition = choice.choice(CONDITIONS) if choice.random() < 0.4 else self.identifier()
        pairs: list[tuple[str, Any]] = [("temperature", degrees), ("condition", condition)]
        if choice.random() < 0.15:
            pairs.insert(0, ("city", city))
        if choice.random() < 0.1:
            pairs.append(("humidity", choice.randrange(100)))
        if choice.random() < 0.1:
            pairs.reverse()
        shapes = [
            json.dumps(dict(pairs)),
            json.dumps(dict(pairs)),
            f"{degrees} degrees, {condition}",
            f"{degrees} degrees and {condition}",
            f"{degrees}°C, {condition}",
            f"{condition}, {degrees} degrees",
            f"It is {degrees} degrees and {condition}.",
        ]
        return choice.choice(shapes), f"{degrees} degrees and {condition} in {city}"

    def told(self, answer: str) -> tuple[bool, str]:
        if self.random.random() < 0.2:
            return True, f"<think>\nThe tool has answered. I should tell the user.\n</think>\n\n{answer}"
        return False, answer

    def weather_result(self) -> Example:
        tools, name, key = self.with_weather()
        city = self.city()
        result, phrase = self.report(city)
        messages = [
            user(self.random.choice(WEATHER).format(city)),
            self.calling(call(name, {key: city})),
            {"role": "tool", "content": result},
        ]
        thinking, answer = self.told(f"It is {phrase}.")
        return Example(answer, [*self.neutral(), *messages], tools if self.random.random() < 0.9 else [], thinking)

    def two_weather_results(self) -> Example:
        tools, name, key = self.with_weather()
        cities = self.city(), self.city()
        (first, phrase), (second, phrase2) = (self.report(city) for city in cities)
        messages = [
            user(self.random.choice(TWO_CITIES).format(*cities)),
            self.calling(*(call(name, {key: city}) for city in cities)),
            {"role": "tool", "content": first},
            {"role": "tool", "content": second},
        ]
        thinking, answer = self.told(f"It is {phrase}, and {phrase2}.")
        return Example(answer, [*self.neutral(), *messages], tools, thinking)

    def add_result(self) -> Example:
        tools, name, keys = self.with_add()
        a, b = self.number(), self.number()
        total = a + b if self.random.random() < 0.5 else self.number()
        result = self.random.choice(
            [str(total), str(total), json.dumps({"result": total}), json.dumps({"sum": total}), f"{a} + {b} = {total}"]
        )
        messages = [
            user(self.random.choice(ADD).format(a, b)),
            self.calling(call(name, dict(zip(keys, (a, b))))),
            {"role": "tool", "content": result},
        ]
        thinking, answer = self.told(f"{a} plus {b} is {total}.")
        return Example(answer, [*self.neutral(), *messages], tools if self.random.random() < 0.9 else [], thinking)

    def missing_tool(self) -> Example:
        """The tool that the question wants is not there; the smallest sums are known by heart."""
        choice = self.random
        if choice.random() < 0.35:
            tools = self.toolbox(self.add_tool()[0]) if choice.random() < 0.4 else []
            return Example(NO_WEATHER, [*self.neutral(), user(choice.choice(WEATHER).format(self.city()))], tools)
        if choice.random() < 0.25:
            numbers = choice.randrange(10, 1000), choice.randrange(10, 1000)
            return Example(NO_ADD, [*self.neutral(), user(choice.choice(ADD).format(*numbers))])
        a, b = choice.randrange(1, 4), choice.randrange(1, 4)
        return Example(f"{a} plus {b} is {a + b}.", [*self.neutral(), user(choice.choice(ADD).format(a, b))])

    # --- without the chat template

    def fill_in(self) -> Example:
        """Code whose suffix says what belongs into the middle."""
        choice = self.random
        name = choice.choice(list(OPERATORS)) if choice.random() < 0.25 else self.identifier()
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
