"""What the operator says about models: one in the settings, or several in a models.toml. Loads nothing.

A models.toml holds a table for each model, by the name that clients use; deploy/models.toml.example tells every field.
What is wrong in it is said with its line, and before anything is started.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import Settings, SettingsError
from ..errors import BadRequest
from ..keep_alive import parse_keep_alive
from ..messages import Defaults, Message, Sampling
from ..names import ModelName
from ..ollama_options import NAMES, parse_options
from ..toml_file import TomlFile, read_text

HUGGING_FACE = ("hf.co", "huggingface.co")

_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?\Z", re.ASCII)


@dataclass(frozen=True)
class Model:
    """A model that can be served: `source` is a local directory or a Hugging Face repository.

    `options` are Ollama's, which `sampling` and `context_limit` (tokens) say in ours. `template` is the path of a Jinja
    chat template, empty: the model's own. `keep_alive` is in seconds, None: the server's. `memory` is in bytes, 0: what
    weights and KV cache take. A pinned model is loaded at the start and goes only when a client says so.

    The rest is of models that clients have made: `go_template` in place of a chat template, `adapter` the directory of
    a LoRA adapter, `parent` the name that it was made from, `made_at` in seconds since the epoch, 0 for a declared one.
    """

    name: ModelName
    source: str
    engine_args: dict[str, Any] = field(default_factory=dict)
    tool_parser: str = ""
    reasoning_parser: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    sampling: Sampling = Sampling()
    context_limit: int | None = None
    system: str = ""
    template: str = ""
    keep_alive: float | None = None
    pinned: bool = False
    memory: int = 0
    messages: tuple[Message, ...] = ()
    go_template: str = ""
    adapter: str = ""
    license: tuple[str, ...] = ()
    parent: str = ""
    made_at: float = 0.0

    @property
    def engine(self) -> tuple[str, ...]:
        """What tells its engine from others': models that have this in common share one."""
        arguments = json.dumps(self.engine_args, sort_keys=True)
        return self.source, arguments, self.tool_parser, self.reasoning_parser, self.template

    @property
    def defaults(self) -> Defaults:
        return Defaults(
            self.sampling, self.context_limit, self.system, list(self.messages), self.go_template, self.adapter
        )


def declared_models(settings: Settings) -> list[Model]:
    """The models that the settings name. Raises SettingsError."""
    models = read_models(Path(settings.models)) if settings.models else [_single_model(settings)]
    pinned = sum(model.pinned for model in models)
    if settings.max_loaded and pinned > settings.max_loaded:
        raise SettingsError(f"VLLM_WSGI_MAX_LOADED={settings.max_loaded} is less than the {pinned} pinned models")
    return models


def _single_model(settings: Settings) -> Model:
    parsers = settings.tool_parser, settings.reasoning_parser
    source = find_source(settings.model, Path())
    return Model(_name(settings, source), source or settings.model, settings.engine_args, *parsers, pinned=True)


def find_source(text: str, directory: Path) -> str:
    """A directory that exists, relative to `directory`, else a repository, `hf.co/` before it or not; else nothing."""
    path = directory / text
    if text and path.is_dir():
        return str(path)
    host, _, rest = text.partition("/")
    repository = rest if host.lower() in HUGGING_FACE else text
    return repository if _REPOSITORY.match(repository) else ""


def _name(settings: Settings, source: str) -> ModelName:
    """The one that is set, else a directory's own, or a repository's as it stands. Raises SettingsError."""
    text, chosen = settings.model, settings.model_name
    if not chosen and not source:
        raise SettingsError(f"VLLM_WSGI_MODEL={text} is neither a directory that exists nor a repository's name")
    try:
        return ModelName.parse(chosen or (Path(text).resolve().name if Path(text).is_dir() else text))
    except BadRequest:
        variable = f"VLLM_WSGI_MODEL_NAME={chosen}" if chosen else f"VLLM_WSGI_MODEL={text}"
        raise SettingsError(f"{variable} gives no name for a model; set VLLM_WSGI_MODEL_NAME") from None


# --- models.toml -----------------------------------------------------------------------------------------

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
}


def read_models(path: Path) -> list[Model]:
    """The models of a models.toml; raises SettingsError that names the line."""
    return _File(path, read_text(path, "VLLM_WSGI_MODELS")).models()


class _File(TomlFile):
    """One models.toml."""

    def models(self) -> list[Model]:
        tables = self._tables("models", "model")
        if not tables:
            self._refuse(("models",), 'holds no model; each stands in a table of its own, [models."name"]')
        models: dict[str, Model] = {}
        for name, table in tables.items():
            model = self._model(name, table)
            if twin := models.get(model.name.key):
                self._refuse(("models", name), f"names the same model as {twin.name.short}")
            models[model.name.key] = model
        return list(models.values())

    def _model(self, text: str, table: dict[str, Any]) -> Model:
        place = ("models", text)
        name = self._checked(place, ModelName.parse, text)
        self._check_kinds(place, table, KINDS)
        sampling, context_limit = self._options(place, table.get("options", {}))
        fields = {key: table[key] for key in KINDS if key in table}
        fields["source"] = self._source(place, name, table.get("source"))
        fields["template"] = self._template(place, table.get("template"))
        fields["keep_alive"] = self._keep_alive((*place, "keep_alive"), table.get("keep_alive"))
        if fields.get("memory", 0) < 0:
            self._refuse((*place, "memory"), "must not be negative")
        return Model(name=name, sampling=sampling, context_limit=context_limit, **fields)

    def _options(self, place: tuple[str, ...], options: dict[str, Any]) -> tuple[Sampling, int | None]:
        for name, value in options.items():
            if name not in NAMES:
                self._refuse((*place, "options", name), "is no option of Ollama's")
            self._checked((*place, "options", name), parse_options, {name: value})
        return parse_options(options)

    def _source(self, place: tuple[str, ...], name: ModelName, text: str | None) -> str:
        """The one that is named, else the repository whose name the model bears."""
        if text is None and name.host.lower() in HUGGING_FACE:
            return f"{name.namespace}/{name.model}"
        if text is None:
            self._refuse(place, "has no source")
        source = find_source(text, self._path.parent)
        return source or self._refuse(
            (*place, "source"), f"{text!r} is neither a directory that exists nor a repository's name"
        )

    def _template(self, place: tuple[str, ...], text: str | None) -> str:
        if text is None:
            return ""
        path = self._path.parent / text
        try:
            path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self._refuse((*place, "template"), f"can't be read: {error}")
        return str(path)

    def _keep_alive(self, place: tuple[str, ...], value: Any) -> float | None:
        seconds: float | None = self._checked(place, parse_keep_alive, value)
        if seconds is not None and math.isnan(seconds):
            self._refuse(place, "must be a number")
        return seconds
