"""Models that clients create, copy, pull and delete. Each is a manifest in the store, which becomes a Model here.

Reads and writes the store's files; knows neither sockets nor engines.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from ..errors import BadRequest, Forbidden, ModelNotFound, Unsupported
from ..protocol.model_info import Recipe
from ..store.blobs import Blobs
from ..store.manifests import Manifest, Manifests
from ..syntax import go_template
from ..syntax.names import DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG, ModelName
from ..syntax.options import NAMES, parse_options
from .declaration import HUGGING_FACE
from .inspection import prove
from .model import Model
from .model_files import AdapterConfig, convert, read_json

# The files that a model may consist of. Weights in other formats can hold code (pickle) or vLLM can't load them (GGUF).
SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja", ".tiktoken", ".md")
# vLLM's `MaxLoRARanks` (`vllm/config/lora.py`).
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
DEFAULT_LORA_RANK = 16
# How many adapters an engine computes side by side. Each takes a share of the GPU's memory. vLLM's default is one, and
# while one client uses its adapter, all clients of others wait then.
ADAPTERS_AT_ONCE = 4
MAIN = "main"
# Common file systems take a name of 255 bytes. A path this long leaves room for the store's own path (Linux' PATH_MAX
# is 4096).
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 1024


class Library:
    """The models under `store`, beside those that the operator has `declared`.

    `snapshot` returns the directory of a repository on the hub at a commit; None when it is not downloaded.
    Uploads leave `reserve` bytes of the disk free.
    """

    def __init__(
        self, store: Path, declared: list[Model], snapshot: Callable[[str, str], Path | None], reserve: int = 0
    ) -> None:
        self.blobs = Blobs(store, reserve)
        self._manifests = Manifests(store / "manifests")
        self._declared = {model.name.key: model for model in declared}
        self._snapshot = snapshot
        # The manifests that can't be served, by the names of their models, and why.
        self.left_out: dict[str, str] = {}
        if not self._manifests.damaged:
            # A damaged manifest does not name its files.
            self.blobs.sweep(self._files(), time.time())

    def expire(self) -> None:
        """Remove uploaded files that no model uses and that nobody has written to for a day."""
        if not self._manifests.damaged:
            self.blobs.expire(self._files(), time.time())

    def models(self) -> list[Model]:
        """Return the model of every manifest. Those that can't be served are `left_out` from now on."""
        models = []
        self.left_out = dict(self._manifests.damaged)
        for manifest in self._manifests.all():
            try:
                models.append(self.model(manifest))
            except Exception as error:
                # An error in one model does not keep the others from being served.
                self.left_out[manifest.name] = str(error)
        return models

    def create(self, name: ModelName, recipe: Recipe, base: Model | None) -> Model:
        """Create or replace a model. Raises BadRequest, Forbidden, Unsupported and StoreFailure."""
        self._refuse_declared(name)
        check_recipe(recipe)
        manifest = self._beneath(name, base) if base else Manifest(name=name.short, made_at=0, files=recipe.files)
        manifest = replace_set(
            manifest,
            made_at=time.time(),
            adapters=recipe.adapters,
            template=recipe.template,
            system=recipe.system,
            license=recipe.license,
            messages=recipe.messages,
            options=manifest.options | {name: value for name, value in recipe.options.items() if name in NAMES},
        )
        return self._keep(manifest)

    def copy(self, source: Model, name: ModelName) -> Model:
        """Give `source` another name. Raises Forbidden and StoreFailure."""
        self._refuse_declared(name)
        return self._keep(self._beneath(name, source))

    def origin(self, name: ModelName) -> tuple[str, str] | None:
        """Return the repository and the revision that a pull of the name fetches; None when all files are here.

        Raises ModelNotFound. A name without a namespace that is neither declared nor created would be a model of
        Ollama's own library, which can't be pulled from.
        """
        declared, manifest = self._declared.get(name.key), self._manifests.find(name)
        if declared is not None:
            return None if Path(declared.source).is_dir() else (declared.source, MAIN)
        if manifest is not None and (manifest.parent or not manifest.repository):
            return None
        on_hub = name.host.lower() in HUGGING_FACE or name.host == DEFAULT_HOST
        if name.namespace == DEFAULT_NAMESPACE or not on_hub:
            raise ModelNotFound("pull model manifest: file does not exist")
        return f"{name.namespace}/{name.model}", MAIN if name.tag.lower() == DEFAULT_TAG else name.tag

    def pulled(self, name: ModelName, repository: str, revision: str, downloaded: bool) -> Model | None:
        """Write the manifest of a repository that is on disk now. Return its model; None for a declared one.

        `downloaded`: this pull fetched the files. Raises StoreFailure.
        """
        if name.key in self._declared:
            return None
        before = self._manifests.find(name)
        mine = downloaded or bool(before and before.repository == repository and before.downloaded)
        return self._keep(
            Manifest(name=name.short, made_at=time.time(), repository=repository, revision=revision, downloaded=mine)
        )

    def delete(self, name: ModelName) -> Manifest:
        """Remove the manifest, and the blobs that no other manifest has. Return the manifest.

        Raises Forbidden and ModelNotFound.
        """
        manifest = self._manifests.find(name)
        if manifest is None and name.key in self._manifests.damaged:
            manifest = Manifest(name=name.short, made_at=0)
        if manifest is None:
            self._refuse_declared(name)
            raise ModelNotFound(f"model '{name.short}' not found")
        self._manifests.delete(name)
        self._discard(manifest)
        return manifest

    def holds(self, repository: str, revision: str) -> bool:
        """Return whether a model still uses that commit of the repository, or a declared one the repository."""
        made = ((each.repository, each.revision) for each in self._manifests.all())
        return (repository, revision) in made or any(model.source == repository for model in self._declared.values())

    def model(self, manifest: Manifest) -> Model:
        """Return the model that the manifest describes. Raises BadRequest and ModelNotFound when a part is missing."""
        base = self._base(manifest)
        options = base.options | manifest.options
        sampling, context_limit = parse_options(options)
        adapter = self.blobs.assemble(manifest.adapters) if manifest.adapters else None
        return replace(
            base,
            name=ModelName.parse(manifest.name),
            pinned=False,
            options=options,
            sampling=sampling,
            context_limit=context_limit,
            engine_args=base.engine_args if adapter is None else with_adapter(base.engine_args, adapter),
            adapter=str(adapter or ""),
            system=base.system if manifest.system is None else manifest.system,
            messages=tuple(manifest.messages),
            go_template=manifest.template,
            license=tuple(manifest.license),
            parent=manifest.parent,
            made_at=manifest.made_at,
        )

    def _base(self, manifest: Manifest) -> Model:
        name = ModelName.parse(manifest.name)
        if manifest.declared:
            declared = self._declared.get(ModelName.parse(manifest.declared).key)
            if declared is None:
                raise ModelNotFound(f"model '{manifest.declared}', on which it is based, is not declared any more")
            return declared
        if manifest.repository:
            snapshot = self._snapshot(manifest.repository, manifest.revision)
            if snapshot is None:
                raise ModelNotFound(f"the files of {manifest.repository} are gone; pull it again")
            return Model(name, str(snapshot))
        return Model(name, str(self.blobs.assemble(manifest.files)))

    def _beneath(self, name: ModelName, base: Model) -> Manifest:
        """Return the manifest of a model that equals `base` under another name."""
        manifest = self._manifests.find(base.name)
        if manifest is None:
            manifest = Manifest(name="", made_at=0, declared=base.name.short)
        return replace_set(manifest, name=name.short, made_at=time.time(), parent=base.name.short)

    def _keep(self, manifest: Manifest) -> Model:
        """Write the manifest of a model that is proved; remove the files of the manifest that it replaces.

        Nothing is left of one that fails. The blobs stay where they are not at fault, so that the client, who may have
        uploaded them for hours, can try again.
        """
        try:
            model = self.model(manifest)
            self._prove(model, manifest)
            before = self._manifests.find(model.name)
            self._manifests.write(manifest)
        except BaseException:
            for files in (manifest.files, manifest.adapters):
                self.blobs.dismantle(files, self._files())
            raise
        if before is not None:
            self._discard(before)
        return model

    def _prove(self, model: Model, manifest: Manifest) -> None:
        """Raise BadRequest for a model that can't be described, and remove its blobs."""
        try:
            prove(model)
        except BadRequest:
            self._discard(manifest)
            raise

    def _discard(self, manifest: Manifest) -> None:
        for files in (manifest.files, manifest.adapters):
            self.blobs.discard(files, self._files())

    def _files(self) -> list[dict[str, str]]:
        return [files for each in self._manifests.all() for files in (each.files, each.adapters) if files]

    def _refuse_declared(self, name: ModelName) -> None:
        if name.key in self._declared:
            raise Forbidden(
                f"model '{name.short}' is declared by the operator of this server; only the operator can change it"
            )


