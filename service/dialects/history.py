"""Earlier turns of a conversation, read leniently: all text in them is kept, and nothing is refused.

A client sends the history with every request, so that one refused turn would end its conversation for good.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from ..errors import BadRequest
from .answer import Record
from .json_body import parse_json
from .json_size import MAX_MARKS, MAX_OBJECTS, JSONSize
from .text_files import attached_text
from .turns import AT_ONCE, give_turn, in_turns

# The fields in which OpenAI's and Anthropic's items keep text that a model or a tool has written.
TEXT_FIELDS = (
    "title", "context", "text", "content", "output", "summary", "refusal", "code", "outputs", "results", "result",
    "stdout", "stderr", "logs", "query", "queries", "error", "message", "error_message", "tool_name", "source", "data",
    "encrypted_content",
)  # fmt: skip

# The fields in which an earlier call has its arguments, each type of call in another one.
CALL_FIELDS = ("arguments", "input", "action", "actions", "code")
# Too many values are found before all of a long text is counted.
_COUNTED_BYTES = 1 << 16

# Three of these fields may hold a file, or a text that another server has encrypted: one long word in base64, or lines
# of it. All others are text whatever they look like, since a tool may write a hash, a path or a row of dashes. Each
# text matches in one way only: a pattern that may split a word anywhere takes exponential time to fail.
FILE_FIELDS = ("data", "encrypted_content", "result")
_WORD, _BREAK = "[A-Za-z0-9+/_=-]", r"(?:\r\n?|\n)"
_OPAQUE = re.compile(
    rf"{_WORD}{{64,}}(?:{_BREAK}{_WORD}{{64,}})*(?:{_BREAK}{_WORD}*)?|data:[^,\s]{{0,200}};base64,.*", re.DOTALL
)
# Parts of a result that are files, by the beginnings and ends of their types' names.
_FILES = re.compile("(?:input_)?(?:image|file|audio|document).*|container_upload|.*screenshot")
# The fields of the two kinds of parts that clients send without a type: a text, and the output of a command.
UNTYPED = {"text", "stdout", "stderr", "outcome"}
# What a command that ended in another way than by itself and with 0 says of it.
_EXIT_FIELDS = ("exit_code", "return_code")


def call_arguments(value: Any) -> Record:
    """Return the arguments of an earlier call as an object, which is all that chat templates take.

    If a model wrote something else than an object, the text is kept under the name "arguments".
    """
    if isinstance(value, str):
        try:
            return parse_json(value.encode(), "Arguments") if value.strip() else {}
        except BadRequest:
            return {"arguments": value}
    if isinstance(value, dict):
        return value
    return {} if value is None else {"arguments": value}


def check_arguments(turns: list[Any]) -> None:
    """Raise BadRequest where the JSON texts of earlier calls have more values, all together, than a body may have.

    Such a text is decoded as the body is, and does not count as one value only.
    """
    marks = objects = 0
    for text in _json_texts(turns):
        size, data = JSONSize(), text.encode()
        for start in range(0, len(data), _COUNTED_BYTES):
            size.add(data[start : start + _COUNTED_BYTES])
        marks, objects = marks + size.marks, objects + size.objects
        if marks > MAX_MARKS or objects > MAX_OBJECTS:
            raise BadRequest("the arguments of the calls have too many values")


def tool_call(call_id: str, name: str, arguments: Any) -> Record:
    """Return an earlier call as chat templates have it."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": call_arguments(arguments)}}


def text_in(value: Any) -> str:
    """Return all text in a value of any shape, a line for each piece. Values without text give an empty string."""
    return "\n".join(_texts(value))


def result_text(value: Any) -> str:
    """Return what a part of a tool's result tells the model, which takes an empty result for a success.

    That is its text and how its command ended. For a file it is a note, and for other values without text their JSON.
    An object without a type is no part but what the tool returned, so that all of it is shown.
    """
    if not isinstance(value, dict):
        return text_in(value) if isinstance(value, list) else as_text(value)
    fields = {name.lower(): item for name, item in value.items()}
    if not (isinstance(fields.get("type"), str) or fields.keys() <= UNTYPED):
        return as_text(value)
    text = "\n".join(each for each in (text_in(value), _ending(fields)) if each)
    if text or any(isinstance(fields.get(name), str) for name in TEXT_FIELDS if name not in FILE_FIELDS):
        return text
    kind, rest = as_text(fields.pop("type", None)), list(fields.values())
    if (attached := attached_text(value)) is not None:
        return attached
    if _FILES.fullmatch(kind) or any(isinstance(each, str) and is_opaque(each) for each in rest):
        return f"[{kind or 'file'}: the model can't read it]"
    return as_text(value) if rest else ""


def as_text(value: Any) -> str:
    """Return a value as text: a string as it is, nothing for null, and JSON for anything else."""
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()


def is_opaque(text: str) -> bool:
    """Return whether only the server that wrote the text can read it."""
    return bool(_OPAQUE.fullmatch(text))


def _json_texts(turns: list[Any]) -> Iterator[str]:
    """Yield each text in the turns that may be decoded as the arguments of a call."""
    rest = [item for turn in turns if isinstance(turn, list) for item in turn if isinstance(item, dict)]
    read = 0
    while rest:
        read += 1
        if read % AT_ONCE == 0:
            give_turn()
        for name, value in rest.pop().items():
            if isinstance(value, dict):
                rest.append(value)
            elif isinstance(value, list):
                rest += [item for item in value if isinstance(item, dict)]
            elif isinstance(value, str) and name.lower() in CALL_FIELDS and value.lstrip()[:1] in ("{", "["):
                yield value


def _ending(fields: Record) -> str:
    """Return how a command ended, if not with 0. OpenAI has that in `outcome`, Anthropic beside the output."""
    outcome = fields.get("outcome")
    fields = outcome if isinstance(outcome, dict) else fields
    if fields.get("type") == "timeout":
        return "timed out"
    codes = (fields.get(name) for name in _EXIT_FIELDS)
    return next((f"exit code {code}" for code in codes if isinstance(code, int) and code), "")


def _texts(value: Any, may_be_file: bool = False) -> list[str]:
    if isinstance(value, str):
        return [value] if value and not (may_be_file and is_opaque(value)) else []
    if isinstance(value, list):
        return [text for item in in_turns(value) for text in _texts(item, may_be_file)]
    if isinstance(value, dict):
        fields = {name.lower(): item for name, item in value.items()}
        # The source of a document is a file unless its type says "text".
        files = FILE_FIELDS if fields.get("type") != "text" else ()
        return [text for name in TEXT_FIELDS for text in _texts(fields.get(name), name in files)]
    return []
