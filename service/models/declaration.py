"""The models that the operator declares: one in the settings, or several in a models.toml. Loads nothing.

A models.toml holds a table for each model, under the name that clients use; deploy/models.toml.example has every field.
An error in the file is reported with its line before anything is started.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import msgspec

from ..config import Settings
from ..errors import BadRequest, SettingsError
from ..protocol.request import Sampling
from ..syntax.durations import parse_keep_alive
from ..syntax.names import ModelName
from ..syntax.options import NAMES, parse_options
from ..syntax.toml_file import TomlFile, as_settings_error, read_text
from .model import GPU_PARTS, Model

HUGGING_FACE = ("hf.co", "huggingface.co")

# Hugging Face's name for a model's configuration, and Mistral's.
CONFIGURATIONS = ("config.json", "params.json")

# A typing mistake must not start a thousand processes.
MAX_REPLICAS = 64
MAX_GPUS = 1024

_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?\Z", re.ASCII)


def declared_models(settings: Settings) -> list[Model]:
    """Return the models that the settings name. Raises SettingsError."""
    models = read_models(Path(settings.models)) if settings.models else [_single_model(settings)]
    pinned = sum(model.pinned for model in models)
    if settings.max_loaded and pinned > settings.max_loaded:
        raise SettingsError(f"VLLM_WSGI_MAX_LOADED={settings.max_loaded} is less than the {pinned} pinned models")
    return models


def servable_models(settings: Settings) -> list[Model]:
    """Return the models that the settings name. Raises SettingsError, also for a directory that holds no model.

    On a cluster the directories are those of the nodes, which say themselves what they lack.
    """
    models = declared_models(settings)
    for model in models if settings.engine == "vllm" and not settings.cluster else []:
        path = Path(model.source)
        if path.is_dir() and not any((path / name).is_file() for name in CONFIGURATIONS):
            names = " nor ".join(CONFIGURATIONS)
            raise SettingsError(f"{model.name.short}: {path} is no model's directory, since it holds neither {names}")
    return models


def _single_model(settings: Settings) -> Model:
    parsers = settings.tool_parser, settings.reasoning_parser
    source = find_source(settings.model, Path())
    return Model(_name(settings, source), source or settings.model, settings.engine_args, *parsers, pinned=True)


def find_source(text: str, directory: Path) -> str:
    """Return the source of a model's files, empty when `text` names neither of these:

    1. A directory that exists, relative to `directory`.
    2. A repository on the hub, with or without `hf.co/` before its name.
    """
    path = directory / text
    if text and path.is_dir():
        return str(path)
    host, _, rest = text.partition("/")
    repository = rest if host.lower() in HUGGING_FACE else text
    return repository if _REPOSITORY.match(repository) else ""


def _name(settings: Settings, source: str) -> ModelName:
    """Return the name that is set, else the directory's or the repository's own. Raises SettingsError."""
    text, chosen = settings.model, settings.model_name
    if not chosen and not source:
        raise SettingsError(f"VLLM_WSGI_MODEL={text} is neither a directory that exists nor a repository's name")
    try:
        return ModelName.parse(chosen or (Path(text).resolve().name if Path(text).is_dir() else text))
    except BadRequest:
        variable = f"VLLM_WSGI_MODEL_NAME={chosen}" if chosen else f"VLLM_WSGI_MODEL={text}"
        raise SettingsError(f"{variable} is not a valid model name; set VLLM_WSGI_MODEL_NAME") from None


KINDS: dict[str, tuple[type, ...]] = {
    "source": (str,),
    "engine_args": (dict,),
    "tool_parser": (str,),
    "reasoning_parser": (str,),
    "options": (dict,),
    "system": (str,),
    "template": (str,),
    "keep_alive": (int, float, str),
    "pinned": (bool,),
    "memory": (int,),
    "replicas": (int,),
    "devices": (list,),
    "gpus": (int, float),
}


def read_models(path: Path) -> list[Model]:
    """Return the models of a models.toml. Raises SettingsError, which names the line."""
    with as_settings_error(path):
        return _ModelsToml(path, read_text(path, "VLLM_WSGI_MODELS")).models()


class _ModelsToml(TomlFile):
    """One models.toml."""

    def models(self) -> list[Model]:
        tables = self._tables("models", "model")
        if not tables:
            self._fail(("models",), 'has no model; each model needs a table, [models."name"]')
        models: dict[str, Model] = {}
        for name, table in tables.items():
            model = self._model(name, table)
            if twin := models.get(model.name.key):
                self._fail(("models", name), f"names the same model as {twin.name.short}")
            models[model.name.key] = model
        return list(models.values())

    def _model(self, text: str, table: dict[str, Any]) -> Model:
        place = ("models", text)
        name = self._checked(place, ModelName.parse, text)
        self._check_kinds(place, table, KINDS)
        self._check_engine_args((*place, "engine_args"), table.get("engine_args", {}))
        sampling, context_limit = self._options(place, table.get("options", {}))
        fields = {key: table[key] for key in KINDS if key in table}
        fields["source"] = self._source(place, name, table.get("source"))
        fields["template"] = self._template(place, table.get("template"))
        fields["keep_alive"] = self._keep_alive((*place, "keep_alive"), table.get("keep_alive"))
        if fields.get("memory", 0) < 0:
            self._fail((*place, "memory"), "must not be negative")
        if not 1 <= fields.get("replicas", 1) <= MAX_REPLICAS:
            self._fail((*place, "replicas"), f"must be between 1 and {MAX_REPLICAS}")
        if not 0 <= fields.get("gpus", 1) <= MAX_GPUS:
            self._fail((*place, "gpus"), f"must be between 0 and {MAX_GPUS}")
        if 0 < fields.get("gpus", 1) < 1 / GPU_PARTS:
            self._fail((*place, "gpus"), f"must be 0 or at least {1 / GPU_PARTS}")
        if fields.get("gpus", 1) > 1 and fields["gpus"] % 1:
            self._fail((*place, "gpus"), "must be a whole number when it is more than 1")
        fields["devices"] = self._devices((*place, "devices"), table.get("devices", []), fields.get("replicas", 1))
        return Model(name=name, sampling=sampling, context_limit=context_limit, **fields)

    def _check_engine_args(self, place: tuple[str, ...], arguments: dict[str, Any]) -> None:
        """Refuse arguments that JSON can't hold: vLLM reads them from JSON."""
        try:
            msgspec.json.decode(json.dumps(arguments, allow_nan=False))
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            self._fail(place, f"holds a value that JSON can't hold: {error}")

    def _options(self, place: tuple[str, ...], options: dict[str, Any]) -> tuple[Sampling, int | None]:
        for name, value in options.items():
            if name not in NAMES:
                self._fail((*place, "options", name), "is not an Ollama option")
            self._checked((*place, "options", name), parse_options, {name: value})
        return parse_options(options)

    def _source(self, place: tuple[str, ...], name: ModelName, text: str | None) -> str:
        """Return the source that the table names, else the repository that the model's name spells."""
        if text is None and name.host.lower() in HUGGING_FACE:
            return f"{name.namespace}/{name.model}"
        if text is None:
            self._fail(place, "has no source")
        source = find_source(text, self._path.parent)
        return source or self._fail(
            (*place, "source"), f"{text!r} is neither a directory that exists nor a repository's name"
        )

    def _template(self, place: tuple[str, ...], text: str | None) -> str:
        if text is None:
            return ""
        path = self._path.parent / text
        try:
            path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self._fail((*place, "template"), f"can't be read: {error}")
        return str(path)

    def _devices(self, place: tuple[str, ...], devices: list[Any], replicas: int) -> tuple[str, ...]:
        if not all(isinstance(each, str) for each in devices):
            self._fail(place, 'must be a list of strings, such as ["0", "1"]')
        if devices and len(devices) != replicas:
            self._fail(place, f"must have an entry for each of the {replicas} replicas, and has {len(devices)}")
        return tuple(devices)

    def _keep_alive(self, place: tuple[str, ...], value: Any) -> float | None:
        seconds: float | None = self._checked(place, parse_keep_alive, value)
        if seconds is not None and math.isnan(seconds):
            self._fail(place, "must be a number")
        return seconds
