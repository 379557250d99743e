from __future__ import annotations

import pytest

from service.engine.defaults import Defaults
from service.messages import Chat, Infill, Message, Request, Sampling, Text

DEFAULTS = Defaults(Sampling(temperature=0.1, stop=["x"]), 256, "Be brief.")
USER, SYSTEM = Message("user", "Hi"), Message("system", "Be long.")


def test_options_lie_beneath_those_of_the_request():
    request = DEFAULTS.complete(Request("m", Text("a"), Sampling(temperature=0.9), Sampling(top_k=40)))
    assert request.sampling == Sampling(temperature=0.9, stop=["x"])
    assert request.defaults == Sampling(top_k=40)


@pytest.mark.parametrize(("asked", "limit"), [(None, 256), (128, 128), (512, 512)])
def test_a_context_limit_of_the_request_comes_first(asked: int | None, limit: int):
    assert DEFAULTS.complete(Request("m", Text("a"), context_limit=asked)).context_limit == limit


@pytest.mark.parametrize(
    ("messages", "completed"),
    [
        ([USER], [Message("system", "Be brief."), USER]),
        ([SYSTEM, USER], [SYSTEM, USER]),
        ([USER, SYSTEM], [Message("system", "Be brief."), USER, SYSTEM]),
    ],
)
def test_the_system_message_goes_first_unless_there_is_one(messages: list[Message], completed: list[Message]):
    prompt = DEFAULTS.complete(Request("m", Chat(messages, think=True, context=[1]))).prompt
    assert prompt == Chat(completed, think=True, context=[1])


@pytest.mark.parametrize("prompt", [Text("a"), Infill("a", "b")])
def test_a_prompt_without_messages_gets_no_system_message(prompt: Text | Infill):
    assert DEFAULTS.complete(Request("m", prompt)).prompt == prompt


def test_without_defaults_a_request_stays_as_it_is():
    request = Request("m", Chat([USER]), Sampling(seed=1), context_limit=9)
    assert Defaults().complete(request) == request
