"""Streams that outlive their connection: read again, from any place. Scripted engine."""

from __future__ import annotations

import json
from typing import Any

import httpx
import httpx_sse
import pytest

from tests.support.answers import NDJSON, SSE, chat, text
from tests.support.resumed import POSTS, SCRIPT, WORDS, Pieces, post, resume

FORMATS = pytest.mark.parametrize("accept", [NDJSON, SSE])
ROUTES = pytest.mark.parametrize("path", POSTS)


@ROUTES
@FORMATS
def test_a_stream_that_is_cut_again_and_again_is_whole(client: httpx.Client, path: str, accept: str):
    whole, _ = post(client, path, accept=accept)
    assert whole.ended
    pieces, url = post(client, path, 500, accept)
    while not pieces.ended:
        resume(client, url, pieces, 1777, accept)
    assert pieces.said() == whole.said()


@ROUTES
def test_each_request_is_answered_as_always_without_the_field(client: httpx.Client, path: str):
    answer = client.post(path, json=POSTS[path])
    assert "Content-Location" not in answer.headers
    assert "cursor" not in answer.text
    assert "\nid: " not in answer.text


def test_a_reader_may_change_the_format_and_name_its_place_in_the_query(client: httpx.Client):
    pieces, url = post(client, "/api/chat", 700)
    events = client.get(url, params={"after": pieces.cursor, "alt": "sse"})
    assert events.headers["Content-Type"] == SSE
    assert events.text.startswith("retry: ")
    pieces.take(events.content, SSE)
    whole = client.get(url, headers={"Accept": NDJSON})
    assert pieces.said()[0] == text([json.loads(line) for line in whole.text.splitlines()])


def test_any_number_of_readers_get_all_of_it(client: httpx.Client):
    _, url = post(client, "/api/chat", 500)
    with client.stream("GET", url) as first, client.stream("GET", url) as second:
        one, other = Pieces(), Pieces()
        one.read(first, 10**9)
        other.read(second, 10**9)
    assert one.said() == other.said() == (f"{WORDS} ", 1)


def test_a_client_that_has_everything_gets_a_204(client: httpx.Client):
    pieces, url = post(client, "/v1/chat/completions")
    assert client.get(url, headers={"Last-Event-ID": pieces.cursor, "Accept": SSE}).status_code == 204
    assert client.get(url, params={"after": pieces.cursor}).status_code == 204


def test_a_post_with_the_last_events_id_is_the_rest(client: httpx.Client):
    pieces, _ = post(client, "/api/chat", 700, SSE)
    body = POSTS["/api/chat"] | {"resumable": True}
    answer = client.post("/api/chat", json=body, headers={"Accept": SSE, "Last-Event-ID": pieces.cursor})
    pieces.take(answer.content, SSE)
    assert pieces.said() == (f"{WORDS} ", 1)


def test_httpx_sse_goes_on_where_it_was(client: httpx.Client):
    """As its documentation has it: with the id of the last event and the time to wait."""
    records, last = [], ""
    with httpx_sse.connect_sse(client, "POST", "/api/chat?alt=sse", json=chat(SCRIPT, resumable=True)) as source:
        url = source.response.headers["Content-Location"]
        for event in source.iter_sse():
            records.append(event.json())
            last = event.id
            if len(records) == 5:
                break
    with httpx_sse.connect_sse(client, "GET", url, headers={"Last-Event-ID": last}) as source:
        records += [event.json() for event in source.iter_sse()]
    assert text(records) == f"{WORDS} "


@pytest.mark.parametrize("path", POSTS)
def test_a_stream_in_the_background_needs_no_reader(client: httpx.Client, path: str):
    answer = client.post(path, json=POSTS[path] | {"background": True, "stream": path.startswith("/api")})
    assert (answer.status_code, answer.headers["Content-Location"]) == (202, answer.json()["url"])
    assert answer.json()["link"] == answer.json()["url"] == f"/api/streams/{answer.json()['id']}"
    pieces = Pieces()
    resume(client, answer.json()["link"], pieces, accept=SSE)
    assert pieces.ended
    assert pieces.said()[0] == post(client, path)[0].said()[0]


def test_a_stream_that_is_refused_has_a_status(client: httpx.Client):
    for fields in ({"resumable": True}, {"background": True}):
        assert client.post("/api/chat", json=chat("a", **fields) | {"model": "other"}).status_code == 404
    assert client.post("/api/chat", json=chat("!busy:full", resumable=True)).status_code == 503


@pytest.mark.parametrize("value", [0, -1, "yes", [], 1e400])
def test_what_is_not_a_time_is_refused(client: httpx.Client, value: Any):
    body = json.dumps(chat("a", resumable=value)).replace("Infinity", "1e400")
    answer = client.post("/api/chat", content=body)
    assert answer.status_code == 400, answer.text


def test_a_resumable_answer_has_to_be_a_stream(client: httpx.Client):
    answer = client.post("/v1/chat/completions", json=chat("a", resumable=True))
    assert answer.status_code == 400
    assert "needs a stream" in answer.text


def test_delete_ends_a_stream_and_says_the_same_again(client: httpx.Client):
    pieces, url = post(client, "/api/chat", 700)
    assert [client.delete(url).status_code for _ in range(2)] == [204, 204]
    for accept in (NDJSON, SSE):
        gone = client.get(url, headers={"Accept": accept, "Last-Event-ID": pieces.cursor})
        assert (gone.status_code, "it was deleted" in gone.json()["error"]) == (410, True)


