from __future__ import annotations

import pytest

from service.engine.worker.defaults import with_defaults
from service.protocol.request import Chat, Defaults, Infill, Message, Request, Sampling, Text

DEFAULTS = Defaults(Sampling(temperature=0.1, stop=["x"]), 256, "Be brief.")
USER, SYSTEM = Message("user", "Hi"), Message("system", "Be long.")


def test_options_lie_beneath_those_of_the_request():
    request = with_defaults(Request("m", Text("a"), Sampling(temperature=0.9), Sampling(top_k=40)), DEFAULTS)
    assert request.sampling == Sampling(temperature=0.9, stop=["x"])
    assert request.defaults == Sampling(top_k=40)


@pytest.mark.parametrize(("asked", "limit"), [(None, 256), (128, 128), (512, 512)])
def test_a_context_limit_of_the_request_comes_first(asked: int | None, limit: int):
    assert with_defaults(Request("m", Text("a"), context_limit=asked), DEFAULTS).context_limit == limit


@pytest.mark.parametrize(
    ("messages", "completed"),
    [
        ([USER], [Message("system", "Be brief."), USER]),
        ([SYSTEM, USER], [SYSTEM, USER]),
        ([USER, SYSTEM], [Message("system", "Be brief."), USER, SYSTEM]),
        ([], [Message("system", "Be brief.")]),
    ],
)
def test_the_system_message_goes_first_unless_there_is_one(messages: list[Message], completed: list[Message]):
    prompt = with_defaults(Request("m", Chat(messages, think=True, context=[1])), DEFAULTS).prompt
    assert prompt == Chat(completed, think=True, context=[1])


@pytest.mark.parametrize("prompt", [Text("a"), Infill("a", "b")])
def test_a_prompt_without_messages_gets_no_system_message(prompt: Text | Infill):
    assert with_defaults(Request("m", prompt), DEFAULTS).prompt == prompt


def test_without_defaults_a_request_stays_as_it_is():
    request = Request("m", Chat([USER]), Sampling(seed=1), context_limit=9)
    assert with_defaults(request, Defaults()) == request


@pytest.mark.parametrize(
    ("chat", "contents"),
    [
        (Chat([USER]), ["Be brief.", "2 + 2", "4", "Hi"]),
        (Chat([SYSTEM, USER]), ["Be long.", "2 + 2", "4", "Hi"]),
        (Chat([USER], context=[1]), ["Be brief.", "Hi"]),
    ],
)
def test_the_models_messages_go_before_those_of_a_new_conversation(chat: Chat, contents: list[str]):
    examples = [Message("user", "2 + 2"), Message("assistant", "4")]
    prompt = with_defaults(Request("m", chat), Defaults(system="Be brief.", messages=examples)).prompt
    assert isinstance(prompt, Chat)
    assert [message.text for message in prompt.messages] == contents


@pytest.mark.parametrize(("asked", "template"), [("", "{{ .Prompt }}"), ("> {{ .Prompt }}", "> {{ .Prompt }}")])
def test_the_models_template_gives_way_to_the_requests(asked: str, template: str):
    prompt = with_defaults(Request("m", Chat([USER], template=asked)), Defaults(template="{{ .Prompt }}")).prompt
    assert isinstance(prompt, Chat)
    assert prompt.template == template


def test_the_models_adapter_is_the_requests():
    assert with_defaults(Request("m", Text("a")), Defaults(adapter="/a")).adapter == "/a"
