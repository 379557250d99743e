"""Streams that outlive their connection: read again, from any place, by anybody who may. Scripted engine."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx_sse
import pytest

from service.access.new_key import lines
from service.access.scopes import SCOPES
from tests.support.servers import NDJSON, SCRIPTED, SSE, Server, chat, generate, text, until

StartServer = Callable[..., Server]

WORDS = " ".join(f"w{number}" for number in range(20))
SCRIPT = f"!rate:60 !think:hm {WORDS}"
POSTS: dict[str, dict[str, Any]] = {
    "/api/chat": chat(SCRIPT),
    "/api/generate": generate(SCRIPT),
    "/v1/chat/completions": chat(SCRIPT, stream=True, stream_options={"include_usage": True}),
    "/v1/completions": {"model": "demo", "prompt": [SCRIPT, SCRIPT], "n": 2, "stream": True},
}
FORMATS = pytest.mark.parametrize("accept", [NDJSON, SSE])
ROUTES = pytest.mark.parametrize("path", POSTS)


class Pieces:
    """What a client has of a stream: the records that came whole, and where it goes on."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.cursor = ""
        self.ended = False

    def read(self, answer: httpx.Response, at_most: int) -> None:
        """Read up to so many bytes and drop a record that was cut."""
        data = b""
        for chunk in answer.iter_raw():
            data += chunk[: at_most - len(data)]
            if len(data) >= at_most:
                break
        self._take(data, NDJSON if answer.headers["Content-Type"] == NDJSON else SSE)

    def _take(self, data: bytes, media_type: str) -> None:
        if media_type == NDJSON:
            for line in data.split(b"\n")[:-1]:
                record = json.loads(line)
                self._add(record.pop("cursor"), record)
            return
        for frame in data.split(b"\n\n")[:-1]:
            fields = dict(line.split(b": ", 1) for line in frame.split(b"\n") if not line.startswith(b":"))
            if b"data" in fields:
                done = fields[b"data"] == b"[DONE]"
                self._add(fields[b"id"].decode(), None if done else json.loads(fields[b"data"]))

    def _add(self, cursor: str, record: Any) -> None:
        self.cursor = cursor
        self.ended = cursor.endswith(".end")
        if record is not None:
            self.records.append(record)

    def said(self) -> Any:
        if "choices" not in self.records[0]:
            return text(self.records), [record["done"] for record in self.records].count(True)
        texts: dict[int, str] = {}
        for choice in (choice for record in self.records for choice in record["choices"]):
            told = choice["text"] if "text" in choice else choice["delta"].get("content", "")
            texts[choice["index"]] = texts.get(choice["index"], "") + told + (choice["finish_reason"] or "")
        return texts, [record["usage"] for record in self.records if record.get("usage")]


def post(client: httpx.Client, path: str, at_most: int = 10**9, accept: str = "", **fields: Any) -> tuple[Pieces, str]:
    """Ask for a resumable stream and leave after so many bytes: what came, and the stream's address."""
    pieces = Pieces()
    body = POSTS[path] | {"resumable": True} | fields
    with client.stream("POST", path, json=body, headers={"Accept": accept or "*/*"}) as answer:
        assert answer.status_code == 200, answer.read()
        pieces.read(answer, at_most)
    return pieces, answer.headers["Content-Location"]


def resume(client: httpx.Client, url: str, pieces: Pieces, at_most: int = 10**9, accept: str = "") -> None:
    with client.stream("GET", url, headers={"Accept": accept or "*/*", "Last-Event-ID": pieces.cursor}) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["Content-Location"] == url
        pieces.read(answer, at_most)


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
    pieces._take(events.content, SSE)
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
    pieces._take(answer.content, SSE)
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
    resume(client, url, pieces)
    assert pieces.ended
    assert pieces.records[-1]["error"] == "the stream was ended by its owner"
    assert client.get(url, params={"after": pieces.cursor}).status_code == 204


