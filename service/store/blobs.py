"""Uploaded files, each under the SHA-256 of its content, and the directories of links that make models of them.

STORE/blobs/sha256-DIGEST      a whole file
STORE/blobs/partial-UPLOAD     an upload that has not ended
STORE/files/DIGEST/PATH        a hard link to a blob; DIGEST is that of the paths and their blobs
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from ..errors import BadRequest, StoreFailure
from .disk import is_own_file, storing, sync

logger = logging.getLogger("vllm_wsgi.host")

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})\Z")
_UPLOAD = re.compile(r"[0-9a-f]{32}\Z")
# How long a blob is kept that no model uses. A client needs one command between its upload and its model.
UNUSED_SECONDS = 24 * 3600.0
# Of a small disk, this part is left free at most.
RESERVED_PART = 20


class Blobs:
    """The blobs under `store`. Only one process may write them. Each method that writes may raise StoreFailure.

    Uploads leave `reserve` bytes of the disk free, or a twentieth of it where that is less.
    """

    def __init__(self, store: Path, reserve: int = 0) -> None:
        self._reserve = reserve
        self._blobs = store / "blobs"
        self._files = store / "files"
        self._uploads: dict[str, Any] = {}
        # By the blob's name: when a client was last sent that it is there. In seconds since the epoch.
        self._told: dict[str, float] = {}

    def path(self, digest: str) -> Path:
        """Return the path of the blob, whether it exists or not. Raises BadRequest for an invalid digest."""
        match = _DIGEST.match(digest)
        if match is None:
            raise BadRequest("invalid digest format")
        return self._blobs / f"sha256-{match[1]}"

    def has(self, digest: str) -> bool:
        """Return whether the blob is there, whole. Raises BadRequest for an invalid digest."""
        path = self.path(digest)
        is_there = is_own_file(path)
        if is_there:
            self._told[path.name] = time.time()
        return is_there

    def put(self, upload: str, digest: str, data: bytes, last: bool) -> bool:
        """Append to the upload, and return whether the blob is whole now. Raises BadRequest for a wrong digest."""
        path = self.path(digest)
        if not _UPLOAD.match(upload):
            raise BadRequest("invalid upload")
        partial = self._blobs / f"partial-{upload}"
        hashed = self._uploads.setdefault(upload, hashlib.sha256())
        with storing():
            self._blobs.mkdir(parents=True, exist_ok=True)
            self._check_room(len(data))
            with partial.open("ab") as file:
                file.write(data)
                if last:
                    file.flush()
                    os.fsync(file.fileno())
        hashed.update(data)
        if last:
            self._finish(upload, partial, path)
        return last

    def _check_room(self, size: int) -> None:
        """Raise StoreFailure where so many more bytes would leave too few free. Others need the disk, too."""
        if not self._reserve:
            return
        disk = shutil.disk_usage(self._blobs)
        reserve = min(self._reserve, disk.total // RESERVED_PART)
        if size and disk.free - size < reserve:
            raise StoreFailure(
                f"the model store has {disk.free / 1e9:.3g} GB left, and uploads leave {reserve / 1e9:.3g} GB free "
                "(VLLM_WSGI_STORE_RESERVE): delete models that are not needed, or ask the operator for a larger disk"
            )

    def drop(self, upload: str) -> None:
        """Remove an upload that its client has given up."""
        if self._uploads.pop(upload, None) is not None:
            with contextlib.suppress(OSError):
                (self._blobs / f"partial-{upload}").unlink()

    def _finish(self, upload: str, partial: Path, path: Path) -> None:
        actual = f"sha256-{self._uploads.pop(upload).hexdigest()}"
        with storing():
            if actual != path.name:
                partial.unlink()
                wanted, got = (name.replace("-", ":") for name in (path.name, actual))
                raise BadRequest(f'digest mismatch, expected "{wanted}", got "{got}"')
            os.replace(partial, path)
            sync(self._blobs)

    def directory(self, files: dict[str, str]) -> Path:
        """Return the path of the directory with `files` (paths to digests), whether it exists or not."""
        pairs = json.dumps(sorted((path, self.path(digest).name) for path, digest in files.items()))
        return self._files / hashlib.sha256(pairs.encode()).hexdigest()

    def assemble(self, files: dict[str, str]) -> Path:
        """Return that directory, and make it if need be: whole or not at all. Raises BadRequest for a missing blob."""
        directory = self.directory(files)
        if self._is_whole(directory, files):
            return directory
        for digest in files.values():
            if not self.has(digest):
                raise BadRequest(f'blob "{digest}" not found')
        with storing():
            self._files.mkdir(parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(dir=self._files, prefix="."))
            try:
                for path, digest in files.items():
                    (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
                    os.link(self.path(digest), unfinished / path)
                _remove(directory)
                os.replace(unfinished, directory)
            except (FileExistsError, NotADirectoryError):
                shutil.rmtree(unfinished, ignore_errors=True)
                raise BadRequest(f"two files of the model have one path: {path}") from None
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
            sync(self._files)
        return directory

    def _is_whole(self, directory: Path, files: dict[str, str]) -> bool:
        """Return whether all files are in the directory itself, and not behind a symbolic link."""
        real = os.path.realpath(self._files)
        return all(
            is_own_file(directory / path) and os.path.realpath(directory / path) == f"{real}/{directory.name}/{path}"
            for path in files
        )

    def dismantle(self, files: dict[str, str], kept: list[dict[str, str]]) -> None:
        """Remove the directory of `files`, and leave its blobs. `kept` are the files of all models."""
        if files and files not in kept:
            with contextlib.suppress(OSError):
                _remove(self.directory(files))

    def discard(self, files: dict[str, str], kept: list[dict[str, str]]) -> None:
        """Remove the directory of `files`, and those of its blobs that none of the `kept` models uses.

        A blob that can't be removed is logged; `sweep` tries again at the next start.
        """
        if not files or files in kept:
            return
        held = {self.path(digest) for each in kept for digest in each.values()}
        self.dismantle(files, kept)
        for blob in {self.path(digest) for digest in files.values()} - held:
            try:
                blob.unlink(missing_ok=True)
            except OSError as error:
                logger.error("a blob can't be removed: %s", error)

    def expire(self, kept: list[dict[str, str]], now: float) -> None:
        """Remove blobs and unfinished uploads that no model uses, and to which nothing was written for a day.

        A client that got an answer about a blob within a day need not upload it, and may be about to use it.

        `kept` are the files of all models, `now` is in seconds. Uploads may run meanwhile.
        """
        blobs = {self.path(digest) for files in kept for digest in files.values()}
        for blob in _listed(self._blobs):
            with contextlib.suppress(OSError):
                used_at = max(blob.lstat().st_mtime, self._told.get(blob.name, 0.0))
                if blob not in blobs and now - used_at > UNUSED_SECONDS:
                    self._uploads.pop(blob.name.removeprefix("partial-"), None)
                    _remove(blob)
        for name, told_at in list(self._told.items()):
            if now - told_at > UNUSED_SECONDS:
                self._told.pop(name, None)

    def sweep(self, kept: list[dict[str, str]], now: float) -> None:
        """Remove the leftovers of crashes, and blobs of which no model was made within a day.

        Call it at the start, before any upload. `kept` are the files of all models, `now` is in seconds.
        """
        directories = {self.directory(files) for files in kept}
        for directory in _listed(self._files):
            if directory not in directories:
                with contextlib.suppress(OSError):
                    _remove(directory)
        for partial in self._blobs.glob("partial-*"):
            with contextlib.suppress(OSError):
                _remove(partial)
        self.expire(kept, now)


def _listed(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _remove(path: Path) -> None:
    """Remove a file, a symbolic link, or a directory with its content, if it exists. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
