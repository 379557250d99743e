"""Patterns inside JSON strings. What xgrammar makes of them is in tests/engine/test_schema_texts.py."""

from __future__ import annotations

import contextlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.vllm.json_patterns import PatternError, in_json


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ('^"x$', '\\"x', '"x'),
        (r"^a\\b$", r"a\\b", r"a\b"),
        (r"^a\nb$", r"a\nb", "a\nb"),
        (r"^\x01$", r"\u0001", "\x01"),
        (r'^["a]+$', r"a\"a", '"'),
        ("^[^a]$", r"\t", "\t"),
        ("^.$", r"\\", "\\"),
        (r"^\s$", r"\n", "\n"),
        (r"^\S+$", r"\"é", "\xa0"),
        (r"^\w[\w-]*$", "a-b", "-"),
        (r"^\u0041\x42\u{43}$", "ABC", "abc"),
        (r"^\ud83d\ude00$", "😀", "x"),
        (r"^v\d+(-[a-z]+)?$", "v1-rc", "v1rc"),
        (r"^(?<first>a|b){2,}$", "aba", "a"),
        ("^a|b$", "b", "xb"),
        ("^(|a)b{2}?$", "bb", "b"),
        (r"^[\b]$", r"\b", "b"),
        ("a{x}", "a{x}", "a"),
    ],
)
def test_a_pattern_matches_what_json_writes_and_not_the_characters_themselves(pattern: str, inside: str, outside: str):
    expression, is_enforced = in_json(pattern)
    assert is_enforced
    assert re.fullmatch(expression, inside)
    assert not re.fullmatch(expression, outside)


def test_a_lookaround_is_left_out():
    expression, is_enforced = in_json("^(?!foo)[a-z]+(?<=o)$")
    assert (bool(re.fullmatch(expression, "bar")), is_enforced) == (True, False)


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("[", "the pattern ends too early"),
        ("(a", "a parenthesis has no closing one"),
        ("a)", "a parenthesis has no opening one"),
        ("a**", "there is nothing to repeat"),
        ("{2}", "there is nothing to repeat"),
        ("a{,2}", "a repetition has no lower bound"),
        ("a{3,2}", "one above the upper bound"),
        ("[b-a]", "a range ends before it begins"),
        ("[]", "has no character"),
        ("\ud800", "has no character"),
        (r"\u{110000}", "there is no such character"),
        (r"\p{L}", "is not supported"),
        (r"(a)\1", "is not supported"),
        ("(?i)a", "this kind of group is not supported"),
        ("a^b", "an anchor for the start has something before it"),
        ("a$b", "an anchor for the end has something behind it"),
        ("(" * 51 + ")" * 51, "groups are nested more than 50 deep"),
    ],
)
def test_a_pattern_that_has_no_expression_is_refused(pattern: str, complaint: str):
    with pytest.raises(PatternError, match=f"{complaint}.*, at character"):
        in_json(pattern)


LITERALS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)


@given(LITERALS)
def test_a_literal_matches_its_own_json_and_nothing_shorter(text: str):
    expression, is_enforced = in_json(f"^{re.escape(text)}$")
    written = json.dumps(text, ensure_ascii=False)[1:-1]
    assert is_enforced
    assert re.fullmatch(expression, written)
    assert not re.fullmatch(expression, written[:-1])


@given(st.text(st.sampled_from('ab()[]{}^$|?*+.\\d-,1"é'), max_size=14))
def test_any_pattern_is_an_expression_or_a_refusal(pattern: str):
    with contextlib.suppress(PatternError):
        expression, _ = in_json(pattern)
        assert re.compile(expression)
