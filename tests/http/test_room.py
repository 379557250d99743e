"""Room for several models over real HTTP, on scripted engines: what is evicted, what waits, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.answers import NDJSON, chat, parse, terminal
from tests.support.several_models import Models, only_pinned, streaming

BUSY = "server busy, please try again.  maximum pending requests exceeded"

LIMITED = """
[models.pinned]
source = "weights"
engine_args = { of = "pinned" }
pinned = true
memory = 10

[models.a]
source = "weights"
engine_args = { of = "a" }
memory = 10

[models.b]
source = "weights"
engine_args = { of = "b" }
memory = 10

[models.c]
source = "weights"
memory = 20
engine_args = { of = "c", load_seconds = 0.3 }

[models.huge]
source = "weights"
engine_args = { of = "huge" }
memory = 21
"""


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    """A server with room for a pinned model and two small ones, or one large."""
    models = Models(tmp_path_factory.mktemp("limited"), LIMITED, max_memory="30", max_loaded="3")
    yield models
    models.stop()


@pytest.fixture
def crowded(limited: Models) -> Models:
    return only_pinned(limited)


def test_a_third_model_evicts_the_one_that_was_idle_for_longest(crowded: Models):
    for model in ("a", "b", "a"):
        assert crowded.ask(model).status_code == 200
    assert crowded.ask("c").status_code == 200
    assert sorted(crowded.loaded()) == ["c", "pinned"]
    assert crowded.ask("a").status_code == 200
    assert sorted(crowded.loaded()) == ["a", "pinned"]


def test_only_as_many_are_evicted_as_are_in_the_way(crowded: Models):
    crowded.load("a")
    crowded.load("b")
    assert sorted(crowded.loaded()) == ["a", "b", "pinned"]


def test_a_busy_model_is_never_evicted(crowded: Models, pool: ThreadPoolExecutor):
    crowded.load("b")
    with streaming(crowded, "a", "!sleep:1 a") as read_on:
        waiting = pool.submit(crowded.ask, "c")
        assert read_on() == "a "
    assert waiting.result().status_code == 200
    assert sorted(crowded.loaded()) == ["c", "pinned"]


def test_a_waiting_stream_beats_until_there_is_room(tmp_path: Path):
    models = Models(tmp_path, LIMITED, max_loaded="2", heartbeat="0.1")
    try:
        with ExitStack() as stack:
            stack.enter_context(streaming(models, "a", "!sleep:60"))
            waiting = models.client.stream("POST", "/api/chat", json=chat("b", model="b"))
            with waiting as answer:
                pieces = answer.iter_raw()
                beats = next(pieces)
                stack.close()
                content = b"".join(pieces)
        assert set(beats) == set(b" ")
        assert [terminal(record) for record in parse(content, NDJSON)] == [False, True]
    finally:
        models.stop()


def test_a_load_that_finds_no_room_in_time_is_refused(tmp_path: Path):
    models = Models(tmp_path, LIMITED, max_loaded="2", load_timeout="8")
    try:
        with streaming(models, "a", "!sleep:60"):
            answer = models.ask("b")
        assert (answer.status_code, answer.json()) == (503, {"error": BUSY})
        assert int(answer.headers["Retry-After"]) > 0
    finally:
        models.stop()


def test_a_model_that_will_never_fit_is_refused_at_once_and_evicts_nobody(crowded: Models):
    crowded.load("a")
    answer = crowded.ask("huge")
    assert (answer.status_code, "does not fit" in answer.json()["error"]) == (503, True)
    assert sorted(crowded.loaded()) == ["a", "pinned"]


def test_more_models_than_fit_take_turns(crowded: Models, pool: ThreadPoolExecutor):
    futures = [pool.submit(crowded.ask, model, "!sleep:0.1 x") for model in ["a", "b", "c"] * 3]
    assert [future.result().status_code for future in futures] == [200] * 9
