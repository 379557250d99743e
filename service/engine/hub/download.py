"""The child process of a pull: it puts one revision of a repository into huggingface_hub's cache.

`python -m service.engine.hub.download REPOSITORY REVISION PARENT` prints JSON lines: `Layer`s as it proceeds, at the
end `Snapshot` or `DownloadFailed`. It can be killed at any moment. huggingface_hub (2.4) begins an interrupted file
anew, so the files are fetched here, each into `blobs/ID.incomplete`, which the next run continues. A file gets its
final name only when it has the digest that the hub announced. Then huggingface_hub lays out the snapshot from the files
that are there. The revision points to it last of all, so that a model stays whole while it is updated.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from glob import escape
from io import BufferedRandom
from pathlib import Path
from typing import Any

import msgspec
from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers

from ...errors import BadRequest, InternalError, ModelNotFound, ServiceError, Unavailable
from ..parent_death import die_with_parent
from .needed_files import needed_files
from .pulls import DownloadFailed, Hub, Layer, Snapshot

logger = logging.getLogger("vllm_wsgi.hub")

FILES_AT_ONCE = 4
REPORT_SECONDS = 0.1
# How much of each file a kill loses, and the step of its progress; huggingface_hub's own is ten times as large.
CHUNK_BYTES = 1 << 20

_ID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")


@dataclass(frozen=True)
class RemoteFile:
    """One file's content. `id` names it in the cache: its SHA-256 for a file in LFS, otherwise git's SHA-1."""

    id: str
    size: int
    path: str

    @classmethod
    def of(cls, sibling: Any) -> RemoteFile:
        """Return the file of an entry of the hub's list. Raises Unavailable where the entry is not usable."""
        blob = cls(sibling.lfs.sha256 if sibling.lfs else sibling.blob_id, sibling.size, sibling.rfilename)
        if not _ID.match(blob.id or "") or blob.size is None:
            raise Unavailable(f"the hub's answer lacks the size or the digest of '{blob.path}'")
        return blob

    @property
    def is_large(self) -> bool:
        return len(self.id) == 64

    def is_in(self, file: BufferedRandom) -> bool:
        # Git hashes a header before the content (Pro Git, "Git Objects").
        new = hashlib.sha256 if self.is_large else lambda: hashlib.sha1(b"blob %d\0" % self.size)
        file.seek(0)
        return hashlib.file_digest(file, new).hexdigest() == self.id


class Download:
    """One revision. Every method may raise ServiceError, and what huggingface_hub raises."""

    def __init__(self, repository: str, revision: str) -> None:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
        if info.gated:
            # The hub lists a gated repository for everyone; this call fails when the token may not read it.
            HfApi().auth_check(repository)
        self._repository, self._revision, self._commit = repository, revision, str(info.sha)
        self._paths = needed_files([sibling.rfilename for sibling in info.siblings])
        if not self._paths:
            raise BadRequest(f"'{repository}' holds no weights that vLLM loads: safetensors, or PyTorch's")
        blobs = [RemoteFile.of(sibling) for sibling in info.siblings if sibling.rfilename in self._paths]
        # The same content may stand under several paths.
        self._blobs = {blob.id: blob for blob in blobs}
        self._printer = ProgressPrinter(self._blobs.values())
        cache, name = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=repository, repo_type="model")
        self._folder: Path = cache / name
        self._locks: Path = cache / ".locks" / name

    def run(self) -> Snapshot:
        missing = [blob for blob in self._blobs.values() if not self._place(blob).exists()]
        for directory in (self._folder / "blobs", self._locks):
            directory.mkdir(parents=True, exist_ok=True)
        self._check_room(missing)
        self._fetch_all(missing)
        patterns = [escape(path) for path in self._paths]
        directory = snapshot_download(self._repository, revision=self._commit, allow_patterns=patterns)
        if Hub().directory(self._repository, self._commit) is None:
            # When the hub can't be reached by now, huggingface_hub returns an incomplete snapshot.
            raise Unavailable("the hub can't be reached any more; pull again")
        self._printer.print(self._completed)
        self._point()
        return Snapshot(directory, self._commit, sum(blob.size for blob in self._blobs.values()), bool(missing))

    def _place(self, blob: RemoteFile, suffix: str = "") -> Path:
        return self._folder / "blobs" / f"{blob.id}{suffix}"

    def _completed(self, blob: RemoteFile) -> int:
        if self._place(blob).exists():
            return blob.size
        try:
            return min(self._place(blob, ".incomplete").stat().st_size, blob.size)
        except FileNotFoundError:
            # Not begun yet, or completed after the check above.
            return blob.size if self._place(blob).exists() else 0

    def _check_room(self, missing: list[RemoteFile]) -> None:
        """Raise Unavailable where the files do not fit: other programs write on that disk, too."""
        needed = sum(blob.size - self._completed(blob) for blob in missing)
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            has = f"the server's disk has {free / 1e9:.3g} GB left"
            raise Unavailable(f"the download needs {needed / 1e9:.3g} GB and {has}")

    def _fetch_all(self, missing: list[RemoteFile]) -> None:
        pool = ThreadPoolExecutor(FILES_AT_ONCE)
        # The hub serves larger files through Xet only. huggingface_hub fetches those, and begins them anew.
        pending = {pool.submit(self._fetch, blob) for blob in missing if blob.size <= constants.MAX_HTTP_DOWNLOAD_SIZE}
        self._printer.print(self._completed)
        while pending:
            done, pending = wait(pending, REPORT_SECONDS, FIRST_EXCEPTION)
            for future in done:
                future.result()
            self._printer.print(self._completed)

    def _fetch(self, blob: RemoteFile) -> None:
        """Fetch a blob into its place. Another process that uses huggingface_hub may be fetching it, too."""
        with WeakFileLock(self._locks / f"{blob.id}.lock"):
            if self._place(blob).exists():
                return
            partial = self._place(blob, ".incomplete")
            with partial.open("a+b") as file:
                self._fill(file, blob)
                os.fsync(file.fileno())
                intact = blob.is_in(file)
            if not intact:
                partial.unlink()
                raise Unavailable(f"'{blob.path}' did not arrive as the hub announced it; pull again")
            partial.replace(self._place(blob))

    def _fill(self, file: BufferedRandom, blob: RemoteFile) -> None:
        """Append to the file until it is whole. Connections are made anew for as long as each of them brings data."""
        url = hf_hub_url(self._repository, blob.path, revision=self._commit)
        if file.seek(0, os.SEEK_END) > blob.size:
            file.seek(file.truncate(0))
        while (had := file.tell()) < blob.size:
            try:
                http_get(url, file, resume_size=had, headers=build_hf_headers(), expected_size=blob.size)
            except HfHubHTTPError:
                raise
            except HTTPError:
                if file.tell() == had:
                    raise
        file.flush()

    def _point(self) -> None:
        """Point the branch or tag to the commit, as huggingface_hub does, in one atomic step."""
        if _COMMIT.match(self._revision):
            return
        ref = self._folder / "refs" / self._revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        new = ref.with_name(f"{ref.name}.{os.getpid()}.tmp")
        new.write_text(self._commit)
        new.replace(ref)


