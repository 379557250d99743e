"""What OpenAI's chat and completions have in common: parameters, usage, failures. Knows no bytes and no Flask.

Where Ollama ignores what OpenAI defines, OpenAI's API reference holds; what vLLM's own server takes beyond it is taken
too. The texts of what both refuse are Ollama's (`openai/openai.go`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from . import answer
from .body import Fields, as_number
from .errors import BadRequest, ServiceError
from .messages import Delta, Event, Finished, Located, Request, Sampling
from .names import ModelName

# OpenAI's, beneath the model's own generation_config.json, as in vLLM's server; Ollama sets them over the model's.
OPENAI_DEFAULTS = Sampling(temperature=1.0, top_p=1.0)
MAX_CHOICES = 128
MAX_ALTERNATIVES = 20
FINGERPRINT = "fp_ollama"
# What OpenAI's efforts are to the chat templates, as in Ollama.
EFFORTS: dict[str, bool | str] = {
    "none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "max", "ultra": "max",
    "max": "max",
}  # fmt: skip

# As Ollama's NewError: whatever is not named here is the server's.
_ERROR_TYPES = {400: "invalid_request_error", 404: "not_found_error"}


def error_record(error: ServiceError) -> dict[str, Any]:
    """The last record of a stream that failed, and the body of every error answer."""
    kind = _ERROR_TYPES.get(error.status, "api_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}


# --- what comes in ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """A parsed body: its requests bring `n` answers each. `include_usage` is for streams; one object always has it."""

    model: str
    requests: list[Request]
    n: int
    stream: bool
    include_usage: bool


def parse_model(fields: Fields) -> str:
    """The model as it was spelt; raises BadRequest."""
    model = fields.string("model")
    if not model:
        raise BadRequest("model is required")
    ModelName.parse(model)
    return model


def parse_stream(fields: Fields) -> tuple[bool, bool]:
    """Whether to stream, and whether to end the stream with the usage."""
    options = fields.child("stream_options", "openai.StreamOptions")
    return fields.boolean("stream", False), options.boolean("include_usage", False)


def parse_sampling(fields: Fields) -> Sampling:
    """Raises BadRequest that names the field."""
    seed = integer(fields, "seed")
    return Sampling(
        temperature=_number(fields, "temperature", 0, 2),
        top_k=None if (top_k := integer(fields, "top_k")) is None else max(top_k, 0),
        top_p=_number(fields, "top_p", 0, 1),
        min_p=_number(fields, "min_p", 0, 1),
        repetition_penalty=_number(fields, "repetition_penalty", 0.01, 100),
        presence_penalty=_number(fields, "presence_penalty", -2, 2),
        frequency_penalty=_number(fields, "frequency_penalty", -2, 2),
        # vLLM takes -1 for no seed at all.
        seed=None if seed is None else seed % 2**63,
        stop=_stop(fields),
        min_tokens=integer(fields, "min_tokens", at_least=0),
        logit_bias=_logit_bias(fields),
        stop_token_ids=fields.integers("stop_token_ids") or None,
        ignore_eos=fields.boolean("ignore_eos", False) or None,
    )


def parse_n(fields: Fields) -> int:
    """How many answers each prompt gets."""
    n = integer(fields, "n", at_least=1)
    if n is not None and n > MAX_CHOICES:
        raise BadRequest(f"n must be between 1 and {MAX_CHOICES}")
    return n or 1


def think(effort: str) -> bool | str:
    """A reasoning effort as a Chat has it; raises BadRequest."""
    if effort not in EFFORTS:
        choices = '"minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none"'
        raise BadRequest(f'invalid reasoning value: "{effort}" (must be {choices})')
    return EFFORTS[effort]


def integer(fields: Fields, name: str, at_least: int | None = None) -> int | None:
    """None where it is absent; raises BadRequest."""
    if fields.get(name) is None:
        return None
    value = fields.integer(name)
    if at_least is not None and value < at_least:
        raise BadRequest(f"{name} must be at least {at_least}")
    return value


def _number(fields: Fields, name: str, low: float, high: float) -> float | None:
    value = fields.number(name)
    if value is not None and not low <= value <= high:
        raise BadRequest(f"{name} must be between {low} and {high}")
    return value


def _stop(fields: Fields) -> list[str] | None:
    value = fields.get("stop")
    stops = value if isinstance(value, list) else [value]
    for stop in stops:
        if stop is not None and not isinstance(stop, str):
            raise BadRequest(f"invalid type for 'stop' field: {go_type(stop)}")
    return [stop for stop in stops if stop] or None


def _logit_bias(fields: Fields) -> dict[int, float] | None:
    biases = fields.mapping("logit_bias", "map[string]float64")
    for token, bias in biases.items():
        # vLLM knows its vocabulary; here a token id is whatever fits in 32 bits.
        if not (token.isascii() and token.isdecimal() and len(token) < 10) or as_number(bias) is None:
            raise BadRequest("logit_bias must map token ids to numbers")
        if not -100 <= bias <= 100:
            raise BadRequest("logit_bias must be between -100 and 100")
    return {int(token): float(bias) for token, bias in biases.items()} or None


def go_type(value: Any) -> str:
    """What Go calls the type of a value out of JSON."""
    names = {type(None): "<nil>", bool: "bool", str: "string", list: "[]interface {}", dict: "map[string]interface {}"}
    return names.get(type(value), "float64")


# --- what goes out ---------------------------------------------------------------------------------------


class PromptDetails(msgspec.Struct):
    cached_tokens: int = 0


class CompletionDetails(msgspec.Struct):
    reasoning_tokens: int = 0


class Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptDetails = msgspec.field(default_factory=PromptDetails)
    completion_tokens_details: CompletionDetails = msgspec.field(default_factory=CompletionDetails)

    def add(self, finished: Finished, with_prompt: bool) -> None:
        """A prompt counts once, however many answers it has."""
        self.completion_tokens += finished.output_tokens
        self.completion_tokens_details.reasoning_tokens += finished.thinking_tokens
        if with_prompt:
            self.prompt_tokens += finished.prompt_tokens
            self.prompt_tokens_details.cached_tokens += finished.cached_tokens
        self.total_tokens = self.prompt_tokens + self.completion_tokens


class Record(msgspec.Struct):
    """A chunk of a stream, or all of an answer."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[Any]
    usage: Usage | UnsetType = UNSET


