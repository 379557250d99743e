"""Text files that clients attach: in a chat's part and in an input item, new and in an earlier turn."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from service.dialects.openai.chat_request import parse_chat
from service.dialects.openai.responses_request import parse_responses
from service.dialects.text_files import attached_text
from service.errors import BadRequest
from service.protocol.request import Chat


def data_url(text: bytes, kind: str = "text/plain") -> str:
    return f"data:{kind};base64,{b64encode(text).decode()}"


def chat_turn(url: str) -> dict[str, Any]:
    file = {"type": "file", "file": {"filename": "a.txt", "file_data": url}}
    return {"role": "user", "content": [file, {"type": "text", "text": "What is it?"}]}


def input_turn(url: str) -> dict[str, Any]:
    file = {"type": "input_file", "filename": "a.txt", "file_data": url}
    return {"role": "user", "content": [file, {"type": "input_text", "text": "What is it?"}]}


def told(turn: dict[str, Any], later: list[dict[str, Any]]) -> str:
    """What the model reads of the turn."""
    body = {"model": "x", "messages": [turn, *later]}
    if turn["content"][0]["type"] == "input_file":
        prompt = parse_responses({"model": "x", "input": [turn, *later]}).request.prompt
    else:
        prompt = parse_chat(body).requests[0].prompt
    assert isinstance(prompt, Chat)
    return prompt.messages[0].text


@pytest.mark.parametrize("later", [[], [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]])
@pytest.mark.parametrize("turn", [chat_turn, input_turn])
def test_the_model_reads_a_text_file_with_its_name_in_every_turn(turn: Any, later: list[dict[str, Any]]):
    read = told(turn(data_url("naïve".encode())), later)
    assert ("a.txt\nnaïve" in read, "What is it?" in read) == (True, True)


@pytest.mark.parametrize(
    "kind",
    [
        "text/csv",
        "TEXT/Markdown",
        "text/plain;charset=utf-8",
        "application/json",
        "application/ld+json",
        "application/xml",
    ],
)
def test_a_text_is_known_by_its_type(kind: str):
    assert attached_text({"file_data": data_url(b"[1]", kind)}) == "[1]"


@pytest.mark.parametrize(
    "file",
    [
        {},
        {"file_id": "f"},
        {"file_data": 5},
        {"file_data": "QQ=="},
        {"file_data": data_url(b"%PDF", "application/pdf")},
        {"file": {"file_data": "data:text/plain,a"}},
    ],
)
def test_other_files_are_not_read(file: dict[str, Any]):
    assert attached_text(file, "input[0]") is None


@pytest.mark.parametrize("url", [data_url(b"\xff\xfe"), "data:text/plain;base64,!"])
@pytest.mark.parametrize("turn", [chat_turn, input_turn])
def test_a_new_file_that_is_no_text_is_refused_and_an_old_one_passed_over(turn: Any, url: str):
    with pytest.raises(BadRequest, match="file_data must be base64 of a text in UTF-8") as refused:
        told(turn(url), [])
    assert refused.value.param in ("messages[0].content[0]", "input[0].content[0]")
    assert told(turn(url), [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]) == "What is it?"
