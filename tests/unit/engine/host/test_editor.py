"""Models made, copied, pulled and deleted by commands: a library in a folder, and a hub that the test plays."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from service.engine.host.editor import Editor
from service.engine.hub.pulls import Layer, Snapshot
from service.errors import BadRequest, Forbidden, ModelNotFound, Unavailable
from service.models.catalog import Catalog
from service.models.library import Library
from service.models.model import Model
from service.protocol.commands import Command, Copy, Create, Delete, DropBlob, FindBlob, Pull, PutBlob
from service.protocol.events import Blob, Done, Event, Progress
from service.protocol.model_info import Recipe
from service.syntax.names import ModelName
from tests.support.loop import in_loop, settle

UPLOAD = "0" * 32
BASE = Model(ModelName.parse("base"), "weights", system="Be brief.")


class FakeHub:
    """A hub whose one repository is in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.removed: list[tuple[str, str]] = []
        self.failure: Exception | None = None

    async def pull(self, repository: str, revision: str) -> AsyncGenerator[Layer | Snapshot, None]:
        yield Layer("sha256:" + "a" * 64, 10, 5)
        if self.failure is not None:
            raise self.failure
        self._directory.mkdir(exist_ok=True)
        yield Snapshot(str(self._directory), "abc", 10, True)

    def directory(self, repository: str, revision: str) -> Path | None:
        return self._directory if self._directory.is_dir() else None

    async def remove(self, repository: str, commit: str) -> None:
        self.removed.append((repository, commit))


class Desk:
    """An editor over a store of its own, and the models that it has reported as gone."""

    def __init__(self, directory: Path) -> None:
        self.hub = FakeHub(directory / "snapshot")
        self.library = Library(directory, [BASE], self.hub.directory)
        self.catalog = Catalog([BASE])
        self.forgotten: list[str] = []
        editor = Editor(self.catalog, self.library, self.hub, self._forget)
        self._handlers = editor.handlers

    async def _forget(self, model: Model) -> None:
        self.forgotten.append(model.name.short)

    async def do(self, command: Command) -> list[Event]:
        async with aclosing(self._handlers[type(command)](command)) as events:
            return [event async for event in events]

    def names(self) -> list[str]:
        return [model.name.short for model in self.catalog.models()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def statuses(events: list[Event]) -> list[str]:
    return [event.status for event in events if isinstance(event, Progress)]


@in_loop
async def test_a_blob_is_there_when_its_last_bytes_are(desk: Desk):
    digest = f"sha256:{hashlib.sha256(b'ab').hexdigest()}"
    assert await desk.do(FindBlob(1, digest)) == [Blob(1, False)]
    assert await desk.do(PutBlob(2, UPLOAD, digest, b"a", last=False)) == [Blob(2, False)]
    assert await desk.do(PutBlob(3, UPLOAD, digest, b"b", last=True)) == [Blob(3, True)]
    assert await desk.do(FindBlob(4, digest)) == [Blob(4, True)]


@in_loop
async def test_an_upload_that_is_given_up_leaves_nothing(desk: Desk, tmp_path: Path):
    await desk.do(PutBlob(1, UPLOAD, f"sha256:{'0' * 64}", b"a", last=False))
    assert await desk.do(DropBlob(2, UPLOAD)) == [Done(2)]
    assert list((tmp_path / "blobs").iterdir()) == []


@in_loop
async def test_a_model_is_made_copied_and_deleted(desk: Desk):
    made = await desk.do(Create(1, "mine", Recipe("base", system="Rhyme.")))
    assert (statuses(made), made[-1]) == (["writing manifest", "success"], Done(1))
    assert await desk.do(Copy(2, "mine", "twin")) == [Done(2)]
    assert desk.names() == ["base:latest", "mine:latest", "twin:latest"]
    assert desk.catalog.find("twin").system == "Rhyme."
    assert await desk.do(Delete(3, "mine")) == [Done(3)]
    assert (desk.names(), desk.forgotten) == (["base:latest", "twin:latest"], ["mine:latest"])


@in_loop
async def test_a_model_that_replaces_another_has_it_forgotten(desk: Desk):
    for system in ("Rhyme.", "Shout."):
        await desk.do(Create(1, "mine", Recipe("base", system=system)))
    assert (desk.catalog.find("mine").system, desk.forgotten) == ("Shout.", ["mine:latest"])


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (Create(1, "base", Recipe("base")), Forbidden),
        (Create(1, "mine", Recipe("nothing")), ModelNotFound),
        (Create(1, "mine", Recipe()), BadRequest),
        (Copy(1, "nothing", "mine"), ModelNotFound),
        (Delete(1, "nothing"), ModelNotFound),
        (Delete(1, "base"), Forbidden),
        (FindBlob(1, "../x"), BadRequest),
        (Pull(1, "unknown"), ModelNotFound),
    ],
)
@in_loop
async def test_what_can_not_be_done_changes_nothing(desk: Desk, command: Command, error: type[Exception]):
    with pytest.raises(error):
        await desk.do(command)
    assert (desk.names(), desk.forgotten) == (["base:latest"], [])


@in_loop
async def test_a_pull_reports_its_layers_and_makes_the_model(desk: Desk):
    events = await desk.do(Pull(1, "hf.co/org/repo"))
    assert statuses(events) == ["pulling manifest", "pulling aaaaaaaaaaaa", "writing manifest", "success"]
    assert (events[-1], desk.names()) == (Done(1), ["base:latest", "hf.co/org/repo:latest"])


@in_loop
async def test_a_pull_that_fails_makes_no_model(desk: Desk):
    desk.hub.failure = Unavailable("the hub can't be reached")
    with pytest.raises(Unavailable):
        await desk.do(Pull(1, "hf.co/org/repo"))
    assert desk.names() == ["base:latest"]


@in_loop
async def test_the_files_of_a_pulled_model_go_with_the_last_model_that_is_made_of_them(desk: Desk):
    await desk.do(Pull(1, "hf.co/org/repo"))
    await desk.do(Copy(2, "hf.co/org/repo", "mine"))
    await desk.do(Delete(3, "hf.co/org/repo"))
    assert desk.hub.removed == []
    await desk.do(Delete(4, "mine"))
    assert desk.hub.removed == [("org/repo", "abc")]


@in_loop
async def test_edits_are_made_one_after_the_other_and_to_their_end(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    """The client of the first leaves while it writes; the second is decided by what the first has left."""
    begun, go_on = asyncio.Event(), threading.Event()
    loop, create = asyncio.get_running_loop(), desk.library.create

    def slow(*arguments: Any) -> Model:
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(120)
        return create(*arguments)

    monkeypatch.setattr(desk.library, "create", slow)
    making = asyncio.create_task(desk.do(Create(1, "mine", Recipe("base"))))
    await begun.wait()
    deleting = asyncio.create_task(desk.do(Delete(2, "mine")))
    making.cancel()
    await settle()
    assert (making.cancelled(), deleting.done()) == (True, False)
    go_on.set()
    assert await deleting == [Done(2)]
    assert (desk.names(), desk.forgotten) == (["base:latest"], ["mine:latest"])