@FORMATS
def test_readers_of_a_stream_that_is_deleted_get_one_last_record(client: httpx.Client, accept: str):
    body = chat("!rate:20 !repeat:1000:a", resumable=True)
    read, attached = Pieces(), Pieces()
    with client.stream("POST", "/api/chat", json=body, headers={"Accept": accept}) as first:
        url = first.headers["Content-Location"]
        with client.stream("GET", url, headers={"Accept": accept}) as second:
            assert client.delete(url).status_code == 204
            read.read(first, 10**9)
            attached.read(second, 10**9)
    for pieces in (read, attached):
        assert pieces.ended
        errors = [record["error"] for record in pieces.records if "error" in record]
        assert errors == [pieces.records[-1]["error"]] == ["the stream was ended by its owner"]
        assert client.get(url, headers={"Last-Event-ID": pieces.cursor}).status_code == 204


def test_the_error_of_a_stream_is_its_last_record_for_everybody(client: httpx.Client):
    answer = client.post("/api/chat", json=chat("a b !fail:broken", resumable=True))
    again = client.get(answer.headers["Content-Location"])
    for told in (answer, again):
        last = json.loads(told.text.splitlines()[-1])
        assert (last["error"], last["cursor"].endswith(".end")) == ("broken", True)


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_the_last_record_counts_the_same_durations_whenever_it_is_read(client: httpx.Client, path: str):
    answer = client.post(path, json=POSTS[path] | {"resumable": True})
    url = answer.headers["Content-Location"]
    last, again, later = [json.loads(each.text.splitlines()[-1]) for each in (answer, client.get(url), client.get(url))]
    for record in (last, again, later):
        del record["created_at"]
    assert last["total_duration"] > last["eval_duration"] > 0
    assert last == again == later


@pytest.mark.parametrize("id", ["x", "A" * 32, "../x", "%00"])
def test_an_unknown_stream_is_not_found(client: httpx.Client, id: str):
    assert client.get(f"/api/streams/{id}").status_code == 404


@pytest.mark.parametrize("cursor", ["x", "1-2-3-4-5-6", "-1", "1~", "٣-1", ",".join("1" * 200), "other.1-1"])
def test_a_cursor_that_is_not_ours_is_refused(client: httpx.Client, cursor: str):
    _, url = post(client, "/api/chat", 500)
    assert client.get(url, params={"after": cursor}).status_code == 400
    client.delete(url)


def test_a_cursor_beyond_the_end_gets_the_end(client: httpx.Client):
    _, url = post(client, "/api/chat")
    everything = "-".join(["999999999"] * 3)
    for cursor in (everything, f"{everything}~1", f"{everything}~99"):
        (last,) = [json.loads(line) for line in client.get(url, params={"after": cursor}).text.splitlines()]
        assert (last["done"], last["message"]["content"], last["cursor"].endswith(".end")) == (True, "", True)


def test_the_header_counts_and_not_the_query(client: httpx.Client):
    """A browser's EventSource comes back with the address that it began with, and with the header."""
    pieces, url = post(client, "/api/chat")
    assert client.get(url, params={"after": "1-3"}, headers={"Last-Event-ID": pieces.cursor}).status_code == 204
    assert client.get(url, params={"after": pieces.cursor}, headers={"Last-Event-ID": "1-3"}).status_code == 200
    assert client.get(url, params={"after": pieces.cursor}, headers={"Last-Event-ID": ""}).status_code == 204


@pytest.mark.parametrize("value", [True, 1, 0.5, 1e9, 1e300])
def test_any_positive_time_is_allowed(client: httpx.Client, value: Any):
    answer = client.post("/api/chat", json=chat("a", resumable=value))
    assert (answer.status_code, "Content-Location" in answer.headers) == (200, True)


@pytest.mark.parametrize("stream", [True, False, None])
@pytest.mark.parametrize("path", POSTS)
def test_the_background_needs_no_stream(client: httpx.Client, path: str, stream: bool | None):
    fields = {name: value for name, value in POSTS[path].items() if name not in ("stream", "stream_options")}
    body = fields | {"background": True} | ({} if stream is None else {"stream": stream})
    answer = client.post(path, json=body)
    assert answer.status_code == 202
    client.delete(answer.json()["url"])


@pytest.mark.parametrize("value", [0, 1, "yes", []])
def test_the_background_is_true_or_false(client: httpx.Client, value: Any):
    assert client.post("/api/chat", json=chat("a", background=value)).status_code == 400


@pytest.mark.parametrize("path", ["/api/embed", "/v1/embeddings"])
def test_vectors_are_not_made_in_the_background(client: httpx.Client, path: str):
    answer = client.post(path, json={"model": "demo", "input": "a", "background": True, "resumable": True})
    assert (answer.status_code, "Content-Location" in answer.headers) == (200, False)


def test_head_reads_nothing(client: httpx.Client):
    _, url = post(client, "/api/chat", 500)
    answer = client.head(url)
    assert (answer.status_code, answer.headers["Content-Location"], answer.content) == (200, url, b"")
    client.delete(url)
    assert client.head(f"/api/streams/{'A' * 32}").status_code == 404


def test_a_response_is_read_at_its_own_address(client: httpx.Client):
    begun = client.post("/v1/responses", json={"model": "demo", "input": "a", "background": True}).json()["id"]
    answer = client.get(f"/api/streams/{begun}")
    assert (answer.status_code, f"/v1/responses/{begun}" in answer.json()["error"]) == (404, True)


def test_other_methods_are_refused(client: httpx.Client):
    for path, allowed in (("/api/streams/x", "GET, DELETE"), ("/api/streams", "GET"), ("/api/events", "GET, HEAD")):
        answer = client.post(path, json={})
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)


def test_without_keys_nobody_can_list_the_streams(client: httpx.Client):
    assert client.get("/api/streams").status_code == 404
