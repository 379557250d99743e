"""The part of Go's text/template that Ollama's prompt templates of the simple kind use.

    {{ if .System }}<|system|>{{ .System }}{{ end }}<|user|>{{ .Prompt }}<|assistant|>{{ .Response }}

Text, `.System`, `.Prompt`, `.Suffix`, `.Response`, `if` … `else` … `end`, comments, and the trim markers `{{-` and
`-}}`. Anything else (range, .Messages, functions) is refused: a client's template must not be able to loop.
"""

from __future__ import annotations

import re

from ..errors import BadRequest

_ACTION = re.compile(r"\{\{(-\s)?\s*(.*?)\s*(\s-)?\}\}", re.DOTALL)
_FIELDS = ("System", "Prompt", "Suffix", "Response")


def render(template: str, fields: dict[str, str]) -> str:
    """The prompt, up to `.Response`, where the model goes on. Raises BadRequest."""
    output: list[str] = []
    # One entry an open `if`: whether the branch we are in is written.
    branches: list[bool] = []
    for text, action in _parts(template):
        written = all(branches)
        if written:
            output.append(text)
        word, _, rest = action.partition(" ")
        if word == "if":
            branches.append(bool(fields.get(_field(rest.strip()), "")))
        elif word == "else" and not rest and branches:
            branches[-1] = not branches[-1]
        elif word == "end" and branches:
            branches.pop()
        elif action and not action.startswith("/*"):
            name = _field(action)
            if written and name == "Response":
                return "".join(output)
            if written:
                output.append(fields.get(name, ""))
    if branches:
        raise BadRequest("template: an {{ if }} has no {{ end }}")
    return "".join(output)


def _parts(template: str) -> list[tuple[str, str]]:
    """Pairs of a text and the action that follows it; the last action is empty."""
    parts, start, trim_left = [], 0, False
    for match in _ACTION.finditer(template):
        text = template[start : match.start()]
        text = text.lstrip() if trim_left else text
        parts.append((text.rstrip() if match[1] else text, match[2]))
        start, trim_left = match.end(), bool(match[3])
    tail = template[start:]
    return [*parts, (tail.lstrip() if trim_left else tail, "")]


def _field(expression: str) -> str:
    name = expression.removeprefix(".")
    if expression == name or name not in _FIELDS:
        raise BadRequest(
            f"template: {{{{ {expression} }}}} is not supported; "
            "what is: .System, .Prompt, .Suffix, .Response, if, else and end"
        )
    return name
