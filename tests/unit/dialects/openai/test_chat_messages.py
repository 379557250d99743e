from __future__ import annotations

from typing import Any

import pytest

from service.dialects.openai.chat_request import parse_chat
from service.protocol.request import Chat, Image, Message

PNG = "data:image/png;base64,iVBORw0KGgo="
ASKED = {"role": "user", "content": "hi"}
NEXT = {"role": "user", "content": "and?"}


def between(*turns: dict[str, Any]) -> list[Message]:
    """The messages of turns that stand between two of the user, the model's last one among them."""
    closing = {"role": "assistant", "content": "ok"}
    prompt = parse_chat({"model": "x", "messages": [ASKED, *turns, closing, NEXT]}).requests[0].prompt
    assert isinstance(prompt, Chat)
    assert prompt.messages[0].text == "hi"
    assert [message.text for message in prompt.messages[-2:]] == ["ok", "and?"]
    return prompt.messages[1:-2]


@pytest.mark.parametrize(
    ("call", "made"),
    [
        ({"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}, ("f", {"a": 1})),
        ({"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":'}},
         ("f", {"arguments": '{"a":'})),
        ({"id": "c", "type": "function", "function": {"name": "f", "arguments": "[]"}}, ("f", {"arguments": "[]"})),
        ({"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}, ("f", {"a": 1})),
        ({"id": "c", "type": "function", "function": {"name": "f"}}, ("f", {})),
        ({"id": "c", "type": "custom", "custom": {"name": "code", "input": "1+1"}}, ("code", {"input": "1+1"})),
        ({"id": "c", "type": "call_of_next_year"}, ("", {})),
    ],
)  # fmt: skip
def test_an_earlier_call_is_a_call_whatever_a_model_wrote(call: Any, made: tuple[str, Any]):
    turns = between({"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "4", "tool_call_id": "c"})
    (written,) = turns[0].tool_calls
    assert (written["id"], written["function"]["name"], written["function"]["arguments"]) == ("c", *made)
    assert (turns[1].tool_call_id, turns[1].tool_name) == ("c", made[0])


def test_the_older_form_of_a_call_and_of_its_result_are_read():
    call = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    made, answered = between(call, {"role": "function", "name": "f", "content": "4"})
    assert made.tool_calls[0]["function"] == {"name": "f", "arguments": {}}
    assert answered == Message("tool", "4", tool_name="f")


@pytest.mark.parametrize("role", ["assistant", "tool", "system", "user"])
@pytest.mark.parametrize(
    ("content", "read"),
    [
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "part_of_next_year"}], "a"),
        ([{"type": "refusal", "refusal": "no"}], "no"),
        ([{"type": "search_result", "title": "t", "content": [{"type": "text", "text": "a"}]}], "t\na"),
        ([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}], ""),
        ([{"type": "image_url", "image_url": {"url": PNG}}], [Image(b"\x89PNG\r\n\x1a\n")]),
        ([{"type": "input_audio", "input_audio": {"data": "QUJD" * 50, "format": "wav"}}], ""),
        ([{"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QQ=="}}], ""),
        (["a"], "a"),
        (5, "5"),
    ],
)
def test_odd_content_of_an_earlier_turn_is_no_reason_to_refuse(role: str, content: Any, read: Any):
    (message,) = between({"role": role, "content": content})
    if read == "" and role == "tool" and content:
        # A tool's result that is empty looks like a success.
        read = f"[{content[0]['type']}: the model can't read it]"
    assert message.content == read


@pytest.mark.parametrize(
    ("part", "read"),
    [
        ({"type": "input_text", "text": "a"}, "a"),
        ({"type": "output_text", "text": "a"}, "a"),
        ({"type": "refusal", "refusal": "a"}, "a"),
        ({"type": "thinking", "thinking": "a"}, "a"),
        ({"text": "a"}, "a"),
        ("a", "a"),
        ({"type": "input_image", "image_url": PNG}, [Image(b"\x89PNG\r\n\x1a\n")]),
        ({"image_url": {"url": PNG}}, [Image(b"\x89PNG\r\n\x1a\n")]),
    ],
)
def test_a_new_part_that_vllms_server_reads_is_read(part: Any, read: Any):
    prompt = parse_chat({"model": "x", "messages": [{"role": "user", "content": [part]}]}).requests[0].prompt
    assert isinstance(prompt, Chat)
    assert prompt.messages[-1].content == read


@pytest.mark.parametrize("content", [[{"k": 1}], [1, 2], {"k": 1}])
def test_a_tools_result_that_is_json_is_shown_as_it_is(content: Any):
    (message,) = between({"role": "tool", "content": content})
    assert message.text in ('{"k":1}', "1\n2")


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning": "so"},
        {"reasoning_content": "so"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "so"}, {"type": "reasoning.encrypted", "data": "x"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "so", "signature": "s"}]},
    ],
)
def test_the_thoughts_of_an_earlier_turn_are_read_where_clients_keep_them(fields: dict[str, Any]):
    (message,) = between({"role": "assistant", "content": "a", **fields})
    assert message.thinking == "so"


@pytest.mark.parametrize(
    "written",
    ["data:image/PNG;base64", "DATA:image/png;base64", "data:image/png;BASE64", "data:image/png;charset=utf-8;base64"],
)
def test_the_url_of_an_image_is_written_in_any_case_and_with_parameters(written: str):
    part = {"type": "image_url", "image_url": {"url": f"{written},iVBORw0KGgo="}}
    prompt = parse_chat({"model": "x", "messages": [{"role": "user", "content": [part]}]}).requests[0].prompt
    assert isinstance(prompt, Chat)
    assert prompt.messages[0].content == [Image(b"\x89PNG\r\n\x1a\n")]


@pytest.mark.parametrize("role", ["user", "system", "developer", "assistant"])
def test_the_author_of_a_message_has_the_name_that_the_client_gives(role: str):
    (message,) = between({"role": role, "name": "ann", "content": "a"})
    assert (message.name, message.tool_name) == ("ann", "")


def test_a_name_that_is_not_a_text_is_ignored():
    (message,) = between({"role": "user", "name": 5, "content": "a"})
    assert message.name == ""


def test_a_refusal_is_what_the_model_answered():
    (message,) = between({"role": "assistant", "content": None, "refusal": "I won't."})
    assert message.text == "I won't."


def test_the_result_of_a_tool_is_evidence_in_the_last_turn_too():
    turns = [ASKED, {"role": "assistant", "tool_calls": []}, {"role": "tool", "content": [{"type": "x", "text": "a"}]}]
    prompt = parse_chat({"model": "x", "messages": turns}).requests[0].prompt
    assert isinstance(prompt, Chat)
    assert prompt.messages[-1].content == "a"
