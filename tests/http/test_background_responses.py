"""Responses of OpenAI in the background: read from any event, cancelled, continued. Scripted engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from tests.support.resumed import SCRIPT, WORDS
from tests.support.servers import ROOT
from tests.support.several_models import Models

RESPONSE = {"model": "demo", "input": SCRIPT, "background": True}


def events(client: httpx.Client, answer: httpx.Response) -> list[dict[str, Any]]:
    frames = answer.read().decode().split("\n\n")
    return [json.loads(line[6:]) for frame in frames for line in frame.split("\n") if line.startswith("data: ")]


def test_a_response_in_the_background_is_read_from_any_event_on(client: httpx.Client):
    begun = client.post("/v1/responses", json=RESPONSE).json()
    assert begun["status"] in ("queued", "in_progress")
    path = f"/v1/responses/{begun['id']}"
    told: list[dict[str, Any]] = []
    while not told or told[-1]["type"] != "response.completed":
        after = told[-1]["sequence_number"] if told else -1
        with client.stream("GET", path, params={"stream": "true", "starting_after": after}) as answer:
            answer.iter_raw()
            rest = events(client, answer)
        told += rest[:7]
    deltas = [event["delta"] for event in told if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == f"{WORDS} "
    numbers = [event["sequence_number"] for event in told]
    assert numbers == sorted(set(numbers))
    response = client.get(path).json()
    assert (response["status"], response["background"], response["id"]) == ("completed", True, begun["id"])
    assert response == told[-1]["response"]
    follow_up = client.post("/v1/responses", json={"model": "demo", "input": "a", "previous_response_id": begun["id"]})
    assert follow_up.status_code == 200


def test_a_response_in_the_background_has_the_time_of_its_end(client: httpx.Client):
    begun = client.post("/v1/responses", json=RESPONSE | {"input": "a !sleep:2 b"}).json()
    with client.stream("GET", f"/v1/responses/{begun['id']}", params={"stream": "true"}) as answer:
        ended = events(client, answer)[-1]["response"]
    assert ended["completed_at"] > ended["created_at"] == begun["created_at"]
    assert client.get(f"/v1/responses/{begun['id']}").json() == ended


def test_a_response_in_the_background_can_be_streamed_at_once(client: httpx.Client):
    with client.stream("POST", "/v1/responses", json=RESPONSE | {"stream": True}) as answer:
        told = events(client, answer)
    assert told[0]["type"] == "response.created"
    assert told[-1]["type"] == "response.completed"


def test_a_response_in_the_background_is_cancelled(client: httpx.Client):
    begun = client.post("/v1/responses", json=RESPONSE | {"input": "!rate:5 !repeat:100:a"}).json()
    path = f"/v1/responses/{begun['id']}"
    assert [client.post(f"{path}/cancel").json()["status"] for _ in range(2)] == ["cancelled", "cancelled"]
    assert client.get(path).json()["status"] == "cancelled"
    assert client.delete(path).status_code == 200
    assert [client.get(path).status_code, client.delete(path).status_code] == [404, 404]
    unknown = f"/v1/responses/resp_{'0' * 24}"
    assert client.post(f"{unknown}/cancel").status_code == client.get(f"{unknown}?stream=true").status_code == 404
    assert client.get(path, params={"stream": "true", "starting_after": "x"}).status_code == 400


def test_a_response_in_the_background_is_deleted_while_it_runs_and_when_it_is_kept(client: httpx.Client):
    endless = RESPONSE | {"input": "!rate:5 !repeat:100:a"}
    running = client.post("/v1/responses", json=endless).json()["id"]
    whole = client.post("/v1/responses", json=RESPONSE | {"input": "a", "stream": True})
    ended = events(client, whole)[-1]["response"]["id"]
    for response in (running, ended):
        path = f"/v1/responses/{response}"
        assert client.delete(path).json() == {"id": response, "object": "response", "deleted": True}
        assert [client.get(path, params={"stream": stream}).status_code for stream in ("false", "true")] == [404, 404]
        assert client.delete(path).status_code == 404


def test_what_a_response_answers_is_listed_while_it_runs(client: httpx.Client):
    begun = client.post("/v1/responses", json=RESPONSE | {"input": "!rate:5 !repeat:100:a"}).json()["id"]
    path = f"/v1/responses/{begun}"
    items = client.get(f"{path}/input_items").json()["data"]
    assert [item["content"][0]["text"] for item in items] == ["!rate:5 !repeat:100:a"]
    assert client.get(path).json()["status"] in ("queued", "in_progress")
    assert client.delete(path).status_code == 200
    assert client.get(f"{path}/input_items").status_code == 404


def test_a_response_begins_while_its_model_is_loaded(tmp_path: Path):
    source = f'source = "{ROOT}/models/demo"'
    models = Models(tmp_path, f"[models.slow]\n{source}\nengine_args = {{ load_seconds = 4 }}\n")
    asked = {"model": "slow", "input": "a b", "background": True}
    try:
        begun = models.client.post("/v1/responses", json=asked).json()
        assert (begun["status"], models.loaded()) == ("queued", [])
        with models.client.stream("POST", "/v1/responses", json=asked | {"stream": True}) as answer:
            lines = answer.iter_lines()
            assert (next(lines), models.loaded()) == ("event: response.created", [])
            told = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
        numbers = [event["sequence_number"] for event in told]
        assert (numbers, told[-1]["type"]) == (sorted(set(numbers)), "response.completed")
        assert models.client.get(f"/v1/responses/{begun['id']}").json()["status"] == "completed"
    finally:
        models.stop()
