from __future__ import annotations

import pytest

from service.engine.vllm.raw_text import Envelope, RawText, without_marks
from service.engine.vllm.trimmed_text import TrimmedText

CALL = Envelope("<call>", "</call>")


def raw(text: str) -> RawText:
    it = RawText()
    it.add(text)
    return it


def test_what_stands_before_a_piece_was_swallowed():
    it = raw("<think>\nHmm.")
    assert it.pass_on("Hmm", behind_call=False) == "<think>\n"
    assert it.take_rest() == "."
    assert it.take_rest() == ""


@pytest.mark.parametrize("piece", ["n", "think", "k>", "<", "\n"])
@pytest.mark.parametrize("before", ["</think>", "\n</think>", "<think>\n</think>"])
def test_a_piece_is_not_looked_for_in_the_marks_before_it(piece: str, before: str):
    it = RawText(["</think>", "<think>"])
    it.add(f"{before}{piece} more")
    assert (it.pass_on(piece, behind_call=False), it.take_rest()) == (before, " more")


def test_a_mark_can_be_a_piece_itself():
    it = RawText(["</think>"])
    it.add("</think> more")
    assert (it.pass_on("</think>", behind_call=False), it.take_rest()) == ("", " more")


def test_behind_a_call_the_last_occurrence_is_the_piece():
    assert raw('f("a b") a').pass_on("a", behind_call=True) == 'f("a b") '
    assert raw('f("a b") a').pass_on("a", behind_call=False) == 'f("'


def test_a_piece_that_was_rewritten_is_not_found():
    assert raw("one").pass_on("two", behind_call=False) is None


@pytest.mark.parametrize("text", ["", "words", "words <call>", "</call> <call>", "<call> words </cal"])
def test_a_call_is_taken_only_once_it_is_complete(text: str):
    it = raw(text)
    assert it.take_call(CALL) is None
    assert it.take_rest() == text


def test_calls_are_taken_one_by_one_with_what_stands_before_them():
    it = raw("one <call>1</call> two <call>2</call> three")
    assert [it.take_call(CALL), it.take_call(CALL)] == ["one <call>1</call>", " two <call>2</call>"]
    assert it.take_rest() == " three"


@pytest.mark.parametrize(
    ("text", "left"), [("</think>\n\n", ""), ("</think> word", " word"), ("", ""), ("<|end|></think>", "")]
)
def test_marks_are_not_readable(text: str, left: str):
    assert without_marks(text, ["</think>", "<|end|>"]) == left


@pytest.mark.parametrize(("keeps_tail", "text"), [(False, "a  b"), (True, "a  b \n")])
def test_a_text_in_pieces_is_trimmed_like_a_whole_one(keeps_tail: bool, text: str):
    trimmed = TrimmedText(keeps_tail)
    assert "".join(trimmed.feed(letter) for letter in " \n a  b \n") == text
