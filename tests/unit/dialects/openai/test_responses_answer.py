from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest, EngineGone
from service.protocol.events import Delta, Located, TokenLogprob
from tests.support.responses import CALL, CUT, FINISHED, FUNCTION, THOUGHT, answer, answering, delta


def test_a_stream_has_openais_events_in_their_order_and_numbered():
    records = answer(Located(1, "s", 5), delta(thinking="hm"), delta("Hi"), delta(tool_calls=[CALL]), FINISHED)
    assert [record["type"].removeprefix("response.") for record in records] == [
        "created", "in_progress",
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    assert [record["sequence_number"] for record in records] == list(range(len(records)))
    places = [record["output_index"] for record in records if "output_index" in record]
    assert places == [0] * 6 + [1] * 6 + [2] * 4


def test_the_last_record_holds_the_whole_response():
    response = answering().collect([answer(delta(thinking="hm"), delta("Hi"), delta(tool_calls=[CALL]), FINISHED)])
    assert (response["id"], response["object"], response["status"]) == ("resp_k", "response", "completed")
    assert (response["created_at"], response["completed_at"], response["error"]) == (1000, 1000, None)
    part = {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}
    assert response["output"] == [
        {"id": "rs_k0", "type": "reasoning", "summary": [THOUGHT]},
        {"id": "msg_k1", "type": "message", "content": [part], "role": "assistant", "status": "completed"},
        {
            "id": "fc_k2", "type": "function_call", "status": "completed", "call_id": "call_1", "name": "add",
            "arguments": '{"a":1}',
        },
    ]  # fmt: skip
    assert response["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 10,
    }


def test_an_answer_that_was_cut_off_is_incomplete():
    *_, item, last = answer(delta("Hi"), CUT)
    assert last["type"] == "response.incomplete"
    assert last["response"]["status"] == item["item"]["status"] == "incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["response"]["completed_at"] is None


def test_an_answer_without_a_word_is_a_response_all_the_same():
    records = answer(Located(1, "s", 5), FINISHED)
    assert [record["type"] for record in records] == ["response.created", "response.in_progress", "response.completed"]
    assert records[-1]["response"]["output"] == []


def test_a_failure_ends_the_response_that_has_begun():
    failing = answering()
    begun = [record for batch in failing.records([[delta("Hi")]]) for record in batch]
    record = failing.failure(EngineGone("gone"))
    assert (record["type"], record["sequence_number"]) == ("response.failed", len(begun))
    assert (record["response"]["id"], record["response"]["status"]) == ("resp_k", "failed")
    assert record["response"]["error"] == {"code": "server_error", "message": "gone"}


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_what_came_before_a_failure_is_in_the_output(status: str):
    failing = answering()
    deque(failing.records([[delta(thinking="hm"), delta("Hi")]]), maxlen=0)
    given_up = failing.failure(EngineGone("gone"))["response"] if status == "failed" else failing.response(status)
    reasoning, message = given_up["output"]
    assert (reasoning["summary"][0]["text"], message["content"][0]["text"]) == ("hm", "Hi")
    assert (given_up["status"], message["status"]) == (status, "incomplete")


def test_a_failure_before_the_response_is_an_error():
    record = answering().failure(BadRequest("no"))
    assert (record["type"], record["code"], record["message"]) == ("error", "invalid_prompt", "no")
    assert (record["sequence_number"], record["param"]) == (0, None)


def test_what_was_asked_is_repeated():
    asked = {"temperature": 0.5, "metadata": {"a": "b"}, "tools": [FUNCTION], "instructions": "be brief", "user": "u"}
    response = answer(FINISHED, **asked)[-1]["response"]
    assert {name: response[name] for name in asked} == asked
    assert (response["tool_choice"], response["truncation"], response["store"]) == ("auto", "disabled", False)
    assert response["text"] == {"format": {"type": "text"}}
    empty = answer(FINISHED, text={"format": {}, "verbosity": "low"})[-1]["response"]
    assert empty["text"] == {"format": {"type": "text"}, "verbosity": "low"}


def test_reasoning_can_be_taken_home_where_it_is_asked_for():
    events = [delta(thinking="hm"), FINISHED]
    assert "encrypted_content" not in answer(*events)[-1]["response"]["output"][0]
    included = answer(*events, include=["reasoning.encrypted_content"])[-1]["response"]["output"][0]
    assert included["encrypted_content"] == "hm"


def test_the_token_that_ends_the_answer_is_no_part_of_its_text():
    tokens = [TokenLogprob(token, -0.5, tuple(token.encode())) for token in ("é", "!", "<|im_end|>")]
    records = answer(delta("é!", logprobs=tokens), FINISHED)
    (part,) = records[-1]["response"]["output"][0]["content"]
    assert [token["token"] for token in part["logprobs"]] == ["é", "!"]


def test_a_character_of_several_tokens_has_all_of_their_log_probabilities():
    """Behind thoughts, streamed and joined: the tokens of a character bring their text with the last one."""
    first, last = (TokenLogprob("", -0.5, part) for part in ((0xF0, 0x9F), (0x98, 0x80)))
    end, mark = (TokenLogprob(token, -0.1, tuple(token.encode())) for token in ("<|im_end|>", "</think>"))
    thought = TokenLogprob("hm", -0.5, tuple(b"hm"))
    streamed = [delta(thinking="hm", logprobs=[thought]), delta(logprobs=[mark]), delta(logprobs=[first]),
                delta("😀", logprobs=[last]), delta(logprobs=[first]), delta("😀", logprobs=[last]),
                delta(logprobs=[end])]  # fmt: skip
    joined = [delta(thinking="hm", logprobs=[thought, mark, first]), delta("😀😀", logprobs=[last, first, last, end])]
    for deltas in (streamed, joined):
        (part,) = answer(*deltas, FINISHED)[-1]["response"]["output"][-1]["content"]
        assert [bytes(token["bytes"]) for token in part["logprobs"]] == [b"\xf0\x9f", b"\x98\x80"] * 2


def test_logprobs_of_a_message_are_those_of_its_text_when_a_delta_holds_the_thoughts_before_it():
    texts = ("1", " hm", "</think>", "\n\n", "1", ",", " 2", "<|im_end|>")
    tokens = [TokenLogprob(text, -0.5, tuple(text.encode())) for text in texts]
    whole = [delta("1, 2", thinking="1 hm", logprobs=tokens)]
    without_end = [delta("1, 2", thinking="1 hm", logprobs=tokens[:-1])]
    lagging = [delta("1", thinking="1 hm", logprobs=tokens[:-2]), delta(", 2", logprobs=tokens[-2:])]
    apart = [delta(thinking="1 hm", logprobs=tokens[:4]), delta("1, 2", logprobs=tokens[4:])]
    for deltas in (whole, without_end, lagging, apart):
        part = answer(*deltas, FINISHED)[-1]["response"]["output"][-1]["content"][0]
        assert [token["token"] for token in part["logprobs"]] == ["1", ",", " 2"]


def test_logprobs_go_with_the_text():
    token = TokenLogprob("Hi", -0.5, [72, 105], [TokenLogprob("Hi", -0.5)])
    records = answer(delta("Hi", logprobs=[token]), FINISHED)
    top = {"token": "Hi", "bytes": [], "logprob": -0.5, "top_logprobs": []}
    told = [{"token": "Hi", "bytes": [72, 105], "logprob": -0.5, "top_logprobs": [top]}]
    streamed = next(record for record in records if record["type"] == "response.output_text.delta")
    assert streamed["logprobs"] == records[-1]["response"]["output"][0]["content"][0]["logprobs"] == told


deltas = st.lists(
    st.builds(
        delta, text=st.text(max_size=3), thinking=st.text(max_size=3), tool_calls=st.lists(st.just(CALL), max_size=2)
    ),
    max_size=8,
)


@given(deltas)
def test_collecting_equals_streaming(events: list[Delta]):
    records = answer(*events, FINISHED)
    output = answering().collect([records])["output"]
    done = [record["item"] for record in records if record["type"] == "response.output_item.done"]
    assert output == done
    streamed = "".join(r["delta"] for r in records if r["type"] == "response.output_text.delta")
    assert streamed == "".join(part["text"] for item in output for part in item.get("content", []))
    assert streamed == "".join(event.text for event in events)
    thought = "".join(r["delta"] for r in records if r["type"] == "response.reasoning_summary_text.delta")
    assert thought == "".join(part["text"] for item in output for part in item.get("summary", []))
    assert len({item["id"] for item in output}) == len(output)
