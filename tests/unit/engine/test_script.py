from __future__ import annotations

import pytest

from service.engine.script import prompt_words, script_of, scripted_call, text_of_role
from service.protocol.request import Chat, Infill, Message, Request, Text, Tokens

ASKED = Message("user", "Reminder. !begin one !next two three !end More text.")


def request(*messages: Message) -> Request:
    return Request("demo", Chat(list(messages)))


@pytest.mark.parametrize(
    ("prompt", "script"),
    [
        (Text("a b"), "a b"),
        (Tokens([1, 2]), "1 2"),
        (Infill("a", "b"), "a b"),
        (Chat([Message("user", "a"), Message("assistant", "b"), Message("user", "c d")]), "c d"),
    ],
)
def test_without_marks_the_last_message_or_the_prompt_is_the_script(prompt: Text, script: str):
    assert script_of(Request("demo", prompt)) == script


def test_each_turn_of_the_assistant_leads_to_the_next_part_and_the_last_one_stays():
    answer, result = Message("assistant", "one"), Message("tool", "seen")
    assert script_of(request(ASKED)) == "one"
    assert script_of(request(ASKED, answer, result)) == "two three"
    assert script_of(request(ASKED, answer, result, answer, result, Message("user", "summarize"))) == "two three"


def test_the_newest_script_counts():
    newer = Message("user", "!begin four !end")
    assert script_of(request(ASKED, Message("assistant", "one"), newer)) == "four"


def test_a_prompt_has_the_words_of_all_its_messages():
    assert prompt_words(request(Message("system", "a b"), Message("user", "c"))) == 3
    assert prompt_words(Request("demo", Text("a b"))) == 2


def test_what_a_role_said_is_in_one_line():
    asked = request(Message("system", "a\nb"), Message("tool", "c"), Message("tool", "d\n e"))
    assert text_of_role(asked, "system") == "a b"
    assert text_of_role(asked, "tool") == "c d e"
    assert text_of_role(asked, "tool", newest=True) == "d e"


def test_a_call_has_its_arguments_or_none():
    call = scripted_call('add:{"a":"x\\u0020y"}', 2)
    assert call["function"] == {"index": 2, "name": "add", "arguments": {"a": "x y"}}
    assert scripted_call("now", 0)["function"]["arguments"] == {}
