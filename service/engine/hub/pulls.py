"""Models from Hugging Face, in huggingface_hub's own cache: pulled, found and removed.

A pull is a child process (`download`), whose progress is read here. All clients that ask for the same revision follow
the same one, and it ends with the last of them. The next pull continues with what is on disk. This module knows no
model names and no manifests.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from glob import escape
from pathlib import Path

import msgspec

from ...errors import BadRequest, InternalError, ServiceError, Unavailable, Unsupported, revive
from ...version import module
from ..bell import Bell
from .needed_files import needed_files

logger = logging.getLogger("vllm_wsgi.hub")

_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?\Z", re.ASCII)
# A branch, a tag, a commit or "refs/pr/1". It becomes a path in the cache: no part of it begins with a dot.
_REVISION = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)*\Z", re.ASCII)
MAX_REVISION_BYTES = 200
INTERRUPTED = "the download was interrupted; pull again, and it goes on where it stopped"


class Layer(msgspec.Struct, tag=True, frozen=True):
    """How much of a file is on disk, in bytes. Small files, which are in git, count as one. `digest` is `sha256:…`."""

    digest: str
    total: int
    completed: int


class Snapshot(msgspec.Struct, tag=True, frozen=True):
    """A revision that is complete in `directory`.

    `size` is in bytes; `downloaded` says whether this pull had to fetch any of its files.
    """

    directory: str
    commit: str
    size: int
    downloaded: bool


class DownloadFailed(msgspec.Struct, tag=True, frozen=True):
    """A ServiceError, as it leaves the child process."""

    kind: str
    message: str
    retry_after: int | None

    @classmethod
    def by(cls, error: ServiceError) -> DownloadFailed:
        return cls(error.kind, error.message, error.retry_after)


_decoder = msgspec.json.Decoder(Layer | Snapshot | DownloadFailed)


class Hub:
    """The pulls that run now. Whether a revision is complete is read from the cache each time."""

    def __init__(self) -> None:
        self._pulls: dict[tuple[str, str], _Pull] = {}

    async def pull(self, repository: str, revision: str = "main") -> AsyncGenerator[Layer | Snapshot, None]:
        """Yield every layer as it stands, then each layer that has changed, and at last the snapshot.

        Raises BadRequest for an invalid name and for a repository without weights, ModelNotFound, Unavailable where
        the hub refuses or the disk is full, and Unsupported where huggingface_hub is not installed.
        """
        _check(repository, revision)
        if importlib.util.find_spec("huggingface_hub") is None:
            raise Unsupported("this server can't pull models: huggingface_hub is not installed")
        pull = self._join(repository, revision)
        try:
            async with aclosing(pull.follow()) as records:
                async for record in records:
                    yield record
        finally:
            pull.listeners -= 1
            if not pull.listeners:
                await self._end(pull)

    def _join(self, repository: str, revision: str) -> _Pull:
        pull = self._pulls.get((repository, revision))
        if pull is None or pull.is_over:
            pull = self._pulls[repository, revision] = _Pull(repository, revision)
        pull.listeners += 1
        return pull

    async def _end(self, pull: _Pull) -> None:
        """End a pull without listeners. A later one starts anew, and waits for huggingface_hub's locks if it must."""
        if self._pulls.get(pull.key) is pull:
            del self._pulls[pull.key]
        await pull.end()

    def directory(self, repository: str, revision: str = "main") -> Path | None:
        """Return the directory of a revision that is complete in the cache, or None; asks no hub. Raises BadRequest.

        A snapshot holds whole files only, and huggingface_hub keeps the list of a commit's files.
        """
        _check(repository, revision)
        try:
            from huggingface_hub import get_cached_repo_tree, snapshot_download
            from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError
        except ImportError:
            return None
        try:
            paths = needed_files([file.path for file in get_cached_repo_tree(repository, revision=revision)])
            if not paths:
                return None
            patterns = [escape(path) for path in paths]
            return Path(
                snapshot_download(repository, revision=revision, local_files_only=True, allow_patterns=patterns)
            )
        except (CachedRepoTreeNotFoundError, LocalEntryNotFoundError):
            return None

    async def remove(self, repository: str, commit: str) -> None:
        """Remove a commit from the cache, but not the files that other commits of the repository share with it.

        Raises BadRequest, and Unavailable while the repository is pulled.
        """
        _check(repository, commit)
        # With its last commit the cache drops the whole repository, half downloaded files included.
        if any(pulled == repository for pulled, _ in self._pulls):
            raise Unavailable(f"'{repository}' is being pulled")
        await asyncio.to_thread(_remove, repository, commit)


def _check(repository: str, revision: str) -> None:
    """Raise BadRequest for a name that may not become a path or an argument of a process."""
    if not _REPOSITORY.match(repository) or ".." in repository or "--" in repository or len(repository) > 96:
        raise BadRequest(f"'{repository}' is not a valid repository name")
    if not _REVISION.match(revision) or ".." in revision or len(revision) > MAX_REVISION_BYTES:
        raise BadRequest(f"'{revision}' is not a valid revision")


def _remove(repository: str, commit: str) -> None:
    try:
        from huggingface_hub import constants, scan_cache_dir
        from huggingface_hub.errors import CacheNotFound
    except ImportError:
        return
    with suppress(CacheNotFound):
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
        # A copy of the repository under another name has the same commits, and must stay.
        ours = [each for each in cache.repos if (each.repo_type, each.repo_id) == ("model", repository)]
        replace(cache, repos=frozenset(ours)).delete_revisions(commit).execute()


class _Pull:
    """One child process and what it has reported so far."""

    def __init__(self, repository: str, revision: str) -> None:
        self.key = repository, revision
        self.listeners = 0
        self._layers: dict[str, Layer] = {}
        self._outcome: Snapshot | DownloadFailed | None = None
        self._changed = Bell()
        self._running = asyncio.create_task(self._run(repository, revision))

    @property
    def is_over(self) -> bool:
        return self._outcome is not None

    async def follow(self) -> AsyncGenerator[Layer | Snapshot, None]:
        """Yield what has changed since the listener's last step. Raises the error that the pull failed with."""
        seen: dict[str, Layer] = {}
        while seen != self._layers or self._outcome is None:
            if seen == self._layers:
                await self._changed.rung()
            for digest in list(self._layers):
                layer = self._layers[digest]
                if seen.get(digest) != layer:
                    seen[digest] = layer
                    yield layer
        if isinstance(self._outcome, DownloadFailed):
            raise revive(self._outcome.kind, self._outcome.message, self._outcome.retry_after)
        yield self._outcome

    async def end(self) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])

    async def _run(self, repository: str, revision: str) -> None:
        try:
            await self._listen(repository, revision)
        except OSError as error:
            self._outcome = DownloadFailed.by(Unavailable(f"the download can't be started: {error.strerror}"))
        except (ValueError, msgspec.MsgspecError):
            logger.exception("the download of %s wrote a line that can't be read", repository)
            self._outcome = DownloadFailed.by(InternalError())
        finally:
            self._outcome = self._outcome or DownloadFailed.by(Unavailable(INTERRUPTED))
            self._changed.ring()

    async def _listen(self, repository: str, revision: str) -> None:
        """Read the child's lines until it ends. It can be killed at any moment without harm."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module("engine.hub.download"), repository, revision, str(os.getpid()),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, start_new_session=True,
            env={"HF_HUB_DISABLE_TELEMETRY": "1"} | os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        )  # fmt: skip
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                record = _decoder.decode(line)
                if isinstance(record, Layer):
                    self._layers[record.digest] = record
                else:
                    self._outcome = record
                self._changed.ring()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
