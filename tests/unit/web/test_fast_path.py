"""The fast path of a stream's deltas: the same bytes as the stream's own greenlet writes, whatever the socket takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.ollama.answer import OllamaGenerateAnswer
from service.dialects.ollama.request import parse_generate
from service.engine_client.connections import Connections
from service.engine_client.disconnect import Presence
from service.engine_client.exchange import Times
from service.engine_client.stream import Stream, StreamOrder
from service.protocol.events import Delta, Event, Finished
from service.protocol.request import Request, Text
from service.telemetry.request_stats import RequestStats
from service.web import framing
from service.web.fast_path import StreamedPieces, StreamFastPath
from service.web.framing import NDJSON, SSE, Framing

# What happens while the stream's greenlet sleeps: an event of the queue comes, or a timer rings.
Happening = Event | None


class Socket:
    """A client's socket that takes as many bytes as the test says, and then everything."""

    def __init__(self, takes: list[int]) -> None:
        self._takes = takes
        self.written = b""
        self.sends = 0
        self.is_closed = False

    def send(self, piece: bytes) -> bytes:
        if self.is_closed:
            raise BrokenPipeError
        self.sends += 1
        taken = self._takes.pop(0) if self._takes else len(piece)
        self.written += piece[:taken]
        return piece[taken:]

    def finish(self, rest: bytes) -> None:
        if self.is_closed:
            raise BrokenPipeError
        self.written += rest


class Sleep:
    """The sleep of a stream's greenlet, during which things happen until it is woken."""

    def __init__(self, stream: Stream, happenings: list[Happening]) -> None:
        self._inbox = stream._inbox
        self._happenings = happenings
        self.count = 0
        self._is_woken = False

    def get(self, timeout: float | None = None) -> None:
        self.count += 1
        self._is_woken = False
        while not self._is_woken:
            happening = self._happenings.pop(0)
            if happening is None:
                self._inbox.ring()
            else:
                self._inbox.put(happening)

    def put(self, _: None) -> None:
        self._is_woken = True


class Streamed:
    """One streamed answer of `/api/generate`, whose greenlet writes to the same socket as its fast path."""

    def __init__(self, chosen: Framing, happenings: list[Happening], takes: list[int], fast: bool = True) -> None:
        self.stream = Stream(
            Connections("/nowhere"), Times(60.0), Presence(), StreamOrder([Request("m", Text("a"))], None, 2)
        )
        (submit,) = self.stream._submits
        self.stream._open[submit.id] = 1
        self.sleep = Sleep(self.stream, [self._mine(each, submit.id) for each in happenings])
        self.stream._inbox._wakes = self.sleep  # type: ignore[assignment]
        self.stats = RequestStats("/api/generate")
        answer = OllamaGenerateAnswer(parse_generate({"model": "m", "prompt": "a"}), lambda: 0, lambda: 0)
        answer.streams = True
        self.socket = Socket(takes)
        self.path = StreamFastPath(self.stream, self.stats, lambda events: chosen.frames(answer.records_of_all(events)))
        batches = answer.records(self.stats.count(self.stream._answers()))
        self._chunks = framing.stream(batches, chosen, lambda error: {"error": error.message})
        if fast:
            self.path.open(self.socket)

    @staticmethod
    def _mine(happening: Happening, id: int) -> Happening:
        if happening is not None:
            happening.id = id
        return happening

    def run(self) -> bytes:
        """Everything that the client gets."""
        for chunk in self._chunks:
            self.socket.written += chunk
        self.stream.close()
        return self.socket.written


def delta(seq: int, text: str) -> Delta:
    return Delta(0, seq, text, [seq])


def finished() -> Finished:
    return Finished(0, "stop", 1, 1, 0, 0, 0, 0)


def happenings(texts: list[str | None]) -> list[Happening]:
    happens: list[Happening] = []
    for text in texts:
        happens.append(None if text is None else delta(len([each for each in happens if each is not None]), text))
    return [*happens, finished()]


@pytest.mark.parametrize("chosen", [NDJSON, SSE])
def test_tokens_wake_nobody_and_are_one_send_each(chosen: Framing):
    streamed = Streamed(chosen, happenings(["a"] * 100), [])
    streamed.run()
    # One sleep for all of the tokens, which the end ends.
    assert (streamed.socket.sends, streamed.sleep.count) == (100, 1)


TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=5)), max_size=20)


@given(TEXTS, st.lists(st.integers(0, 200), max_size=20), st.sampled_from([NDJSON, SSE]))
def test_the_client_gets_the_same_bytes_whatever_its_socket_takes(
    texts: list[str | None], takes: list[int], chosen: Framing
):
    # Rings let the stream's own greenlet take a turn; without a fast path it writes each delta itself.
    fast = Streamed(chosen, happenings(texts), takes)
    slow = Streamed(chosen, happenings([text for each in texts for text in (each, None)]), [], fast=False)
    assert fast.run() == slow.run()
    assert fast.stats.output_tokens == slow.stats.output_tokens


def test_what_the_socket_does_not_take_is_sent_before_anything_that_follows():
    """A greenlet that waits for the socket is awake, so what comes meanwhile waits behind the rest."""
    streamed = Streamed(NDJSON, happenings(["a", "b"]), [10])
    waits = streamed.socket.finish

    def finish(rest: bytes) -> None:
        streamed.stream._inbox.put(streamed._mine(delta(2, "c"), streamed.stream._submits[0].id))
        waits(rest)

    streamed.socket.finish = finish  # type: ignore[method-assign]
    texts = [line.split(b'"response":"')[1][:1] for line in streamed.run().splitlines()]
    assert texts[:2] == [b"a", b"c"]


def test_a_client_that_is_gone_ends_the_stream_without_another_byte():
    streamed = Streamed(NDJSON, happenings(["a", "b"]), [])
    streamed.socket.is_closed = True
    assert streamed.run() == b""


def test_a_fault_on_the_fast_path_is_the_streams_one_terminal_record(caplog: pytest.LogCaptureFixture):
    streamed = Streamed(NDJSON, happenings(["a", "b"]), [])

    def broken(events: list[Event]) -> bytes:
        raise KeyError("a fault of ours")

    streamed.path._frames = broken
    (line,) = streamed.run().splitlines()
    assert line.startswith(b'{"error":')
    assert "a fault of ours" in caplog.text


def test_deltas_of_a_lost_engine_are_dropped():
    streamed = Streamed(NDJSON, happenings(["a"]), [])
    del streamed.stream._open[streamed.stream._submits[0].id]
    assert streamed.path.take(delta(0, "a"))
    assert streamed.socket.sends == 0


def test_a_stream_that_goes_on_without_its_client_has_no_fast_path():
    streamed = Streamed(NDJSON, [], [])
    streamed.stream._forget_client()
    assert streamed.stream._inbox.fast_path is None


def test_a_body_without_a_path_is_the_pieces_themselves():
    pieces = StreamedPieces(iter([b"a", b"b"]), StreamFastPath.__new__(StreamFastPath))
    assert list(pieces) == [b"a", b"b"]
    pieces.close()
