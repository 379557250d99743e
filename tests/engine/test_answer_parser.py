"""vLLM's own parsers on the demo model's real tokens. Needs vLLM, but starts no engine.

An answer here is made of parts: thinking, words, calls and broken calls. Each word occurs once, so that what becomes
of it can be followed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.sampling_params import StructuredOutputsParams
from vllm.tokenizers import get_tokenizer

from service.engine.vllm.answer_parser import AnswerEnd, Stops
from service.engine.vllm.grammars import Grammars
from service.engine.vllm.parsers import Parsers
from service.models.parser_names import ParserNames
from service.protocol.request import Chat, Message
from tests.support.asking import ADD
from tests.support.servers import ROOT


class Family(NamedTuple):
    """How a family of models writes `add(a, b)`, and up to which mark the call is cut off.

    `broken` is a call that does not parse, with a word in it.
    """

    tools: str
    thinking: str
    call: str
    broken: str = ""
    end: str = ""


HERMES_CALL = '<tool_call>\n{{"name": "add", "arguments": {{"a": {a}, "b": {b}}}}}\n</tool_call>'
HERMES_BROKEN = '<tool_call>\n{{"name": "add", "arguments": {{"a" {word} 1}}}}\n</tool_call>'
FAMILIES = {
    "hermes": Family("hermes", "qwen3", HERMES_CALL, HERMES_BROKEN),
    "hermes, deepseek": Family("hermes", "deepseek_r1", HERMES_CALL, HERMES_BROKEN),
    "hermes without a name": Family("hermes", "qwen3", HERMES_CALL, '<tool_call>{{"{word}": 1}}</tool_call>'),
    "qwen3_xml": Family(
        "qwen3_xml", "qwen3",
        "<tool_call>\n<function=add>\n<parameter=a>\n{a}\n</parameter>\n<parameter=b>\n{b}\n</parameter>\n"
        "</function>\n</tool_call>",
    ),
    "glm45": Family(
        "glm45", "glm45",
        "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>{a}</arg_value>\n"
        "<arg_key>b</arg_key>\n<arg_value>{b}</arg_value>\n</tool_call>",
    ),
    "kimi_k2": Family(
        "kimi_k2", "kimi_k2",
        '<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>{{"a": {a}, '
        '"b": {b}}}<|tool_call_end|><|tool_calls_section_end|>',
        end="<|tool_call_end|>",
    ),
    "granite": Family("granite", "", '<|tool_call|>[{{"name": "add", "arguments": {{"a": {a}, "b": {b}}}}}]'),
    "pythonic": Family("pythonic", "", "[add(a={a}, b={b})]"),
    "phi4": Family("phi4_mini_json", "", 'functools[{{"name": "add", "arguments": {{"a": {a}, "b": {b}}}}}]'),
}  # fmt: skip
MARKED = ["hermes", "hermes, deepseek", "hermes without a name", "qwen3_xml", "glm45"]
CALL = {"a": 1234, "b": 5678}


class Answer(NamedTuple):
    thinking: str
    text: str
    calls: list[dict[str, Any]]
    stop: str = ""

    def holds(self, word: str) -> bool:
        return word in self.thinking + self.text + json.dumps(self.calls)


@cache
def tokenizer() -> Any:
    return get_tokenizer(str(ROOT / "models/demo"))


@cache
def parsers(family: Family) -> Parsers:
    return Parsers(ParserNames(family.tools, family.thinking), tokenizer(), None, Grammars("auto"))


def tokens(text: str) -> list[int]:
    return list(tokenizer().encode(text, add_special_tokens=False))


def parse(
    family: Family,
    raw: str,
    limit: int | None = None,
    stops: Iterable[str] = (),
    cuts: Iterable[int] = (),
    tools: bool = True,
    **choice: Any,
) -> Answer:
    """What becomes of the answer when it ends by itself, or at `limit` tokens; `cuts`: how many come at a time."""
    chat = Chat([Message("user", "?")], tools=[ADD] if tools else [], **choice)
    parser = parsers(family).parser(chat, bool(family.thinking))
    assert parser is not None
    ids, end = [*tokens(raw), tokenizer().eos_token_id], AnswerEnd.TOKEN
    if limit is not None and limit < len(ids):
        ids, end = ids[:limit], AnswerEnd.LIMIT
    parser.begin(tokens("<|im_start|>assistant\n" + ("<think>\n" if family.thinking else "")), Stops(list(stops)))
    found: list[Any] = []
    steps = itertools.chain(cuts, itertools.repeat(1))
    while ids:
        step = max(1, next(steps))
        part, ids = ids[:step], ids[step:]
        found.append(parser.feed(part, None if ids else end))
        if found[-1].stop:
            break
    calls = [call["function"] for parts in found for call in parts.tool_calls]
    text = "".join(parts.text for parts in found)
    return Answer("".join(parts.thinking for parts in found), text, calls, found[-1].stop)


def call(family: Family) -> str:
    return family.call.format(**CALL)


def opened(family: Family, rest: str) -> str:
    return f"Hmm, thought0.</think>\n\n{rest}" if family.thinking else rest


@pytest.fixture(params=FAMILIES.values(), ids=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


def test_a_whole_call_is_a_call(family: Family):
    answer = parse(family, opened(family, call(family)))
    assert answer == Answer(
        "Hmm, thought0." if family.thinking else "", "", [{"index": 0, "name": "add", "arguments": CALL}]
    )


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.thinking])
@pytest.mark.parametrize("first", ["n", "k", "think", "hi", "t", "<", ">", "/", "in", "i"])
@pytest.mark.parametrize("between", ["", "\n\n"])
def test_content_that_begins_with_a_part_of_a_mark_is_whole(name: str, first: str, between: str):
    """As from a model that a grammar holds to such a word: "n" also stands in "</think>"."""
    thought, text = f"{first}0 Hmm.", f"{first}0 {first}1"
    answer = parse(FAMILIES[name], f"{thought}</think>{between}{text}", tools=False)
    assert (answer.thinking, answer.text) == (thought, text)


CHOICE = StructuredOutputsParams(choice=["yes", "no"])


@pytest.mark.parametrize(
    ("thinks", "constraint", "tools", "choice", "barred"),
    [
        (True, CHOICE, [], "auto", ["<tool_call>"]),
        (True, CHOICE, [ADD], "none", ["<tool_call>"]),
        (True, CHOICE, [ADD], "auto", []),
        (True, None, [], "auto", []),
        (False, CHOICE, [], "auto", []),
    ],
)
def test_a_thought_does_not_end_with_a_call_where_the_grammar_has_none(
    thinks: bool, constraint: Any, tools: list[Any], choice: str, barred: list[str]
):
    chat = Chat([Message("user", "?")], tools=tools, tool_choice=choice)
    parser = parsers(FAMILIES["hermes"]).parser(chat, thinks, constraint)
    ids = parser.barred_ids() if parser is not None else []
    assert [tokenizer().decode([each]) for each in ids] == barred


def test_a_limit_inside_a_call_leaves_text_and_no_call(family: Family):
    raw = opened(family, call(family))
    before, whole = len(tokens(opened(family, ""))), len(tokens(raw.partition(family.end or "no end")[0]))
    for limit in range(1, whole):
        answer = parse(family, raw, limit=limit)
        assert answer.calls == []
        written = tokenizer().decode(tokens(raw)[before:limit])
        assert answer.text.strip() in written
        assert all(letter in answer.text for letter in written if letter.isdigit())


@pytest.mark.parametrize("name", ["hermes", "hermes, deepseek", "hermes without a name"])
def test_a_call_that_does_not_parse_is_text_and_the_next_one_is_a_call(name: str):
    family = FAMILIES[name]
    broken = family.broken.format(word="word1")
    answer = parse(family, opened(family, f"{broken}\n{call(family)}\n"))
    assert answer.text == broken
    assert [each["arguments"] for each in answer.calls] == [CALL]


@pytest.mark.parametrize("name", MARKED)
def test_words_around_calls_are_content(name: str):
    family = FAMILIES[name]
    answer = parse(family, opened(family, f"word1 {call(family)} word2 {call(family)} word3 <"))
    assert answer.text.split() == ["word1", "word2", "word3", "<"]
    assert [each["index"] for each in answer.calls] == [0, 1]


def test_a_stop_string_neither_ends_the_thinking_nor_loses_a_call(family: Family):
    for length in (1, 2, 3, 5, 6, 7, 10, 14, 15, 31, 64):
        stops = [("Answer: " * 9)[:length], "thought0", '"b"']
        answer = parse(family, opened(family, call(family)), stops=stops)
        assert (answer.thinking, len(answer.calls)) == ("Hmm, thought0." if family.thinking else "", 1)


def test_a_stop_string_ends_the_content_and_is_not_part_of_it():
    answer = parse(FAMILIES["hermes"], "short\n\n</think>\n\nline one\nline two is short", stops=["\n", "short"])
    assert answer == Answer("short", "line one", [], "\n")


def test_a_stop_string_in_a_broken_call_ends_the_text_of_it():
    family = FAMILIES["hermes"]
    answer = parse(family, opened(family, family.broken.format(word="word1")), stops=["word1"])
    assert (answer.text, answer.stop) == ('<tool_call>\n{"name": "add", "arguments": {"a" ', "word1")


def test_without_parallel_calls_there_is_one():
    family = FAMILIES["hermes"]
    answer = parse(family, opened(family, call(family) * 2), parallel_tool_calls=False)
    assert len(answer.calls) == 1


def test_a_parser_that_fails_leaves_the_rest_as_content(monkeypatch: pytest.MonkeyPatch):
    family = FAMILIES["qwen3_xml"]
    monkeypatch.setattr("vllm.tool_parsers.qwen3_engine_tool_parser.Qwen3EngineToolParser.finish_streaming", None)
    monkeypatch.setattr(
        "vllm.tool_parsers.qwen3_engine_tool_parser.Qwen3EngineToolParser.extract_tool_calls_streaming",
        lambda *_: 1 / 0,
    )
    assert parse(family, opened(family, "word1 word2")).text == "word1 word2"


# --- properties ------------------------------------------------------------------------------------------

KINDS = st.lists(st.sampled_from(["word", "word", "call", "broken", "<", "\n", "é", "<tool", "</think>"]), max_size=8)


def raw_answer(family: Family, kinds: list[str]) -> tuple[str, list[str]]:
    """The raw text of these parts, and its words in their order."""
    words, parts = list[str](), list[str]()
    for number, kind in enumerate(kinds):
        word = f"word{number}x"
        if kind == "word" or (kind == "broken" and family.broken):
            words.append(word)
        texts = {"word": f" {word} ", "call": call(family), "broken": family.broken.format(word=word)}
        parts.append(texts.get(kind, kind))
    return opened(family, "".join(parts)), words


@settings(max_examples=60)
@given(name=st.sampled_from(list(FAMILIES)), kinds=KINDS, cuts=st.lists(st.integers(1, 9)), limit=st.integers(1, 200))
def test_how_many_tokens_come_at_once_changes_nothing(name: str, kinds: list[str], cuts: list[int], limit: int):
    raw, _ = raw_answer(FAMILIES[name], kinds)
    one_by_one = parse(FAMILIES[name], raw, limit=limit)
    assert parse(FAMILIES[name], raw, limit=limit, cuts=cuts) == one_by_one
    assert parse(FAMILIES[name], raw, limit=limit, cuts=[10_000]) == one_by_one


@settings(max_examples=100)
@given(
    name=st.sampled_from(MARKED), kinds=KINDS, stops=st.lists(st.sampled_from(["word3x", "3x w", "never", "Z" * 64]))
)
def test_every_word_is_in_the_thinking_the_content_or_a_call_up_to_a_stop_string(
    name: str, kinds: list[str], stops: list[str]
):
    raw, words = raw_answer(FAMILIES[name], kinds)
    answer = parse(FAMILIES[name], raw, stops=stops)
    assert answer.stop in ["", *stops]
    if answer.stop:
        words = words[: words.index("word3x")]
    assert [word for word in words if not answer.holds(word)] == []
    assert all(each["arguments"] == CALL for each in answer.calls)


@settings(max_examples=100)
@given(name=st.sampled_from(MARKED), kinds=KINDS, limit=st.integers(1, 200))
def test_a_limit_cuts_words_off_and_nothing_else(name: str, kinds: list[str], limit: int):
    raw, words = raw_answer(FAMILIES[name], kinds)
    written = tokenizer().decode(tokens(raw)[:limit])
    answer = parse(FAMILIES[name], raw, limit=limit)
    assert [word for word in words if word in written and not answer.holds(word)] == []
    assert all(each["arguments"] == CALL for each in answer.calls)
    assert len(answer.calls) <= written.count("5678")
