"""One thing for each process: made once, and made again in a child."""

from __future__ import annotations

import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Barrier
from weakref import ref

import pytest

from service.engine_client import per_process
from service.engine_client.per_process import PerProcess

ROOT = Path(per_process.__file__).parents[2]


def test_threads_that_ask_at_once_get_the_same_thing():
    made, barrier = count(), Barrier(8)
    thing = PerProcess(lambda: next(made))

    def ask() -> int:
        barrier.wait(120)
        return thing.get()

    with ThreadPoolExecutor(8) as pool:
        assert {each.result() for each in [pool.submit(ask) for _ in range(8)]} == {0}


def test_a_child_makes_its_own():
    made = count()
    thing = PerProcess(lambda: next(made))
    assert thing.get() == thing.get() == 0
    per_process._forget_all()
    assert thing.get() == 1


def test_the_guard_keeps_no_object_alive():
    thing = PerProcess(object)
    gone = ref(thing)
    del thing
    gc.collect()
    assert gone() is None


@pytest.mark.interpreter
def test_a_child_connects_anew_while_its_parent_keeps_its_connection(scratch: Path):
    """At the fork a thread of the parent holds a lock, for which the child must not wait."""
    program = f"""
import os, socket, threading
from service.engine_client.connections import Connections
from service.protocol.events import Hello
from service.protocol.wire import pack
listener = socket.socket(socket.AF_UNIX)
listener.bind("{scratch}/e.sock")
listener.listen()
accepted = []
def serve():
    while True:
        peer, _ = listener.accept()
        accepted.append(peer)
        peer.sendall(pack([Hello()]))
threading.Thread(target=serve, daemon=True).start()
connections = Connections("{scratch}/e.sock")
first = connections.control()
connections._timer._locks.setdefault("making", threading.Lock()).acquire()
child = os.fork()
if child == 0:
    anew = connections.control()
    connections.timer()
    os._exit(0 if anew is not first and not anew.closed else 1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), len(accepted), connections.control() is first, first.closed)
"""
    # From Python 3.12 on, a fork beside threads is warned of; this test is about such a fork.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ran.stdout, ran.stderr) == ("0 2 True False\n", "")


def test_what_can_not_be_made_is_tried_again():
    tries = iter([ZeroDivisionError, None])

    def make() -> str:
        if error := next(tries):
            raise error
        return "made"

    thing = PerProcess(make)
    with pytest.raises(ZeroDivisionError):
        thing.get()
    assert thing.get() == "made"
