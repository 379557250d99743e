"""Claude Code, unchanged, over `/v1/messages`: turns with tools, broken calls, and a conversation that it compacts."""

from __future__ import annotations

from tests.support.agents import CONTEXT, ClaudeCode, Event, call, scripted

ECHO = call("Bash", command="echo one-two", description="Say it")
# Two of these results are longer than the context. Claude Code cuts a result at 30,000 characters.
LONG = call("Bash", command=f"yes a | head -{CONTEXT * 11 // 20}", description="Say much")


def blocks(events: list[Event], kind: str, role: str = "assistant") -> list[Event]:
    """The blocks of a kind in the messages of a role."""
    contents = [event["message"]["content"] for event in events if event["type"] == role]
    return [block for content in contents for block in content if block["type"] == kind]


def result(events: list[Event]) -> str:
    """What the agent said last in a turn that ended well."""
    assert (events[-1]["type"], events[-1]["is_error"]) == ("result", False), events[-1]
    return str(events[-1]["result"]).strip()


def test_a_turn_thinks_runs_a_tool_and_gives_its_result_to_the_model(claude_code: ClaudeCode):
    events = claude_code.ask(scripted(f"!think:Hmm {ECHO}", "The tool says !result"))
    assert [block["thinking"].strip() for block in blocks(events, "thinking")] == ["Hmm"]
    assert [block["content"] for block in blocks(events, "tool_result", "user")] == ["one-two"]
    assert result(events) == "The tool says one-two"


def test_a_second_turn_goes_on_after_calls_that_were_broken(claude_code: ClaudeCode):
    events = claude_code.ask(scripted(f"{call('Bash')} {call('NoSuchTool', x=1)}", "first"))
    assert [block["is_error"] for block in blocks(events, "tool_result", "user")] == [True, True]
    assert result(events) == "first"
    assert result(claude_code.ask_further(scripted(ECHO, "second !result"))) == "second one-two"


def test_a_conversation_that_is_too_long_is_compacted_and_goes_on(claude_code: ClaudeCode):
    summary_and_call = f"<summary>Everything-was-read.</summary> {LONG}"
    events = claude_code.ask(scripted(summary_and_call, summary_and_call, summary_and_call, "done"))
    compacted = [event for event in events if event["type"] == "system" and event.get("subtype") == "compact_boundary"]
    assert len(compacted) == 1
    summaries = [block["text"] for block in blocks(events, "text", "user")]
    assert any("Everything-was-read." in summary for summary in summaries)
    assert result(events)


def test_a_first_prompt_that_is_too_long_is_told_with_both_numbers(claude_code: ClaudeCode):
    events = claude_code.ask(scripted("never") + " a" * CONTEXT)
    assert events[-1]["is_error"]
    assert "Prompt is too long" in events[-1]["result"]
    assert f"limit {CONTEXT}" in events[-1]["result"]


def test_a_refusal_reaches_the_user_in_its_own_words(claude_code: ClaudeCode):
    events = claude_code.ask(scripted("!refuse:not-today"))
    assert events[-1]["is_error"]
    assert "not-today" in events[-1]["result"]
