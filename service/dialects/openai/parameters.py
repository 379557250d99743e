"""Parse the parameters that the bodies of OpenAI's routes share: sampling, number of answers, stream and effort.

The rules are OpenAI's API reference, also for fields that Ollama ignores, and the further fields of vLLM's own server.
Refusals that Ollama has as well have Ollama's texts (`openai/openai.go`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

from ...errors import BadRequest
from ...protocol.request import Request, Sampling
from ...syntax.numbers import as_number
from ..bounds import MAX_ALTERNATIVES, MAX_ALTERNATIVES_IN_ALL, MAX_CHOICES
from ..fields import Fields
from ..keeping import Keeping
from ..tools import Tools

# The model's own generation_config.json overrides these, as in vLLM's server. In Ollama these override the model's.
OPENAI_DEFAULTS = Sampling(temperature=1.0, top_p=1.0)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

# OpenAI's efforts in the words of the chat templates, as in Ollama.
EFFORTS: dict[str, bool | str] = {
    "none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "max", "ultra": "max",
    "max": "max",
}  # fmt: skip


@dataclass(frozen=True)
class OpenAICall:
    """A parsed body, whose `requests` have `n` answers each.

    `include_usage` is for streams: an answer that is not streamed always has its usage. With `continuous_usage` each
    chunk of a stream has the usage so far. `tools` are a chat's.
    Without `show_thinking` the thinking is not sent. `request_id` ends the answer's id, which is random without it.
    """

    model: str
    requests: list[Request]
    n: int
    stream: bool
    include_usage: bool
    tools: Tools = field(default_factory=Tools)
    show_thinking: bool = True
    request_id: str = ""
    keeping: Optional[Keeping] = None
    continuous_usage: bool = False


class StreamOptions(NamedTuple):
    """Whether to stream, to end the stream with the usage, and to send the usage so far with each chunk."""

    stream: bool
    include_usage: bool
    continuous_usage: bool


def parse_stream(fields: Fields, keeping: Keeping | None) -> StreamOptions:
    """Return what the request asks for. Raise BadRequest.

    As in vLLM, `continuous_usage_stats` has an effect only beside `include_usage`.
    """
    options = fields.child("stream_options", "openai.StreamOptions")
    include_usage = options.boolean("include_usage", False)
    continuous = options.boolean("continuous_usage_stats", False) and include_usage
    if continuous and keeping is not None:
        # A reader who comes back gets joined chunks, and the numbers in between would depend on where it was cut.
        place = "stream_options.continuous_usage_stats"
        raise BadRequest(f"{place} can't go with resumable or background", param=place)
    return StreamOptions(fields.boolean("stream", False), include_usage, continuous)


def parse_sampling(fields: Fields) -> Sampling:
    """Return the sampling parameters without the limit of tokens. Raise a BadRequest that names the field."""
    seed = integer(fields, "seed")
    return Sampling(
        temperature=_number(fields, "temperature", 0, 2),
        top_k=None if (top_k := integer(fields, "top_k")) is None else max(top_k, 0),
        top_p=_number(fields, "top_p", 0, 1),
        min_p=_number(fields, "min_p", 0, 1),
        repetition_penalty=_number(fields, "repetition_penalty", 0.01, 100),
        presence_penalty=_number(fields, "presence_penalty", -2, 2),
        frequency_penalty=_number(fields, "frequency_penalty", -2, 2),
        # A seed of -1 means no seed to vLLM, so a negative one is mapped to a positive one.
        seed=None if seed is None else seed % 2**63,
        stop=_stop(fields),
        min_tokens=integer(fields, "min_tokens", at_least=0),
        logit_bias=_logit_bias(fields),
        stop_token_ids=fields.integers("stop_token_ids") or None,
        ignore_eos=fields.boolean("ignore_eos", False) or None,
        bad_words=fields.strings("bad_words", "[]string", "string") or None,
        include_stop_str_in_output=fields.boolean("include_stop_str_in_output", False) or None,
        allowed_token_ids=fields.integers("allowed_token_ids") or None,
        skip_special_tokens=None if fields.boolean("skip_special_tokens", True) else False,
        spaces_between_special_tokens=None if fields.boolean("spaces_between_special_tokens", True) else False,
        thinking_token_budget=_thinking_budget(fields),
    )


def parse_n(fields: Fields) -> int:
    """Return how many answers each prompt gets. Raise BadRequest."""
    n = integer(fields, "n", at_least=1)
    if n is not None and n > MAX_CHOICES:
        raise BadRequest(f"n must be between 1 and {MAX_CHOICES}", param="n")
    return n or 1


def parse_request_id(fields: Fields) -> str:
    """Return the id that vLLM's clients choose for their answer, empty if they leave it to the server."""
    request_id = fields.string("request_id")
    if request_id and not _REQUEST_ID.fullmatch(request_id):
        raise BadRequest("request_id must have up to 128 letters, digits, '.', '_', ':' or '-'", param="request_id")
    return request_id


