from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from service.dialects.openai.answer import error_record
from service.dialects.openai.chat_answer import ChatAnswer
from service.dialects.openai.chat_request import parse_chat
from service.errors import (
    BadRequest,
    EngineFailure,
    ModelNotFound,
    PromptTooLong,
    ServerBusy,
    ServiceError,
    TooManyRequests,
    Unauthorized,
)
from service.protocol.events import Delta, Event, Finished, Located, TokenLogprob
from service.protocol.request import Chat, Message, Request
from service.web.framing import encode

USER = {"role": "user", "content": "a"}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [USER], **fields}


def request(**fields: Any) -> Request:
    (request,) = parse_chat(body(**fields)).requests
    return request


def chat(**fields: Any) -> Chat:
    prompt = request(**fields).prompt
    assert isinstance(prompt, Chat)
    return prompt


def message(**fields: Any) -> Message:
    return chat(messages=[{"role": "user", **fields}]).messages[-1]


def answer(**fields: Any) -> ChatAnswer:
    return ChatAnswer(parse_chat(body(**fields)), now=lambda: 1000.5)


def told(events: list[Event], **fields: Any) -> list[dict[str, Any]]:
    """The chunks of a stream, as a client reads them."""
    batches = answer(stream=True, **fields).records([[Located(1, "", 0)], events])
    return [json.loads(encode(record)) for batch in batches for record in batch]


def deltas(events: list[Event], **fields: Any) -> list[dict[str, Any]]:
    """The chunks' deltas; a chunk's finish_reason stands in its place."""
    choices = [chunk["choices"][0] for chunk in told(events, **fields)]
    return [choice["delta"] or choice["finish_reason"] for choice in choices]


def collected(events: list[Event], **fields: Any) -> dict[str, Any]:
    whole = answer(**fields)
    record: dict[str, Any] = json.loads(encode(whole.collect(whole.records([events]))))
    return record


def say(text: str = "", index: int = 0, **fields: Any) -> Delta:
    return Delta(1, 0, text, [1], index=index, **fields)


def end(reason: str = "stop", index: int = 0) -> Finished:
    return Finished(1, reason, 3, 2, 1, 0, 0, 0, index=index, thinking_tokens=1)


CALLS = [{"id": "call_x", "function": {"index": 4, "name": "f", "arguments": {"z": 1, "a": "<&>"}}}]
SAID_CALL = {
    "id": "call_x",
    "index": 0,
    "type": "function",
    "function": {"name": "f", "arguments": '{"z":1,"a":"<&>"}'},
}
USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 1},
}


