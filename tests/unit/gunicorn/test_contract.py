"""Contracts with gunicorn and gevent: the worker replaces, extends or calls these, and expects them as they are here.

An upgrade that breaks one fails here with its name, and not in a stream. docs/development/upgrading.md says what to do.
"""

from __future__ import annotations

import inspect
import io
from typing import Any

import gevent
import gevent.server
import gevent.socket
import pytest
from gunicorn import util
from gunicorn.arbiter import Arbiter
from gunicorn.config import Postfork
from gunicorn.http import wsgi
from gunicorn.http.body import Body, ChunkedReader, LengthReader
from gunicorn.http.message import Message, Request
from gunicorn.http.unreader import IterUnreader, SocketUnreader
from gunicorn.http.wsgi import Response
from gunicorn.workers import base, base_async, ggevent

from service.gunicorn import conf, request_rules, response, worker


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("owner", "name", "expected"),
    [
        # Replaced.
        (util, "write_error", ["sock", "status_int", "reason", "mesg"]),
        (util, "write", ["sock", "data", "chunked"]),
        (util, "write_chunk", ["sock", "data"]),
        (Message, "should_close", ["self"]),
        (Request, "set_body_reader", ["self"]),
        (SocketUnreader, "chunk", ["self", "size_hint"]),
        # Extended.
        (ggevent.GeventWorker, "init_process", ["self"]),
        (ggevent.GeventWorker, "handle", ["self", "listener", "client", "addr"]),
        (ggevent.GeventWorker, "timeout_ctx", ["self"]),
        (ggevent.GeventWorker, "handle_request", ["self", "listener_name", "req", "sock", "addr"]),
        (base.Worker, "handle_exit", ["self", "sig", "frame"]),
        (base.Worker, "load_wsgi", ["self"]),
        (ggevent, "StreamServer", ["listener", "handle", "backlog", "spawn", "ssl_args"]),
        # Called.
        (util, "write_nonblock", ["sock", "data", "chunked"]),
        (gevent.Greenlet, "throw", None),
        (gevent.Timeout, "__init__", ["self", "seconds", "exception", "ref", "priority", "_one_shot"]),
        (Arbiter, "LISTENERS", None),
    ],
)  # fmt: skip
def test_what_the_worker_uses_is_there(owner: Any, name: str, expected: list[str] | None):
    found = getattr(owner, name)
    if expected is not None:
        assert parameters(found)[: len(expected)] == expected


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (response.write, util.write),
        (response.write_chunk, util.write_chunk),
        (worker.write_json_error, util.write_error),
        (request_rules.should_close, Message.should_close),
        (request_rules.set_body_reader, Request.set_body_reader),
    ],
)
def test_a_replacement_takes_what_it_replaces_takes(ours: Any, theirs: Any):
    assert len(parameters(ours)) == len(parameters(theirs))


def test_gunicorn_looks_up_in_its_module_what_is_replaced():
    """A `from util import write` would keep gunicorn's own."""
    assert "util.write(" in inspect.getsource(Response)
    assert "util.write_chunk(" in inspect.getsource(Response)
    assert "util.write_error(" in inspect.getsource(base)
    assert "StreamServer(" in inspect.getsource(ggevent.GeventWorker.run)
    assert "self.timeout_ctx()" in inspect.getsource(base_async.AsyncWorker.handle)
    assert "should_close()" in inspect.getsource(Response)


def test_a_body_says_whether_reading_it_failed():
    assert issubclass(Request, Message)
    assert Body(io.BytesIO()).failed is False


def test_a_body_with_a_length_counts_it_down():
    reader = LengthReader(IterUnreader([b"abcd"]), 4)
    Body(reader).read(3)
    assert reader.length == 0 or reader.length == 1
    assert not hasattr(ChunkedReader(None, IterUnreader([])), "length")


def test_a_request_has_a_version_and_headers_when_its_body_is_looked_for():
    source = inspect.getsource(Message.__init__)
    assert source.index("self.parse(") < source.index("self.set_body_reader()")


def test_an_unreader_has_the_sizes_that_the_worker_asks_for():
    ours, theirs = gevent.socket.socketpair()
    unreader = SocketUnreader(ours)
    assert worker._chunk_size(unreader, None) == unreader.mxchunk
    ours.close()
    theirs.close()


def test_a_gevent_socket_has_the_systems_socket_inside():
    ours, theirs = gevent.socket.socketpair()
    assert ours._sock.fileno() == ours.fileno()
    ours.close()
    theirs.close()


def test_a_response_has_what_the_fast_path_of_a_stream_needs():
    source = inspect.getsource(base_async.AsyncWorker.handle_request)
    assert "self.wsgi(environ, resp.start_response)" in source
    assert "for item in respiter" in source
    assert "self.sent +=" in inspect.getsource(Response.write)
    assert "util.write(self.sock, data, self.chunked)" in inspect.getsource(Response._emit_body)
    assert "self.send_headers()" in inspect.getsource(Response.write)
    assert "Response" in inspect.getsource(wsgi.create)
    ours, theirs = gevent.socket.socketpair()
    response = Response(None, ours, None)
    assert (response.sock, response.chunked, response.sent) == (ours, False, 0)
    assert response.start_response.__self__ is response
    ours.close()
    theirs.close()


def test_the_hub_runs_callbacks():
    called: list[int] = []
    gevent.get_hub().loop.run_callback(called.append, 1)
    gevent.sleep(0)
    assert called == [1]


def test_a_stream_server_that_takes_tls_says_so():
    server = gevent.server.StreamServer(("127.0.0.1", 0), lambda *_: None)
    assert server.ssl_enabled is False


@pytest.mark.parametrize("name", ["on_starting", "when_ready", "post_worker_init", "on_exit", "worker_int"])
def test_gunicorn_calls_each_hook_with_one_argument(name: str):
    assert len(parameters(getattr(conf, name))) == 1


def test_gunicorn_calls_post_fork_with_the_master_and_the_worker():
    assert len(parameters(conf.post_fork)) == len(parameters(Postfork.default)) == 2