class ProgressPrinter:
    """Prints how far the layers are. Small files are one layer, since clients show a progress bar for each digest."""

    def __init__(self, blobs: Iterable[RemoteFile]) -> None:
        blobs = sorted(blobs, key=lambda blob: (blob.is_large, blob.path))
        small = hashlib.sha256("".join(blob.id for blob in blobs if not blob.is_large).encode()).hexdigest()
        self._layers: defaultdict[str, list[RemoteFile]] = defaultdict(list)
        for blob in blobs:
            self._layers[f"sha256:{blob.id if blob.is_large else small}"].append(blob)
        self._printed: dict[str, Layer] = {}

    def print(self, completed: Callable[[RemoteFile], int]) -> None:
        for digest, blobs in self._layers.items():
            layer = Layer(digest, sum(blob.size for blob in blobs), sum(map(completed, blobs)))
            if self._printed.get(digest) != layer:
                self._printed[digest] = layer
                print_record(layer)


def print_record(record: Layer | Snapshot | DownloadFailed) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(record) + b"\n")
    sys.stdout.buffer.flush()


def explain(error: Exception, repository: str, revision: str) -> ServiceError:
    """Return the error for the client: without URL, path or token. An unexpected one is logged with its trace."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, HFValidationError):
        return BadRequest(f"'{repository}' is not a valid repository name")
    if isinstance(error, HfHubHTTPError):
        return _refusal(error, repository, revision)
    if isinstance(error, OfflineModeIsEnabled):
        return Unavailable("this server is set to download nothing (HF_HUB_OFFLINE)")
    if isinstance(error, (HTTPError, LocalEntryNotFoundError)):
        logger.warning("%s: %s", repository, error)
        return Unavailable("the hub can't be reached; pull again, and the download goes on where it stopped")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable("the server's disk is full")
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Unavailable("the server may not write to its cache of models")
    logger.error("pulling %s failed", repository, exc_info=error)
    return InternalError()


def _refusal(error: HfHubHTTPError, repository: str, revision: str) -> ServiceError:
    """Return the error for a refusal of the hub's.

    A repository that this server's token can't open is a 404. The hub, too, does not distinguish private from unknown.
    """
    if isinstance(error, GatedRepoError):
        return ModelNotFound(f"'{repository}' is gated: the owner of this server's token has to accept its terms")
    if isinstance(error, (RepositoryNotFoundError, DisabledRepoError)):
        return ModelNotFound(f"the hub has no repository '{repository}', or none that this server's token opens")
    if isinstance(error, RevisionNotFoundError):
        return ModelNotFound(f"'{repository}' has no revision '{revision}'")
    if error.response.status_code in (401, 403):
        return Unavailable("the hub refuses this server's token")
    return Unavailable(f"the hub can't answer now (status {error.response.status_code})")


def main() -> None:
    repository, revision, parent = sys.argv[1:]
    die_with_parent(signal.SIGKILL, int(parent))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s download: %(message)s", datefmt="%H:%M:%S")
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    try:
        print_record(Download(repository, revision).run())
    except Exception as error:
        print_record(DownloadFailed.by(explain(error, repository, revision)))
    # Other files may be half downloaded, and their threads would continue.
    os._exit(0)


if __name__ == "__main__":
    main()
