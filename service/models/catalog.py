"""The models known by name, and their descriptions. Reads files; loads nothing."""

from __future__ import annotations

from ..errors import ModelNotFound
from ..protocol.model_info import ModelInfo
from ..syntax.names import DEFAULT_TAG, ModelName
from .declaration import HUGGING_FACE
from .inspection import describe
from .model import Model


class Catalog:
    """Finds a model by any spelling of its name, and one from Hugging Face also by `hf.co/` and its repository."""

    def __init__(self, models: list[Model]) -> None:
        self._models: dict[str, Model] = {}
        self._infos: dict[str, ModelInfo] = {}
        for model in models:
            self.put(model, describe(model))

    def put(self, model: Model, info: ModelInfo) -> None:
        """Add the model, or replace the one of that name."""
        self._models[model.name.key] = model
        self._infos[model.name.key] = info

    def remove(self, name: ModelName) -> None:
        """Remove the model of that name, which must be there."""
        del self._models[name.key], self._infos[name.key]

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
        if not info.size:
            info = self._infos[model.name.key] = describe(model)
        return info

    def models(self) -> list[Model]:
        return list(self._models.values())
