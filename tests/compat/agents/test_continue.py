"""Continue's command-line program, unchanged, over `/v1/chat/completions`."""

from __future__ import annotations

from tests.support.agents import CONTEXT, Continue, call, scripted

ECHO = call("Bash", command="echo one-two")


def test_a_turn_runs_a_tool_gives_its_result_to_the_model_and_goes_on(continue_cli: Continue):
    events = continue_cli.ask(scripted(ECHO, "The tool says !result"))
    assert "The tool says one-two" in str(events)
    events = continue_cli.ask_further(scripted(f"{call('Bash')} {call('NoSuchTool', x=1)}", "second"))
    assert "second" in str(events)


def test_a_conversation_that_is_too_long_is_refused_with_the_reason(continue_cli: Continue):
    assert "maximum context length" in str(continue_cli.ask(scripted("never") + " a" * CONTEXT))