def test_the_error_of_a_stream_is_its_last_record_for_everybody(client: httpx.Client):
    answer = client.post("/api/chat", json=chat("a b !fail:broken", resumable=True))
    again = client.get(answer.headers["Content-Location"])
    for told in (answer, again):
        last = json.loads(told.text.splitlines()[-1])
        assert (last["error"], last["cursor"].endswith(".end")) == ("broken", True)


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
    unknown = f"/v1/responses/resp_{'0' * 24}"
    assert client.post(f"{unknown}/cancel").status_code == client.get(f"{unknown}?stream=true").status_code == 404
    assert client.get(path, params={"stream": "true", "starting_after": "x"}).status_code == 400


@pytest.mark.parametrize("id", ["x", "A" * 32, "../x", "%00"])
def test_an_unknown_stream_is_not_found(client: httpx.Client, id: str):
    assert client.get(f"/api/streams/{id}").status_code == 404


@pytest.mark.parametrize("cursor", ["x", "1-2-3-4-5-6", "-1", "1~", "٣-1", ",".join("1" * 200), "other.1-1"])
def test_a_cursor_that_is_not_ours_is_refused(client: httpx.Client, cursor: str):
    _, url = post(client, "/api/chat", 500)
    assert client.get(url, params={"after": cursor}).status_code == 400
    client.delete(url)


def test_other_methods_are_refused(client: httpx.Client):
    for path, allowed in (("/api/streams/x", "GET, DELETE"), ("/api/streams", "GET"), ("/api/events", "GET, HEAD")):
        answer = client.post(path, json={})
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)


def test_without_keys_nobody_can_list_the_streams(client: httpx.Client):
    assert client.get("/api/streams").status_code == 404


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("keyed")
    keys = directory / "keys.toml"
    keys.write_text("".join(lines(name, name, SCOPES) for name in ("alice", "bob")))
    env = {"VLLM_WSGI_KEYS": str(keys), "VLLM_WSGI_RESUME_STREAMS": "3"}
    server = Server(directory, {**SCRIPTED, **env})
    server.headers = {"Authorization": "Bearer alice"}
    server.wait_until_ready()
    yield server
    server.stop()


