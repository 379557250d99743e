"""The cursors of streams with many answers: what they say, and what a record of one answer costs."""

from __future__ import annotations

from typing import Any

import pytest

from service.engine_client.cursor import MAX_ANSWERS, Counts, Cursor
from service.protocol.events import Delta, Finished, TokenLogprob


def delta(index: int, text: str = "ab", **fields: Any) -> Delta:
    return Delta(1, 0, text, [7], index=index, **fields)


def test_a_cursor_names_every_answer_in_order_and_leaves_out_those_that_have_not_begun():
    cursor = Cursor("s")
    assert str(cursor) == "s."
    assert cursor.after_text(delta(2)) == "s.,,1-2"
    assert cursor.after_text(delta(0)) == "s.1-2,,1-2"
    cursor.add(delta(3, "", thinking="abc"))
    assert cursor.after_text(delta(3)) == "s.1-2,,1-2,2-2-3"
    cursor.add(delta(1, tool_calls=[{}], logprobs=[TokenLogprob("a", None)]))
    cursor.add(Finished(1, "stop", 1, 1, 0, 0, 0, 0, index=0), 1)
    assert str(cursor) == "s.1-2~1,1-2-0-1-1,1-2,2-2-3"
    cursor.at_end = True
    assert str(cursor) == "s.end"


@pytest.mark.parametrize("counts", ["", "3-4", "3-4-5-1-2~1", ",,3-4", "3-4,,5-6~2"])
def test_a_cursor_that_a_client_gives_back_goes_on(counts: str):
    cursor = Cursor.parse(f"s.{counts}", "s")
    assert str(cursor) == f"s.{counts}"
    fresh = Cursor.parse(f"s.{counts}", "s")
    fresh.add(delta(0))
    assert cursor.after_text(delta(0)) == str(fresh)


def test_a_record_of_one_answer_formats_no_other(monkeypatch: pytest.MonkeyPatch):
    cursor, formatted = Cursor("s"), []
    for index in range(MAX_ANSWERS):
        cursor.add(delta(index, "", thinking="a"))
    text_of = Counts.__str__
    monkeypatch.setattr(Counts, "__str__", lambda self: formatted.append(self) or text_of(self))
    after = cursor.after_text(delta(5))
    assert after.split(",")[4:7] == ["1-0-1", "2-2-1", "1-0-1"]
    assert formatted == [cursor.answers[5]]
