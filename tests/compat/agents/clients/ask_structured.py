"""Libraries for structured output against the demo model; what each made of the answers is printed as one JSON object.

Argument: the URL of the server.
"""

import json
import sys
from typing import Literal

import instructor
import outlines
from anthropic import Anthropic
from openai import OpenAI
from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

(url,) = sys.argv[1:]
QUESTION = "Describe Anna, who is 30 years old."


class Person(BaseModel):
    """A person."""

    kind: Literal["adult", "child"]
    age: int = Field(ge=0, le=130)
    name: str = Field(max_length=12)
    tags: list[Literal["a", "b"]] = Field(max_length=2)


MESSAGES = [{"role": "user", "content": QUESTION}]
openai = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
anthropic = Anthropic(base_url=url, api_key="none", max_retries=0)


def shown(make) -> object:
    """What came out, or the error."""
    try:
        made = make()
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:600]
    return made.model_dump() if isinstance(made, Person) else made


def with_instructor(mode) -> object:
    client = instructor.from_openai(openai, mode=mode)
    return client.chat.completions.create(model="demo", messages=MESSAGES, response_model=Person, max_retries=0)


def with_instructors_anthropic() -> object:
    client = instructor.from_anthropic(anthropic, mode=instructor.Mode.ANTHROPIC_TOOLS)
    return client.messages.create(
        model="demo", messages=MESSAGES, response_model=Person, max_retries=0, max_tokens=1500
    )


def with_pydantic_ai(output) -> object:
    model = OpenAIChatModel("demo", provider=OpenAIProvider(base_url=f"{url}/v1", api_key="none"))
    return Agent(model, output_type=output, retries=0).run_sync(QUESTION).output


def with_outlines(output) -> object:
    made = outlines.from_vllm(openai, "demo")(QUESTION, output)
    return Person.model_validate_json(made) if output is Person else made


print(json.dumps({
    "openai, chat": shown(lambda: openai.chat.completions.parse(
        model="demo", messages=MESSAGES, response_format=Person).choices[0].message.parsed),
    "openai, responses": shown(lambda: openai.responses.parse(
        model="demo", input=QUESTION, text_format=Person).output_parsed),
    "anthropic": shown(lambda: anthropic.messages.parse(
        model="demo", messages=MESSAGES, max_tokens=1500, output_format=Person).parsed_output),
    "instructor, tools": shown(lambda: with_instructor(instructor.Mode.TOOLS)),
    "instructor, schema": shown(lambda: with_instructor(instructor.Mode.JSON_SCHEMA)),
    "instructor, anthropic": shown(with_instructors_anthropic),
    "pydantic-ai, native": shown(lambda: with_pydantic_ai(NativeOutput(Person))),
    "pydantic-ai, tool": shown(lambda: with_pydantic_ai(ToolOutput(Person))),
    "outlines": shown(lambda: with_outlines(Person)),
    "outlines, choice": shown(lambda: with_outlines(Literal["yes", "no"])),
    "outlines, regex": shown(lambda: with_outlines(outlines.regex("[0-9]{3}"))),
}))  # fmt: skip
