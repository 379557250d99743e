"""Any body of Ollama's generate and chat routes is a request that crosses the queue, or a bad one."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.dialects.json_body import parse_json
from service.dialects.ollama.answer import error_record
from service.dialects.ollama.request import OllamaCall, parse_chat, parse_generate
from service.errors import BadRequest, ModelNotFound
from service.protocol.commands import Submit
from service.protocol.wire import decode_command, pack
from service.web.framing import encode

Parse = Callable[[dict[str, Any]], OllamaCall]

# Lone surrogates among the characters: a client can escape them.
texts = st.text(st.characters(exclude_categories=[]), max_size=20) | st.sampled_from(
    ["m", "user", "tool", "5m", "json"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def objects(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of some of `fields`, each of its own kind or of any."""
    return st.fixed_dictionaries({}, optional={name: right | values for name, right in fields.items()})


base64 = st.binary().map(lambda data: b64encode(data).decode())
options = objects(temperature=st.floats(0, 2), top_k=st.integers(), num_ctx=st.integers(), stop=st.lists(texts))
tool_calls = objects(id=texts, function=objects(name=texts, arguments=st.dictionaries(texts, values, max_size=2)))
turns = objects(
    role=texts, content=texts, thinking=texts, images=st.lists(base64, max_size=2),
    tool_calls=st.lists(tool_calls, max_size=2),
)  # fmt: skip
common = {
    "model": st.just("m"),
    "stream": st.booleans(),
    "stream_type": st.just("text/event-stream"),
    "StreamType": texts,
    "options": options,
    "think": st.booleans() | st.just("low"),
    "keep_alive": st.integers() | st.just("5m"),
    "format": st.just("json") | st.dictionaries(texts, values, max_size=2),
    "truncate": st.booleans(),
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(-1, 21),
}
generate_bodies = objects(
    **common, prompt=texts, suffix=texts, system=texts, template=texts, context=st.lists(st.integers()),
    raw=st.booleans(), images=st.lists(base64, max_size=2),
)  # fmt: skip
chat_bodies = objects(
    **common, messages=st.lists(turns, max_size=3), tools=st.lists(st.dictionaries(texts, values, max_size=2))
)


@given(generate_bodies)
def test_every_generate_body_is_a_request_that_crosses_the_queue_or_a_bad_one(body: dict[str, Any]):
    assert _is_passed_on_or_refused(parse_generate, "GenerateRequest", body)


@given(chat_bodies)
def test_every_chat_body_is_a_request_that_crosses_the_queue_or_a_bad_one(body: dict[str, Any]):
    assert _is_passed_on_or_refused(parse_chat, "ChatRequest", body)


def _is_passed_on_or_refused(parse: Parse, struct: str, body: dict[str, Any]) -> bool:
    """Whether the request comes out of the queue as it went in, or the body is refused in a record with a reason."""
    try:
        call = parse(parse_json(json.dumps(body).encode(), struct))
    except (BadRequest, ModelNotFound) as error:
        return bool(json.loads(encode(error_record(error)))["error"])
    # A body without a prompt loads the model, and has none.
    return call.request is None or decode_command(pack(Submit(1, call.request))[4:]) == Submit(1, call.request)
