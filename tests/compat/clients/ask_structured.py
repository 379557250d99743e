"""Libraries for structured output; what each made of the answers is printed as one JSON object.

Arguments: the URL of the server, the URL of one with a scripted engine. That one answers what a toy model can't.
"""

import json
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import instructor
import outlines
from anthropic import Anthropic
from instructor import Mode
from openai import OpenAI
from pydantic import BaseModel, Field

url, scripted_url = sys.argv[1:]
QUESTION = "Describe Anna, who is 30 years old."


class Person(BaseModel):
    """A person. Each field has a bound, without which a toy model might write on."""

    kind: Literal["adult", "child"]
    age: int = Field(ge=0, le=130)
    name: str = Field(max_length=12)
    tags: list[Literal["a", "b"]] = Field(max_length=2)


class Kind(BaseModel):
    """Has no bounds, which anthropic takes out of a schema."""

    kind: Literal["adult", "child"]
    happy: bool


class Clients:
    """One server, as each library sees it."""

    def __init__(self, url: str) -> None:
        self.openai = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        self.anthropic = Anthropic(base_url=url, api_key="none", max_retries=0)

    def parsed_chat(self) -> Person | None:
        return self.openai.chat.completions.parse(**asked(), response_format=Person).choices[0].message.parsed

    def parsed_response(self) -> Person | None:
        return self.openai.responses.parse(model="demo", input=QUESTION, text_format=Person).output_parsed

    def parsed_message(self) -> Kind | None:
        return self.anthropic.messages.parse(**asked(), output_format=Kind, max_tokens=1000).parsed_output

    def instructor(self, mode: Mode, question: str = QUESTION, output: Any = Person) -> Any:
        client = instructor.from_openai(self.openai, mode=mode)
        return client.chat.completions.create(**asked(question), response_model=output, max_retries=0)

    def partial_instructor(self) -> list[Any]:
        """Return what was known of a person at the end of its stream."""
        client = instructor.from_openai(self.openai, mode=Mode.JSON_SCHEMA)
        return list(client.chat.completions.create_partial(**asked(), response_model=Person, max_retries=0))[-1]

    def instructor_anthropic(self, question: str = QUESTION) -> Any:
        client = instructor.from_anthropic(self.anthropic, mode=Mode.ANTHROPIC_TOOLS)
        return client.messages.create(**asked(question), response_model=Person, max_tokens=1000, max_retries=0)

    def outlines(self, output: Any) -> Any:
        return outlines.from_vllm(self.openai, "demo")(QUESTION, output)

    def streamed_outlines(self) -> str:
        return "".join(outlines.from_vllm(self.openai, "demo").stream(QUESTION, Person))


def asked(question: str = QUESTION) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": question}]}


demo, scripted = Clients(url), Clients(scripted_url)
ANNA = '{"kind":"adult","age":30,"name":"Anna","tags":["a"]}'
CALL = f"!call:Person:{ANNA}"
PROGRAMS: dict[str, Callable[[], Any]] = {
    "openai, chat": demo.parsed_chat,
    "openai, responses": demo.parsed_response,
    "anthropic": demo.parsed_message,
    "instructor, tools": lambda: demo.instructor(Mode.TOOLS),
    "instructor, schema": lambda: demo.instructor(Mode.JSON_SCHEMA),
    "instructor, partial": demo.partial_instructor,
    "instructor, anthropic": demo.instructor_anthropic,
    "outlines, schema": lambda: Person.model_validate_json(demo.outlines(Person)),
    "outlines, stream": lambda: Person.model_validate_json(demo.streamed_outlines()),
    "outlines, choice": lambda: demo.outlines(Literal["yes", "no"]),
    "outlines, regex": lambda: demo.outlines(outlines.regex("[0-9]{3}")),
    "outlines, grammar": lambda: demo.outlines(outlines.cfg('?start: "yes" | "no"')),
    "scripted: JSON": lambda: scripted.instructor(Mode.JSON, ANNA),
    "scripted: Markdown": lambda: scripted.instructor(Mode.MD_JSON, f"```json\n{ANNA}\n```"),
    "scripted: tools": lambda: scripted.instructor(Mode.TOOLS, CALL),
    "scripted: two calls": lambda: list(scripted.instructor(Mode.PARALLEL_TOOLS, f"{CALL} {CALL}", Iterable[Person])),
    "scripted: anthropic": lambda: scripted.instructor_anthropic(CALL),
}


def made_by(program: Callable[[], Any]) -> object:
    """Return what came out, or the error."""
    try:
        made = program()
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:1000]
    if isinstance(made, list):
        return [each.model_dump() for each in made]
    return made.model_dump() if isinstance(made, BaseModel) else made


with ThreadPoolExecutor(4) as pool:
    print(json.dumps(dict(zip(PROGRAMS, pool.map(made_by, PROGRAMS.values()), strict=True))))
