from __future__ import annotations

from typing import Any

import pytest

from service.engine_client.beginning import PROMPT, TEXT, beginning
from service.protocol.request import Chat, Image, Infill, Message, Request, Text, Tokens

SYSTEM, HELLO = Message("system", "Be brief."), Message("user", "Hello")


def of(prompt: Any) -> str:
    return beginning(Request("demo", prompt))


def chat(*messages: Message, **fields: Any) -> str:
    return of(Chat(list(messages), **fields))


def test_the_turns_of_a_conversation_begin_alike():
    assert chat(SYSTEM, HELLO) == chat(SYSTEM, HELLO, Message("assistant", "Hi"), Message("user", "More"))


@pytest.mark.parametrize(
    "other",
    [
        (HELLO,),
        (SYSTEM, Message("user", "Hello!")),
        (Message("system", "Be long."), HELLO),
        (SYSTEM, Message("user", ["Hello", Image(b"a")])),
    ],
)
def test_other_conversations_begin_otherwise(other: tuple[Message, ...]):
    assert chat(*other) != chat(SYSTEM, HELLO)


def test_images_count():
    first, second = (chat(Message("user", ["Look", Image(data)])) for data in (b"a", b"b"))
    assert first != second


def test_a_prompt_that_grows_begins_alike_when_it_is_long():
    assert of(Text("a" * PROMPT)) == of(Text("a" * PROMPT + "b"))
    assert of(Text("a")) != of(Text("b"))


@pytest.mark.parametrize("prompt", [Tokens([1, 2]), Infill("a", "b"), Text("\ud800"), Chat([])])
def test_every_prompt_has_a_beginning(prompt: Any):
    assert of(prompt) == of(prompt) != of(Text("something else"))


def test_only_the_first_characters_of_a_long_text_are_read():
    assert chat(Message("user", "a" * TEXT)) == chat(Message("user", "a" * TEXT + "b"))


def test_the_tokens_before_a_chat_count():
    assert chat(HELLO, context=[1, 2, 3]) != chat(HELLO)
