"""The part of Go's text/template that Ollama's simple prompt templates use.

    {{ if .System }}<|system|>{{ .System }}{{ end }}<|user|>{{ .Prompt }}<|assistant|>{{ .Response }}

Supported are text, `.System`, `.Prompt`, `.Suffix`, `.Response`, `if` … `else` … `end`, comments, and the trim markers
`{{-` and `-}}`. Anything else (range, .Messages, functions) is refused: a client's template must not be able to loop.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn, Optional

from ..errors import BadRequest

_FIELDS = ("System", "Prompt", "Suffix", "Response")
_BLANKS = " \t\r\n"
# How deep an `if` may stand within others; templates of Ollama's library have up to four.
MAX_DEPTH = 64
# Templates of Ollama's library have up to 10,000 characters and 100 actions. A longer one takes seconds to parse, and
# one of many actions takes as long to render for many turns.
MAX_CHARACTERS = 100_000
MAX_ACTIONS = 1_000


class TextTooLong(Exception):
    """A template makes a longer text than its caller has allowed. No client gets this error."""


class _Part(NamedTuple):
    """A text, and the action behind it: "if", "else", "end", "field", or "" when it does nothing."""

    text: str
    action: str
    name: str = ""


class GoTemplate:
    """A template, parsed. Raises BadRequest for what is not supported or not closed."""

    def __init__(self, template: str) -> None:
        if len(template) > MAX_CHARACTERS:
            raise BadRequest(f"template: it has {len(template)} characters, and may have {MAX_CHARACTERS}")
        if (actions := template.count("{{")) > MAX_ACTIONS:
            raise BadRequest(f"template: it has {actions} actions, and may have {MAX_ACTIONS}")
        self._parts = [_parsed(text, action) for text, action in _split(template)]
        self._check_branches()

    def render(self, fields: dict[str, str], limit: Optional[int] = None) -> str:
        """Return the text. When `fields` has no `Response`, the text ends where the template has it.

        Raises TextTooLong when the text has more than `limit` characters.
        """
        output: list[str] = []
        length = 0
        # One entry for each open `if`: whether its current branch is written.
        branches: list[bool] = []
        hidden = 0
        for part in self._parts:
            added = part.text
            if part.action == "if":
                branches.append(bool(fields.get(part.name)))
                shown, hidden = hidden == 0, hidden + (not branches[-1])
            elif part.action == "else":
                shown, hidden = hidden == 0, hidden + (1 if branches[-1] else -1)
                branches[-1] = not branches[-1]
            elif part.action == "end":
                shown, hidden = hidden == 0, hidden - (not branches.pop())
            else:
                shown = hidden == 0
                if shown and part.name == "Response" and "Response" not in fields:
                    return "".join([*output, part.text])
                added += fields.get(part.name, "")
            if shown:
                output.append(added)
                length += len(added)
                if limit is not None and length > limit:
                    raise TextTooLong(f"template: it makes a text of more than {limit} characters")
        return "".join(output)

    def _check_branches(self) -> None:
        # For each open `if`, whether its `else` has come.
        branches: list[bool] = []
        for part in self._parts:
            if part.action == "if":
                branches.append(False)
                if len(branches) > MAX_DEPTH:
                    raise BadRequest(f"template: {{{{ if }}}} is nested more than {MAX_DEPTH} deep")
            elif part.action in ("else", "end"):
                if not branches or (part.action == "else" and branches[-1]):
                    _unsupported(part.action)
                if part.action == "end":
                    branches.pop()
                else:
                    branches[-1] = True
        if branches:
            raise BadRequest("template: an {{ if }} has no {{ end }}")


def render(template: str, fields: dict[str, str]) -> str:
    """Return the text that the template makes. Raises BadRequest."""
    return GoTemplate(template).render(fields)


def _parsed(text: str, action: Optional[str]) -> _Part:
    if action is None or (action.startswith("/*") and action.endswith("*/")):
        return _Part(text, "")
    word, _, rest = action.partition(" ")
    if word == "if":
        return _Part(text, "if", _field(rest.strip()))
    if action in ("else", "end"):
        return _Part(text, action)
    return _Part(text, "field", _field(action))


def _split(template: str) -> list[tuple[str, Optional[str]]]:
    """Return pairs of a text and the action that follows it, None after the last text."""
    parts: list[tuple[str, Optional[str]]] = []
    trim, place = False, 0
    while True:
        opened = template.find("{{", place)
        text = template[place:] if opened < 0 else template[place:opened]
        text = text.lstrip(_BLANKS) if trim else text
        if opened < 0:
            return [*parts, (text, None)]
        closed = template.find("}}", opened + 2)
        if closed < 0:
            raise BadRequest("template: an action is not closed")
        action, place = template[opened + 2 : closed], closed + 2
        if action[:1] == "-" and action[1:2] in _BLANKS:
            text, action = text.rstrip(_BLANKS), action[1:]
        trim = action[-1:] == "-" and action[-2:-1] in _BLANKS
        parts.append((text, (action[:-1] if trim else action).strip(_BLANKS)))


def _field(expression: str) -> str:
    name = expression[1:] if expression.startswith(".") else ""
    if name not in _FIELDS:
        _unsupported(expression)
    return name


def _unsupported(expression: str) -> NoReturn:
    raise BadRequest(
        f"template: {{{{ {expression[:80]} }}}} is not supported; "
        "supported are .System, .Prompt, .Suffix, .Response, if, else and end"
    )
