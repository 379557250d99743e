"""The responses that clients asked to keep: STORE/responses/ID.json, each with its owner, until it is too old.

Here a response is JSON, an owner and an age; its dialect knows what it holds. Its owner alone can see it: for every
other caller it does not exist.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from pathlib import Path

import msgspec

from ..errors import PayloadTooLarge, ResponseNotFound, StoreFailure
from .disk import is_own_file, storing, sync, write_atomically
from .response_sizes import ResponseSizes

logger = logging.getLogger("vllm_wsgi.host")

DAY_SECONDS = 24 * 60 * 60
# Only an id of this form becomes a path.
_ID = re.compile(r"resp_[0-9a-f]{24}")


class _ResponseFile(msgspec.Struct):
    owner: str
    stored: msgspec.Raw


class Responses:
    """The responses under `store`.

    Each is kept for `days` days and has at most `max_bytes`; with `days` 0 none is stored. Those of an owner take at
    most `owner_bytes` on disk, where 0 is no limit. Every method that takes an id may raise StoreFailure.
    """

    def __init__(self, store: Path, days: int, max_bytes: int, owner_bytes: int = 0) -> None:
        self._directory = store / "responses"
        self._days = days
        self._max_bytes = max_bytes
        self._owner_bytes = owner_bytes
        self._sizes = ResponseSizes(self._directory)

    def store(self, id: str, owner: str, data: bytes) -> None:
        """Keep `data`, which is JSON, for its owner. The owner's oldest responses go where they would take too much.

        Raises PayloadTooLarge.
        """
        if self._days == 0:
            raise StoreFailure("this server stores no responses")
        if len(data) > self._max_bytes:
            raise PayloadTooLarge(f"the conversation is longer than {self._max_bytes} bytes and can't be stored")
        path, file = self._path(id), msgspec.json.encode(_ResponseFile(owner, msgspec.Raw(data)))
        with storing():
            write_atomically(path, file)
            if self._owner_bytes:
                self._drop_oldest(self._sizes.add(id, owner, len(file), self._owner_bytes), owner)

    def fetch(self, id: str, owner: str) -> bytes:
        """Return the stored JSON. Raises ResponseNotFound, for another owner's response too."""
        with storing():
            file = self._read(self._path(id))
        if file is None or file.owner != owner:
            raise _not_found(id)
        return bytes(file.stored)

    def drop(self, id: str, owner: str) -> None:
        """Remove a response. Raises ResponseNotFound."""
        self.fetch(id, owner)
        with storing(), contextlib.suppress(FileNotFoundError):
            self._path(id).unlink()
            sync(self._directory)
        self._sizes.remove(id, owner)

    def prune(self) -> None:
        """Remove responses that are too old, and half written files of a crash once they are as old."""
        try:
            for path in self._directory.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if self._is_too_old(path):
                        path.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.error("old responses can't be removed: %s", error)
        self._sizes.forget()

    def _drop_oldest(self, ids: list[str], owner: str) -> None:
        for each in ids:
            self._path(each).unlink(missing_ok=True)
        if ids:
            limit = f"VLLM_WSGI_RESPONSES_BYTES allows {self._owner_bytes}"
            logger.info("the oldest responses of the key %r are deleted, %d of them: %s", owner, len(ids), limit)

    def _read(self, path: Path) -> _ResponseFile | None:
        """Return the response in a file, None for a damaged file. Raises OSError."""
        try:
            if self._is_too_old(path) or not is_own_file(path):
                return None
            return msgspec.json.decode(path.read_bytes(), type=_ResponseFile)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            logger.error("%s is left alone: it is not a stored response: %s", path, error)
            return None

    def _is_too_old(self, path: Path) -> bool:
        return path.lstat().st_mtime <= time.time() - self._days * DAY_SECONDS

    def _path(self, id: str) -> Path:
        if not _ID.fullmatch(id):
            raise _not_found(id)
        return self._directory / f"{id}.json"


def _not_found(id: str) -> ResponseNotFound:
    return ResponseNotFound(f"Response with id '{id}' not found.")
