from __future__ import annotations

import json
from typing import Any

import pytest

from service.dialects.openai.completions import CompletionAnswer, parse_completion
from service.errors import BadRequest
from service.protocol.events import Delta, Event, Finished, TokenLogprob
from service.protocol.request import Infill, Sampling, Text, Tokens
from service.web.framing import encode


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "demo", "prompt": "a", **fields}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", [Text("a")]),
        (None, [Text("")]),
        (["a", "b"], [Text("a"), Text("b")]),
        ([1, 2], [Tokens([1, 2])]),
        ([[1], [2, 3]], [Tokens([1]), Tokens([2, 3])]),
        (["a", [1]], [Text("a"), Tokens([1])]),
    ],
)
def test_a_prompt_is_a_text_token_ids_or_several(prompt: Any, expected: list[Any]):
    assert [request.prompt for request in parse_completion(body(prompt=prompt)).requests] == expected


def test_a_suffix_is_filled_up_to():
    (request,) = parse_completion(body(suffix="b")).requests
    assert request.prompt == Infill("a", "b")


def test_every_prompt_has_the_same_parameters():
    call = parse_completion(body(prompt=["a", "b"], n=2, echo=True, logprobs=3, max_tokens=0, top_k=4))
    for request in call.requests:
        assert (request.n, request.echo, request.logprobs) == (2, True, 3)
        assert request.sampling == Sampling(max_tokens=0, top_k=4)


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"max_completion_tokens": 5}, 5),
        ({"max_completion_tokens": 5, "max_tokens": 3}, 3),
        ({"max_completion_tokens": 0, "echo": True}, 0),
        ({"max_completion_tokens": None}, None),
    ],
)
def test_the_limit_has_the_name_of_chats_too(fields: dict[str, Any], limit: int | None):
    (request,) = parse_completion(body(**fields)).requests
    assert request.sampling.max_tokens == limit


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"max_completion_tokens": 0}, "max_completion_tokens must be at least 1"),
        ({"model": ""}, "model is required"),
        ({"prompt": 1}, "prompt must be a string, token ids, or a list of either"),
        ({"prompt": [1, "a"]}, "prompt must be a string, token ids, or a list of either"),
        ({"prompt": [-1]}, "prompt must be a string, token ids, or a list of either"),
        ({"prompt": [True]}, "prompt must be a string, token ids, or a list of either"),
        ({"prompt": [[1.5]]}, "prompt must be a string, token ids, or a list of either"),
        ({"prompt": [2**70]}, "prompt must be a string, token ids, or a list of either"),
        ({"prompt": ["a"] * 1025}, "prompt must hold at most 1024 prompts"),
        ({"prompt": [1], "suffix": "b"}, "suffix needs a prompt that is a string"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"logprobs": 21}, "logprobs must be between 0 and 20"),
        ({"logprobs": 5, "n": 100}, "n times logprobs must be at most 400"),
        ({"best_of": 2}, "best_of is not supported"),
        ({"n": 2, "best_of": 1}, "best_of must not be less than n, which is 2"),
        ({"stop": [1]}, "invalid type for 'stop' field: float64"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], text: str):
    with pytest.raises(BadRequest) as refused:
        parse_completion(body(**fields))
    assert refused.value.message == text


def told(events: list[Event], **fields: Any) -> list[dict[str, Any]]:
    answer = CompletionAnswer(parse_completion(body(stream=True, **fields)))
    return [json.loads(encode(record)) for batch in answer.records([events]) for record in batch]


def collected(events: list[Event], **fields: Any) -> dict[str, Any]:
    answer = CompletionAnswer(parse_completion(body(**fields)))
    record: dict[str, Any] = json.loads(encode(answer.collect(answer.records([events]))))
    return record


def say(text: str = "", index: int = 0, **fields: Any) -> Delta:
    return Delta(1, 0, text, [1], index=index, **fields)


def end(index: int = 0) -> Finished:
    return Finished(1, "stop", 3, 2, 0, 0, 0, 0, index=index)


def test_a_stream_tells_texts_and_then_the_reason():
    chunks = told([say("a"), say(), say("b"), end()], stream_options={"include_usage": True})
    assert [chunk["object"] for chunk in chunks] == ["text_completion"] * 4
    assert [choice for chunk in chunks for choice in chunk["choices"]] == [
        {"text": "a", "index": 0, "logprobs": None, "finish_reason": None},
        {"text": "b", "index": 0, "logprobs": None, "finish_reason": None},
        {"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"},
    ]
    assert chunks[-1]["usage"]["total_tokens"] == 5


def test_each_prompt_counts_once_however_many_answers_it_has():
    events: list[Event] = [event for index in range(4) for event in (say(str(index), index), end(index))]
    whole = collected(events, prompt=["a", "b"], n=2)
    assert [(choice["index"], choice["text"]) for choice in whole["choices"]] == [(i, str(i)) for i in range(4)]
    assert (whole["usage"]["prompt_tokens"], whole["usage"]["completion_tokens"]) == (6, 8)


def test_the_offset_of_a_token_does_not_depend_on_when_its_text_comes():
    tokens = [TokenLogprob(text, -1.0) for text in ("The", " sky", " is")]
    held_back = [say(logprobs=tokens[:1]), say(logprobs=tokens[1:2]), say("The sky is", logprobs=tokens[2:]), end()]
    at_once = [say("The sky is", logprobs=tokens), end()]
    chunks = told(held_back, logprobs=0)[:3]
    assert [chunk["choices"][0]["logprobs"]["text_offset"] for chunk in chunks] == [[0], [3], [7]]
    for events in (held_back, at_once):
        assert collected(events, logprobs=0)["choices"][0]["logprobs"]["text_offset"] == [0, 3, 7]


def test_logprobs_are_lists_that_go_on_from_chunk_to_chunk():
    echoed = [TokenLogprob("ab", None), TokenLogprob("c", -1.0, [], [TokenLogprob("x", -0.1)])]
    events = [say("abc", logprobs=echoed), say("d", logprobs=[TokenLogprob("d", -2.0)]), end()]
    expected = {
        "text_offset": [0, 2, 3],
        "token_logprobs": [None, -1.0, -2.0],
        "tokens": ["ab", "c", "d"],
        "top_logprobs": [None, {"x": -0.1}, None],
    }
    assert collected(events, logprobs=1, echo=True)["choices"][0]["logprobs"] == expected
    parts = [chunk["choices"][0]["logprobs"] for chunk in told(events, logprobs=1, echo=True)[:2]]
    assert {name: parts[0][name] + parts[1][name] for name in expected} == expected
