from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.vllm.stop_strings import StopStrings


def play(pieces: list[str], stops: list[str], include: bool = False) -> tuple[str, str]:
    """The text that is sent, and the stop string that ended it."""
    search, sent = StopStrings(stops, include), ""
    for piece in pieces:
        result = search.feed(piece)
        sent += result.text
        if result.stop:
            return sent, result.stop
    return sent + search.flush(), ""


@pytest.mark.parametrize(
    ("pieces", "stops", "include", "sent", "stop"),
    [
        (["one two"], [], False, "one two", ""),
        (["one two"], ["three"], False, "one two", ""),
        (["one two"], [" t"], False, "one", " t"),
        (["one two"], [" t"], True, "one t", " t"),
        (["o", "n", "e"], ["ne"], False, "o", "ne"),
        (["a ba", "d b", "ack"], ["bac"], False, "a bad ", "bac"),
        (["abc"], ["bc", "ab"], False, "", "ab"),
        (["abcd"], ["abcd", "bc"], False, "a", "bc"),
        (["one"], ["", "e"], False, "on", "e"),
    ],
)
def test_the_stop_string_that_is_complete_first_ends_the_text(
    pieces: list[str], stops: list[str], include: bool, sent: str, stop: str
):
    assert play(pieces, stops, include) == (sent, stop)


def test_only_what_may_become_a_stop_string_is_held_back():
    search = StopStrings(["Observation:"])
    assert [search.feed(piece).text for piece in ("An O", "bserver ", "sees")] == ["An ", "Observer ", "sees"]


def test_a_stop_string_does_not_count_before_it_is_allowed_to():
    search = StopStrings(["b"])
    assert search.feed("abc", active=False) == ("abc", "")
    assert search.feed("abc") == ("a", "b")


@given(st.lists(st.text("ab", max_size=4)), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_how_the_text_is_cut_into_pieces_changes_nothing(pieces: list[str], stops: list[str]):
    whole = "".join(pieces)
    sent, stop = play(pieces, stops)
    assert (sent, stop) == play(list(whole), stops)
    assert whole.startswith(sent + stop)
    assert not any(each in sent for each in stops)


def slow(text: str, stops: list[str]) -> tuple[str, str]:
    """The same, by looking at each beginning of the text."""
    for end in range(1, len(text) + 1):
        for stop in stops:
            if text[:end].endswith(stop):
                return text[: end - len(stop)], stop
    return text, ""


@given(st.text("ab", max_size=40), st.lists(st.text("ab", min_size=1, max_size=9), max_size=5))
def test_the_search_finds_what_a_slow_one_finds(text: str, stops: list[str]):
    assert play(list(text), stops) == slow(text, stops)


def test_long_stop_strings_that_the_text_is_in_the_middle_of_cost_no_second_search():
    stops = ["x" * (1024 - number) + "y" for number in range(128)]
    assert play(["x" * 1500], stops) == ("x" * 1500, "")
    assert play(["x" * 1500, "y"], stops) == ("x" * (1500 - 1024), stops[0])
