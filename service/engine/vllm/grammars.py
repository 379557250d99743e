"""The constraints of answers, for vLLM: JSON with bounded white space, regular expressions, choices and grammars.

xgrammar lets white space and numbers go on without end, and weak models take that up. So a schema becomes a grammar
here, in which both are bounded, and vLLM gets it in a structural tag. It is compiled here first, for a vocabulary of
single bytes: what xgrammar refuses is then the client's mistake, and is found off the loop that serves.
"""

from __future__ import annotations

import json
import re
import time
from functools import lru_cache
from typing import Any

import xgrammar
from vllm import SamplingParams
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.structured_output.utils import grammar_is_likely_lark

from ...errors import BadRequest
from ...protocol.request import Constraint
from .grammar_text import PatternMarks
from .json_patterns import MAX_TIMES
from .json_schema import enforceable
from .schema_bounds import MAX_BYTES, check_pattern
from .schema_faults import place_of_fault
from .schema_reports import INVALID_SCHEMA, invalid_schema

# Between two tokens of JSON: a new line, and an indentation of three levels with two spaces each.
WHITE_SPACE = 8
MAX_GRAMMAR_CHARACTERS = 20_000
# The schemas of all tools, when the model must call one. Each of them is compiled for itself.
MAX_TOOLS_BYTES = 262_144
CACHE_BYTES = 64 * 1024 * 1024
# A grammar that took longer than this to check takes as long in vLLM's core, or longer where the vocabulary is large.
COSTLY_SECONDS = 0.1
MOST_COSTLY = 10_000
# vLLM's backends that take xgrammar's structural tags; the others get the schema itself.
_WITH_TAGS = ("auto", "xgrammar")
# xgrammar writes a time and a line of its source before each message.
_SOURCE = re.compile(r"^\[[\d:]+\] \S+:\d+: ")


class CheckedSamplingParams(SamplingParams):  # type: ignore[misc]
    """Parameters with a structural tag that is checked already. vLLM would check it on the loop that serves."""

    def _validate_structured_outputs(self, model_config: Any, structured_outputs_config: Any, tokenizer: Any) -> None:
        self.structured_outputs._backend = "xgrammar"


