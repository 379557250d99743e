"""Clients whose connections break at random bytes, again and again. Each resumes its stream until it has the end."""

from __future__ import annotations

import json
import random
import time
from contextlib import suppress
from typing import Any

import httpx

from tests.support.resumed import Pieces

# Of a stream of a few kilobytes a client sees several pieces, of a long one dozens.
MOST_BYTES = 4000
# How often a client tries to come back while no web worker answers, with a pause after each try.
TRIES, PAUSE_SECONDS = 600, 0.1
# The last events of OpenAI's responses.
ENDS = ("response.completed", "response.incomplete", "response.failed")


class Lengths:
    """Random lengths of pieces, in bytes. `most` doubles after a piece that held no whole record: it is one, joined."""

    def __init__(self, seed: int, most: int) -> None:
        self.random = random.Random(seed)
        self._most = most
        self._had = -1

    def next(self, records: int) -> int:
        """Return the length of the next piece for a client that has so many records."""
        if records == self._had:
            self._most *= 2
        self._had = records
        return self.random.randint(1, self._most)


class CutStream:
    """A resumable stream that `run` reads in pieces of random length.

    A piece has some `most` bytes at most; the same `seed` gives the same lengths. `pieces` is what its client has so
    far, and `cuts` how often its connection was cut.
    """

    def __init__(
        self, url: str, path: str, body: dict[str, Any], accept: str, seed: int, most: int = MOST_BYTES
    ) -> None:
        self.pieces = Pieces()
        self.address = ""
        self.cuts = 0
        self._lengths = Lengths(seed, most)
        self._accept = accept
        self._url = url
        self._path = path
        self._body = {**body, "resumable": True}

    def run(self) -> Pieces:
        with httpx.Client(base_url=self._url, timeout=300) as client:
            headers = {"Accept": self._accept}
            with client.stream("POST", self._path, json=self._body, headers=headers) as answer:
                assert answer.status_code == 200, answer.read()
                self.address = answer.headers["Content-Location"]
                self._read(answer)
            tries = 0
            while not self.pieces.ended:
                self.cuts += 1
                if self._resume(client):
                    tries = 0
                    continue
                tries += 1
                assert tries < TRIES, f"nobody answers any more at {self.address}"
                time.sleep(PAUSE_SECONDS)
        return self.pieces

    def _resume(self, client: httpx.Client) -> bool:
        """Read another piece. Return whether the server has answered."""
        headers, query = {"Accept": self._accept}, {}
        # The two ways to say what a client has.
        if self._lengths.random.random() < 0.5:
            headers["Last-Event-ID"] = self.pieces.cursor
        else:
            query["after"] = self.pieces.cursor
        try:
            with client.stream("GET", self.address, params=query, headers=headers) as answer:
                if answer.status_code == 503:
                    return False
                assert answer.status_code == 200, answer.read()
                self._read(answer)
        except httpx.ConnectError:
            return False
        except httpx.TransportError:
            # A web worker that dies breaks connections, before the answer or within it.
            pass
        return True

    def _read(self, answer: httpx.Response) -> None:
        with suppress(httpx.TransportError):
            self.pieces.read(answer, self._lengths.next(len(self.pieces.records)))


def read_response(url: str, body: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """Return the events of one of OpenAI's responses in the background, which were read in pieces of random length."""
    lengths = Lengths(seed, MOST_BYTES)
    events: list[dict[str, Any]] = []
    with httpx.Client(base_url=url, timeout=300) as client:
        begun = client.post("/v1/responses", json={**body, "background": True, "stream": False})
        assert begun.status_code == 200, begun.text
        tries = 0
        while not events or events[-1]["type"] not in ENDS:
            tries += 1
            assert tries < TRIES, events[-1:]
            after = {"stream": "true", "starting_after": events[-1]["sequence_number"] if events else -1}
            data = b""
            with (
                suppress(httpx.TransportError),
                client.stream("GET", f"/v1/responses/{begun.json()['id']}", params=after) as answer,
            ):
                assert answer.status_code in (200, 503), answer.read()
                if answer.status_code == 200:
                    data = _piece(answer, lengths.next(len(events)))
            if not data:
                time.sleep(PAUSE_SECONDS)
            lines = [line for frame in data.split(b"\n\n")[:-1] for line in frame.split(b"\n")]
            events += [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]
    return events


def _piece(answer: httpx.Response, length: int) -> bytes:
    data = b""
    for chunk in answer.iter_raw():
        data += chunk
        if len(data) >= length:
            break
    return data[:length]
