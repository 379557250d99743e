"""Owners of streams that outlive their connection: access, how long and how many are kept. Scripted engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from service.access.new_key import lines
from service.access.scopes import SCOPES
from tests.support.answers import SSE, chat
from tests.support.resumed import post
from tests.support.servers import SCRIPTED, Server
from tests.support.waiting import until

# What a key's kept streams may hold.
BYTES = 20_000
StartServer = Callable[..., Server]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("keyed")
    keys = directory / "keys.toml"
    keys.write_text("".join(lines(name, name, SCOPES) for name in ("alice", "bob", "carol")))
    env = {"VLLM_WSGI_KEYS": str(keys), "VLLM_WSGI_RESUME_STREAMS": "3", "VLLM_WSGI_RESUME_BYTES": str(BYTES)}
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


def test_a_token_is_of_one_key_and_one_stream(keyed: Server):
    with as_(keyed, "alice") as alice, as_(keyed, "bob") as bob, as_(keyed, "") as stranger:
        background = alice.post("/api/chat", json=chat("a", background=True)).json()
        url, (expires, name, signature) = background["url"], background["link"].partition("?t=")[2].split(".")
        for token in (
            ".", "..", f"{int(expires) + 1}.{name}.{signature}", f"1.{name}.{signature}", f"{expires}.Ym9i.{signature}",
            f"{expires}..{signature}", f"{expires}.{name}.", f"{expires}.{name}.{signature}x", f"-1.{name}.{signature}",
            f"٣.{name}.{signature}", f"{'9' * 99}.{name}.{signature}", f"{expires}.\0.é",
        ):  # fmt: skip
            assert stranger.get(url, params={"t": token}).status_code == 404, token
        # A key that is sent counts, and not the token.
        assert bob.get(background["link"]).status_code == 404
        assert alice.get(url, params={"t": "x"}).status_code == 200
        assert stranger.get("/api/streams", params={"t": f"{expires}.{name}.{signature}"}).status_code == 401
        assert stranger.head(background["link"]).status_code == 200
        alice.delete(url)


def test_a_strangers_cursor_says_nothing_and_begins_a_stream_of_ones_own(keyed: Server):
    with as_(keyed, "alice") as alice, as_(keyed, "bob") as bob:
        pieces, url = post(alice, "/api/chat")
        assert bob.get(url, params={"after": pieces.cursor}).status_code == bob.head(url).status_code == 404
        body = chat("b", resumable=True)
        own = bob.post("/api/chat", json=body, headers={"Last-Event-ID": pieces.cursor})
        assert (own.status_code, own.headers["Content-Location"] != url) == (200, True)
        bob.delete(own.headers["Content-Location"])
        alice.delete(url)


def test_a_response_in_the_background_is_listed_with_its_address(keyed: Server):
    with as_(keyed, "alice") as alice:
        begun = alice.post("/v1/responses", json={"model": "demo", "input": "a", "background": True}).json()["id"]
        (listed,) = [each for each in alice.get("/api/streams").json()["streams"] if each["id"] == begun]
        assert alice.get(listed["url"]).json()["id"] == begun
        assert alice.delete(listed["url"]).status_code == 200
        assert begun not in alice.get("/api/streams").text


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
        # One in the background is accepted with a 202 when its engine has not answered within a second.
        refused = bob.post("/api/chat", json=chat("a", resumable=True))
        assert refused.status_code == 429
        assert "VLLM_WSGI_RESUME_STREAMS" in refused.json()["error"]
        # One that is deleted gives up its place at once.
        assert bob.delete(urls[0]).status_code == 204
        urls.append(bob.post("/api/chat", json=body).json()["url"])
        assert len(bob.get("/api/streams").json()["streams"]) == 3
        for url in urls:
            assert bob.delete(url).status_code == 204
        assert bob.get("/api/streams").json() == {"streams": []}


def test_a_request_in_the_background_that_is_refused_holds_no_place(keyed: Server):
    """One that fails after its 202 is kept: its client reads the error there."""
    with as_(keyed, "bob") as bob:
        statuses = [
            bob.post("/api/chat", json=chat(script, background=True)).status_code
            for script in ("!refuse:no", "!busy:full", "!fail:broken", "a !fail:broken") * 5
        ]
        kept = bob.get("/api/streams").json()["streams"]
        assert len(kept) == statuses.count(202) <= 3
        assert set(statuses) <= {202, 400, 429, 500, 503}
        for each in kept:
            bob.delete(each["url"])


def test_too_many_readers_are_refused_with_the_limits_name(keyed: Server):
    """For each token, a reader costs as much as a stream of its own."""
    with as_(keyed, "bob") as bob, ExitStack() as readers:
        url = bob.post("/api/chat", json=chat("!rate:10 !repeat:300:a", background=True)).json()["url"]
        for _ in range(3):
            reader = readers.enter_context(bob.stream("GET", url, headers={"Accept": SSE}))
            assert reader.status_code == 200
        refused = bob.get(url)
        assert refused.status_code == 429
        assert "have 3 readers, and VLLM_WSGI_RESUME_STREAMS allows 3" in refused.json()["error"]
        assert bob.delete(url).status_code == 204


def test_streams_that_hold_too_many_bytes_are_refused_with_the_limits_name(keyed: Server):
    """The answer of a stream that has begun may exceed the limit: the next stream is refused."""
    with as_(keyed, "carol") as carol, as_(keyed, "alice") as alice:
        begun = carol.post("/api/chat", json=chat(f"!repeat:10:{'a' * 2500}", background=True))
        assert begun.status_code == 202, begun.text
        url = begun.json()["url"]
        until(lambda: state(carol, url) == "done", 60, "the answer is whole")
        refused = carol.post("/api/chat", json=chat("a", resumable=True))
        assert refused.status_code == 429
        assert f"VLLM_WSGI_RESUME_BYTES allows {BYTES}" in refused.json()["error"]
        assert len(carol.get(url, headers={"Accept": SSE}).text) > 10 * 2500
        # Another key has its own limit.
        accepted = alice.post("/api/chat", json=chat("a", resumable=True))
        assert accepted.status_code == 200
        # A stream that is deleted holds no bytes any more.
        assert carol.delete(url).status_code == 204
        again = carol.post("/api/chat", json=chat("a", resumable=True))
        assert again.status_code == 200
        carol.delete(again.headers["Content-Location"])
        alice.delete(accepted.headers["Content-Location"])


def test_a_server_may_keep_none(start_server: StartServer):
    server = start_server({"VLLM_WSGI_RESUME_SECONDS": "0"})
    answer = httpx.post(f"{server.url}/api/chat", json=chat("a", resumable=True), timeout=20)
    assert answer.status_code == 400
    assert "VLLM_WSGI_RESUME_SECONDS" in answer.json()["error"]
