from __future__ import annotations

import math
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.protocol.commands import (
    Cancel,
    Check,
    Command,
    Copy,
    Count,
    Create,
    Delete,
    DropBlob,
    DropResponse,
    Embed,
    FetchResponse,
    FindBlob,
    ListLoaded,
    ListModels,
    Locate,
    Measure,
    Observe,
    Pull,
    PutBlob,
    RequestOutcome,
    Restart,
    ShowModel,
    StoreResponse,
    Submit,
    Unload,
)
from service.protocol.events import (
    Alive,
    Blob,
    Checked,
    Delta,
    Done,
    Failed,
    Finished,
    Head,
    Hello,
    KeptStreams,
    Loaded,
    Located,
    Measured,
    Models,
    Observed,
    Progress,
    Rendered,
    Shown,
    StoredResponse,
    Unloaded,
    Vectors,
)
from service.protocol.kept import Attach, Detach, EndStream, Keep, KeptState, ListStreams, SubmitKept
from service.protocol.live import EngineStatus, HostState, LiveEvent, LiveSnapshot, ModelStatus
from service.protocol.model_info import EngineState, LoadedModel, ModelInfo, Recipe, Tensor
from service.protocol.reports import Activity, EngineDied, EngineSilent, KeptAnswers, LoadFailed, Pulse, Ready, Report
from service.protocol.request import (
    Chat,
    Defaults,
    EmbedRequest,
    Image,
    Infill,
    Message,
    Request,
    Sampling,
    Struct,
    Text,
    Tokens,
)
from service.protocol.wire import MAX_FRAME_BYTES, Unpacker, decode_command, decode_events, decode_report, pack

SCHEMA = {"type": "object", "properties": {"a": {"type": ["string", "null"]}}}
CALL = {"id": "call_x", "function": {"name": "f", "arguments": {"z": 1.5, "a": [None, True]}}}
KEEP = Keep("s", "alice", b"\xff", 1.5, True, 10**18, 3, 4, 5)
CHAT = Chat([Message("user", "é"), Message("assistant", tool_calls=[CALL])], tools=[SCHEMA], think="low", context=[1])

