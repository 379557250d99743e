"""The bounds of a request, kind by kind. Its values are counted before anything is made of them.

In: a body, and the requests that are parsed from it. Out: nothing, or a BadRequest that names the field and its bound.
A web worker and an engine worker are one thread each for many clients, so no request may hold either for long. A bound
is OpenAI's where real clients keep to it. Where clients of Ollama and vLLM send more, it is higher.
Bounds of JSON schemas that follow from how they are compiled are in `engine/vllm/json_schema.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ..errors import BadRequest
from ..protocol.request import Chat, Request
from .history import check_arguments

# OpenAI takes 4, and Ollama any number. Each of them is looked for after every token.
MAX_STOPS = 128
MAX_STOP_CHARACTERS = 1_024
# Of all answers together: each has a search of its own, and vLLM's core gets them once for each.
MAX_STOP_CHARACTERS_IN_ALL = MAX_STOPS * MAX_STOP_CHARACTERS
# OpenAI takes 300 or so.
MAX_BIASES = 1_024
MAX_STOP_IDS = 1_024
# A vocabulary has up to some 260,000 tokens. Half of one is allowed by naming it, the other half by biases.
MAX_ALLOWED_IDS = 131_072
# vLLM tokenizes each of them twice, on the loop that serves.
MAX_BAD_WORDS = 1_024
MAX_BAD_WORD_CHARACTERS = 16_384
# As OpenAI: the answers to one prompt, and the alternatives of one token.
MAX_CHOICES = 128
MAX_ALTERNATIVES = 20
# Alternatives of all answers of a prompt. For each token, each is one object in every process on its way.
MAX_ALTERNATIVES_IN_ALL = 400
# All answers to all prompts of a call are in vLLM at the same time.
MAX_PROMPTS = 1_024
# Each answer repeats its sampling parameters, schema and constraint on its way to the engine, and in the engine.
MAX_REPEATED_BYTES = 16 * 1024 * 1024
# OpenAI takes 5,000 properties, and 120,000 characters of names and values, which are fewer bytes than these.
MAX_SCHEMA_BYTES = 1024 * 1024
MAX_TOOLS_BYTES = 4 * 1024 * 1024
MAX_FILES = 10_000
# Ollama has some thirty, and ignores others. A created model repeats them whenever it is shown.
MAX_OPTIONS = 1_024
# As OpenAI. A response repeats it.
MAX_METADATA = 16
MAX_METADATA_CHARACTERS = 512


@dataclass(frozen=True)
class Bounds:
    """The bounds that an operator can set, and the check of a body against all of them.

    `messages` bounds the messages of a chat, the items of a response, and the texts to embed. `prompt_logprobs` bounds
    the log probabilities of prompts in an answer, and `logprobs` those of its tokens where the whole answer is in
    memory, alternatives included. No limit when one is 0.
    """

    messages: int = 10_000
    tools: int = 1_024
    images: int = 500
    prompt_logprobs: int = 262_144
    logprobs: int = 262_144

    def check_body(self, body: dict[str, Any]) -> None:
        """Raise BadRequest for a body in which a field has too many values."""
        # As the dialects read them: null is the same as absent, also where two names differ in their case only.
        fields = {name.lower(): value for name, value in body.items() if value is not None}
        for name, most in self._counts().items():
            if name in fields:
                _check_count(name, fields[name], most)
        self._check_tools(fields)
        for name in ("options", "parameters"):
            if isinstance(fields.get(name), dict):
                _check_stops(f"{name}.stop", fields[name].get("stop"))
        for name in ("stop", "stop_sequences"):
            _check_stops(name, fields.get(name))
        _check_characters("bad_words", fields.get("bad_words"))
        _check_metadata(fields.get("metadata"))
        check_arguments([fields.get("messages"), fields.get("input")])
        if isinstance(messages := fields.get("messages"), list):
            self._check_images(sum(map(_listed_images, messages)))

    def check_requests(self, requests: Sequence[Request]) -> None:
        """Raise BadRequest for too long schemas and stops, and for requests over a bound with a stored response."""
        _check_all_stops(requests)
        # The requests of a call share these, and each would take milliseconds.
        for form in {id(request.format): request.format for request in requests}.values():
            _check_bytes("the JSON schema", form, MAX_SCHEMA_BYTES)
        for constraint in {id(request.constraint): request.constraint for request in requests}.values():
            _check_bytes("the constraint", constraint, MAX_SCHEMA_BYTES)
        _check_repeated(requests)
        for request in requests:
            if isinstance(chat := request.prompt, Chat):
                _check_count("messages", chat.messages, self.messages)
                self._check_images(sum(len(message.images) for message in chat.messages))
                _check_bytes("tools", chat.tools, MAX_TOOLS_BYTES)

    def scored_tokens(self, requests: Sequence[Request]) -> int:
        """Return how many tokens each prompt may have whose log probabilities are wanted. No limit when 0."""
        return max(1, self.prompt_logprobs // _scores_of_a_token(requests)) if self.prompt_logprobs else 0

    def kept_tokens(self, requests: Sequence[Request], most: int) -> int:
        """Return how many tokens each answer may have whose log probabilities are all kept in memory.

        An answer may have `most` tokens anyway. Here, too, there is no limit when 0. Raise BadRequest where a request
        asks for more tokens.
        """
        if not self.logprobs or all(request.logprobs is None for request in requests):
            return most
        each = _scores_of_a_token(requests)
        tokens = min(max(1, self.logprobs // each), most or sys.maxsize)
        wanted = max(request.sampling.max_tokens or 0 for request in requests)
        if min(wanted, most or wanted) > tokens:
            raise BadRequest(
                f"with {each} log probabilities for each token, alternatives and all answers included, an answer that "
                f"is not streamed, is resumable, or is a response may have at most {tokens} tokens, and {wanted} are "
                f"asked for: VLLM_WSGI_MAX_LOGPROBS allows {self.logprobs} log probabilities",
                param="logprobs",
            )
        return tokens

    def _counts(self) -> dict[str, int]:
        return {
            "messages": self.messages, "input": self.messages, "images": self.images,
            "logit_bias": MAX_BIASES, "stop_token_ids": MAX_STOP_IDS, "allowed_token_ids": MAX_ALLOWED_IDS,
            "bad_words": MAX_BAD_WORDS, "files": MAX_FILES, "adapters": MAX_FILES, "metadata": MAX_METADATA,
            "options": MAX_OPTIONS, "parameters": MAX_OPTIONS,
        }  # fmt: skip

    def _check_tools(self, fields: dict[str, Any]) -> None:
        choice = fields.get("tool_choice")
        for name, values in (("tools", _listed_tools(fields)), ("tool_choice", _listed_tools(choice))):
            if 0 < self.tools < values:
                sentence = f"{name} may hold at most {self.tools} values, and holds {values}"
                raise BadRequest(sentence, param=name, code="array_above_max_length")

    def _check_images(self, count: int) -> None:
        if 0 < self.images < count:
            raise BadRequest(f"a request may have at most {self.images} images, and this one has {count}")


def _scores_of_a_token(requests: Sequence[Request]) -> int:
    """Return how many log probabilities one more token of every answer brings, alternatives included."""
    return sum(request.n for request in requests) * (1 + max(request.logprobs or 0 for request in requests))


def _check_count(name: str, values: Any, most: int) -> None:
    if isinstance(values, (list, dict)) and 0 < most < len(values):
        code = "array_above_max_length" if isinstance(values, list) else "object_above_max_properties"
        raise BadRequest(f"{name} may hold at most {most} values, and holds {len(values)}", param=name, code=code)


def _check_stops(name: str, stops: Any) -> None:
    _check_count(name, stops, MAX_STOPS)
    for stop in stops if isinstance(stops, list) else [stops]:
        if isinstance(stop, str) and len(stop) > MAX_STOP_CHARACTERS:
            sentence = f"a text in {name} may have at most {MAX_STOP_CHARACTERS} characters, and has {len(stop)}"
            raise BadRequest(sentence, param=name, code="string_above_max_length")


def _check_all_stops(requests: Sequence[Request]) -> None:
    count = sum(request.n * sum(map(len, request.sampling.stop or ())) for request in requests)
    if count > MAX_STOP_CHARACTERS_IN_ALL:
        sentence = (
            f"the stop strings, times the answers, may have at most {MAX_STOP_CHARACTERS_IN_ALL} characters, "
            f"and have {count}"
        )
        raise BadRequest(sentence, param="stop", code="string_above_max_length")


def _check_repeated(requests: Sequence[Request]) -> None:
    sizes: dict[tuple[int, ...], int] = {}
    size = answers = 0
    for request in requests:
        shared = request.sampling, request.format, request.constraint
        key = tuple(map(id, shared))
        if key not in sizes:
            sizes[key] = len(msgspec.msgpack.encode(shared))
        answers, size = answers + request.n, size + request.n * sizes[key]
    if size > MAX_REPEATED_BYTES and answers > 1:
        sentence = (
            f"the parameters and the schema or constraint, times the {answers} answers, may have at most "
            f"{MAX_REPEATED_BYTES} bytes, and have {size}"
        )
        raise BadRequest(sentence)


def _check_characters(name: str, words: Any) -> None:
    count = sum(len(word) for word in words if isinstance(word, str)) if isinstance(words, list) else 0
    if count > MAX_BAD_WORD_CHARACTERS:
        sentence = f"{name} may have at most {MAX_BAD_WORD_CHARACTERS} characters together, and has {count}"
        raise BadRequest(sentence, param=name, code="string_above_max_length")


def _check_metadata(metadata: Any) -> None:
    for name, value in metadata.items() if isinstance(metadata, dict) else ():
        longest = max(len(name), len(value) if isinstance(value, str) else 0)
        if longest > MAX_METADATA_CHARACTERS:
            sentence = f"a text in metadata may have at most {MAX_METADATA_CHARACTERS} characters, and has {longest}"
            raise BadRequest(sentence, param="metadata", code="string_above_max_length")


def _check_bytes(name: str, value: Any, most: int) -> None:
    """Raise BadRequest for a value of more than `most` bytes of JSON. No later step is as quick as this one."""
    if value and (size := len(msgspec.json.encode(value))) > most:
        raise BadRequest(f"{name} may have at most {most} bytes, and has {size}")


def _listed_images(message: Any) -> int:
    """Return how many images Ollama's message lists."""
    if not isinstance(message, dict):
        return 0
    lists = [value for name, value in message.items() if name.lower() == "images"]
    return sum(len(images) for images in lists if isinstance(images, list))


def _listed_tools(fields: Any) -> int:
    """Return how many tools an object lists: also those in its namespaces, and those that items of its input add."""
    count, rest = 0, list(_tool_lists(fields))
    items = fields.get("input") if isinstance(fields, dict) else None
    for item in items if isinstance(items, list) else []:
        rest += _tool_lists(item)
    while rest:
        tools = rest.pop()
        count += len(tools)
        for tool in tools:
            rest += _tool_lists(tool)
    return count


def _tool_lists(value: Any) -> Iterator[list[Any]]:
    for name, each in value.items() if isinstance(value, dict) else ():
        if isinstance(each, list) and name.lower() == "tools":
            yield each
