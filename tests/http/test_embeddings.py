"""`/api/embed` and `/api/embeddings` over real HTTP, on a scripted engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.answers import chat, generate
from tests.support.servers import Server

JSON_TYPE = "application/json; charset=utf-8"
POOLING = {"VLLM_WSGI_ENGINE_ARGS": '{"runner": "pooling"}'}
LONG = "word " * 5000


def embed(client: httpx.Client, value: Any, **fields: Any) -> httpx.Response:
    return client.post("/api/embed", json={"model": "demo", "input": value, **fields})


def vectors(client: httpx.Client, value: Any, **fields: Any) -> list[list[float]]:
    answer = embed(client, value, **fields)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["embeddings"])


def test_an_answer_has_ollamas_fields_in_its_order(client: httpx.Client):
    answer = embed(client, "two words")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, JSON_TYPE)
    names = ["model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"]
    assert list(answer.json()) == names
    assert answer.json()["prompt_eval_count"] == 2


def test_vectors_come_in_the_order_of_their_texts(client: httpx.Client):
    texts = [f"text {number}" for number in range(20)]
    assert vectors(client, texts) == [vectors(client, text)[0] for text in texts]


def test_dimensions_cut_a_vector_and_it_has_length_one_again(client: httpx.Client):
    (whole,), (cut,) = vectors(client, "a"), vectors(client, "a", dimensions=3)
    length = math.hypot(*whole[:3])
    assert cut == pytest.approx([number / length for number in whole[:3]], rel=1e-5)
    assert [vectors(client, "a", dimensions=number) for number in (0, -1, 8, 99)] == [[whole]] * 4


@pytest.mark.parametrize("body", [{}, {"input": None}, {"input": ""}, {"input": []}])
def test_without_input_the_model_is_only_loaded(client: httpx.Client, body: dict[str, Any]):
    answer = client.post("/api/embed", json={"model": "demo", **body})
    assert (answer.status_code, answer.text) == (200, '{"model":"demo","embeddings":[]}')


def test_an_empty_text_in_a_list_is_embedded(client: httpx.Client):
    assert len(vectors(client, [""])[0]) == 8


def test_the_model_is_called_what_the_client_called_it(client: httpx.Client):
    assert embed(client, "a", model="DEMO:latest").json()["model"] == "DEMO:latest"


def test_a_text_that_is_too_long_is_cut_or_refused(client: httpx.Client):
    assert embed(client, LONG).json()["prompt_eval_count"] == 4096
    answer = embed(client, ["a", LONG], truncate=False)
    assert (answer.status_code, answer.json()) == (400, {"error": "the input length exceeds the context length"})


def test_num_ctx_lowers_the_limit(client: httpx.Client):
    assert embed(client, LONG, options={"num_ctx": 100}).json()["prompt_eval_count"] == 100
    assert embed(client, LONG, options={"num_ctx": 9999}).json()["prompt_eval_count"] == 4096


@pytest.mark.parametrize(
    ("script", "status", "text"),
    [
        ("!nan", 400, "embedding contains NaN or Inf values"),
        ("!refuse:bad", 400, "bad"),
        ("!fail:broken", 500, "broken"),
    ],
)
def test_one_text_that_fails_fails_them_all(client: httpx.Client, script: str, status: int, text: str):
    answer = embed(client, ["a", script, "b"])
    assert (answer.status_code, answer.json()) == (status, {"error": text})


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings"])
def test_an_unknown_model_is_not_found_in_the_words_of_these_routes(client: httpx.Client, path: str):
    answer = client.post(path, json={"model": "N", "input": "x", "prompt": "x"})
    assert (answer.status_code, answer.json()) == (404, {"error": 'model "N" not found, try pulling it first'})


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/api/embed", {"input": "x"}, 404, "model '' not found"),
        ("/api/embed", {"input": 5}, 400, "invalid input type"),
        ("/api/embed", {"model": "N", "input": ["a", 1]}, 400, "invalid input type"),
        ("/api/embed", {"model": "a b", "input": "x"}, 400, "invalid model name"),
        ("/api/embeddings", {"prompt": "x"}, 400, "model is required"),
        ("/api/embeddings", {"model": "a b", "prompt": "x"}, 400, "invalid model name"),
    ],
)
def test_what_is_wrong_with_a_body(client: httpx.Client, path: str, body: dict[str, Any], status: int, text: str):
    answer = client.post(path, json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": text})


def test_the_older_route_answers_the_same_vector_with_more_digits(client: httpx.Client):
    answer = client.post("/api/embeddings", json={"model": "demo", "prompt": "a"})
    assert list(answer.json()) == ["embedding"]
    assert answer.json()["embedding"] == pytest.approx(vectors(client, "a")[0], rel=1e-7)
    assert len(answer.text) > len('{"embedding":[]}') + 8 * 15


def test_the_older_route_only_loads_without_a_prompt_and_cuts_nothing(client: httpx.Client):
    assert client.post("/api/embeddings", json={"model": "demo"}).text == '{"embedding":[]}'
    answer = client.post("/api/embeddings", json={"model": "demo", "prompt": LONG})
    assert (answer.status_code, answer.json()) == (400, {"error": "the input length exceeds the context length"})


def test_the_routes_take_posts_alone(client: httpx.Client):
    answer = client.get("/api/embed")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


def test_many_requests_at_once_each_get_their_own_vectors(client: httpx.Client):
    texts = [[f"text {number}", f"another {number}"] for number in range(50)]
    with ThreadPoolExecutor(25) as pool:
        together = list(pool.map(lambda pair: vectors(client, pair), texts))
    assert together == [vectors(client, pair) for pair in texts]


def test_a_client_that_leaves_ends_its_embedding(server: Server):
    server.wait_until_idle()
    with httpx.Client(base_url=server.url, timeout=1.5) as leaver, pytest.raises(httpx.ReadTimeout):
        embed(leaver, ["!sleep:60"])
    server.wait_until_idle()


def test_an_engine_that_dies_while_it_embeds_is_a_503(start_server: Callable[..., Server]):
    with httpx.Client(base_url=start_server().url, timeout=120) as client:
        answer = embed(client, ["a", "!crash"])
    assert (answer.status_code, answer.headers["Retry-After"].isdigit()) == (503, True)


def test_a_model_that_only_embeds_refuses_the_rest(start_server: Callable[..., Server]):
    with httpx.Client(base_url=start_server(POOLING).url, timeout=120) as client:
        assert client.post("/api/show", json={"model": "demo"}).json()["capabilities"] == ["embedding"]
        for fields in ({}, {"stream": False}, {"resumable": True}, {"background": True}):
            asked = (
                client.post("/api/chat", json=chat("a", **fields)),
                client.post("/api/generate", json=generate("a", **fields)),
            )
            loaded = (
                client.post("/api/chat", json={"model": "demo"}),
                client.post("/api/generate", json={"model": "demo"}),
            )
            for answers in (asked, loaded):
                assert [answer.status_code for answer in answers] == [400, 400]
                assert answers[0].json() == {"error": '"demo" does not support chat'}
                assert answers[1].json() == {"error": '"demo" does not support generate'}
        assert len(vectors(client, "a")[0]) == 8
