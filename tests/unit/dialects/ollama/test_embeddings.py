from __future__ import annotations

import struct
from typing import Any

import pytest

from service.dialects.ollama.embeddings import embed_record, embeddings_record, parse_embed, parse_embeddings
from service.errors import BadRequest, ModelNotFound
from service.protocol.events import Vectors
from service.protocol.request import EmbedRequest
from service.web.framing import encode

VECTOR = struct.pack("<2f", 1 / 3, -0.1)


@pytest.mark.parametrize(
    ("value", "inputs"),
    [(None, []), ("", []), ([], []), ("a", ["a"]), ([""], [""]), (["b", "", "a"], ["b", "", "a"])],
)
def test_input_is_a_text_or_a_list_of_texts(value: Any, inputs: list[str]):
    assert parse_embed({"model": "m", "input": value}).request.inputs == inputs


def test_a_missing_input_is_none():
    assert parse_embed({"model": "m"}).request == EmbedRequest("m", [])


@pytest.mark.parametrize("model", ["m", "", "a b"])
@pytest.mark.parametrize("value", [5, 0, True, {}, {"a": 1}, ["a", 1], ["a", None], [[1, 2]], [1, 2]])
def test_any_other_input_is_refused_before_the_model_is_looked_at(model: str, value: Any):
    with pytest.raises(BadRequest, match=r"\Ainvalid input type\Z"):
        parse_embed({"model": model, "input": value})


@pytest.mark.parametrize(
    ("field", "value", "go_type"),
    [("model", 1, "string"), ("dimensions", "3", "int"), ("truncate", "no", "bool"), ("options", [], "map")],
)
def test_a_field_of_the_wrong_type_is_named(field: str, value: Any, go_type: str):
    with pytest.raises(BadRequest, match=rf"Go struct field EmbedRequest\.{field} of type {go_type}"):
        parse_embed({"model": "m", "input": "a", field: value})


def test_dimensions_truncation_and_context_are_passed_on():
    body = {"model": "m", "input": "a", "dimensions": -1, "truncate": False, "options": {"num_ctx": 64}}
    assert parse_embed(body).request == EmbedRequest("m", ["a"], -1, truncate=False, context_limit=64)
    assert parse_embed({"model": "m", "truncate": None}).request.truncate


@pytest.mark.parametrize("parse", [parse_embed, parse_embeddings])
def test_keep_alive_and_options_are_checked(parse: Any):
    assert parse({"model": "m", "keep_alive": "5m"}).keep_alive == 300
    for bad in ({"keep_alive": "5"}, {"options": {"num_ctx": "x"}}):
        with pytest.raises(BadRequest):
            parse({"model": "m", **bad})


def test_each_route_has_its_own_words_for_a_model_without_a_name():
    with pytest.raises(ModelNotFound, match=r"\Amodel '' not found\Z"):
        parse_embed({"input": "a"})
    with pytest.raises(BadRequest, match=r"\Amodel is required\Z"):
        parse_embeddings({"prompt": "a"})


@pytest.mark.parametrize("parse", [parse_embed, parse_embeddings])
def test_what_is_no_name_is_refused(parse: Any):
    with pytest.raises(BadRequest, match="invalid model name"):
        parse({"model": "a b"})


def test_the_older_route_has_one_prompt_and_cuts_nothing():
    assert parse_embeddings({"model": "m", "prompt": "a"}).request == EmbedRequest("m", ["a"], truncate=False)
    assert parse_embeddings({"model": "m", "prompt": ""}).request.inputs == []


def test_a_record_is_as_ollama_writes_it():
    call = parse_embed({"model": "M:latest", "input": ["a", "b"]})
    record = embed_record(call, Vectors(1, [VECTOR, VECTOR], 7), load_ns=3, total_ns=9)
    assert encode(record) == (
        b'{"model":"M:latest","embeddings":[[0.33333334,-0.1],[0.33333334,-0.1]],'
        b'"total_duration":9,"load_duration":3,"prompt_eval_count":7}'
    )


def test_a_model_that_was_only_loaded_has_no_vectors_and_no_durations():
    record = embed_record(parse_embed({"model": "m"}), Vectors(1, [], 0), load_ns=3, total_ns=9)
    assert encode(record) == b'{"model":"m","embeddings":[]}'
    assert encode(embeddings_record(Vectors(1, [], 0))) == b'{"embedding":[]}'


def test_the_older_record_shows_float32_as_float64():
    assert (
        encode(embeddings_record(Vectors(1, [VECTOR], 7))) == b'{"embedding":[0.3333333432674408,-0.10000000149011612]}'
    )
