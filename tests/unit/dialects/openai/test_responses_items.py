from __future__ import annotations

from typing import Any

import pytest

from service.dialects.openai.responses_request import parse_responses
from service.dialects.openai.responses_stored import conversation, referred_responses
from service.errors import BadRequest
from service.protocol.request import Chat, Image, Message
from tests.support.responses import body, chat, refusal, stored

PNG = "data:image/png;base64,iVBORw0KGgo="
ASKED = {"role": "user", "content": "hi"}
NEXT = {"role": "user", "content": "and?"}


def between(*items: dict[str, Any]) -> list[Message]:
    """The messages of items that stand between two turns of the user."""
    first, *messages, last = chat([ASKED, *items, NEXT]).messages
    assert (first, last) == (Message("user", "hi"), Message("user", "and?"))
    return messages


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"type": "web_search_call", "action": {"type": "search", "query": "q"}}, None),
        ({"type": "image_generation_call", "result": "QUJD" * 50}, None),
        ({"type": "mcp_list_tools", "tools": [{"name": "f"}]}, None),
        ({"type": "compaction", "encrypted_content": "gAAAA" + "x" * 80}, None),
        ({"type": "compaction", "encrypted_content": "Up to here: hello."}, "Up to here: hello."),
        ({"type": "compaction_trigger"}, None),
        ({"type": "configuration_update", "text": {"verbosity": "low"}}, None),
        ({"type": "mcp_approval_request", "name": "f", "arguments": "{}"}, None),
        ({"type": "item_of_next_year"}, None),
        ({"type": "item_of_next_year", "text": "words"}, "words"),
        ({"type": "agent_message", "role": "assistant", "content": [{"type": "x", "text": "words"}]}, "words"),
        ({"type": "file_search_call", "queries": ["q"], "results": [{"text": "found"}]}, "found\nq"),
        ({"type": "code_interpreter_call", "code": "1+1", "outputs": [{"type": "logs", "logs": "2"}]}, "1+1\n2"),
        ({"type": "mcp_call", "name": "f", "arguments": "{}", "output": "done"}, "done"),
        ({"type": "program", "call_id": "p", "code": "run()"}, "run()"),
    ],
)
def test_an_item_of_another_server_gives_its_text_or_nothing(item: dict[str, Any], text: str | None):
    messages = between({"id": "x", "status": "completed", **item})
    assert messages == ([] if text is None else [Message("assistant", text)])


