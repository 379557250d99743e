from __future__ import annotations

from typing import Any

import pytest

from service.dialects.anthropic.request import parse_messages
from service.errors import BadRequest
from service.protocol.request import Chat, Image, Message

PNG = "iVBORw0KGgo="
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x" * 20}}
ASKED = {"role": "user", "content": "hi"}


def turns(*messages: dict[str, Any]) -> list[Message]:
    prompt = parse_messages({"model": "x", "max_tokens": 9, "messages": list(messages)}).request.prompt
    assert isinstance(prompt, Chat)
    return prompt.messages


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"type": "redacted_thinking", "data": "…"}, ""),
        ({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}, ""),
        ({"type": "web_search_tool_result", "tool_use_id": "s",
          "content": [{"type": "web_search_result", "title": "T", "encrypted_content": "x" * 90}]}, "T\n"),
        ({"type": "web_search_tool_result", "tool_use_id": "s",
          "content": {"type": "web_search_tool_result_error", "error_code": "e"}}, ""),
        ({"type": "bash_code_execution_tool_result", "content": {"stdout": "out", "stderr": ""}}, "out\n"),
        ({"type": "mcp_tool_use", "id": "m", "name": "f", "server_name": "s", "input": {}}, ""),
        ({"type": "mcp_tool_result", "tool_use_id": "m", "content": [{"type": "text", "text": "a"}]}, "a\n"),
        ({"type": "compaction", "content": "Up to here: hello."}, "Up to here: hello.\n"),
        ({"type": "fallback", "from": {}, "to": {}}, ""),
        ({"type": "block_of_next_year"}, ""),
        ({"type": "block_of_next_year", "text": "words"}, "words\n"),
        ({"type": "text", "text": None}, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_a_block_of_anthropics_servers_gives_its_text_or_nothing(block: dict[str, Any], text: str):
    content = [block, {"type": "text", "text": "ok"}]
    assert turns(ASKED, {"role": "assistant", "content": content}, ASKED)[1] == Message("assistant", f"{text}ok")


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ({"a": 1}, {"a": 1}),
        ('{"a": 1}', {"a": 1}),
        ('{"a":', {"arguments": '{"a":'}),
        (None, {}),
        ([1], {"arguments": [1]}),
    ],
)
def test_the_input_of_an_earlier_call_is_an_object_whatever_a_model_wrote(given: Any, arguments: Any):
    block = {"type": "tool_use", "id": "t", "name": "add", "input": given}
    assert turns(ASKED, {"role": "assistant", "content": [block]}, ASKED)[1].tool_calls[0]["function"] == {
        "name": "add",
        "arguments": arguments,
    }


def test_an_earlier_call_needs_neither_id_nor_name():
    (call,) = turns(ASKED, {"role": "assistant", "content": [{"type": "tool_use"}]}, ASKED)[1].tool_calls
    assert (call["id"], call["function"]["name"]) == ("", "")


