"""The models that clients have made or pulled, one small JSON file each, kept so that a crash leaves none half written.

STORE/manifests/HOST/NAMESPACE/MODEL/TAG.json    in lower case, since names are looked up so
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

import msgspec

from ..errors import BadRequest
from ..protocol.request import Message
from ..syntax.names import ModelName
from .disk import storing, sync, write_atomically

logger = logging.getLogger("vllm_wsgi.host")


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a model is made of: one of `declared`, `repository` and `files`, and what is set on top of it.

    `declared` names a model of the operator's, whose declaration holds for this one too; `repository` is on the hub, at
    the commit `revision`; `files` and `adapters` map paths to digests of blobs. `downloaded`: its files came for it.
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
    system: str | None = None
    license: list[str] = []
    options: dict[str, Any] = {}
    messages: list[Message] = []

    @property
    def blobs(self) -> set[str]:
        return {*self.files.values(), *self.adapters.values()}


class Manifests:
    """The manifests under `directory`, in memory as on disk. One process writes them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._manifests = {ModelName.parse(each.name).key: each for each in self._read()}

    def all(self) -> list[Manifest]:
        return list(self._manifests.values())

    def find(self, name: ModelName) -> Manifest | None:
        return self._manifests.get(name.key)

    def write(self, manifest: Manifest) -> None:
        """Raises StoreFailure; the manifest of that name is then as it was."""
        name = ModelName.parse(manifest.name)
        with storing():
            write_atomically(self._path(name), msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        self._manifests[name.key] = manifest

    def delete(self, name: ModelName) -> None:
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
                    raise ValueError(f"it is that of {manifest.name}")
                manifests.append(manifest)
            except (OSError, ValueError, msgspec.MsgspecError, BadRequest) as error:
                logger.error("%s is left alone, it is no manifest: %s", path, error)
        return manifests