class Grammars:
    """Makes the constraints of one engine, whose operator has chosen vLLM's `backend`.

    Compiling takes up to seconds; call it in a thread.
    """

    def __init__(self, backend: str) -> None:
        self._has_tags = backend in _WITH_TAGS

    def constraint(self, shape: str | dict[str, Any] | None, other: Constraint | None) -> Any:
        """Return a Request's `format` or its `constraint` in vLLM's terms; None when it has neither.

        Raises BadRequest.
        """
        if other is not None:
            return self._other(other)
        if shape is None:
            return None
        schema = {"type": "object"} if isinstance(shape, str) else shape
        if not self._has_tags:
            return StructuredOutputsParams(json=schema)
        return self._json(schema)

    def bounded(self, params: Any) -> Any:
        """Return the constraint that a parser of vLLM's has made of the tools, with its white space bounded."""
        if params is None or not self._has_tags:
            return params
        if params.json is not None:
            schema = json.loads(params.json) if isinstance(params.json, str) else params.json
            return self._json(schema)
        if params.structural_tag is not None:
            _check_tag(params.structural_tag, "tools", MAX_TOOLS_BYTES)
            return _tagged(_bounded(json.loads(params.structural_tag)["format"]))
        return params

    def named(self, tools: list[dict[str, Any]], error: BadRequest) -> BadRequest:
        """Return the refusal of a tool's schema with the name of the tool; any other one as it is."""
        for tool in tools if error.code == INVALID_SCHEMA else []:
            if (refused := self._refusal(tool)) is not None:
                message = f'the parameters of the tool "{tool["function"].get("name")}": {refused.message}'
                return BadRequest(message, param="tools", code="invalid_function_parameters")
        return error

    def loosened(self, tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the tools with any object for parameters that have no grammar, unless the tool is strict."""
        return [
            {**tool, "function": {**tool["function"], "parameters": {"type": "object"}}}
            if self._refusal(tool) is not None and tool["function"].get("strict") is not True
            else tool
            for tool in tools
        ]

    def _refusal(self, tool: dict[str, Any]) -> BadRequest | None:
        """Return why the parameters of a tool have no grammar, None if they have one."""
        function = tool["function"]
        try:
            self._json((function.get("parameters") if isinstance(function, dict) else None) or {})
        except BadRequest as refused:
            return refused
        return None

    def parameters(self, constraint: Any, **arguments: Any) -> SamplingParams:
        """Return vLLM's sampling parameters with a constraint from here, or with None."""
        if constraint is None:
            return SamplingParams(**arguments)
        kind = CheckedSamplingParams if self._has_tags and constraint.structural_tag is not None else SamplingParams
        return kind(structured_outputs=constraint, **arguments)

    def _json(self, schema: dict[str, Any]) -> Any:
        """Return the constraint of JSON that fits the schema. Raises BadRequest, which names a place in the schema."""
        tag = _tag(_schema_format(schema))
        if (complaint := _complaint(tag)) is not None:
            raise _placed(schema, complaint)
        return StructuredOutputsParams(structural_tag=tag)

    def _other(self, constraint: Constraint) -> Any:
        if not self._has_tags:
            (kind, value), *_ = ((name, getattr(constraint, name)) for name in _KINDS if getattr(constraint, name))
            return StructuredOutputsParams(**{kind: value})
        if constraint.regex:
            check_pattern(constraint.regex, "regex", MAX_TIMES)
            return _tagged({"type": "regex", "pattern": constraint.regex})
        if constraint.choice:
            enforceable({"enum": constraint.choice})
            return _tagged({"type": "or", "elements": [_constant(choice) for choice in constraint.choice]})
        if constraint.grammar:
            return _tagged({"type": "grammar", "grammar": _ebnf(constraint.grammar)})
        _check_tag(constraint.structural_tag, "structural_tag", MAX_BYTES)
        return _tagged(_bounded(_parsed_tag(constraint.structural_tag)))


class _RefusedError(Exception):
    """xgrammar refuses a schema, for a reason that names no place in it."""


# Hashes of structural tags.
_costly: set[int] = set()
_KINDS = ("regex", "choice", "grammar", "structural_tag")


def _json_format(schema: Any) -> dict[str, Any]:
    """Return the format of JSON that fits the schema. Raises _RefusedError."""
    try:
        marks = PatternMarks(schema)
        grammar = str(xgrammar.Grammar.from_json_schema(json.dumps(marks.schema), max_whitespace_cnt=WHITE_SPACE))
    except Exception as error:
        # xgrammar raises errors of many kinds, RuntimeError from C++ among them.
        raise _RefusedError(_reason(error)) from None
    return {"type": "grammar", "grammar": marks.mended(grammar)}


def _schema_format(schema: Any) -> dict[str, Any]:
    """Return the format of JSON that fits a client's schema. Raises BadRequest, which names a place in the schema."""
    try:
        return _json_format(enforceable(schema) if isinstance(schema, dict) else schema)
    except _RefusedError as refused:
        raise _placed(schema, str(refused)) from None


def _placed(schema: Any, reason: str) -> BadRequest:
    """Return the refusal of a schema for the client, with the place of the part that xgrammar refuses."""
    return invalid_schema(place_of_fault(schema, _schema_complaint), reason)


def _schema_complaint(schema: Any) -> str | None:
    """Return why xgrammar refuses a schema, None for one that it takes or that our own bounds refuse."""
    try:
        tag = _tag(_json_format(enforceable(schema) if isinstance(schema, dict) else schema))
    except _RefusedError as refused:
        return str(refused)
    except BadRequest:
        return None
    return _complaint(tag)


def _check_tag(tag: str, name: str, most: int) -> None:
    if len(tag) > most:
        raise BadRequest(f"{name}: its schemas have {len(tag)} bytes together, and may have {most}", param=name)


def _constant(text: str) -> dict[str, Any]:
    return {"type": "const_string", "value": text}


def _tag(tag_format: Any) -> str:
    return json.dumps({"type": "structural_tag", "format": tag_format})


def _tagged(tag_format: Any) -> Any:
    tag = _tag(tag_format)
    if (complaint := _complaint(tag)) is not None:
        raise BadRequest(f"invalid constraint: {complaint}")
    return StructuredOutputsParams(structural_tag=tag)


def _bounded(tag_format: Any) -> Any:
    """Return a structural tag's format with a bounded grammar in place of each schema."""
    if isinstance(tag_format, list):
        return [_bounded(each) for each in tag_format]
    if not isinstance(tag_format, dict):
        return tag_format
    if tag_format.get("type") == "json_schema" and tag_format.get("style", "json") == "json":
        schema = tag_format.get("json_schema")
        return _schema_format(schema)
    return {key: _bounded(value) for key, value in tag_format.items()}


def _parsed_tag(text: str) -> Any:
    """Return the format of a client's structural tag, which may be of the older kind."""
    try:
        tag = json.loads(text)
        if "structures" not in tag:
            return tag["format"]
        tags = [
            {
                "type": "tag",
                "begin": each["begin"],
                "content": {"type": "json_schema", "json_schema": each["schema"]},
                "end": each["end"],
            }
            for each in tag["structures"]
        ]
        return {"type": "triggered_tags", "triggers": tag["triggers"], "tags": tags}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadRequest("structural_tag: is not a structural tag") from None


def _ebnf(grammar: str) -> str:
    if len(grammar) > MAX_GRAMMAR_CHARACTERS:
        raise BadRequest(f"grammar: has {len(grammar)} characters, and may have {MAX_GRAMMAR_CHARACTERS}")
    if not grammar_is_likely_lark(grammar):
        return grammar
    try:
        return str(xgrammar.Grammar.from_lark(grammar))
    except Exception as error:
        raise BadRequest(f"grammar: {_reason(error)}") from None


@lru_cache(maxsize=512)
def _complaint(tag: str) -> str | None:
    """Return why xgrammar refuses a structural tag; None when it takes it. The answer is kept for the next time."""
    began = time.thread_time()
    try:
        _compiler().compile_structural_tag(tag)
    except Exception as error:
        return _reason(error)
    if time.thread_time() - began > COSTLY_SECONDS:
        if len(_costly) >= MOST_COSTLY:
            _costly.clear()
        _costly.add(hash(tag))
    return None


def costly(constraint: Any) -> int | None:
    """Return a number for a constraint whose grammar takes long to compile; None for any other."""
    number = hash(constraint.structural_tag) if constraint is not None else None
    return number if number in _costly else None


@lru_cache(maxsize=1)
def _compiler() -> xgrammar.GrammarCompiler:
    """Return a compiler for a vocabulary of bytes: it refuses what any compiler would, and is as quick as it gets."""
    vocabulary = [b"<end>", *(bytes([value]) for value in range(1, 256))]
    tokens = xgrammar.TokenizerInfo(vocabulary, vocab_type=xgrammar.VocabType.RAW, stop_token_ids=[0])
    # With the cache, as vLLM has it: some patterns fail in the cache alone.
    return xgrammar.GrammarCompiler(tokens, max_threads=1, cache_enabled=True, cache_limit_bytes=CACHE_BYTES)


def _reason(error: Exception) -> str:
    return _SOURCE.sub("", str(error).strip())[:300]
