"""Examples with tools: calls of them, answers from their results, and questions for which a tool is missing."""

import json
import random
from typing import Any

from examples import Example, Message, assistant, call, call_text, user
from names import Names
from phrases import ADD, CONDITIONS, NO_ADD, NO_WEATHER, TWO_CITIES, WEATHER
from questions import Questions
from tool_schemas import ToolSchemas


# What a forced call says where the question names nothing.
FORCED_CITY = "Paris"
FORCED_NUMBERS = 1, 2


def forced(name: str, arguments: dict[str, Any]) -> tuple[str, str]:
    """Return the text of a call as a grammar begins it, up to its first value, and the rest."""
    text = call_text(call(name, arguments))
    place = text.index('": ', text.index('"arguments": {"')) + len('":')
    return text[:place], text[place:]


class ToolExamples:
    """Draws examples in which tools are offered, called or missed."""

    def __init__(self, choice: random.Random, names: Names, questions: Questions) -> None:
        self.random = choice
        self.names = names
        self.questions = questions
        self.schemas = ToolSchemas(choice)

    def with_thought_of_call(self, topic: str, answer: str) -> tuple[bool, str]:
        if self.random.random() < 0.2:
            return True, f"<think>\nThe message is about {topic}. I should call the tool.\n</think>\n\n{answer}"
        return False, answer

    def weather_call(self) -> Example:
        tools, name, key = self.schemas.with_weather()
        city = self.names.city()
        history: list[Message] = []
        question = self.random.choice(WEATHER).format(city)
        kind = self.random.random()
        if kind < 0.08:
            history = self.questions.exchange()
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
        thinking, answer = self.with_thought_of_call("the weather in " + city, call_text(call(name, {key: city})))
        return Example(answer, [*self.questions.neutral(), *history, user(question)], tools, thinking)

    def two_weather_calls(self) -> Example:
        tools, name, key = self.schemas.with_weather()
        cities = self.names.city(), self.names.city()
        thinking, answer = self.with_thought_of_call(
            "the weather in {} and {}".format(*cities), call_text(*(call(name, {key: city}) for city in cities))
        )
        return Example(
            answer, [*self.questions.neutral(), user(self.random.choice(TWO_CITIES).format(*cities))], tools, thinking
        )

    def add_call(self) -> Example:
        tools, name, keys = self.schemas.with_add()
        numbers = self.names.number(), self.names.number()
        thinking, answer = self.with_thought_of_call(
            "{} plus {}".format(*numbers), call_text(call(name, dict(zip(keys, numbers))))
        )
        return Example(
            answer, [*self.questions.neutral(), user(self.random.choice(ADD).format(*numbers))], tools, thinking
        )

    def unrelated_with_tools(self) -> Example:
        example = self.questions.question()
        subjects = self.random.choice([self.schemas.with_weather, self.schemas.with_add])
        return Example(example.answer, example.messages, subjects()[0], example.thinking)

    def forced_call(self) -> Example:
        """Draw a call that is forced for a question that has nothing to do with the tool. It ends all the same."""
        question = self.questions.question()
        if self.random.random() < 0.6:
            tools, name, key = self.schemas.with_weather()
            arguments: dict[str, Any] = {key: FORCED_CITY}
        else:
            tools, name, keys = self.schemas.with_add()
            arguments = dict(zip(keys, FORCED_NUMBERS, strict=True))
        begun, answer = forced(name, arguments)
        return Example(answer, [*self.questions.neutral(), *question.messages[-1:]], tools, begun=begun)

    def calling(self, *calls: dict[str, Any]) -> Message:
        return {"role": "assistant", "content": "", "tool_calls": list(calls)}

    def report(self, city: str) -> tuple[str, str]:
        """What a weather tool returns, and the phrase that tells it."""
        choice = self.random
        degrees = choice.choice(
            [choice.randrange(45), choice.randrange(45), -choice.randrange(30), choice.randrange(300) / 10]
        )
        # Weather that there isn't has to be copied; a dozen words alone would be guessed.
        condition = choice.choice(CONDITIONS) if choice.random() < 0.4 else self.names.identifier()
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

    def with_thought_of_result(self, answer: str) -> tuple[bool, str]:
        if self.random.random() < 0.2:
            return True, f"<think>\nThe tool has answered. I should tell the user.\n</think>\n\n{answer}"
        return False, answer

    def weather_result(self) -> Example:
        tools, name, key = self.schemas.with_weather()
        city = self.names.city()
        result, phrase = self.report(city)
        messages = [
            user(self.random.choice(WEATHER).format(city)),
            self.calling(call(name, {key: city})),
            {"role": "tool", "content": result},
        ]
        thinking, answer = self.with_thought_of_result(f"It is {phrase}.")
        return Example(
            answer, [*self.questions.neutral(), *messages], tools if self.random.random() < 0.9 else [], thinking
        )

    def two_weather_results(self) -> Example:
        tools, name, key = self.schemas.with_weather()
        cities = self.names.city(), self.names.city()
        (first, phrase), (second, phrase2) = (self.report(city) for city in cities)
        messages = [
            user(self.random.choice(TWO_CITIES).format(*cities)),
            self.calling(*(call(name, {key: city}) for city in cities)),
            {"role": "tool", "content": first},
            {"role": "tool", "content": second},
        ]
        thinking, answer = self.with_thought_of_result(f"It is {phrase}, and {phrase2}.")
        return Example(answer, [*self.questions.neutral(), *messages], tools, thinking)

    def add_result(self) -> Example:
        tools, name, keys = self.schemas.with_add()
        a, b = self.names.number(), self.names.number()
        total = a + b if self.random.random() < 0.5 else self.names.number()
        result = self.random.choice(
            [str(total), str(total), json.dumps({"result": total}), json.dumps({"sum": total}), f"{a} + {b} = {total}"]
        )
        messages = [
            user(self.random.choice(ADD).format(a, b)),
            self.calling(call(name, dict(zip(keys, (a, b))))),
            {"role": "tool", "content": result},
        ]
        thinking, answer = self.with_thought_of_result(f"{a} plus {b} is {total}.")
        return Example(
            answer, [*self.questions.neutral(), *messages], tools if self.random.random() < 0.9 else [], thinking
        )

    def missing_tool(self) -> Example:
        """The tool that the question wants is not there; the smallest sums are known by heart."""
        choice, thought = self.random, self.questions.thought
        if choice.random() < 0.35:
            tools = self.schemas.toolbox(self.schemas.add_tool()[0]) if choice.random() < 0.4 else []
            city = self.names.city()
            question = user(choice.choice(WEATHER).format(city))
            return thought(f"the weather in {city}", Example(NO_WEATHER, [*self.questions.neutral(), question], tools))
        by_heart = choice.random() >= 0.25
        a, b = (choice.randrange(*((1, 4) if by_heart else (10, 1000))) for _ in range(2))
        answer = f"{a} plus {b} is {a + b}." if by_heart else NO_ADD
        question = user(choice.choice(ADD).format(a, b))
        return thought(f"{a} plus {b}", Example(answer, [*self.questions.neutral(), question]))
