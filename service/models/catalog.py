"""The models known by name, and their descriptions. Reads files; loads nothing."""

from __future__ import annotations

import logging

from ..errors import ModelNotFound
from ..protocol.model_info import LeftOutModel, ModelInfo
from ..syntax.names import DEFAULT_TAG, ModelName
from .declaration import HUGGING_FACE
from .inspection import describe
from .model import Model

logger = logging.getLogger("vllm_wsgi.host")

# The reason why a model is left out is cut to this many characters.
MAX_REASON = 500


class Catalog:
    """Finds a model by any spelling of its name, and one from Hugging Face also by `hf.co/` and its repository."""

    def __init__(self, models: list[Model]) -> None:
        self._models: dict[str, Model] = {}
        self._infos: dict[str, ModelInfo] = {}
        self._left_out: dict[str, LeftOutModel] = {}
        # Models whose files came after the start, and are not read again.
        self._undescribed: set[str] = set()
        for model in models:
            try:
                self.put(model, describe(model))
            except Exception as error:
                # An error in one model does not keep the others from being served.
                self.leave_out(model.name, f"it can't be described: {error}")

    def put(self, model: Model, info: ModelInfo) -> None:
        """Add the model, or replace the one of that name."""
        self._models[model.name.key] = model
        self._infos[model.name.key] = info
        self._left_out.pop(model.name.key, None)
        self._undescribed.discard(model.name.key)

    def leave_out(self, name: ModelName, reason: str) -> None:
        """Note that a model is in the store and can't be served."""
        logger.error("%s is left out: %s", name.short, reason)
        text = reason.encode(errors="backslashreplace").decode()
        self._left_out[name.key] = LeftOutModel(name.short, text[:MAX_REASON])

    def left_out(self) -> list[LeftOutModel]:
        """Return the models that are in the store and not served."""
        return list(self._left_out.values())

    def leaves_out(self, name: ModelName) -> bool:
        """Return whether the model of that name is in the store and not served."""
        return name.key in self._left_out

    def remove(self, name: ModelName) -> None:
        """Remove the model of that name, served or left out."""
        for known in (self._models, self._infos, self._left_out):
            known.pop(name.key, None)

    def get(self, name: ModelName) -> Model | None:
        """Return the model of that name; None when there is none."""
        return self._models.get(name.key)

    def find(self, name: str) -> Model:
        """Return the model of that name. Raises ModelNotFound, and BadRequest when the name is not valid."""
        parsed = ModelName.parse(name)
        model = self._models.get(parsed.key)
        if model is None and parsed.host.lower() in HUGGING_FACE and parsed.tag.lower() == DEFAULT_TAG:
            repository = f"{parsed.namespace}/{parsed.model}".lower()
            model = next((each for each in self._models.values() if each.source.lower() == repository), None)
        if model is None:
            raise ModelNotFound(f"model '{name}' not found")
        return model

    def info(self, model: Model) -> ModelInfo:
        """Return the model's description. It is read again until a repository's files have been downloaded."""
        info = self._infos[model.name.key]
        # A model that a client has made of files is complete, even where its weights are empty.
        incomplete = not info.size and not (model.made_at and info.digest)
        if incomplete and model.name.key not in self._undescribed:
            try:
                info = self._infos[model.name.key] = describe(model)
            except Exception as error:
                self._undescribed.add(model.name.key)
                logger.error("%s can't be described: %s", model.name.short, error)
        return info

    def models(self) -> list[Model]:
        """Return the models that are served."""
        return list(self._models.values())