COMMANDS = [
    Locate(1, "m"),
    Locate(1, "m", math.inf, submits=0),
    Unload(2, "m"),
    Restart(5, "demo", 1.0, True),
    ListModels(3),
    ListLoaded(4),
    ShowModel(5, "m"),
    Submit(6, Request("m", CHAT, Sampling(stop=["x"], seed=2**63 - 1), Sampling(top_k=40), format=SCHEMA)),
    Submit(7, Request("m", Text(""), truncate=False, context_limit=4, format="json", return_context=True)),
    Submit(8, Request("m", Infill("a", "b"), render_only=True)),
    Submit(10, Request("m", Tokens([1, 2]), Sampling(logit_bias={3: -1.5}), n=2)),
    Submit(11, Request("m", Chat([Message("user", ["a", Image(b"\x89PNG\xff")])], forced_tool="f"))),
    SubmitKept(21, KEEP, [Request("m", Text("a"))], [0], 1, Defaults(context_limit=9), b"\x90", reads=False),
    Attach(22, "s", "alice", follow=False),
    Detach(23, "s", ""),
    EndStream(24, "s", "", "EngineGone", "é"),
    EndStream(27, "s", "alice", forget=True),
    ListStreams(25, "alice"),
    Embed(9, EmbedRequest("m", ["", "é"], dimensions=-1, truncate=False)),
    Cancel(6),
    Check(24),
    Measure(25),
    Count(26, [RequestOutcome("/api/chat", "error", "Unavailable", "m", first=1)]),
    ShowModel(12, "m", verbose=True),
    Pull(13, "m"),
    Create(14, "m", Recipe("a", {"b": "sha256:c"}, options={"stop": ["x"]}, messages=[Message("user", "é")])),
    Copy(15, "a", "b"),
    Delete(16, "m"),
    FindBlob(17, "sha256:a"),
    PutBlob(18, "f", "sha256:a", b"\xff\x00", last=True),
    DropBlob(19, "f"),
    StoreResponse(21, "resp_a", "alice", b"{}"),
    FetchResponse(22, "resp_a", ""),
    DropResponse(23, "resp_a", "alice"),
    Observe(26, "run-1", 300.0),
    Submit(20, Request("m", Text("a")), Defaults(Sampling(seed=1), 9, "s", [Message("user", "é")], "t", "/a")),
]
STATUS = ModelStatus(name="m", replicas=[EngineStatus(state=EngineState.FAILED, reason="é", retry_at=2.5)])
STATE = LiveSnapshot(1.5, HostState.DRAINING, "it was asked to end", [STATUS])
EVENTS = [
    Hello(),
    Alive(),
    Located(1, "socket", 5, ["embedding"]),
    Unloaded(2),
    Checked(24, "draining"),
    Measured(25, "# é", ["socket"]),
    Shown(12, ModelInfo(name="m", messages=[Message("user", "é")]), [Tensor("w", "BF16", [2, 3])], ["a", "é"]),
    Progress(13, "pulling", "sha256:a", 1 << 40, 1),
    Done(14),
    Blob(17, present=True),
    StoredResponse(22, b"{}"),
    Models(3, [ModelInfo(name="m", capabilities=["completion"], parameters={"stop": ["x"]})]),
    Loaded(4, [LoadedModel(info=ModelInfo(name="m"), state=EngineState.READY)]),
    Delta(6, 0, "a", [1], "b", [CALL]),
    Finished(6, "stop", 1, 2, 3, 4, 5, 6, [7]),
    Rendered(6, "<|im_start|>", 1),
    Head(6, b"\x00", 2, 10**18, 5, False, "running"),
    KeptStreams(7, [KeptState("s", "m", "done", 5, True, 1.5), KeptState("t", "m", "running", 0, False)]),
    Vectors(9, [b"\x00\x00\x80?", b""], 3),
    Observed(26, [LiveEvent("run-1", STATE), LiveEvent("run-2", request=RequestOutcome("/api/chat", "done", first=3))]),
    Failed(7, "Unavailable", "busy", 5),
]
REPORTS = [
    Ready(4096, "cpu", 1 << 40),
    LoadFailed("no"),
    EngineDied("no"),
    Pulse(1, 2, 1 << 40),
    EngineSilent(),
    KeptAnswers([SubmitKept(0, KEEP, [], [], 1, so_far=b"\x90", reads=False, model="m")]),
    Activity(3, 1),
]


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` in pieces, empty ones among them."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=20)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_arrives_as_it_was_sent(command: Command):
    assert decode_command(pack(command)[4:]) == command


def test_a_list_of_events_arrives_as_it_was_sent():
    assert decode_events(pack(EVENTS)[4:]) == EVENTS


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_arrives_as_it_was_sent(report: Report):
    assert decode_report(pack(report)[4:]) == report


def test_the_samples_above_hold_every_message_of_the_queue():
    sampled = {type(message) for message in [*COMMANDS, *EVENTS, *REPORTS]}
    assert sampled == set(Struct.__subclasses__()) - {Chat, Text, Tokens, Infill}


def test_a_field_that_a_newer_peer_appended_is_ignored():
    payload = b"\x91" + b"\x92\xa8Unloaded\x01"
    newer = payload.replace(b"\x92", b"\x93") + b"\xc3"
    assert decode_events(newer) == decode_events(payload) == [Unloaded(1)]


def test_a_field_that_an_older_peer_lacks_has_its_default():
    assert decode_events(b"\x91" + b"\x95\xa5Delta\x01\x00\xa1a\x91\x07") == [Delta(1, 0, "a", [7])]


@given(st.lists(st.binary(max_size=300)), st.data())
def test_a_byte_stream_gives_the_same_payloads_however_it_is_cut(payloads: list[bytes], data: st.DataObject):
    pieces = data.draw(cut(b"".join(frame(payload) for payload in payloads)))
    unpacker = Unpacker()
    assert [payload for piece in pieces for payload in unpacker.feed(piece)] == payloads


@given(st.binary(), st.binary(max_size=50))
def test_an_unfinished_frame_waits_for_its_end(payload: bytes, rest: bytes):
    unpacker = Unpacker()
    assert unpacker.feed(frame(payload + rest + b"!")[: 4 + len(payload)]) == []
    assert unpacker.feed(rest + b"!") == [payload + rest + b"!"]


@given(st.integers(MAX_FRAME_BYTES + 1, 2**32 - 1), st.lists(st.binary(max_size=20), max_size=3), st.data())
def test_a_frame_that_is_too_long_is_refused_by_its_length_alone(length: int, before: list[bytes], data: st.DataObject):
    stream = b"".join(frame(payload) for payload in before) + length.to_bytes(4, "big")
    pieces, unpacker = data.draw(cut(stream)), Unpacker()
    with pytest.raises(ValueError, match=str(length)):
        deque(map(unpacker.feed, pieces))


def test_the_longest_frame_is_not_too_long():
    assert Unpacker().feed(MAX_FRAME_BYTES.to_bytes(4, "big")) == []


@settings(deadline=None)
@given(data=st.lists(st.binary(max_size=100), max_size=20))
def test_the_unpacker_keeps_no_more_than_it_was_fed(data: list[bytes]) -> None:
    unpacker = Unpacker()
    try:
        payloads = [payload for piece in data for payload in unpacker.feed(piece)]
    except ValueError:
        return
    assert sum(map(len, payloads)) <= sum(map(len, data))
