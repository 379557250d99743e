"""The demo model's chat template: in a long prompt, what is needed stands again behind a window of <|far|>."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tests.support.servers import ROOT

FAR = "<|far|>" * 1024
SHORT = "You may call these functions:\nget(city)\nadd(a, b, c, d)\nnow()\nA call is JSON between"
ROUND = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
LONG = {"role": "system", "content": "rule " * 500}
RULE = {"role": "system", "content": "Be kind."}
ANSWERED = [{"role": "user", "content": "And now?"}, {"role": "tool", "content": "9"}]


def tool(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [
    tool("get", properties={"city": {"description": "text " * 300}, "unit": {}}, required=["city"]),
    tool("add", properties={key: {} for key in "abcde"}),
    {"type": "function", "function": {"name": "now"}},
]


@pytest.fixture(scope="module")
def template() -> Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((ROOT / "models/demo/chat_template.jinja").read_text(encoding="utf-8"))


def test_a_short_prompt_is_rendered_once(template: Template) -> None:
    text = template.render(messages=[RULE, *ROUND, *ANSWERED], tools=TOOLS[1:])
    assert (text.count("You may call"), text.count("Be kind."), text.count("<|far|>")) == (1, 1, 0)


def test_long_tools_stand_again_in_short_before_the_last_messages(template: Template) -> None:
    text = template.render(messages=[LONG, *ROUND, *ANSWERED], tools=TOOLS)
    before, after = text.split(FAR)
    assert "rule rule" in before
    assert '"name": "get"' in before
    assert after.startswith(f"<|im_start|>system\n{SHORT} <tool_call>")
    assert after.index("Hi<|im_end|>") < after.index("And now?<|im_end|>") < after.index("<tool_response>\n9")


def test_short_tools_and_rules_stand_again_as_they_are(template: Template) -> None:
    long = [{"role": "user", "content": "text " * 500}, {"role": "assistant", "content": "Yes."}]
    before, after = template.render(messages=[RULE, *long, *ANSWERED], tools=TOOLS[1:]).split(FAR)
    head = before.partition("<|im_end|>")[0]
    assert "Be kind." in head
    assert after.startswith(head)
    assert "text text" not in after


def test_a_long_prompt_without_tools_ends_in_its_last_messages(template: Template) -> None:
    _, after = template.render(messages=[LONG, *ROUND, *ANSWERED[:1]], add_generation_prompt=True).split(FAR)
    assert after.startswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!")


def test_a_prompt_without_a_question_is_only_itself(template: Template) -> None:
    assert "<|far|>" not in template.render(messages=[LONG], tools=TOOLS)
