"""Responses that are stored and gone on from, over real HTTP, on a scripted engine and with keys."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse

from service.access.new_key import lines
from service.access.scopes import SCOPES
from tests.support.servers import SCRIPTED, Server
from tests.support.waiting import until

PATH = "/v1/responses"
UNKNOWN = "resp_" + "0" * 24


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("keyed")
    keys = directory / "keys.toml"
    keys.write_text("".join(lines(name, name, SCOPES) for name in ("alice", "bob")))
    env = {"VLLM_WSGI_KEYS": str(keys), "VLLM_WSGI_MAX_BODY": "100000"}
    server = Server(directory, {**SCRIPTED, **env})
    server.headers = bearer("alice")
    server.wait_until_ready()
    yield server
    server.stop()


@pytest.fixture
def http(keyed: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=keyed.url, headers=bearer("alice"), timeout=120) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def folder(keyed: Server) -> Path:
    return keyed.directory / "store" / "responses"


def asked(said: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "demo", "input": said, **fields}


def respond(http: httpx.Client, said: Any, **fields: Any) -> dict[str, Any]:
    answer = http.post(PATH, json=asked(said, **fields))
    assert answer.status_code == 200, answer.text
    record: dict[str, Any] = answer.json()
    return record


def stream(http: httpx.Client, said: Any, **fields: Any) -> list[dict[str, Any]]:
    with connect_sse(http, "POST", PATH, json=asked(said, stream=True, **fields)) as source:
        return [event.json() for event in source.iter_sse()]


def text(response: dict[str, Any]) -> str:
    return "".join(part["text"] for item in response["output"] for part in item.get("content", []))


def first(http: httpx.Client) -> dict[str, Any]:
    said = [{"role": "developer", "content": "Rhyme."}, {"role": "user", "content": "a"}]
    return respond(http, said, instructions="Shout.", store=True)


def test_a_later_request_goes_on_with_what_was_said_but_without_the_instructions(http: httpx.Client):
    second = respond(http, "!system b", previous_response_id=first(http)["id"], store=True)
    assert text(second) == "Rhyme. b "
    third = respond(http, [{"role": "user", "content": "!system c"}], previous_response_id=second["id"])
    assert text(third) == "Rhyme. c "
    assert (third["previous_response_id"], third["store"]) == (second["id"], False)


def test_a_stream_is_stored_before_its_last_record(http: httpx.Client):
    *_, last = stream(http, [{"role": "developer", "content": "Rhyme."}, {"role": "user", "content": "a"}], store=True)
    assert last["type"] == "response.completed"
    assert http.get(f"{PATH}/{last['response']['id']}").json() == last["response"]
    *_, last = stream(http, "!system b", previous_response_id=last["response"]["id"])
    assert text(last["response"]) == "Rhyme. b "


def test_a_stored_response_is_there_after_a_restart_of_the_host(keyed: Server, http: httpx.Client):
    stored = first(http)
    (host,) = keyed.engine_hosts()
    os.kill(host, signal.SIGKILL)
    until(lambda: keyed.engine_hosts() not in ([host], []) and keyed.models(), 120, "another host serves")
    assert text(respond(http, "!system b", previous_response_id=stored["id"])) == "Rhyme. b "
    assert http.get(f"{PATH}/{stored['id']}").json() == stored


@pytest.mark.parametrize("fields", [{}, {"store": False}, {"store": None}])
def test_what_is_not_asked_to_be_stored_is_not(keyed: Server, http: httpx.Client, fields: dict[str, Any]):
    before = sorted(folder(keyed).glob("*"))
    response = respond(http, "a", **fields)
    assert (response["store"], http.get(f"{PATH}/{response['id']}").status_code) == (False, 404)
    assert sorted(folder(keyed).glob("*")) == before


def test_a_failed_response_is_not_stored(keyed: Server, http: httpx.Client):
    before = sorted(folder(keyed).glob("*"))
    assert stream(http, "a !sleep:0.1 !fail:oh", store=True)[-1]["type"] == "response.failed"
    assert sorted(folder(keyed).glob("*")) == before


@pytest.mark.parametrize("id", [UNKNOWN, "resp_1", "../../manifests", "é"])
def test_an_unknown_response_can_not_be_gone_on_from(http: httpx.Client, id: str):
    for stream in (False, True):
        answer = http.post(PATH, json=asked("a", previous_response_id=id, stream=stream))
        assert (answer.status_code, answer.json()["error"]) == (
            400,
            {
                "message": f"Previous response with id '{id}' not found.",
                "type": "invalid_request_error",
                "param": "previous_response_id",
                "code": "previous_response_not_found",
            },
        )


@pytest.mark.parametrize(("method", "below"), [("GET", ""), ("DELETE", ""), ("GET", "/input_items")])
def test_what_is_not_there_and_what_is_somebody_elses_look_the_same(http: httpx.Client, method: str, below: str):
    mine = first(http)["id"]
    for name, key in ((UNKNOWN, "alice"), (mine, "bob"), ("..", "alice")):
        answer = http.request(method, f"{PATH}/{name.replace('.', '%2E')}{below}", headers=bearer(key))
        assert answer.status_code == 404
        if name != "..":
            assert answer.json()["error"]["message"] == f"Response with id '{name}' not found."
    assert http.get(f"{PATH}/{mine}").status_code == 200
    assert http.post(PATH, json=asked("a", previous_response_id=mine), headers=bearer("bob")).status_code == 400


@pytest.mark.parametrize(
    "stored",
    ["", "[" * 100_000, "5", "{}", '{"input": 5, "response": {}}', '{"input": [{}], "response": {"output": []}}'],
)
def test_a_damaged_response_is_not_there(keyed: Server, http: httpx.Client, stored: str):
    name = first(http)["id"]
    (folder(keyed) / f"{name}.json").write_text(f'{{"owner": "alice", "stored": {stored}}}')
    assert [http.get(f"{PATH}/{name}{below}").status_code for below in ("", "/input_items")] == [404, 404]
    assert http.post(PATH, json=asked("a", previous_response_id=name)).status_code == 400
    (folder(keyed) / f"{name}.json").unlink()


def test_a_deleted_response_is_gone(http: httpx.Client):
    mine = first(http)["id"]
    answer = http.delete(f"{PATH}/{mine}")
    assert (answer.status_code, answer.json()) == (200, {"id": mine, "object": "response", "deleted": True})
    assert [http.get(f"{PATH}/{mine}").status_code, http.delete(f"{PATH}/{mine}").status_code] == [404, 404]


@pytest.mark.parametrize("query", ["stream=true", "stream=True", "stream=1&starting_after=3"])
def test_a_response_that_was_not_in_the_background_can_not_be_streamed(http: httpx.Client, query: str):
    answer = http.get(f"{PATH}/{first(http)['id']}?{query}")
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        {
            "message": "This response cannot be streamed because it was not created with background=true.",
            "type": "invalid_request_error",
            "param": "stream",
            "code": "invalid_request_error",
        },
    )


def test_a_response_that_was_not_in_the_background_can_not_be_cancelled(http: httpx.Client):
    answer = http.post(f"{PATH}/{first(http)['id']}/cancel")
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "Cannot cancel a synchronous response.")


def test_the_items_before_an_output_are_listed(http: httpx.Client):
    second = respond(http, "b", previous_response_id=first(http)["id"], store=True)
    page = http.get(f"{PATH}/{second['id']}/input_items", params={"order": "asc"}).json()
    said = [(item["role"], item["content"][0]["text"]) for item in page["data"]]
    assert said == [("developer", "Rhyme."), ("user", "a"), ("assistant", "a "), ("user", "b")]
    assert http.get(f"{PATH}/{second['id']}/input_items", params={"limit": "x"}).status_code == 400


def test_other_methods_are_told_which_there_are(http: httpx.Client):
    answer = http.post(f"{PATH}/{UNKNOWN}")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, DELETE")
    assert http.post(f"{PATH}/{UNKNOWN}/input_items").headers["Allow"] == "GET"
    assert http.post(f"{PATH}/{UNKNOWN}/cancel").status_code == 404


def test_a_conversation_that_is_too_long_is_not_stored(http: httpx.Client):
    said = [{"role": "developer", "content": "a" * 60_000}, {"role": "user", "content": "a"}]
    long = respond(http, said, store=True)
    *_, last = stream(http, said, previous_response_id=long["id"], store=True)
    assert last["type"] == "response.failed"
    assert "longer than 100000 bytes" in last["response"]["error"]["message"]


def test_a_store_that_cannot_be_written_is_told(keyed: Server, http: httpx.Client):
    stored = first(http)
    shutil.rmtree(folder(keyed))
    folder(keyed).touch()
    try:
        answer = http.post(PATH, json=asked("a", store=True))
        assert (answer.status_code, answer.json()["error"]["type"]) == (507, "api_error")
        *before, last = stream(http, "a", store=True)
        assert (last["type"], last["response"]["error"]["code"]) == ("response.failed", "server_error")
        assert [record["sequence_number"] for record in [*before, last]] == list(range(len(before) + 1))
        assert http.get(f"{PATH}/{stored['id']}").status_code == 507
        assert text(respond(http, "a")) == "a "
    finally:
        folder(keyed).unlink()


def test_an_item_of_a_stored_response_can_be_referred_to(http: httpx.Client):
    """As the AI SDK's OpenAI provider does from its second step on."""
    before = first(http)
    (item,) = before["output"]
    said = [{"role": "user", "content": "a"}, {"type": "item_reference", "id": item["id"]}]
    after = respond(http, [*said, {"role": "user", "content": "b"}], store=True)
    assert text(after) == "b "
    listed = http.get(f"{PATH}/{after['id']}/input_items", params={"order": "asc"}).json()["data"]
    assert listed[1] == item


