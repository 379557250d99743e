"""The engines of a host over supervisors without processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from service.config import Settings
from service.engine.host.engines import Engines
from service.engine.host.resident import Resident
from service.models.model import Model
from service.protocol.model_info import EngineState, ModelInfo
from service.syntax.names import ModelName
from tests.support.loop import settle
from tests.support.supervisors import FakeSupervisor


class FakeCatalog:
    """Models whose weights have no bytes."""

    def __init__(self, models: list[Model]) -> None:
        self.all = models

    def models(self) -> list[Model]:
        return self.all

    def info(self, model: Model) -> ModelInfo:
        return ModelInfo(name=model.name.short)


class Field:
    """Engines over fake supervisors, by the names of their models."""

    def __init__(self, *names: str, pinned: tuple[str, ...] = (), memory: int = 10, **settings: Any) -> None:
        self.models = {name: model(name, pinned=name in pinned, memory=memory) for name in names}
        self.catalog = FakeCatalog(list(self.models.values()))
        self.supervisors: dict[str, FakeSupervisor] = {}
        self.changes: list[list[str]] = []
        self.engines = Engines(self.catalog, Settings(**settings), self._make, self._changed)

    def _make(self, model: Model, weights: int, resident: Resident, number: int, stir: Callable[[bool], None]) -> Any:
        """The replicas of a model `a` are called a, a1, a2 here."""
        made = FakeSupervisor(model, resident, number, stir)
        self.supervisors[f"{resident.name.removesuffix(':latest')}{number or ''}"] = made
        return made

    def _changed(self) -> None:
        self.changes.append(list(self.states().values()))

    def ask(
        self, name: str, caller: str = "", submits: int = 1, lost: Collection[str] = (), beginning: str = ""
    ) -> asyncio.Task[str]:
        return asyncio.create_task(self.locate(self.models[name], caller, submits, lost, beginning))

    async def locate(
        self, model: Model, caller: str = "", submits: int = 1, lost: Collection[str] = (), beginning: str = ""
    ) -> str:
        return (await self.engines.locate(model, caller, None, submits, lost, beginning)).socket

    async def ready(self, *names: str) -> None:
        """Have the models loaded, and not used any more."""
        for name in names:
            asked = self.ask(name, submits=0)
            await settle()
            self.supervisors[name].enter(EngineState.READY)
            await asked

    async def enter(self, name: str, state: EngineState) -> None:
        self.supervisors[name].enter(state)
        await settle()

    def states(self) -> dict[str, str]:
        return {name: str(each.state) for name, each in self.supervisors.items()}


def model(name: str, **fields: Any) -> Model:
    return Model(ModelName.parse(name), "weights", {"of": name}, keep_alive=300.0, **fields)
