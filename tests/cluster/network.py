"""Machines with networks of their own, and the cable between them: what a real network does, and a test can undo.

Each machine is a network namespace with a TUN device. The wire is a thread that passes packets between these devices,
or does not: a cable that is pulled, packets that are late or lost, a direction that is dead. It needs no kernel module.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator

_TUNSETIFF, _IFF_TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Machine:
    """A network namespace with one address, on the wire."""

    def __init__(self, name: str, number: int) -> None:
        self.address = f"10.77.0.{number}"
        self._namespace = f"{name}-{uuid.uuid4().hex[:8]}"
        device = f"t{uuid.uuid4().hex[:8]}"
        _ip("netns", "add", self._namespace)
        try:
            self.tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(self.tun, _TUNSETIFF, struct.pack("16sH", device.encode(), _IFF_TUN_WITHOUT_HEADER))
            _ip("link", "set", "dev", device, "netns", self._namespace)
            _ip("-n", self._namespace, "address", "add", f"{self.address}/24", "dev", device)
            _ip("-n", self._namespace, "link", "set", device, "up")
            _ip("-n", self._namespace, "link", "set", "lo", "up")
        except BaseException:
            _ip("netns", "delete", self._namespace)
            raise

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread, and what it starts, is on the machine."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self._namespace}") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def close(self) -> None:
        os.close(self.tun)
        _ip("netns", "delete", self._namespace)


class Wire:
    """Passes packets between machines; the attributes may be changed at any time."""

    def __init__(self, machines: list[Machine]) -> None:
        self.repair()
        self._tuns = {each.address: each.tun for each in machines}
        self._late: list[tuple[float, int, int, bytes]] = []
        self._numbers = itertools.count()
        self._random = random.Random(17)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="wire")
        self._thread.start()

    def repair(self) -> None:
        """Pass everything at once from now on."""
        # In seconds, each way; the share of packets that are lost; the directions that are dead, from and to.
        self.delay, self.loss = 0.0, 0.0
        self.dead: set[tuple[str, str]] = set()

    def cut(self, one: Machine, other: Machine) -> None:
        """Lose all packets in both directions: nobody is sent a FIN or an error."""
        self.dead = {(one.address, other.address), (other.address, one.address)}

    def cut_one_way(self, sender: Machine, receiver: Machine) -> None:
        self.dead = {(sender.address, receiver.address)}

    def close(self) -> None:
        self._closed = True
        self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            now = time.monotonic()
            while self._late and self._late[0][0] <= now:
                _, _, tun, packet = heapq.heappop(self._late)
                # A device whose queue is full loses packets, as a real one does.
                with contextlib.suppress(OSError):
                    os.write(tun, packet)
            wait = min(0.1, self._late[0][0] - now) if self._late else 0.1
            for tun in select.select(list(self._tuns.values()), [], [], max(0.0, wait))[0]:
                with contextlib.suppress(BlockingIOError):
                    self._pass(os.read(tun, 1 << 16))

    def _pass(self, packet: bytes) -> None:
        # IPv4 (RFC 791) has its version in the first four bits, and its addresses from byte 12 on.
        if packet[0] >> 4 != 4:
            return
        sender, receiver = (".".join(map(str, packet[start : start + 4])) for start in (12, 16))
        if receiver not in self._tuns or (sender, receiver) in self.dead or self._random.random() < self.loss:
            return
        entry = (time.monotonic() + self.delay, next(self._numbers), self._tuns[receiver], packet)
        heapq.heappush(self._late, entry)


def why_not() -> str:
    """Return why no machines can be made here; empty when they can."""
    try:
        Machine("probe", 250).close()
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or error
        return f"network namespaces can't be made here: {said}".strip()
    return ""


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns failed")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
