"""The part of Go's text/template that Ollama's simple prompt templates use.

    {{ if .System }}<|system|>{{ .System }}{{ end }}<|user|>{{ .Prompt }}<|assistant|>{{ .Response }}

Supported are text, `.System`, `.Prompt`, `.Suffix`, `.Response`, `if` … `else` … `end`, comments, and the trim markers
`{{-` and `-}}`. Anything else (range, .Messages, functions) is refused: a client's template must not be able to loop.
"""

from __future__ import annotations

from ..errors import BadRequest

_FIELDS = ("System", "Prompt", "Suffix", "Response")
_BLANKS = " \t\r\n"


def render(template: str, fields: dict[str, str]) -> str:
    """Return the text. When `fields` has no `Response`, the text ends where the template has it. Raises BadRequest."""
    output: list[str] = []
    # One entry for each open `if`: whether the current branch is written, and whether it is the `else`.
    branches: list[tuple[bool, bool]] = []
    for text, action in _parts(template):
        written = all(branch for branch, _ in branches)
        if written:
            output.append(text)
        word, _, rest = (action or "").partition(" ")
        if action is None or (action.startswith("/*") and action.endswith("*/")):
            continue
        if word == "if":
            branches.append((bool(fields.get(_field(rest.strip()), "")), False))
        elif action == "else" and branches and not branches[-1][1]:
            branches[-1] = (not branches[-1][0], True)
        elif action == "end" and branches:
            branches.pop()
        else:
            name = _field(action)
            if written and name == "Response" and name not in fields:
                return "".join(output)
            if written:
                output.append(fields.get(name, ""))
    if branches:
        raise BadRequest("template: an {{ if }} has no {{ end }}")
    return "".join(output)


def _parts(template: str) -> list[tuple[str, str | None]]:
    """Return pairs of a text and the action that follows it, None after the last text."""
    parts: list[tuple[str, str | None]] = []
    trim = False
    while True:
        text, opened, rest = template.partition("{{")
        text = text.lstrip(_BLANKS) if trim else text
        if not opened:
            return [*parts, (text, None)]
        action, closed, template = rest.partition("}}")
        if not closed:
            raise BadRequest("template: an action is not closed")
        if action[:1] == "-" and action[1:2] in _BLANKS:
            text, action = text.rstrip(_BLANKS), action[1:]
        trim = action[-1:] == "-" and action[-2:-1] in _BLANKS
        parts.append((text, (action[:-1] if trim else action).strip(_BLANKS)))


def _field(expression: str) -> str:
    name = expression.removeprefix(".")
    if expression == name or name not in _FIELDS:
        raise BadRequest(
            f"template: {{{{ {expression[:80]} }}}} is not supported; "
            "supported are .System, .Prompt, .Suffix, .Response, if, else and end"
        )
    return name