def parse_alternatives(fields: Fields) -> int:
    """Return how many alternatives the log probabilities of each token have. Raise BadRequest."""
    alternatives = fields.integer("top_logprobs")
    if not 0 <= alternatives <= MAX_ALTERNATIVES:
        raise BadRequest(f"top_logprobs must be between 0 and {MAX_ALTERNATIVES}", param="top_logprobs")
    return alternatives


def check_alternatives(alternatives: int | None, n: int, name: str) -> None:
    """Raise BadRequest for more log probabilities a token than this server reports at once. `name`: the parameter."""
    if alternatives is not None and alternatives * n > MAX_ALTERNATIVES_IN_ALL:
        raise BadRequest(f"n times {name} must be at most {MAX_ALTERNATIVES_IN_ALL}", param=name)


def think(effort: str, place: str) -> bool | str:
    """Return a reasoning effort as a Chat has it. Raise BadRequest for an unknown one, which names its place."""
    if effort not in EFFORTS:
        choices = '"minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none"'
        raise BadRequest(f'invalid reasoning value: "{effort}" (must be {choices})', param=place)
    return EFFORTS[effort]


def integer(fields: Fields, name: str, at_least: int | None = None) -> int | None:
    """Return an integer, None if it is absent. Raise BadRequest."""
    if fields.get(name) is None:
        return None
    value = fields.integer(name)
    if at_least is not None and value < at_least:
        raise BadRequest(f"{name} must be at least {at_least}", param=name)
    return value


def _number(fields: Fields, name: str, low: float, high: float) -> float | None:
    value = fields.number(name)
    if value is not None and not low <= value <= high:
        raise BadRequest(f"{name} must be between {low} and {high}", param=name)
    return value


def _stop(fields: Fields) -> list[str] | None:
    value = fields.get("stop")
    stops = value if isinstance(value, list) else [value]
    for stop in stops:
        if stop is not None and not isinstance(stop, str):
            raise BadRequest(f"invalid type for 'stop' field: {go_type(stop)}", param="stop")
    return [stop for stop in stops if stop] or None


def _logit_bias(fields: Fields) -> dict[int, float] | None:
    biases = fields.mapping("logit_bias", "map[string]float64")
    for token, bias in biases.items():
        # The size of the vocabulary is known to vLLM only. Here an id is any number that fits in 32 bits.
        if not (token.isascii() and token.isdecimal() and len(token) < 10) or as_number(bias) is None:
            raise BadRequest("logit_bias must map token ids to numbers", param="logit_bias")
        if not -100 <= bias <= 100:
            raise BadRequest("logit_bias must be between -100 and 100", param="logit_bias")
    return {int(token): float(bias) for token, bias in biases.items()} or None


def _thinking_budget(fields: Fields) -> int | None:
    """Return how many tokens the thinking may have, None for no limit, which is -1 to vLLM."""
    budget = integer(fields, "thinking_token_budget", at_least=-1)
    return None if budget == -1 else budget


def truncation(fields: Fields) -> tuple[int | None, bool]:
    """Return how many tokens of a prompt are kept (-1: as many as fit), and whether the first ones are."""
    tokens = integer(fields, "truncate_prompt_tokens", at_least=-1)
    if tokens == 0:
        raise BadRequest("truncate_prompt_tokens must be -1 or at least 1", param="truncate_prompt_tokens")
    side = fields.string("truncation_side", "left")
    if side not in ("left", "right"):
        raise BadRequest('truncation_side must be "left" or "right"', param="truncation_side")
    return tokens, side == "right"


def go_type(value: Any) -> str:
    """Return Go's name for the type of a JSON value."""
    names = {type(None): "<nil>", bool: "bool", str: "string", list: "[]interface {}", dict: "map[string]interface {}"}
    return names.get(type(value), "float64")
