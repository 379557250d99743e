"""The models that clients have made or pulled: one small JSON file each, which no crash leaves half written.

STORE/manifests/HOST/NAMESPACE/MODEL/TAG.json    in lower case, since names are compared without case
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any, Optional

import msgspec

from ..errors import BadRequest
from ..protocol.request import Message
from ..syntax.names import ModelName
from .disk import storing, sync, write_atomically

logger = logging.getLogger("vllm_wsgi.host")


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a model is made of: one of `declared`, `repository` and `files`, and what is set on top of it.

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
    files: dict[str, str] = {}
    adapters: dict[str, str] = {}
    template: str = ""
    system: Optional[str] = None
    license: list[str] = []
    options: dict[str, Any] = {}
    messages: list[Message] = []

    @property
    def blobs(self) -> set[str]:
        return {*self.files.values(), *self.adapters.values()}


class Manifests:
    """The manifests under `directory`, read once and kept in memory. Only one process may write them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._manifests = {ModelName.parse(each.name).key: each for each in self._read()}

    def all(self) -> list[Manifest]:
        return list(self._manifests.values())

    def find(self, name: ModelName) -> Manifest | None:
        return self._manifests.get(name.key)

    def write(self, manifest: Manifest) -> None:
        """Write or replace a manifest. Raises StoreFailure, and leaves the manifest of that name as it was."""
        name = ModelName.parse(manifest.name)
        with storing():
            write_atomically(self._path(name), msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        self._manifests[name.key] = manifest

    def delete(self, name: ModelName) -> None:
        """Remove a manifest if there is one. Raises StoreFailure."""
        with storing(), contextlib.suppress(FileNotFoundError):
            self._path(name).unlink()
            sync(self._path(name).parent)
        self._manifests.pop(name.key, None)

    def _path(self, name: ModelName) -> Path:
        host, namespace, model, tag = (part.lower() for part in (name.host, name.namespace, name.model, name.tag))
        return self._directory / host / namespace / model / f"{tag}.json"

    def _read(self) -> list[Manifest]:
        manifests = []
        for path in sorted(self._directory.glob("*/*/*/*.json")):
            try:
                manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
                if self._path(ModelName.parse(manifest.name)) != path:
                    raise ValueError(f"it belongs to {manifest.name}")
                manifests.append(manifest)
            except (OSError, ValueError, msgspec.MsgspecError, BadRequest) as error:
                logger.error("%s is left alone: it is not a valid manifest: %s", path, error)
        return manifests
