from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from service.engine.vllm.render import TOO_LONG, Prompt, infill_prompt, render, render_turns, template_message
from service.errors import BadRequest, PromptTooLong
from service.models.infill import FIM_TOKENS, fim_tokens
from service.protocol.request import Chat, Image, Infill, Message, Request, Text, Tokens
from service.syntax.go_template import GoTemplate, TextTooLong

CALL = {"function": {"name": "f", "arguments": {}}}


class Letters:
    """A model whose tokens are letters and whose chat template is `role:content|`, with what it was given in front."""

    longest_token = 1

    def __init__(self, *tokens: str) -> None:
        self._tokens = tokens
        self.arguments: dict[str, Any] = {}
        self.encoded: list[str] = []

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)

    async def encode(self, text: str) -> list[int]:
        self.encoded.append(text)
        return letters(text)

    def vocabulary(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self._tokens)}

    async def read_images(self, images: list[Image]) -> dict[Image, Any]:
        return {image: {"type": "image", "text": f"[{image.data.decode()}]"} for image in images}

    async def apply_chat_template(self, messages: list[dict[str, Any]], **arguments: Any) -> Prompt:
        self.arguments = arguments
        turns = [f"{message['role']}:{written(message['content'])}|" for message in messages]
        return Prompt(letters("".join(turns)), media=len(turns))


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


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
    assert prompt == Prompt([33, *letters("user:[2]b|")], media=1)


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
    assert template_message(Message("user", "a", name="ann"), {}) == {"role": "user", "content": "a", "name": "ann"}


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
    assert render_turns(GoTemplate(TURN), messages, 100) == text


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


def test_the_last_answers_of_tools_keep_the_call_that_they_answer():
    turns = [*chat("a" * 20), Message("assistant", "b", tool_calls=[CALL]), Message("tool", "c"), Message("tool", "d")]
    assert prompt_of(Request("m", Chat(turns)), limit=40) == "assistant:b|tool:c|tool:d|"
    with pytest.raises(BadRequest, match=f"^{TOO_LONG}; the prompt has"):
        prompt_of(Request("m", Chat(turns)), limit=20)


def test_no_more_is_dropped_than_must_be():
    assert prompt_of(Request("m", Chat(chat("a", "b", "c"))), limit=15) == "user:b|user:c|"


# --- work that a client makes long ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        Request("m", Text("a" * 1000), truncate=False),
        Request("m", Infill("a" * 600, "b" * 600)),
        Request("m", Chat(chat("a" * 1000)), truncate=False),
        Request("m", Chat(chat("a", "b" * 1000))),
        Request("m", Chat([Message("system", "s" * 1000), *chat("a")])),
        Request("m", Chat([Message("user", "a", thinking="t" * 1000)])),
        Request("m", Chat([Message("assistant", "a", tool_calls=[CALL] * 100)]), truncate=False),
        Request("m", Chat(chat("a"), tools=[CALL] * 100)),
        Request("m", Chat(chat("a"), template_arguments={"documents": ["d" * 1000]})),
    ],
)
def test_what_is_too_long_in_any_tokenizer_is_refused_before_it_is_tokenized(request_: Request):
    model = Letters(*FIM_TOKENS[0])
    with pytest.raises(PromptTooLong) as refused:
        prompt_of(request_, 100, model)
    assert (model.encoded, model.arguments) == ([], {})
    assert refused.value.tokens >= refused.value.limit == 100


def test_a_text_that_may_be_cut_is_cut_before_it_is_tokenized():
    model = Letters()
    assert prompt_of(Request("m", Text("a" * 1000 + "b")), 10, model) == "aaaaaaaab"
    assert [len(text) for text in model.encoded] == [10]


def test_a_go_template_stops_where_its_text_is_too_long():
    with pytest.raises(TextTooLong):
        render_turns(GoTemplate("{{ .Prompt }}" * 100), chat("a" * 10), 500)
    request = Request("m", Chat(chat("a" * 50), template="{{ .Prompt }}{{ .Prompt }}{{ .Response }}"))
    with pytest.raises(PromptTooLong):
        prompt_of(request, 60)


@pytest.mark.parametrize(
    ("wanted", "keep_start", "expected"), [(2, False, "ef"), (2, True, "ab"), (-1, False, "bcdef"), (9, True, "abcde")]
)
def test_as_many_tokens_are_kept_as_the_request_asks_for(wanted: int, keep_start: bool, expected: str):
    request = Request("m", Text("abcdef"), truncate=False, prompt_tokens=wanted, keep_start=keep_start)
    assert prompt_of(request, 6) == expected
    assert prompt_of(msgspec.structs.replace(request, prompt=Tokens(letters("abcdef"))), 6) == expected


def test_a_chat_keeps_as_many_tokens_as_the_request_asks_for():
    request = Request("m", Chat(chat("hello"), template="{{ .Prompt }}{{ .Response }}"), prompt_tokens=3)
    assert prompt_of(request) == "llo"


def test_vllms_arguments_of_the_template_go_over_ours():
    model = Letters()
    arguments = {"enable_thinking": False, "documents": []}
    prompt_of(
        Request("m", Chat(chat("hi"), think=True, template_arguments=arguments, continue_final=True)), model=model
    )
    assert (model.arguments["enable_thinking"], model.arguments["documents"]) == (False, [])
    assert (model.arguments["add_generation_prompt"], model.arguments["continue_final_message"]) == (False, True)


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