@pytest.mark.parametrize(
    ("call", "name", "arguments"),
    [
        ({"type": "function_call", "name": "f", "arguments": '{"a": 1}'}, "f", {"a": 1}),
        ({"type": "function_call", "name": "f", "namespace": "n", "arguments": "{}"}, "n.f", {}),
        ({"type": "function_call", "name": "f", "arguments": '{"a":'}, "f", {"arguments": '{"a":'}),
        ({"type": "function_call", "name": "f", "arguments": None}, "f", {}),
        ({"type": "custom_tool_call", "name": "patch", "input": "+a"}, "patch", {"input": "+a"}),
        ({"type": "local_shell_call", "action": {"type": "exec", "command": ["ls"], "user": None}}, "local_shell",
         {"command": ["ls"]}),
        ({"type": "shell_call", "action": {"commands": ["ls"]}}, "shell", {"commands": ["ls"]}),
        ({"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "a"}}, "apply_patch",
         {"type": "delete_file", "path": "a"}),
        ({"type": "tool_search_call", "execution": "client", "arguments": {"query": "q"}}, "tool_search",
         {"query": "q"}),
        ({"type": "computer_call", "action": {"type": "click", "x": 1}}, "computer", {"type": "click", "x": 1}),
        ({"type": "call_of_next_year_call", "arguments": "{}"}, "call_of_next_year", {}),
    ],
)  # fmt: skip
def test_every_type_of_call_is_a_call_again(call: dict[str, Any], name: str, arguments: dict[str, Any]):
    (message,) = between({"id": "x", "call_id": "c1", **call})
    (made,) = message.tool_calls
    assert (message.role, made["id"]) == ("assistant", "c1")
    assert made["function"] == {"name": name, "arguments": arguments}


@pytest.mark.parametrize(
    ("kind", "output", "content"),
    [
        ("function_call", "2", "2"),
        ("function_call", None, ""),
        ("function_call", {"sum": 2}, '{"sum":2}'),
        ("function_call", [{"type": "input_text", "text": "a"}, {"type": "part_of_next_year"}], "a"),
        ("function_call", [{"type": "input_image", "image_url": PNG}], [Image(b"\x89PNG\r\n\x1a\n")]),
        ("function_call", [{"type": "input_image", "image_url": "https://x/y.png"}],
         "[input_image: the model can't read it]"),
        ("function_call", [{"type": "input_file", "filename": "a.csv", "file_data": "data:text/csv;base64,YSxi"}],
         "a.csv\na,b"),
        ("function_call", [{"type": "input_file", "filename": "a.pdf", "file_data": "QUJD" * 40}],
         "[input_file: the model can't read it]"),
        ("function_call", [{"k": 1}, 2], '{"k":1}\n2'),
        ("function_call", {"type": "x", "value": 3}, '{"type":"x","value":3}'),
        ("mcp_call", [{"type": "x", "blob": "QUJD" * 40}], "[x: the model can't read it]"),
        ("shell_call", [{"stdout": "0123456789abcdef" * 4 + "\n", "stderr": ""}], "0123456789abcdef" * 4 + "\n"),
        ("shell_call", [{"stdout": "", "stderr": "", "outcome": {"type": "exit", "exit_code": 1}}], "exit code 1"),
        ("shell_call", [{"stdout": "a", "stderr": "", "outcome": {"type": "timeout"}}], "a\ntimed out"),
        ("custom_tool_call", "ok", "ok"),
        ("computer_call", {"type": "computer_screenshot", "image_url": PNG}, [Image(b"\x89PNG\r\n\x1a\n")]),
        ("shell_call", [{"stdout": "out", "stderr": "err", "outcome": {"type": "exit", "exit_code": 0}}], "out\nerr"),
        ("local_shell_call", "out", "out"),
    ],
)  # fmt: skip
def test_every_type_of_output_answers_its_call(kind: str, output: Any, content: Any):
    made, answered = between(
        {"type": kind, "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": f"{kind}_output", "call_id": "c1", "output": output},
    )
    assert answered.content == content
    assert (answered.role, answered.tool_call_id) == ("tool", "c1")
    assert answered.tool_name == made.tool_calls[0]["function"]["name"]


def test_the_outcome_of_a_patch_is_told_with_its_output():
    output = {"type": "apply_patch_call_output", "call_id": "c", "status": "failed", "output": "no such file"}
    assert between({"type": "apply_patch_call", "call_id": "c", "operation": {}}, output)[-1].text == (
        "failed\nno such file"
    )


@pytest.mark.parametrize(
    "content",
    [None, "", [{"type": "part_of_next_year"}], [{"type": "input_file", "file_id": "f"}], ["text"], 5],
)
def test_odd_content_of_an_earlier_turn_is_no_reason_to_refuse(content: Any):
    assert between({"role": "user", "content": content}, {"role": "assistant", "content": content})


@pytest.mark.parametrize(
    ("item", "read"),
    [
        ({"role": "critic", "content": "words"}, [Message("user", "words")]),
        ({"type": "message", "role": "tool", "content": [{"type": "of_next_year", "text": "words"}]},
         [Message("user", "words")]),
        ({"type": "message", "content": "words"}, [Message("user", "words")]),
        ({"content": "words"}, [Message("assistant", "words")]),
        ({}, []),
    ],
)  # fmt: skip
def test_an_earlier_item_of_no_known_role_or_type_gives_its_text(item: dict[str, Any], read: list[Message]):
    assert between(item, ASKED, {"role": "assistant", "content": "ok"})[:-2] == read


@pytest.mark.parametrize("tools", [None, 5, {}, [None], ["add"], [{"type": "function"}], [{"type": 5}]])
def test_what_a_clients_search_has_found_is_evidence(tools: Any):
    assert between({"type": "tool_search_output", "call_id": "c", "tools": tools})


@pytest.mark.parametrize("written", ["hm", "gAAAAAB" + "x" * 100])
def test_thoughts_that_another_server_has_encrypted_are_not_shown(written: str):
    item = {"type": "reasoning", "encrypted_content": written, "summary": [{"type": "summary_text", "text": "short"}]}
    assert between(item) == [Message("assistant", thinking="hm" if written == "hm" else "short")]


# --- references ------------------------------------------------------------------------------------------

KEY = "0123456789abcdef01234567"


def test_a_reference_to_a_stored_item_is_that_item():
    items = [{"type": "function_call", "id": f"fc_{KEY}0", "call_id": "c", "name": "add", "arguments": "{}"}]
    said = [ASKED, {"type": "item_reference", "id": f"fc_{KEY}0"},
            {"type": "function_call_output", "call_id": "c", "output": "2"}]  # fmt: skip
    assert referred_responses(body(said)) == [f"resp_{KEY}"]
    prompt = parse_responses(body(said), referred=items).request.prompt
    assert isinstance(prompt, Chat)
    assert [message.role for message in prompt.messages] == ["user", "assistant", "tool"]
    assert prompt.messages[2].tool_name == "add"


def test_an_item_keeps_its_id_when_it_is_stored_again():
    item = {"type": "message", "id": f"msg_{KEY}1", "role": "assistant", "content": []}
    record = stored(parse_responses(body([ASKED, {"id": f"msg_{KEY}1"}, NEXT]), referred=[item]))
    assert [each["id"] for each in conversation(record)] == ["msg_ki0", f"msg_{KEY}1", "msg_ki2", "msg_k0"]


@pytest.mark.parametrize("reference", [{"type": "item_reference", "id": "msg_x"}, {"id": "msg_x"}])
def test_a_reference_to_an_item_that_is_not_stored_says_what_to_set(reference: dict[str, Any]):
    text = refusal(input=[ASKED, reference])
    assert text.startswith('input[1]: the item "msg_x" is not stored here: send "store": true')
    assert "store: false" in text


def test_a_request_refers_to_a_bounded_number_of_responses():
    said = [{"type": "item_reference", "id": f"msg_{number:024x}0"} for number in range(101)]
    with pytest.raises(BadRequest, match="101 responses, and may refer to 100"):
        referred_responses(body(said))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "input_text", "text": "Task:"}, {"type": "encrypted_content", "encrypted_content": "Count to 3."}],
         "Task:\nCount to 3."),
        ("Count to 3.", "Count to 3."),
    ],
)  # fmt: skip
def test_a_message_of_codex_to_its_own_agent_is_the_users(content: Any, text: str):
    task = {"type": "agent_message", "id": "amsg_0", "author": "/root", "recipient": "/root/child", "content": content}
    messages = chat(input=[{"role": "user", "content": "Relay."}, task]).messages
    assert [(message.role, message.text) for message in messages] == [("user", "Relay."), ("user", text)]
