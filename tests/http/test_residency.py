"""Several models side by side over real HTTP, on scripted engines: loaded, kept, unloaded."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.answers import NDJSON, chat, generate, parse, text
from tests.support.servers import ROOT, SCRIPTED, clean_environment, free_port
from tests.support.several_models import Models, only_pinned, streaming
from tests.support.waiting import until

# Without arguments of its own each would share the engine of the first, which has the same weights.
MODELS = """
[models.pinned]
source = "weights"
engine_args = { of = "pinned" }
pinned = true

[models.one]
source = "weights"
engine_args = { of = "one" }

[models."team/one"]
source = "weights"
engine_args = { of = "team/one" }

[models.slow]
source = "weights"
engine_args = { of = "slow", load_seconds = 1.0 }

[models.brief]
source = "weights"
engine_args = { of = "brief" }
keep_alive = "200ms"

[models.styled]
source = "weights"
engine_args = { of = "styled" }
system = "Be brief."
template = "chat.jinja"
options = { num_predict = 3, temperature = 0.5 }

[models."hf.co/org/repo"]
engine_args = { of = "hf.co/org/repo", fail = "no such repository" }
"""


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    """A server without limits whose streams beat ten times a second."""
    models = Models(tmp_path_factory.mktemp("roomy"), MODELS, heartbeat="0.1")
    yield models
    models.stop()


@pytest.fixture
def models(roomy: Models) -> Models:
    """Nothing but the pinned model is loaded."""
    return only_pinned(roomy)


# --- names and what is said of them ----------------------------------------------------------------------


def test_models_answer_at_once_each_under_its_own_name(models: Models, pool: ThreadPoolExecutor):
    names = ["one", "TEAM/one:latest", "pinned"]
    futures = [pool.submit(models.ask, name, f"!rate:20 {name} c d e f") for name in names]
    answers = [future.result().json() for future in futures]
    assert [answer["model"] for answer in answers] == names
    assert [answer["message"]["content"].split()[0] for answer in answers] == names
    assert sorted(models.loaded()) == ["one", "pinned", "team/one"]


def test_tags_lists_every_model_loaded_or_not(models: Models):
    entries = models.client.get("/api/tags").json()["models"]
    assert {entry["name"] for entry in entries} == {
        "pinned:latest", "one:latest", "team/one:latest", "slow:latest", "brief:latest", "styled:latest",
        "hf.co/org/repo:latest",
    }  # fmt: skip
    times = [entry["modified_at"] for entry in entries]
    assert times == sorted(times, reverse=True)


def test_a_model_that_is_not_declared_is_not_found(models: Models):
    answer = models.ask("demo")
    assert (answer.status_code, answer.json()) == (404, {"error": "model 'demo' not found"})


def test_show_tells_system_parameters_and_template(models: Models):
    shown = models.client.post("/api/show", json={"model": "styled"}).json()
    assert (shown["system"], shown["template"]) == ("Be brief.", "{{ messages }}")
    assert shown["parameters"].split("\n") == [f"{'num_predict':<30} 3", f"{'temperature':<30} 0.5"]
    assert 'SYSTEM """Be brief."""' in shown["modelfile"]


def test_a_request_gets_the_models_system_message_and_options(models: Models):
    answer = models.ask("styled", "!system b c d e").json()
    assert answer["message"]["content"] == "Be brief. b c "
    assert answer["done_reason"] == "length"
    own = models.client.post("/api/generate", json=generate("!system", model="styled", system="Own.", stream=False))
    assert own.json()["response"] == "Own. "


# --- loading ---------------------------------------------------------------------------------------------


def test_only_pinned_models_are_loaded_at_the_start(tmp_path: Path):
    models = Models(tmp_path, MODELS)
    try:
        models.wait_until_loaded("pinned")
        assert len(models.server.engine_workers()) == 1
        until(lambda: "pinned answers. Try it" in models.server.output, 120, "the server says so")
    finally:
        models.stop()


@pytest.mark.parametrize(("accept", "beat"), [(NDJSON, b" "), ("text/event-stream", b": heartbeat\n\n")])
def test_a_cold_models_stream_is_kept_alive_by_heartbeats(models: Models, accept: str, beat: bytes):
    body = chat("a b", model="slow")
    content = models.client.post("/api/chat", json=body, headers={"Accept": accept}).content
    assert content.startswith(beat)
    records = parse(content.replace(beat, b"") if accept != NDJSON else content, accept)
    assert (text(records), records[-1]["done"]) == ("a b ", True)
    assert records[-1]["load_duration"] > 0.9e9


def test_a_warm_model_is_not_loaded_again(models: Models):
    models.load("one")
    loads = models.loads("one")
    assert models.ask("one").status_code == 200
    assert models.loads("one") == loads


def test_requests_for_one_cold_model_load_it_once(models: Models, pool: ThreadPoolExecutor):
    before = models.loads("slow")
    answers = [future.result() for future in [pool.submit(models.ask, "slow") for _ in range(8)]]
    assert [answer.status_code for answer in answers] == [200] * 8
    assert models.loads("slow") == before + 1


def test_a_client_that_leaves_during_a_load_leaves_a_model_that_can_be_asked(models: Models):
    before = models.loads("slow")
    with pytest.raises(httpx.ReadTimeout):
        models.client.post("/api/chat", json=chat("a", model="slow", stream=False), timeout=0.3)
    assert models.ask("slow").status_code == 200
    assert models.loads("slow") == before + 1


def test_a_load_that_fails_says_why_and_is_not_tried_for_every_request(models: Models):
    answers = [models.ask("hf.co/org/repo") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["error"] for answer in answers} == {
        "the model can't be loaded: RuntimeError: no such repository"
    }
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    assert models.loads("hf.co/org/repo") <= 2


def test_a_model_that_does_not_load_is_given_up_until_it_is_asked_for(models: Models):
    models.ask("hf.co/org/repo")
    until(lambda: "not tried again before" in models.server.output, 120, "it is given up")
    tried = models.loads("hf.co/org/repo")
    assert "can't be loaded" in models.ask("hf.co/org/repo").json()["error"]
    assert (models.loads("hf.co/org/repo"), tried >= 3) == (tried, True)
    assert models.loaded() == ["pinned"]


# --- keep_alive ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_alive", [0, "0s", 0.2, "200ms"])
def test_a_model_is_unloaded_when_its_keep_alive_is_over(models: Models, keep_alive: Any):
    answer = models.ask("one", keep_alive=keep_alive)
    assert (answer.status_code, answer.json()["done_reason"]) == (200, "stop")
    models.wait_until_loaded("pinned")


def test_a_models_own_keep_alive_counts_where_a_request_has_none(models: Models):
    assert models.ask("brief").status_code == 200
    models.wait_until_loaded("pinned")
    models.load("brief", keep_alive="1h")
    models.ask("brief")
    time.sleep(0.5)
    assert "brief" in models.loaded()


def test_keep_alive_0_waits_for_the_other_requests_of_the_model(models: Models):
    with streaming(models, "one", "!sleep:0.5 a") as read_on:
        assert models.ask("one", "b", keep_alive=0).status_code == 200
        assert read_on() == "a "
    models.wait_until_loaded("pinned")


def test_a_long_answer_outlives_its_keep_alive(models: Models):
    answer = models.ask("one", "!sleep:1 a", keep_alive="100ms")
    assert answer.json()["message"]["content"] == "a "
    models.wait_until_loaded("pinned")


@pytest.mark.parametrize("keep_alive", [0, "100ms"])
def test_a_pinned_model_is_not_unloaded_by_time(models: Models, keep_alive: Any):
    models.ask("pinned", keep_alive=keep_alive)
    time.sleep(0.5)
    assert models.loaded() == ["pinned"]


def test_a_pinned_model_is_unloaded_where_a_client_says_so(models: Models):
    models.unload("pinned")
    assert models.loaded() == []


def test_ps_tells_until_when_a_model_stays_the_longest_first(models: Models):
    for model, keep_alive in [("team/one", 60), ("one", "1h"), ("styled", -1)]:
        models.load(model, keep_alive=keep_alive)
    entries = {entry["name"]: entry for entry in models.client.get("/api/ps").json()["models"]}
    assert list(entries)[2:] == ["one:latest", "team/one:latest"]
    assert entries["pinned:latest"]["expires_at"] == entries["styled:latest"]["expires_at"] == "2318-11-22T00:00:00Z"
    left = datetime.fromisoformat(entries["one:latest"]["expires_at"]) - datetime.now(UTC)
    assert 3000 < left.total_seconds() <= 3600


def test_many_requests_that_unload_behind_them_are_all_answered(models: Models, pool: ThreadPoolExecutor):
    """Each is told where the model is, or finds it loaded again; none finds it gone."""
    answers = [future.result() for future in [pool.submit(models.ask, "one", keep_alive=0) for _ in range(40)]]
    assert [answer.status_code for answer in answers] == [200] * 40
    models.wait_until_loaded("pinned")


# --- the start -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [["gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"], ["service.engine.host"]])
def test_a_mistake_in_the_file_ends_the_start_with_its_line(tmp_path: Path, module: list[str]):
    path = tmp_path / "models.toml"
    path.write_text('[models.a]\nsource = "o/a"\nkeepalive = "5m"\n')
    env = {**SCRIPTED, "VLLM_WSGI_MODELS": str(path), "PORT": str(free_port())}
    if module[0] != "gunicorn":
        env["VLLM_WSGI_ENGINE_SOCKET"] = str(tmp_path / "engine.sock")
    command = [sys.executable, "-m", *module]
    ran = subprocess.run(
        command, cwd=ROOT, env=clean_environment(env), capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode != 0
    assert f'{path}, line 3: models."a".keepalive: is unknown; known are source, ' in ran.stderr


def test_without_a_pinned_model_the_server_says_which_can_be_asked(tmp_path: Path):
    models = Models(tmp_path, '[models.only]\nsource = "weights"')
    try:
        until(lambda: "only answers. Try it" in models.server.output, 120, "the server says so")
        assert (models.loaded(), json.loads(models.ask("only").content)["done"]) == ([], True)
    finally:
        models.stop()
