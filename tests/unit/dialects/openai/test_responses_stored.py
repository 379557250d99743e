from __future__ import annotations

from typing import Any

import pytest

from service.dialects.openai.responses_answer import ResponsesAnswer
from service.dialects.openai.responses_request import parse_responses
from service.dialects.openai.responses_stored import conversation, input_items
from service.errors import BadRequest, StoreFailure
from service.protocol.events import Located
from tests.support.responses import FINISHED, THOUGHT, answering, body, delta, stored


def test_what_is_stored_is_all_that_was_said_in_openais_items():
    earlier = [{"id": "msg_x", "type": "message", "role": "user", "content": []}]
    said = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "id": None},
        {"Type": "reasoning", "id": "rs", "summary": [THOUGHT]},
        {"type": "function_call_output", "call_id": "c", "output": "2"},
    ]
    record = stored(parse_responses(body(said), earlier))
    assert record["input"] == [
        *earlier,
        {"id": "msg_ki0", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"id": "msg_ki1", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
        {"id": "rs_ki2", "type": "reasoning", "summary": [THOUGHT]},
        {"id": "fco_ki3", "type": "function_call_output", "call_id": "c", "output": "2"},
    ]
    assert conversation(record) == record["input"] + record["response"]["output"]


def test_the_last_record_waits_for_the_store_and_a_store_that_fails_takes_its_place():
    def keep(*record: Any) -> None:
        raise StoreFailure("full")

    failing = ResponsesAnswer(parse_responses(body(store=True)), "k", keep=keep)
    batches = failing.records([[delta("Hi"), FINISHED]])
    before = next(batches)
    with pytest.raises(StoreFailure):
        next(batches)
    last = failing.failure(StoreFailure("full"))
    assert (before[-1]["type"], last["type"]) == ("response.output_item.done", "response.failed")
    assert (last["sequence_number"], last["response"]["status"]) == (len(before), "failed")


def test_a_response_that_nobody_wants_to_keep_is_not_stored():
    kept: list[Any] = []
    list(ResponsesAnswer(parse_responses(body()), "k", keep=lambda *record: kept.append(record)).records([[FINISHED]]))
    assert kept == []


@pytest.mark.parametrize(
    ("query", "ids", "more"),
    [
        ({}, "cba", False),
        ({"order": "asc"}, "abc", False),
        ({"limit": "2"}, "cb", True),
        ({"limit": "2", "after": "b"}, "a", False),
        ({"order": "asc", "limit": "1", "after": "a"}, "b", True),
        ({"after": "a"}, "", False),
    ],
)
def test_items_are_listed_page_by_page(query: dict[str, str], ids: str, more: bool):
    page = input_items({"input": [{"id": name} for name in "abc"]}, query)
    assert ("".join(item["id"] for item in page["data"]), page["has_more"]) == (ids, more)
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))


@pytest.mark.parametrize("query", [{"order": "up"}, {"limit": "0"}, {"limit": "9" * 5000}, {"after": "z"}])
def test_a_page_that_cannot_be_is_refused(query: dict[str, str]):
    with pytest.raises(BadRequest, match=next(iter(query))):
        input_items({"input": []}, query)


def test_silence_passes_through():
    batches = list(answering().records([[Located(1, "s", 5)], [], [delta("a")]]))
    assert [bool(batch) for batch in batches] == [False, True]