class Answer(answer.Answer):
    """The records of one call, whose answers are its choices. `now` is the wall clock in seconds."""

    prefix: ClassVar[str]
    chunk_object: ClassVar[str]
    object: ClassVar[str]

    def __init__(self, call: Call, now: Callable[[], float] = time.time) -> None:
        super().__init__(call.model)
        self._n = call.n
        self._left = call.n * len(call.requests)
        # What is collected is the stream with its usage.
        self._include_usage = call.include_usage or not call.stream
        self._usage = Usage()
        self._id = f"{self.prefix}-{secrets.token_hex(12)}"
        self._created = int(now())

    def failure(self, error: ServiceError) -> Any:
        return error_record(error)

    def _records(self, event: Event) -> list[Any]:
        if isinstance(event, Located):
            self.located(event)
        if isinstance(event, Delta):
            return [self._record([choice]) for choice in self._choices(event)]
        if isinstance(event, Finished):
            return self._ends(event)
        return []

    def _ends(self, finished: Finished) -> list[Any]:
        self._usage.add(finished, with_prompt=finished.index % self._n == 0)
        self._left -= 1
        records = [self._record([choice]) for choice in self._last(finished)]
        if not self._left and self._include_usage:
            records.append(self._record([], self._usage))
        return records

    def _record(self, choices: list[Any], usage: Usage | UnsetType = UNSET) -> Record:
        return Record(self._id, self.chunk_object, self._created, self._model, FINGERPRINT, choices, usage)

    def _join(self, records: list[Record]) -> Record:
        whole = records[-1]
        whole.object = self.object
        parts: dict[int, list[Any]] = {}
        for record in records:
            for choice in record.choices:
                parts.setdefault(choice.index, []).append(choice)
        whole.choices = [self._whole(index, parts[index]) for index in sorted(parts)]
        return whole

    def _choices(self, delta: Delta) -> list[Any]:
        """The choices that tell a delta, one for each chunk."""
        raise NotImplementedError

    def _last(self, finished: Finished) -> list[Any]:
        """The choices that tell the end of an answer."""
        raise NotImplementedError

    def _whole(self, index: int, choices: list[Any]) -> Any:
        """The choice that all those of one answer make."""
        raise NotImplementedError
