"""Embeddings from vLLM, through gunicorn, gevent, Flask and the queue: the demo model as a pooling model."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from ollama import Client, ResponseError

from tests.support.asking import Asker, user
from tests.support.metrics import samples, total
from tests.support.servers import Server
from tests.support.waiting import VLLM_SECONDS, until

pytestmark = pytest.mark.engine

CONTEXT = 2048
POOLING = {"VLLM_WSGI_ENGINE_ARGS": json.dumps({"runner": "pooling", "convert": "embed", "max_model_len": CONTEXT})}
TEXTS = ["What is vllm-wsgi?", "What is the capital of France?", "", "Why is the sky blue? " * 20, "é 中文 🎉"]
LONG = "word " * 5000


@pytest.fixture(scope="module")
def pooling_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server.start(tmp_path_factory.mktemp("pooling"), env=POOLING, ready_seconds=VLLM_SECONDS)
    yield server
    server.stop(60)


@pytest.fixture(scope="module")
def embedder(pooling_server: Server) -> Iterator[Asker]:
    asker = Asker(pooling_server.url)
    yield asker
    asker.close()


@pytest.fixture(scope="module")
def official(pooling_server: Server) -> Iterator[Client]:
    client = Client(host=pooling_server.url)
    yield client
    client._client.close()


def embed(embedder: Asker, value: Any, **fields: Any) -> dict[str, Any]:
    response = embedder.post("/api/embed", input=value, **fields)
    assert response.status_code == 200, response.text
    record: dict[str, Any] = response.json()
    return record


def test_every_vector_has_length_one_and_the_models_width(embedder: Asker) -> None:
    vectors = embed(embedder, TEXTS)["embeddings"]
    assert [len(vector) for vector in vectors] == [192] * len(TEXTS)
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1] * len(TEXTS), abs=1e-5)


def test_a_batch_gives_what_its_texts_give_alone_in_their_order(embedder: Asker) -> None:
    batch = embed(embedder, TEXTS)["embeddings"]
    alone = [embed(embedder, [text])["embeddings"][0] for text in TEXTS]
    for together, single in zip(batch, alone, strict=True):
        assert together == pytest.approx(single, abs=5e-3)
    assert len({tuple(vector) for vector in batch}) == len(TEXTS)


def test_more_texts_than_go_to_vllm_at_once_keep_their_order(embedder: Asker) -> None:
    texts = [f"What is {number}?" for number in range(600)]
    batch = embed(embedder, texts)["embeddings"]
    some = [0, 255, 256, 599]
    alone = embed(embedder, [texts[number] for number in some])["embeddings"]
    for number, single in zip(some, alone, strict=True):
        assert batch[number] == pytest.approx(single, abs=5e-3)


@pytest.mark.parametrize(("dimensions", "length"), [(1, 1), (64, 64), (192, 192), (1000, 192), (-1, 192), (0, 192)])
def test_dimensions_cut_the_vector_and_it_has_length_one_again(embedder: Asker, dimensions: int, length: int) -> None:
    (whole,) = embed(embedder, "a")["embeddings"]
    (vector,) = embed(embedder, "a", dimensions=dimensions)["embeddings"]
    norm = math.hypot(*whole[:length])
    assert vector == pytest.approx([number / norm for number in whole[:length]], abs=5e-3)
    assert len(vector) == length


def test_the_tokens_of_all_texts_are_counted(embedder: Asker) -> None:
    counts = [embed(embedder, [text])["prompt_eval_count"] for text in TEXTS]
    record = embed(embedder, TEXTS)
    assert (record["prompt_eval_count"], counts[2]) == (sum(counts), 1)
    assert 0 < record["load_duration"] < record["total_duration"]


def test_a_text_that_is_too_long_is_cut_at_its_end(embedder: Asker) -> None:
    record = embed(embedder, [LONG, LONG + "more", "a"])
    assert record["embeddings"][0] == pytest.approx(record["embeddings"][1], abs=5e-3)
    assert record["prompt_eval_count"] == 2 * CONTEXT + 1
    assert embed(embedder, LONG, options={"num_ctx": 64})["prompt_eval_count"] == 64


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/embed", {"input": ["a", LONG], "truncate": False}),
        ("/api/embed", {"input": "word " * 100, "truncate": False, "options": {"num_ctx": 64}}),
        ("/api/embeddings", {"prompt": LONG}),
    ],
)
def test_a_text_that_is_too_long_and_must_not_be_cut_is_refused(
    embedder: Asker, path: str, body: dict[str, Any]
) -> None:
    response = embedder.post(path, **body)
    assert (response.status_code, response.json()) == (400, {"error": "the input length exceeds the context length"})


def test_the_older_route_gives_the_same_vector(embedder: Asker) -> None:
    (vector,) = embed(embedder, "a")["embeddings"]
    assert embedder.post("/api/embeddings", prompt="a").json() == {"embedding": pytest.approx(vector, abs=5e-3)}


def test_the_model_says_that_it_embeds_and_refuses_the_rest(embedder: Asker) -> None:
    shown = embedder.post("/api/show").json()
    assert shown["capabilities"] == ["embedding"]
    assert shown["model_info"]["qwen2.embedding_length"] == 192
    chat = embedder.post("/api/chat", messages=user("a"))
    assert (chat.status_code, chat.json()) == (400, {"error": '"demo" does not support chat'})
    generate = embedder.post("/api/generate", prompt="a")
    assert (generate.status_code, generate.json()) == (400, {"error": '"demo" does not support generate'})


def test_a_model_that_generates_does_not_embed(demo: Asker) -> None:
    for response in (demo.post("/api/embed", input=["a", "b"]), demo.post("/api/embeddings", prompt="a")):
        assert (response.status_code, response.json()) == (501, {"error": '"demo" does not support embeddings'})
    assert demo.post("/api/embed", input=[]).json() == {"model": "demo", "embeddings": []}


def test_the_official_client_embeds(official: Client) -> None:
    answer = official.embed("demo", TEXTS[:2], dimensions=8)
    assert [len(vector) for vector in answer.embeddings] == [8, 8]
    assert answer.prompt_eval_count
    older = official.embeddings("demo", TEXTS[0]).embedding
    assert older == pytest.approx(official.embed("demo", TEXTS[0]).embeddings[0], abs=5e-3)


def test_the_official_client_reads_our_errors(official: Client) -> None:
    with pytest.raises(ResponseError, match="try pulling it first") as unknown:
        official.embed("unknown", "a")
    with pytest.raises(ResponseError, match="exceeds the context length") as long:
        official.embed("demo", LONG, truncate=False)
    assert (unknown.value.status_code, long.value.status_code) == (404, 400)


def test_a_client_that_leaves_ends_its_embeddings_in_vllm(pooling_server: Server, embedder: Asker) -> None:
    # As many as vLLM has of one request at a time.
    texts = [f"{number} {LONG}" for number in range(256)]
    before = finished(pooling_server)
    with pooling_server.connect() as connection:
        body = json.dumps({"model": "demo", "input": texts}).encode()
        connection.sendall(
            b"POST /api/embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        until(lambda: pooling_server.status().get("waiting"), 120, "the engine has them")
    pooling_server.wait_until_idle(120)
    # When this text is counted, all before it are.
    embed(embedder, "a")
    assert finished(pooling_server) - before < len(texts)


def finished(server: Server) -> float:
    """Return how many requests vLLM has finished. It does not count those that were aborted."""
    return total(samples(server), "vllm:request_success_total")