def store_directory(setting: str) -> Path:
    """Return the directory that is set, else `vllm-wsgi` under the user's data (XDG Base Directory Specification)."""
    if setting:
        return Path(setting)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "vllm-wsgi"


def replace_set(manifest: Manifest, **fields: Any) -> Manifest:
    """Return the manifest with the given `fields`; a field that is None or empty stays as it was."""
    given = {name: value for name, value in fields.items() if value not in (None, "", [], {})}
    return msgspec.structs.replace(manifest, **given)


def check_recipe(recipe: Recipe) -> None:
    """Raise BadRequest or Unsupported when the recipe can't become a model; in Ollama's words (`server/create.go`)."""
    if not recipe.base and not recipe.files:
        raise BadRequest("neither 'from' or 'files' was specified")
    parse_options(recipe.options)
    if recipe.template:
        go_template.render(recipe.template, {"Response": ""})
    for files, needed in ((recipe.files, "config.json"), (recipe.adapters, "adapter_config.json")):
        if files:
            _check_files(files, needed)


def _check_files(files: dict[str, str], needed: str) -> None:
    for text in files:
        path = PurePosixPath(text)
        if path.is_absolute() or ".." in path.parts or "\0" in text or not path.name:
            raise BadRequest("file path must be relative")
        if str(path) != text or len(text.encode()) > MAX_PATH_BYTES or max(map(_length, path.parts)) > MAX_NAME_BYTES:
            raise BadRequest(f"file path is too long or not in its simplest form: {text[:MAX_NAME_BYTES]}")
        if any(str(parent) in files for parent in path.parents):
            raise BadRequest(f"two files of the model have one path: {text}")
        if path.suffix == ".gguf":
            raise Unsupported("GGUF files are not supported: vLLM loads safetensors")
        if path.suffix not in SUFFIXES and path.suffix:
            raise BadRequest(f"{path.name}: a model is made of safetensors, JSON and tokenizer files")
    if needed not in files or not any(path.endswith(".safetensors") for path in files):
        raise BadRequest(f"no files provided to convert: {needed} and safetensors are needed")


def _length(part: str) -> int:
    return len(part.encode())


def with_adapter(engine_args: dict[str, Any], adapter: Path) -> dict[str, Any]:
    """Return the arguments of an engine that takes the adapter; unchanged when it takes it already.

    Raises BadRequest.
    """
    rank = convert(read_json(adapter / "adapter_config.json"), AdapterConfig, "adapter_config.json").r
    if engine_args.get("enable_lora") and rank <= engine_args.get("max_lora_rank", DEFAULT_LORA_RANK):
        return engine_args
    fitting = next((each for each in LORA_RANKS if each >= rank), None)
    if fitting is None:
        raise BadRequest(f"an adapter of rank {rank}: vLLM takes up to {LORA_RANKS[-1]}")
    needed = {"enable_lora": True, "max_lora_rank": fitting}
    return needed | {"max_loras": ADAPTERS_AT_ONCE} | engine_args | needed
