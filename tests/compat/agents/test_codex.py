"""Codex CLI, unchanged, over `/v1/responses`: turns with tools, a broken call in the history, and errors."""

from __future__ import annotations

import json

from tests.support.agents import CONTEXT, Codex, Event, call, scripted

ECHO = call("exec_command", cmd="echo one-two")


def items(events: list[Event], kind: str) -> list[Event]:
    """The finished items of a kind."""
    done = [event["item"] for event in events if event["type"] == "item.completed"]
    return [item for item in done if item["type"] == kind]


def said(events: list[Event]) -> str:
    """What the agent said in a turn that ended well."""
    assert events[-1]["type"] == "turn.completed", events
    return " ".join(item["text"] for item in items(events, "agent_message"))


def test_a_turn_runs_a_tool_and_gives_its_result_to_the_model(codex: Codex):
    events = codex.ask(scripted(f"!think:Hmm {ECHO}", "The tool says !result"))
    (command,) = items(events, "command_execution")
    assert (command["aggregated_output"], command["exit_code"]) == ("one-two\n", 0)
    assert said(events).startswith("The tool says")
    assert "one-two" in said(events)


def test_calls_side_by_side_are_all_run(codex: Codex):
    events = codex.ask(scripted(f"{ECHO} {call('exec_command', cmd='echo three')}", "done"))
    # They run at the same time, and either may end first.
    outputs = sorted(each["aggregated_output"] for each in items(events, "command_execution"))
    assert outputs == ["one-two\n", "three\n"]


def test_a_second_turn_goes_on_after_a_call_that_was_broken(codex: Codex):
    assert said(codex.ask(scripted(ECHO, "first"))).strip() == "first"
    records = [json.loads(line) for line in codex.history.read_text().splitlines()]
    calls = [record["payload"] for record in records if record["payload"].get("type") == "function_call"]
    assert calls
    for each in calls:
        each["arguments"] = '{"cmd":'
    codex.history.write_text("".join(json.dumps(record) + "\n" for record in records))
    events = codex.ask_further(scripted(ECHO, "second !result"))
    assert "one-two" in said(events)


def test_a_call_of_a_tool_that_does_not_exist_is_reported_to_the_model(codex: Codex):
    assert "unsupported call: no_such_tool" in said(codex.ask(scripted(call("no_such_tool", x=1), "seen !result")))


def test_a_conversation_that_is_too_long_is_recognised(codex: Codex):
    events = codex.ask(scripted("never") + " a" * CONTEXT)
    assert events[-1]["type"] == "turn.failed"
    assert "ran out of room in the model's context window" in events[-1]["error"]["message"]


def test_a_refusal_reaches_the_user_in_its_own_words(codex: Codex):
    events = codex.ask(scripted("!refuse:not-today"))
    assert events[-1]["type"] == "turn.failed"
    assert "not-today" in events[-1]["error"]["message"]