def test_an_item_of_another_keys_response_can_not_be_referred_to(http: httpx.Client):
    (item,) = first(http)["output"]
    said = [{"role": "user", "content": "a"}, {"type": "item_reference", "id": item["id"]}]
    refused = http.post(PATH, json=asked(said), headers=bearer("bob"))
    assert refused.status_code == 400
    assert 'is not stored here: send "store": true' in refused.json()["error"]["message"]


def test_a_request_reads_no_more_of_what_is_stored_than_a_body_may_hold(http: httpx.Client):
    """A hundred references could have the server read a hundred times as much."""
    last = {"role": "user", "content": "a"}
    long = [[{"role": "user", "content": str(place) * 60_000}, last] for place in range(2)]
    items = [respond(http, said, store=True)["output"][0]["id"] for said in long]
    one, both = ([*({"type": "item_reference", "id": each} for each in some), last] for some in (items[:1], items))
    assert respond(http, one)["status"] == "completed"
    refused = http.post(PATH, json=asked(both))
    assert refused.status_code == 400
    assert "continues or refers to hold more than 100000 bytes" in refused.json()["error"]["message"]


def test_a_conversation_has_no_more_values_with_the_request_than_a_body_may_have(http: httpx.Client):
    """Each request has few enough, and what is stored would grow with each of them."""
    rows = {"type": "function_call_output", "call_id": "a", "output": [{}] * 25_000}
    first = respond(http, [rows, {"role": "user", "content": "a"}], store=True)["id"]
    refused = http.post(PATH, json=asked([rows], previous_response_id=first))
    assert refused.status_code == 400
    message = "are too long: together, the body has too many values: more than 40000 objects"
    assert message in refused.json()["error"]["message"]
    assert respond(http, "a", previous_response_id=first)["status"] == "completed"
