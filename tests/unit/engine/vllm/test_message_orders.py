from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.vllm.message_orders import (
    FORMS,
    FormFinder,
    alternating,
    plain,
    system_first,
    without_old_images,
    without_system,
)
from service.errors import BadRequest
from service.protocol.request import Image, Message

CALL = {"id": "call_abc", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
RED = Image(b"red")

messages = st.lists(
    st.builds(
        Message,
        role=st.sampled_from(["system", "developer", "user", "assistant", "tool", "critic"]),
        content=st.text(st.sampled_from("abc"), max_size=3) | st.lists(st.sampled_from(["x", RED]), max_size=2),
        thinking=st.sampled_from(["", "hm"]),
        tool_calls=st.sampled_from([[], [CALL]]),
        tool_call_id=st.sampled_from(["", "call_abc"]),
    ),
    min_size=1,
    max_size=6,
)


def turns(*said: str) -> list[Message]:
    """ "user:a" is a message of the user that says "a"."""
    return [Message(*each.split(":", 1)) for each in said]


def shown(messages: list[Message]) -> list[str]:
    return [f"{message.role}:{message.text}" for message in messages]


@pytest.mark.parametrize(
    ("said", "first", "taking_turns", "no_system"),
    [
        (("user:a",), "user:a", "user:a", "user:a"),
        (("user:a", "system:s"), "system:s user:a", "system:s user:a", "user:s\n\na"),
        (("system:s", "developer:d", "user:a"), "system:s\n\nd user:a", "system:s\n\nd user:a", "user:s\n\nd\n\na"),
        (("user:a", "user:b"), "user:a user:b", "user:a\n\nb", "user:a\n\nb"),
        (("assistant:x", "user:a"), "assistant:x user:a", "user: assistant:x user:a", "user: assistant:x user:a"),
        (("system:s", "assistant:x"), "system:s assistant:x", "system:s user: assistant:x", "user:s assistant:x"),
        (("critic:c", "user:a"), "critic:c user:a", "user:c\n\na", "user:c\n\na"),
        (("system:s",), "system:s", "system:s", "user:s"),
    ],
)
def test_each_form_is_taken_by_more_templates(
    said: tuple[str, ...], first: str, taking_turns: str, no_system: str
) -> None:
    before = turns(*said)
    assert " ".join(shown(system_first(before))) == first
    assert " ".join(shown(alternating(before))) == taking_turns
    assert " ".join(shown(without_system(before))).rstrip("\n") == no_system


def test_images_stay_in_their_order_when_turns_are_joined() -> None:
    (joined,) = alternating([Message("user", ["a", RED]), Message("user", "b"), Message("user", [RED])])
    assert joined.content == ["a", RED, "b", RED]


def test_ids_of_calls_are_short_enough_for_mistrals_templates() -> None:
    made, answered = alternating([Message("user", "a"), Message("assistant", tool_calls=[CALL]),
                                  Message("tool", "2", tool_call_id="call_abc")])[1:]  # fmt: skip
    assert made.tool_calls[0]["id"] == answered.tool_call_id
    assert len(answered.tool_call_id) == 9
    assert answered.tool_call_id.isalnum()


def test_without_tools_calls_and_results_are_text() -> None:
    before = [
        Message("user", "1+1"),
        Message("assistant", "I add.", tool_calls=[CALL]),
        Message("tool", "2", "", [], "add"),
    ]
    assert shown(plain(before)) == [
        "user:1+1",
        'assistant:I add.\n\nCall of the tool add: {"a":1}',
        "user:Result of the tool add:\n\n2",
    ]


def test_old_images_are_a_word_for_a_model_that_can_not_see() -> None:
    before = [Message("user", ["a", RED]), Message("assistant", "ok"), Message("user", ["b", RED]),
              Message("assistant", tool_calls=[CALL]), Message("tool", [RED])]  # fmt: skip
    after = without_old_images(before)
    assert [message.text for message in after] == ["a\n[image]", "ok", "b", "", "[image]"]
    assert after[2].images == [RED]


@given(messages)
def test_no_form_loses_text_images_or_calls(before: list[Message]) -> None:
    text = sorted("".join(message.text for message in before))
    images = sum(len(message.images) for message in before)
    for form in FORMS[:-1]:
        after = form(before)
        assert sorted("".join(message.text for message in after).replace("\n", "")) == text
        assert sum(len(message.images) for message in after) == images
        assert sum(len(message.tool_calls) for message in after) == sum(len(m.tool_calls) for m in before)
    assert all(char in "".join(message.text for message in plain(before)) for char in text)


@given(messages)
def test_the_last_form_has_users_and_assistants_in_turn(before: list[Message]) -> None:
    roles = [message.role for message in plain(before)]
    assert roles == [("user", "assistant")[place % 2] for place in range(len(roles))]


# --- templates that raise --------------------------------------------------------------------------------


def first_system_only(messages: list[Message]) -> str:
    """As the templates of Qwen3.5 and later."""
    if any(message.role == "system" for message in messages[1:]):
        raise BadRequest("System message must be at the beginning.")
    return " ".join(shown(messages))


def no_system(messages: list[Message]) -> str:
    """As Gemma's and older templates of Mistral."""
    roles = [message.role for message in messages]
    if roles != [("user", "assistant")[place % 2] for place in range(len(roles))]:
        raise BadRequest("Conversation roles must alternate user/assistant/user/assistant/...")
    return " ".join(shown(messages))


def found(template: Any, *conversations: list[Message]) -> list[str]:
    rendered: list[list[Message]] = []

    async def render(messages: list[Message]) -> str:
        rendered.append(messages)
        answer: str = template(messages)
        return answer

    async def all_of_them() -> list[str]:
        finder = FormFinder(render)
        return [await finder(each) for each in conversations]

    answers = asyncio.run(all_of_them())
    return [*answers, str(len(rendered))]


def test_what_claude_code_sends_is_rendered_by_templates_that_want_the_system_first() -> None:
    assert found(first_system_only, turns("user:a", "system:s")) == ["system:s user:a", "2"]


def test_a_conversation_that_the_template_takes_is_rendered_once_and_as_it_is() -> None:
    assert found(first_system_only, turns("system:s", "user:a", "user:b")) == ["system:s user:a user:b", "1"]


def test_the_form_that_was_taken_is_tried_first_from_then_on() -> None:
    conversation = turns("user:a", "system:s", "user:b")
    assert found(no_system, conversation, conversation) == ["user:s\n\na\n\nb", "user:s\n\na\n\nb", "5"]


def test_the_first_refusal_is_told_when_every_form_is_refused() -> None:
    def refuses(messages: list[Message]) -> str:
        raise BadRequest(f"no {messages[0].role}")

    with pytest.raises(BadRequest, match="no user"):
        found(refuses, turns("user:a", "system:s"))


def leaves_out_unknown_roles(messages: list[Message]) -> str:
    return " ".join(shown([message for message in messages if message.role in ("system", "user", "assistant", "doc")]))


@pytest.mark.parametrize(
    ("said", "rendered"),
    [
        (("critic:c", "user:a"), ["user:c user:a", "3"]),
        ((":c", "user:a"), ["user:c user:a", "3"]),
        (("developer:d", "user:a"), ["system:d user:a", "3"]),
        (("doc:d", "user:a"), ["doc:d user:a", "3"]),
        (("user:a", "assistant:b", "user:c"), ["user:a assistant:b user:c", "1"]),
        (("a:1", "b:2", "c:3", "d:4", "e:5"), ["user:1 user:2 user:3 user:4 user:5", "1"]),
    ],
)
def test_a_message_that_a_template_leaves_out_for_its_role_is_the_users(said: tuple[str, ...], rendered: list[str]):
    assert found(leaves_out_unknown_roles, turns(*said)) == rendered


def test_what_a_template_leaves_out_is_asked_once_for_each_role():
    conversations = [turns("critic:c", "user:a"), turns("critic:d", "user:b")]
    assert found(leaves_out_unknown_roles, *conversations) == ["user:c user:a", "user:d user:b", "4"]
