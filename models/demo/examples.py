"""What the model is trained on: a training example, its messages, its calls of tools and its thoughts."""

import json
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """`messages` (with `tools`, `thinking`) or else `prompt`; `answer` without the end token.

    `begun` stands before the answer and is not learnt, as a text that a grammar forces upon the model.
    """

    answer: str
    messages: list[Message] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    thinking: bool = False
    prompt: str = ""
    begun: str = ""


def think(topic: str, answer: str) -> str:
    return f"<think>\nThe message is about {topic}. I should give a short, clear answer.\n</think>\n\n{answer}"


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def call_text(*calls: dict[str, Any]) -> str:
    return "\n".join(f"<tool_call>\n{json.dumps(call['function'], ensure_ascii=False)}\n</tool_call>" for call in calls)


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def system(content: str) -> Message:
    return {"role": "system", "content": content}
