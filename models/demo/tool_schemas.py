"""The tools that a request offers the model: the JSON of their functions, in the many ways that clients write it."""

import random
from typing import Any


class ToolSchemas:
    """Draws tools in OpenAI's form."""

    def __init__(self, choice: random.Random) -> None:
        self.random = choice

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
