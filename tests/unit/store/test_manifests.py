from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.errors import StoreFailure
from service.protocol.request import Message
from service.store.manifests import Manifest, Manifests
from service.syntax.names import ModelName

NAME = ModelName.parse("Team/Writer:V2")
MANIFEST = Manifest(name=NAME.short, made_at=1.5, declared="demo:latest", messages=[Message("user", "é")])


def test_what_was_written_is_there_after_a_restart(tmp_path: Path):
    Manifests(tmp_path).write(MANIFEST)
    assert Manifests(tmp_path).all() == [MANIFEST]


def test_a_manifest_is_found_whatever_the_case(tmp_path: Path):
    store = Manifests(tmp_path)
    store.write(MANIFEST)
    assert store.find(ModelName.parse("team/writer:v2")) == MANIFEST
    assert (tmp_path / "registry.ollama.ai/team/writer/v2.json").is_file()


def test_a_second_of_that_name_replaces_the_first(tmp_path: Path):
    store = Manifests(tmp_path)
    store.write(MANIFEST)
    store.write(other := Manifest(name="team/WRITER:v2", made_at=2, repository="org/repo"))
    assert store.all() == Manifests(tmp_path).all() == [other]


def test_what_is_deleted_is_gone_after_a_restart_too(tmp_path: Path):
    store = Manifests(tmp_path)
    store.write(MANIFEST)
    store.delete(NAME)
    store.delete(NAME)
    assert store.all() == Manifests(tmp_path).all() == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"name": "a"}', '{"name": "a b", "made_at": 1}', '{"name": "x", "made_at": 1}']
)
def test_what_is_no_manifest_is_left_alone(tmp_path: Path, text: str):
    Manifests(tmp_path).write(MANIFEST)
    path = tmp_path / "registry.ollama.ai/library/other/latest.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert Manifests(tmp_path).all() == [MANIFEST]
    assert path.read_text() == text


def test_a_crash_before_the_last_step_leaves_the_old_manifest_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = Manifests(tmp_path)
    store.write(MANIFEST)

    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(StoreFailure, match="No space left on device"):
        store.write(Manifest(name=NAME.short, made_at=2))
    assert store.all() == Manifests(tmp_path).all() == [MANIFEST]
    assert [file for _, _, files in os.walk(tmp_path) for file in files] == ["v2.json"]
