from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from weakref import ref

import pytest

from service import fork

ROOT = Path(fork.__file__).parents[1]


class Counter:
    def __init__(self) -> None:
        self.renewed = 0

    def renew(self) -> None:
        self.renewed += 1


def test_every_object_is_renewed_once():
    counters = Counter(), Counter()
    for counter in counters:
        fork.renew_after_fork(counter)
        fork.renew_after_fork(counter)
    fork._renew_all()
    assert [counter.renewed for counter in counters] == [1, 1]


def test_the_guard_keeps_no_object_alive():
    counter = Counter()
    fork.renew_after_fork(counter)
    gone = ref(counter)
    del counter
    gc.collect()
    assert gone() is None


@pytest.mark.interpreter
def test_a_child_connects_anew_while_its_parent_keeps_its_connection(scratch: Path):
    """The parent holds a lock at the fork that its child must not wait for."""
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
        peer.sendall(pack([Hello()]))
        accepted.append(peer)
threading.Thread(target=serve, daemon=True).start()
connections = Connections("{scratch}/e.sock")
first = connections.control()
connections._starting.acquire()
child = os.fork()
if child == 0:
    anew = connections.control()
    connections.timer()
    os._exit(0 if anew is not first and not anew.closed else 1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), len(accepted), connections.control() is first, first.closed)
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("0 2 True False\n", "")