def test_a_stream_is_what_ollama_writes():
    chunks = told([say("Hi"), end()], stream_options={"include_usage": True})
    identity = chunks[0]["id"]
    head = {"id": identity, "object": "chat.completion.chunk", "created": 1000, "model": "demo",
            "system_fingerprint": "fp_ollama"}  # fmt: skip
    role = {"role": "assistant", "content": "Hi"}
    assert chunks == [
        {**head, "choices": [{"index": 0, "delta": role, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {**head, "choices": [], "usage": USAGE},
    ]
    assert identity.startswith("chatcmpl-")


def test_the_keys_of_a_chunk_are_in_ollamas_order():
    first = encode(next(answer(stream=True).records([[say("Hi")]]))[0]).decode()
    assert first.endswith(
        '"object":"chat.completion.chunk","created":1000,"model":"demo","system_fingerprint":"fp_ollama",'
        '"choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":null}]}'
    )


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([say("a"), say("b"), end("length")], [{"role": "assistant", "content": "a"}, {"content": "b"}, "length"]),
        ([end()], [{"role": "assistant", "content": ""}, "stop"]),
        ([say(), say(), end()], [{"role": "assistant", "content": ""}, "stop"]),
        ([say("a", thinking="hm"), end()],
         [{"role": "assistant", "content": "", "reasoning": "hm", "reasoning_content": "hm"},
          {"content": "a"}, "stop"]),
        ([say("a", tool_calls=CALLS), end()],
         [{"role": "assistant", "content": "a"}, {"content": "", "tool_calls": [SAID_CALL]}, "tool_calls"]),
        ([say(tool_calls=CALLS), end("length")],
         [{"role": "assistant", "content": "", "tool_calls": [SAID_CALL]}, "length"]),
        ([say(tool_calls=CALLS), say(tool_calls=CALLS), end()],
         [{"role": "assistant", "content": "", "tool_calls": [SAID_CALL]},
          {"content": "", "tool_calls": [{**SAID_CALL, "index": 1}]}, "tool_calls"]),
    ],
)  # fmt: skip
def test_each_event_has_its_chunks(events: list[Event], expected: list[Any]):
    assert deltas(events) == expected


def test_two_answers_have_a_role_and_an_end_each():
    events = [say("a", 0), say("b", 1), end("stop", 1), say("c", 0), end("length", 0)]
    chunks = told(events, n=2, stream_options={"include_usage": True})
    choices = [(each["index"], each["delta"].get("role"), each["finish_reason"])
               for chunk in chunks for each in chunk["choices"]]  # fmt: skip
    assert choices == [
        (0, "assistant", None), (1, "assistant", None), (1, None, "stop"), (0, None, None), (0, None, "length"),
    ]  # fmt: skip
    assert (chunks[-1]["usage"]["prompt_tokens"], chunks[-1]["usage"]["completion_tokens"]) == (3, 4)


def test_collected_it_is_one_completion():
    whole = collected([say(thinking="hm"), say("a"), say("b", tool_calls=CALLS), end()])
    message = {"role": "assistant", "content": "ab", "reasoning": "hm", "reasoning_content": "hm",
               "tool_calls": [SAID_CALL]}  # fmt: skip
    assert whole["object"] == "chat.completion"
    assert whole["choices"] == [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    assert whole["usage"] == USAGE


def test_collected_choices_are_in_order_whoever_ends_first():
    whole = collected([say("b", 1), end("stop", 1), say("a", 0), end("stop", 0)], n=2)
    assert [choice["message"]["content"] for choice in whole["choices"]] == ["a", "b"]


def test_logprobs_go_with_their_text():
    token = TokenLogprob("a", -0.5, [97], [TokenLogprob("b", -1.0, [98])])
    expected = {"token": "a", "logprob": -0.5, "bytes": [97],
                "top_logprobs": [{"token": "b", "logprob": -1.0, "bytes": [98]}]}  # fmt: skip
    opening, chunk, *_ = told([say("a", logprobs=[token])])
    assert chunk["choices"][0]["logprobs"] == {"content": [expected], "refusal": None}
    # openai's stream helper for JavaScript counts those of a choice's first chunk twice.
    assert opening["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "logprobs" not in opening["choices"][0]
    whole = collected([say("a", logprobs=[token]), say("a", logprobs=[token]), end()], logprobs=True)
    assert whole["choices"][0]["logprobs"]["content"] == [expected, expected]


def test_a_model_that_embeds_is_refused():
    with pytest.raises(BadRequest, match='"demo" does not support chat'):
        told([Located(1, "", 0, ["embedding"])])


def test_silence_stays_an_empty_batch():
    assert list(answer(stream=True).records([[Located(1, "", 0)], [], []])) == [[], []]


def test_a_failure_is_told_as_openai_tells_it():
    failure = msgspec.to_builtins(answer().failure(EngineFailure("oh")))
    assert failure == {"error": {"message": "oh", "type": "api_error", "param": None, "code": None}}


# The words by which pi, opencode and LiteLLM recognise that a conversation has to be shortened (`overflow.ts` in pi,
# `provider/error.ts` in opencode).
OVERFLOW = r"maximum context length is \d+ tokens"


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (
            PromptTooLong("p", tokens=9000, limit=4096),
            "context_length_exceeded",
            f"{OVERFLOW}.*resulted in 9000 tokens",
        ),
        (PromptTooLong("the input exceeds", limit=4096), "context_length_exceeded", f"{OVERFLOW}.*the input exceeds"),
        (ModelNotFound("m"), "model_not_found", "m"),
        (Unauthorized("m"), "invalid_api_key", "m"),
        (TooManyRequests("m"), "rate_limit_exceeded", "m"),
        (ServerBusy(), "server_is_overloaded", "busy"),
    ],
)
def test_a_program_reads_openais_code_and_words(error: ServiceError, code: str, text: str):
    record = error_record(error)["error"]
    assert record["code"] == code
    assert re.search(text, record["message"])


def test_each_chunk_has_the_usage_so_far_as_in_vllm():
    first, second = Delta(1, 0, "a", [7], prompt_tokens=3), Delta(1, 1, "b", [8, 9], thinking="hm")
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = told([first, second, end()], stream_options=options)
    assert [chunk["usage"]["prompt_tokens"] for chunk in chunks] == [3] * 5
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [1, 3, 3, 2, 2]
    assert chunks[-2]["usage"] == chunks[-1]["usage"] == USAGE
    assert [len(chunk["choices"]) for chunk in chunks] == [1, 1, 1, 1, 0]


def test_the_usage_of_a_chunk_is_that_of_its_own_answer():
    events = [
        Delta(1, 0, "a", [7], prompt_tokens=3),
        Delta(1, 0, "b", [8], index=1, prompt_tokens=3),
        end(),
        end(index=1),
    ]
    chunks = told(events, n=2, stream_options={"include_usage": True, "continuous_usage_stats": True})
    assert [chunk["usage"]["total_tokens"] for chunk in chunks] == [4, 4, 5, 5, 7]


@pytest.mark.parametrize("options", [{"continuous_usage_stats": True}, {"continuous_usage_stats": None}])
def test_the_usage_so_far_needs_the_usage_as_in_vllm(options: dict[str, Any]):
    assert not [chunk for chunk in told([say("a"), end()], stream_options=options) if "usage" in chunk]


def test_the_usage_so_far_has_no_meaning_for_a_stream_that_is_resumed():
    options = {"include_usage": True, "continuous_usage_stats": True}
    with pytest.raises(BadRequest, match="continuous_usage_stats can't go with resumable"):
        answer(stream=True, resumable=True, stream_options=options)
