"""The models that clients have made or pulled: one small JSON file each, which no crash leaves half written.

STORE/manifests/HOST/NAMESPACE/MODEL/TAG.json    in lower case, since names are compared without case
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Annotated, Any, Optional

import msgspec

from ..errors import BadRequest
from ..protocol.request import Message
from ..syntax.names import ModelName
from .disk import is_own_file, storing, sync, write_atomically

logger = logging.getLogger("vllm_wsgi.host")


Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256[:-][0-9a-f]{64}\Z")]


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The parts of a model: one of `declared`, `repository` and `files`, and what is set on top of it.

    `declared` names a model of the operator's, whose declaration holds for this one too. `repository` is on the hub, at
    the commit `revision`. `files` and `adapters` map paths to digests of blobs. `downloaded` says whether a pull of
    this model fetched its files, so that they may be removed with it.
    """

    name: str
    made_at: float
    parent: str = ""
    declared: str = ""
    repository: str = ""
    revision: str = ""
    downloaded: bool = False
    files: dict[str, Digest] = {}
    adapters: dict[str, Digest] = {}
    template: str = ""
    system: Optional[str] = None
    license: list[str] = []
    options: dict[str, Any] = {}
    messages: list[Message] = []


class Manifests:
    """The manifests under `directory`, read once and kept in memory. Only one process may write them.

    `damaged` maps the models whose files are not valid manifests to the reasons. Those files are left alone.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._manifests: dict[str, Manifest] = {}
        self.damaged: dict[str, str] = {}
        self._read()

    def all(self) -> list[Manifest]:
        """Return all valid manifests."""
        return list(self._manifests.values())

    def find(self, name: ModelName) -> Manifest | None:
        """Return the manifest of that name; None when there is none, or a damaged one."""
        return self._manifests.get(name.key)

    def write(self, manifest: Manifest) -> None:
        """Write or replace a manifest. Raises StoreFailure, and leaves the manifest of that name as it was."""
        name = ModelName.parse(manifest.name)
        with storing():
            write_atomically(self._path(name), msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        self._manifests[name.key] = manifest
        self.damaged.pop(name.key, None)

    def delete(self, name: ModelName) -> None:
        """Remove a manifest if there is one, a damaged one too. Raises StoreFailure."""
        with storing(), contextlib.suppress(FileNotFoundError):
            self._path(name).unlink()
            sync(self._path(name).parent)
        self._manifests.pop(name.key, None)
        self.damaged.pop(name.key, None)

    def _path(self, name: ModelName) -> Path:
        host, namespace, model, tag = (part.lower() for part in (name.host, name.namespace, name.model, name.tag))
        return self._directory / host / namespace / model / f"{tag}.json"

    def _read(self) -> None:
        """Read every file. An error in one does not keep the others from being read."""
        for path in sorted(self._directory.glob("*/*/*/*.json")):
            try:
                name = self._name(path)
            except BadRequest as error:
                logger.error("%s is left alone: %s", path, error.message)
                continue
            try:
                self._manifests[name.key] = self._manifest(path)
            except Exception as error:
                logger.error("%s is left alone: it is not a valid manifest: %s", path, error)
                self.damaged[name.key] = f"its manifest can't be read: {error}"

    def _manifest(self, path: Path) -> Manifest:
        """Raises whatever a damaged file may raise."""
        if not is_own_file(path):
            raise ValueError("it is not a regular file")
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        if self._path(ModelName.parse(manifest.name)) != path:
            raise ValueError(f"it belongs to {manifest.name}")
        return manifest

    def _name(self, path: Path) -> ModelName:
        """Return the name of the model whose manifest is at `path`. Raises BadRequest."""
        host, namespace, model, file = path.relative_to(self._directory).parts
        return ModelName.parse(f"{host}/{namespace}/{model}:{file.removesuffix('.json')}")