def as_(keyed: Server, name: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {name}"} if name else {}
    return httpx.Client(base_url=keyed.url, headers=headers, timeout=20)


def state(alice: httpx.Client, url: str) -> str:
    return next((each["state"] for each in alice.get("/api/streams").json()["streams"] if each["url"] == url), "gone")


def test_a_stream_is_its_keys_own(keyed: Server):
    with as_(keyed, "alice") as alice, as_(keyed, "bob") as bob, as_(keyed, "") as stranger:
        background = alice.post("/api/chat", json=chat("!rate:20 a b c d e f", background=True)).json()
        url, link = background["url"], background["link"]
        listed = next(each for each in alice.get("/api/streams").json()["streams"] if each["url"] == url)
        assert (listed["model"], listed["background"], "expires_at" in listed) == ("demo", True, True)
        assert bob.get("/api/streams").json() == {"streams": []}
        unknown = bob.get("/api/streams/" + "A" * 32)
        assert bob.get(url).status_code == bob.delete(url).status_code == 404
        assert bob.get(url).json() == unknown.json()
        assert stranger.get(url).status_code == 401
        assert stranger.get(f"{url}?t=1.2.3").status_code == 404
        assert stranger.get(link.replace(link[-5:], "AAAAA")).status_code == 404
        # The link is for this stream, and for reading.
        other = alice.post("/api/chat", json=chat("a", background=True)).json()
        assert stranger.get(link.replace(background["id"], other["id"])).status_code == 404
        assert stranger.delete(link).status_code == 401
        told = stranger.get(link, headers={"Accept": SSE})
        assert (told.status_code, '"done":true' in told.text) == (200, True)
        token = link.partition("?t=")[2]
        assert token not in keyed.output
        for each in (url, other["url"]):
            alice.delete(each)


def test_a_stream_whose_time_is_over_is_gone_for_its_owner_and_unknown_to_others(keyed: Server):
    with as_(keyed, "alice") as alice, as_(keyed, "bob") as bob:
        url = alice.post("/api/chat", json=chat("a", background=True, resumable=0.5)).json()["url"]
        until(lambda: state(alice, url) == "gone", 20, "it is not kept any more")
        assert (alice.get(url).status_code, bob.get(url).status_code) == (410, 404)
        assert alice.delete(url).status_code == 204


def test_a_stream_that_nobody_comes_back_to_is_cancelled(keyed: Server):
    with as_(keyed, "alice") as alice:
        body = chat("!rate:10 !repeat:100000:a")
        _, url = post(alice, "/api/chat", 500, resumable=0.5, messages=body["messages"])
        until(lambda: state(alice, url) == "gone", 20, "its time is over")
        keyed.wait_until_idle()
        assert alice.get(url).status_code == 410


def test_too_many_streams_are_refused_with_the_limits_name(keyed: Server):
    with as_(keyed, "bob") as bob:
        body = chat("!rate:10 !repeat:30:a", background=True)
        urls = [bob.post("/api/chat", json=body).json()["url"] for _ in range(3)]
        refused = bob.post("/api/chat", json=body)
        assert refused.status_code == 429
        assert "VLLM_WSGI_RESUME_STREAMS" in refused.json()["error"]
        for url in urls:
            bob.delete(url)


def test_a_server_may_keep_none(start_server: StartServer):
    server = start_server({"VLLM_WSGI_RESUME_SECONDS": "0"})
    answer = httpx.post(f"{server.url}/api/chat", json=chat("a", resumable=True), timeout=20)
    assert answer.status_code == 400
    assert "VLLM_WSGI_RESUME_SECONDS" in answer.json()["error"]


def kill_web_workers(server: Server) -> None:
    for pid in server.web_workers():
        os.kill(pid, signal.SIGKILL)


def kill_engine(server: Server) -> None:
    os.kill(server.engine_workers()[0], signal.SIGKILL)


@pytest.mark.parametrize(
    ("harm", "attached", "fields"),
    [
        (kill_web_workers, True, {"background": True}),
        (kill_web_workers, False, {"resumable": True}),
        (kill_engine, True, {"resumable": True}),
        (kill_engine, False, {"resumable": True}),
        (kill_engine, False, {"background": True}),
    ],
)
def test_a_stream_survives_one_death(
    start_server: StartServer, harm: Callable[[Server], None], attached: bool, fields: dict[str, Any]
):
    server = start_server({"VLLM_WSGI_MOVES": "2", "WEB_CONCURRENCY": "2"})
    body = chat(f"!rate:15 !think:hm {WORDS}")
    pieces = Pieces()
    with httpx.Client(base_url=server.url, timeout=120) as client:
        with client.stream("POST", "/api/chat", json=body | fields) as answer:
            url = answer.headers["Content-Location"]
            if "resumable" in fields:
                pieces.read(answer, 700)
        if attached:
            with client.stream("GET", url, params={"after": pieces.cursor}) as answer:
                harmed = False
                data = b""
                try:
                    for chunk in answer.iter_raw():
                        data += chunk
                        if not harmed:
                            harm(server)
                            harmed = True
                except httpx.TransportError:
                    assert harm is kill_web_workers
                pieces._take(data, NDJSON)
        else:
            harm(server)
    with httpx.Client(base_url=server.url, timeout=120) as client:
        if not pieces.ended:
            until(lambda: server.serves(), 120, "the web workers are back")
            with client.stream("GET", url, params={"after": pieces.cursor}) as answer:
                assert answer.status_code == 200, answer.read()
                pieces.read(answer, 10**9)
    assert pieces.said() == (f"{WORDS} ", 1)


def test_a_stream_is_gone_when_engine_and_web_workers_die_together(start_server: StartServer):
    server = start_server({"VLLM_WSGI_MOVES": "2"})
    with httpx.Client(base_url=server.url, timeout=120) as client:
        url = client.post("/api/chat", json=chat(SCRIPT, background=True)).json()["url"]
    kill_engine(server)
    kill_web_workers(server)
    server.wait_until_ready()
    answer = httpx.get(f"{server.url}{url}", timeout=120)
    assert answer.status_code == 410
    assert "the web worker that had it have exited" in answer.json()["error"]
