from __future__ import annotations

import json
from typing import Any

import pytest

from service.dialects.openai.embeddings import embeddings_record, parse_embeddings
from service.errors import BadRequest
from service.protocol.events import Vectors
from service.web.framing import encode

# 0.5 and -2 as little-endian float32.
VECTOR = bytes([0, 0, 0, 0x3F, 0, 0, 0, 0xC0])


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "demo", "input": "a", **fields}


@pytest.mark.parametrize(("given", "inputs"), [("a", ["a"]), ("", [""]), (["a", "b"], ["a", "b"])])
def test_the_input_is_a_text_or_several(given: Any, inputs: list[str]):
    assert parse_embeddings(body(input=given)).request.inputs == inputs


@pytest.mark.parametrize(
    ("fields", "embedding"),
    [({}, [0.5, -2]), ({"encoding_format": "FLOAT"}, [0.5, -2]), ({"encoding_format": "base64"}, "AAAAPwAAAMA=")],
)
def test_a_vector_is_a_list_or_its_bytes_in_base64(fields: dict[str, Any], embedding: Any):
    record = embeddings_record(parse_embeddings(body(**fields)), Vectors(1, [VECTOR], 3))
    assert json.loads(encode(record)) == {
        "object": "list",
        "data": [{"object": "embedding", "embedding": embedding, "index": 0}],
        "model": "demo",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"model": ""}, "model is required"),
        ({"input": None}, "invalid input"),
        ({"input": []}, "invalid input"),
        ({"input": [1.5]}, "invalid input type"),
        ({"input": ["a", 1]}, "invalid input type"),
        ({"encoding_format": "x"},
         "Invalid value for 'encoding_format' = x. Supported values: ['float', 'base64']."),
        ({"dimensions": "3"},
         "json: cannot unmarshal string into Go struct field EmbedRequest.dimensions of type int"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(fields: dict[str, Any], text: str):
    with pytest.raises(BadRequest) as refused:
        parse_embeddings(body(**fields))
    assert refused.value.message == text


@pytest.mark.parametrize(("given", "helps"), [([1, 2], True), ([[1, 2], [3]], True), ([True], False), ([[]], False)])
def test_the_refusal_of_token_ids_says_what_to_send(given: Any, helps: bool):
    with pytest.raises(BadRequest, match=r"^invalid input type") as refused:
        parse_embeddings(body(input=given))
    assert ("check_embedding_ctx_length=False" in refused.value.message) is helps


@pytest.mark.parametrize("dimensions", [0, -1])
def test_dimensions_that_no_vector_has_are_refused(dimensions: int):
    with pytest.raises(BadRequest, match="dimensions must be at least 1"):
        parse_embeddings(body(dimensions=dimensions))


def test_more_dimensions_than_the_model_has_are_refused_with_their_number():
    with pytest.raises(BadRequest, match="at most 2"):
        embeddings_record(parse_embeddings(body(dimensions=3)), Vectors(1, [VECTOR], 3))
    assert embeddings_record(parse_embeddings(body(dimensions=2)), Vectors(1, [VECTOR], 3)).data
