"""How many bytes the stored responses of each owner take on disk, the oldest first.

In: a directory of responses, and what is added and removed. Out: the responses that no longer fit.
"""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path

import msgspec

# A file takes up whole blocks of the disk. In bytes.
BLOCK_BYTES = 4096
# A stored response begins with its owner. In bytes.
_HEAD_BYTES = 65536
_OWNER = re.compile(rb'\{"owner":("[^"\\]*(?:\\.[^"\\]*)*")')


class ResponseSizes:
    """The sizes of the responses in `directory`, which is read when they are first needed. Threads share it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._owners: dict[str, dict[str, int]] | None = None

    def add(self, id: str, owner: str, size: int, most: int) -> list[str]:
        """Add a response. Return the ids of the owner's oldest ones that must go for the rest to take `most` bytes."""
        with self._lock:
            responses = self._read().setdefault(owner, {})
            responses.pop(id, None)
            responses[id] = _on_disk(size)
            excess, oldest = sum(responses.values()) - most, []
            for each, bytes_ in responses.items():
                if excess <= 0 or each == id:
                    break
                oldest.append(each)
                excess -= bytes_
            for each in oldest:
                del responses[each]
            return oldest

    def remove(self, id: str, owner: str) -> None:
        """Remove a response."""
        with self._lock:
            if self._owners is not None:
                self._owners.get(owner, {}).pop(id, None)

    def forget(self) -> None:
        """Read the directory again when the sizes are next needed."""
        with self._lock:
            self._owners = None

    def _read(self) -> dict[str, dict[str, int]]:
        """Return the sizes by owner and by id. Raises OSError."""
        if self._owners is None:
            self._owners = {}
            found = []
            for path in self._directory.glob("resp_*.json"):
                # Another thread may have removed it.
                with contextlib.suppress(FileNotFoundError):
                    status = path.lstat()
                    found.append((status.st_mtime_ns, path, status.st_size))
            for _, path, size in sorted(found):
                if (owner := _owner(path)) is not None:
                    self._owners.setdefault(owner, {})[path.stem] = _on_disk(size)
        return self._owners


def _on_disk(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _owner(path: Path) -> str | None:
    """Return the owner of the response in a file, None for a damaged file."""
    try:
        with path.open("rb") as file:
            match = _OWNER.match(file.read(_HEAD_BYTES))
        return None if match is None else msgspec.json.decode(match[1], type=str)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None
