from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.vllm.render import TOO_LONG, Prompt, fitting, infill_prompt, render, render_turns, template_message
from service.errors import BadRequest
from service.models.infill import FIM_TOKENS, fim_tokens
from service.protocol.request import Chat, Image, Infill, Message, Request, Text

CALL = {"function": {"name": "f", "arguments": {}}}


class Letters:
    """A model whose tokens are letters and whose chat template is `role:content|`, with what it was given in front."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = tokens
        self.arguments: dict[str, Any] = {}

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def vocabulary(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self._tokens)}

    async def read_images(self, images: list[Image]) -> dict[Image, Any]:
        return {image: {"type": "image", "text": f"[{image.data.decode()}]"} for image in images}

    async def apply_chat_template(self, messages: list[dict[str, Any]], **arguments: Any) -> Prompt:
        self.arguments = arguments
        turns = [f"{message['role']}:{written(message['content'])}|" for message in messages]
        return Prompt(self.encode("".join(turns)), media=len(turns))


def written(content: str | list[dict[str, str]]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def prompt_of(request: Request, limit: int = 1000, model: Letters | None = None) -> str:
    return "".join(chr(token) for token in asyncio.run(render(request, model or Letters(), limit)).ids)


def chat(*contents: str) -> list[Message]:
    return [Message("user", content) for content in contents]


# --- prompts ---------------------------------------------------------------------------------------------


def test_a_chat_is_written_by_the_models_template():
    messages = [Message("system", "s"), Message("user", "hi")]
    assert prompt_of(Request("m", Chat(messages))) == "system:s|user:hi|"


def test_of_an_earlier_exchange_that_is_too_long_the_oldest_tokens_go():
    request = Request("m", Chat(chat("hi"), context=[ord(letter) for letter in "abcdef"]))
    assert prompt_of(request, limit=12) == "defuser:hi|"
    with pytest.raises(BadRequest, match="longer than the context"):
        prompt_of(msgspec.structs.replace(request, truncate=False), limit=12)


def test_an_earlier_exchange_goes_before_the_prompt():
    assert prompt_of(Request("m", Chat(chat("hi"), context=[ord("<"), ord(">")]))) == "<>user:hi|"


def test_texts_and_images_stay_in_their_order():
    message = Message("user", [Image(b"1"), "a", Image(b"2"), "b", Image(b"1")])
    assert prompt_of(Request("m", Chat([message]))) == "user:[1]a[2]b[1]|"


def test_images_go_with_the_turns_that_are_dropped():
    messages = [Message("user", [Image(b"1"), "a" * 20]), Message("user", [Image(b"2"), "b"])]
    prompt = asyncio.run(render(Request("m", Chat(messages, context=[33])), Letters(), 20))
    assert prompt == Prompt([33, *Letters().encode("user:[2]b|")], media=1)


def test_a_template_of_the_clients_replaces_the_models():
    messages = [Message("system", "s"), Message("user", "hi")]
    template = "[{{ .System }}] {{ .Prompt }}: {{ .Response }}."
    assert prompt_of(Request("m", Chat(messages, template=template))) == "[s] hi: "


def test_a_text_is_left_as_it_is():
    assert prompt_of(Request("m", Text("{{ .Prompt }} <|im_start|>"))) == "{{ .Prompt }} <|im_start|>"


@pytest.mark.parametrize(
    ("think", "expected"),
    [
        (None, {"enable_thinking": False}),
        (False, {"enable_thinking": False}),
        (True, {"enable_thinking": True}),
        ("low", {"enable_thinking": True, "reasoning_effort": "low"}),
    ],
)
def test_the_template_is_told_whether_to_think(think: bool | str | None, expected: dict[str, Any]):
    model = Letters()
    prompt_of(Request("m", Chat(chat("hi"), think=think)), model=model)
    assert {name: model.arguments.get(name) for name in expected} == expected
    assert model.arguments["add_generation_prompt"] is True


@pytest.mark.parametrize("tool", [{"name": "f"}, {"type": "function", "function": {"name": "f"}}])
def test_the_template_sees_tools_in_openais_words(tool: dict[str, Any]):
    model = Letters()
    prompt_of(Request("m", Chat(chat("hi"), tools=[tool])), model=model)
    assert model.arguments["tools"] == [{"type": "function", "function": {"name": "f"}}]


def test_the_template_sees_a_turn_in_openais_words():
    turn = Message("assistant", "", "hm", [CALL])
    result = Message("tool", "7", tool_name="f", tool_call_id="x")
    assert template_message(turn, {}) == {"role": "assistant", "content": "", "reasoning": "hm", "tool_calls": [CALL]}
    assert template_message(result, {}) == {"role": "tool", "content": "7", "name": "f", "tool_call_id": "x"}


TURN = "{{ if .System }}[{{ .System }}]{{ end }}<{{ .Prompt }}>{{ .Response }};"
SYSTEM, USER, ASSISTANT = (partial(Message, role) for role in ("system", "user", "assistant"))


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([USER("a")], "<a>"),
        ([SYSTEM("s"), USER("a")], "[s]<a>"),
        ([SYSTEM("s"), USER("a"), ASSISTANT("b"), USER("c")], "[s]<a>b;<c>"),
        ([USER("a"), ASSISTANT("b"), SYSTEM("s"), USER("c")], "<a>b;[s]<c>"),
        ([USER("a"), USER("b")], "<a\n\nb>"),
        ([USER("a"), ASSISTANT("I am")], "<a>I am"),
    ],
)
def test_a_go_template_is_rendered_for_each_turn(messages: list[Message], text: str):
    assert render_turns(TURN, messages) == text


def test_a_prompt_without_tokens_is_refused():
    with pytest.raises(BadRequest, match=r"^the prompt is empty$"):
        prompt_of(Request("m", Text("")))


# --- what is too long ------------------------------------------------------------------------------------


def test_a_prompt_leaves_room_for_one_token():
    assert prompt_of(Request("m", Text("abc"), truncate=False), limit=4) == "abc"
    with pytest.raises(BadRequest, match=f"^{TOO_LONG}; the prompt has"):
        prompt_of(Request("m", Text("abcd"), truncate=False), limit=4)


def test_a_text_that_is_too_long_loses_its_start():
    assert prompt_of(Request("m", Text("abcdef")), limit=4) == "def"


def test_a_chat_that_is_too_long_loses_its_oldest_turns():
    messages = [Message("system", "s"), *chat("aaaaaaaa", "b", "c")]
    assert prompt_of(Request("m", Chat(messages)), limit=25) == "system:s|user:b|user:c|"


@pytest.mark.parametrize(
    ("request_", "limit"),
    [
        (Request("m", Chat(chat("a", "b")), truncate=False), 10),
        (Request("m", Chat([Message("system", "s" * 50), *chat("a", "b")])), 40),
        (Request("m", Chat(chat("a", "b" * 50))), 40),
        (Request("m", Chat(chat("a"), context=[1] * 50), truncate=False), 40),
        (Request("m", Infill("a" * 50, "b")), 40),
    ],
)
def test_what_can_not_or_must_not_be_cut_is_refused(request_: Request, limit: int):
    with pytest.raises(BadRequest, match=f"^{TOO_LONG}; the prompt has"):
        prompt_of(request_, limit, Letters(*FIM_TOKENS[0]))


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Turns with their numbers as content; answers of tools stand behind the calls that they answer."""
    turns: list[Message] = []
    for kind in draw(st.lists(st.sampled_from(["system", "user", "assistant", "call"]), min_size=1, max_size=10)):
        turns.append(Message("assistant" if kind == "call" else kind, tool_calls=[CALL] if kind == "call" else []))
        turns += [Message("tool")] * (draw(st.integers(1, 3)) if kind == "call" else 0)
    return [Message(turn.role, str(number), tool_calls=turn.tool_calls) for number, turn in enumerate(turns)]