@pytest.mark.parametrize(
    ("content", "read"),
    [
        ("2", "2"),
        (None, ""),
        (5, "5"),
        ([{"type": "text", "text": "2"}, IMAGE], ["2", Image(b"\x89PNG\r\n\x1a\n")]),
        ([{"type": "tool_reference", "tool_name": "f"}], "The tool f can be called now."),
        ([{"type": "search_result", "title": "T", "source": "https://s", "content": [{"type": "text", "text": "a"}]}],
         "T\na\nhttps://s"),
        ([{"type": "document", "source": {"type": "text", "data": "a b"}}], "a b"),
        ([PDF], "[document: the model can't read it]"),
        ([{"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}], "[image: the model can't read it]"),
        ([{"type": "block_of_next_year", "text": "words"}, "words"], "words\nwords"),
        ([{"type": "block_of_next_year"}], ""),
        ({"k": 1}, '{"k":1}'),
        ([1, {"k": 2}], '1\n{"k":2}'),
        ([{"title": "T", "price": 2}], '{"title":"T","price":2}'),
        ([{"text": "a"}], "a"),
        ([{"type": "text", "text": 'data: {"a":1}\n'}], 'data: {"a":1}\n'),
        ([{"type": "text", "text": "0123456789abcdef" * 4}], "0123456789abcdef" * 4),
        ([{"type": "text", "text": "=" * 70 + "\nPASSED"}], "=" * 70 + "\nPASSED"),
        ([{"type": "text", "text": ""}], ""),
        ([{"type": "bash_code_execution_result", "stdout": "", "stderr": "", "return_code": 2}], "exit code 2"),
    ],
)  # fmt: skip
def test_the_result_of_a_tool_is_evidence_whatever_is_in_it(content: Any, read: Any):
    block = {"type": "tool_result", "tool_use_id": "t", "content": content}
    assert turns(ASKED, {"role": "user", "content": [block]})[1].content == read


@pytest.mark.parametrize(
    "block", [PDF, {"type": "block_of_next_year"}, {"type": "container_upload", "file_id": "f"}, {"type": "text"}]
)
def test_a_block_of_an_earlier_turn_that_can_not_be_read_is_passed_over(block: dict[str, Any]):
    content = [{"type": "text", "text": "see this"}, block]
    first, *_ = turns({"role": "user", "content": content}, {"role": "assistant", "content": "ok"}, ASKED)
    assert first == Message("user", "see this")


def test_a_search_result_of_the_user_is_text():
    block = {"type": "search_result", "title": "T", "source": "s", "content": [{"type": "text", "text": "a"}]}
    assert turns({"role": "user", "content": [block]}) == [Message("user", "T\na\ns")]


def test_a_document_is_read_with_its_title_and_context_and_as_history_in_the_same_way():
    source = {"type": "text", "media_type": "text/plain", "data": "0123456789abcdef" * 4}
    block = {"type": "document", "source": source, "title": "T", "context": "C", "citations": {"enabled": True}}
    asked = {"role": "user", "content": [block]}
    (new,) = turns(asked)
    earlier, *_ = turns(asked, {"role": "assistant", "content": "ok"}, ASKED)
    assert new == earlier == Message("user", f"T\nC\n{source['data']}")


@pytest.mark.parametrize("content", ["data: a,b\n1,2\nWhat is the sum?", "0123456789abcdef" * 4])
def test_an_earlier_question_is_kept_whatever_it_looks_like(content: str):
    first, *_ = turns({"role": "user", "content": content}, {"role": "assistant", "content": "3"}, ASKED)
    assert first == Message("user", content)


def test_a_tool_that_failed_without_a_word_does_not_look_like_a_success():
    block = {"type": "tool_result", "tool_use_id": "t", "is_error": True}
    contents: list[Any] = ["", [], "no such file"]
    results = [{**block, "content": content} for content in contents]
    assert [message.text for message in turns(ASKED, {"role": "user", "content": results})[1:]] == [
        "the tool failed", "the tool failed", "no such file",
    ]  # fmt: skip


@pytest.mark.parametrize("block", [PDF, {"type": "block_of_next_year"}, {"type": "container_upload", "file_id": "f"}])
def test_a_new_block_that_can_not_be_read_is_refused_by_its_place(block: dict[str, Any]):
    with pytest.raises(BadRequest, match=r"messages\[0\]\.content\[1\]"):
        turns({"role": "user", "content": [{"type": "text", "text": "a"}, block]})


def test_claude_codes_first_turn_is_a_user_and_a_system_message():
    """As Claude Code 2.1 sends it; the order is the engine's to mend where a template refuses it."""
    system = {"role": "system", "content": [{"type": "text", "text": "# Environment"}]}
    assert [message.role for message in turns(ASKED, system)] == ["user", "system"]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_developer_is_the_system(role: str):
    assert turns(ASKED, {"role": role, "content": "be brief"})[1] == Message("system", "be brief")


@pytest.mark.parametrize(
    ("content", "read"),
    [
        ({"type": "text", "text": "words"}, "words"),
        (["words", None, {"type": "text", "text": "more"}], "words\nmore"),
        (5, "5"),
    ],
)
@pytest.mark.parametrize("role", ["user", "critic"])
def test_an_earlier_turn_is_read_whatever_its_role_and_the_form_of_its_content(role: str, content: Any, read: str):
    first, *_ = turns({"role": role, "content": content}, {"role": "assistant", "content": "ok"}, ASKED)
    assert first == Message("user", read)


def test_a_new_turn_of_a_role_that_nobody_has_is_refused():
    with pytest.raises(BadRequest, match='invalid role "critic"'):
        turns({"role": "critic", "content": "no"})
