"""The models known by name, and what their files say of them. Reads files; loads nothing."""

from __future__ import annotations

from .model import Model
from ..protocol.model_info import ModelInfo
from ..syntax.names import DEFAULT_TAG, ModelName
from .declaration import HUGGING_FACE
from ..errors import ModelNotFound
from .inspection import describe


class Catalog:
    """Looks models up by any spelling of their names, and those from Hugging Face by `hf.co/` and their repository."""

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
        del self._models[name.key], self._infos[name.key]

    def get(self, name: ModelName) -> Model | None:
        return self._models.get(name.key)

    def find(self, name: str) -> Model:
        """Raises ModelNotFound, and BadRequest for what is no name."""
        parsed = ModelName.parse(name)
        model = self._models.get(parsed.key)
        if model is None and parsed.host.lower() in HUGGING_FACE and parsed.tag.lower() == DEFAULT_TAG:
            repository = f"{parsed.namespace}/{parsed.model}".lower()
            model = next((each for each in self._models.values() if each.source.lower() == repository), None)
        if model is None:
            raise ModelNotFound(f"model '{name}' not found")
        return model

    def info(self, model: Model) -> ModelInfo:
        """What is known of the model; more of a repository once it has been downloaded."""
        info = self._infos[model.name.key]
        if not info.size:
            info = self._infos[model.name.key] = describe(model)
        return info

    def models(self) -> list[Model]:
        return list(self._models.values())