@given(conversations(), st.data())
def test_what_fits_is_a_conversation_with_its_system_messages_and_its_end(turns: list[Message], data: st.DataObject):
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=len(turns), max_size=len(turns)))
    limit = data.draw(st.integers(2, sum(lengths) + 2))

    async def prompt_of(messages: list[Message]) -> Prompt:
        return Prompt([int(turn.text) for turn in messages for _ in range(lengths[int(turn.text)])])

    try:
        ids = asyncio.run(fitting(turns, prompt_of, limit)).ids
    except BadRequest:
        # Then not even the least that must stay fits; what that is, the other tests say.
        return
    kept = [turn for number, turn in enumerate(turns) if number in ids]
    assert len(ids) < limit
    assert ids == sorted(ids)
    assert kept[-1] == turns[-1]
    assert [turn for turn in turns if turn.role == "system" and turn not in kept] == []
    _assert_answers_follow_calls(kept)
    if sum(lengths) < limit:
        assert kept == turns


def _assert_answers_follow_calls(turns: list[Message]) -> None:
    before: Message | None = None
    for turn in turns:
        if turn.role == "tool":
            assert before is not None
            assert before.tool_calls
        else:
            before = turn


def test_the_last_answers_of_tools_keep_the_call_that_they_answer():
    turns = [*chat("a" * 20), Message("assistant", "b", tool_calls=[CALL]), Message("tool", "c"), Message("tool", "d")]
    assert prompt_of(Request("m", Chat(turns)), limit=40) == "assistant:b|tool:c|tool:d|"
    with pytest.raises(BadRequest, match=f"^{TOO_LONG}; the prompt has"):
        prompt_of(Request("m", Chat(turns)), limit=20)


def test_no_more_is_dropped_than_must_be():
    assert prompt_of(Request("m", Chat(chat("a", "b", "c"))), limit=15) == "user:b|user:c|"


# --- filling in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "prompt"),
    [
        (["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"], "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"),
        (["<fim_prefix>", "<fim_suffix>", "<fim_middle>"], "<fim_prefix>a<fim_suffix>b<fim_middle>"),
        (["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"], "<｜fim▁begin｜>a<｜fim▁hole｜>b<｜fim▁end｜>"),
        (["▁<PRE>", "▁<SUF>", "▁<MID>"], "▁<PRE>a▁<SUF>b▁<MID>"),
    ],
)
def test_each_family_fills_in_with_its_own_tokens(tokens: list[str], prompt: str):
    assert prompt_of(Request("m", Infill("a", "b")), model=Letters("other", *tokens)) == prompt


@pytest.mark.parametrize("tokens", [[], ["<|fim_prefix|>", "<|fim_suffix|>"], ["<|fim_prefix|>", "<fim_suffix>"]])
def test_a_model_that_lacks_a_token_can_not_fill_in(tokens: list[str]):
    vocabulary = Letters(*tokens).vocabulary()
    assert fim_tokens(vocabulary) is None
    with pytest.raises(BadRequest, match=r"^registry.ollama.ai/library/m:latest does not support insert$"):
        infill_prompt(Infill("a", "b"), "m", vocabulary)
