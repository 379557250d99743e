from __future__ import annotations

import os
import socket
from queue import SimpleQueue

import pytest

from service.engine_client.disconnect import Watch


def test_each_callback_of_a_socket_is_called_once_when_its_peer_closes_it():
    ours, theirs = socket.socketpair()
    called: SimpleQueue[str] = SimpleQueue()
    with ours:
        watch = Watch()
        watch.add(ours.fileno(), lambda: called.put("a"))
        watch.add(ours.fileno(), lambda: called.put("b"))
        theirs.close()
        assert {called.get(), called.get()} == {"a", "b"}
    assert called.empty()


def test_a_socket_with_the_number_of_one_that_was_closed_unwatched_is_watched_itself():
    former, formers_peer = socket.socketpair()
    ours, theirs = socket.socketpair()
    called: SimpleQueue[str] = SimpleQueue()
    watch = Watch()
    with former, formers_peer, ours:
        watch.add(former.fileno(), lambda: called.put("former"))
        # Closes the former socket, whose number the other one gets.
        os.dup2(ours.fileno(), former.fileno())
        watch.add(former.fileno(), lambda: called.put("new"))
        theirs.close()
        assert called.get() == "new"
    assert called.empty()


def test_a_closed_socket_is_refused_and_its_number_can_be_watched_later():
    watch = Watch()
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    ours.close()
    with theirs, pytest.raises(OSError, match="Bad file descriptor"):
        watch.add(number, lambda: None)
