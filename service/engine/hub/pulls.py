"""Models from Hugging Face, in huggingface_hub's own cache: pulled, found and removed.

A pull is a child process (`download`) that everyone who asks for the same revision listens to, and that ends with the
last of them; what it has downloaded is gone on with by the next. Knows no names of models and no manifests.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from glob import escape
from pathlib import Path

import msgspec

from ...errors import BadRequest, ServiceError, Unavailable, Unsupported, revive
from ...version import module
from ..bell import Bell
from .needed_files import needed_files

_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?\Z", re.ASCII)
# A branch, a tag, a commit or "refs/pr/1". It becomes a path in the cache: no part of it begins with a dot.
_REVISION = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)*\Z", re.ASCII)
MAX_REVISION_BYTES = 200
INTERRUPTED = "the download was interrupted; pull again, and it goes on where it stopped"


class Layer(msgspec.Struct, tag=True, frozen=True):
    """How far a file is, in bytes; the small ones, which are in git, count as one. `digest` is `sha256:…`."""

    digest: str
    total: int
    completed: int


class Snapshot(msgspec.Struct, tag=True, frozen=True):
    """A revision that is complete in `directory`. `size` is in bytes; `downloaded`: some of them came just now."""

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
    """The pulls that go on now; what is complete is told by the cache alone."""

    def __init__(self) -> None:
        self._pulls: dict[tuple[str, str], _Pull] = {}

    async def pull(self, repository: str, revision: str = "main") -> AsyncGenerator[Layer | Snapshot, None]:
        """Every layer as it stands, then the newest of those that move, and at last the snapshot.

        Raises BadRequest for what is no repository's name or holds no weights, ModelNotFound, Unavailable where the
        hub, its terms or the disk say no, and Unsupported without huggingface_hub.
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
        """Who asks from now on begins anew, and waits for huggingface_hub's locks where that is necessary."""
        if self._pulls.get(pull.key) is pull:
            del self._pulls[pull.key]
        await pull.end()

    def directory(self, repository: str, revision: str = "main") -> Path | None:
        """Where the revision is complete in the cache; asks nobody. Raises BadRequest.

        A file is in a snapshot only when it is whole, and huggingface_hub keeps the list of a commit's files.
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
        """Take a commit out of the cache, less what other commits of the repository share with it.

        Raises BadRequest, and Unavailable while the repository is pulled.
        """
        _check(repository, commit)
        # The cache drops a repository with its last commit, and with it what is half downloaded.
        if any(pulled == repository for pulled, _ in self._pulls):
            raise Unavailable(f"'{repository}' is being pulled")
        await asyncio.to_thread(_remove, repository, commit)


def _check(repository: str, revision: str) -> None:
    """Both become paths and a process' arguments. Raises BadRequest."""
    if not _REPOSITORY.match(repository) or ".." in repository or "--" in repository or len(repository) > 96:
        raise BadRequest(f"'{repository}' is no name of a repository")
    if not _REVISION.match(revision) or ".." in revision or len(revision) > MAX_REVISION_BYTES:
        raise BadRequest(f"'{revision}' is no name of a revision")


def _remove(repository: str, commit: str) -> None:
    try:
        from huggingface_hub import constants, scan_cache_dir
        from huggingface_hub.errors import CacheNotFound
    except ImportError:
        return
    with suppress(CacheNotFound):
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
        # A copy of a repository has the same commits, and is to stay.
        ours = [each for each in cache.repos if (each.repo_type, each.repo_id) == ("model", repository)]
        replace(cache, repos=frozenset(ours)).delete_revisions(commit).execute()


class _Pull:
    """One child process and what it has told so far."""

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
        """What is new since the listener last asked, however long ago that is. Raises what the pull failed with."""
        told: dict[str, Layer] = {}
        while told != self._layers or self._outcome is None:
            if told == self._layers:
                await self._changed.rung()
            for digest in list(self._layers):
                layer = self._layers[digest]
                if told.get(digest) != layer:
                    told[digest] = layer
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
        finally:
            self._outcome = self._outcome or DownloadFailed.by(Unavailable(INTERRUPTED))
            self._changed.ring()

    async def _listen(self, repository: str, revision: str) -> None:
        """Until the child has ended, which it can at any moment without harm."""
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
