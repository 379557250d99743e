from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.config import Settings
from service.errors import BadRequest, ModelNotFound
from service.models.catalog import Catalog
from service.models.declaration import declared_models
from service.models.model import Model
from service.syntax.names import ModelName


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "demo"
    directory.mkdir()
    return directory


@pytest.mark.parametrize(
    "name", ["demo", "DEMO", "demo:latest", " demo ", "library/demo", "Registry.Ollama.AI/library/demo:LATEST"]
)
def test_a_model_is_found_by_any_spelling_of_its_name(model: Path, name: str):
    store = Catalog(declared_models(Settings(model=str(model))))
    assert store.find(name).source == str(model)


@pytest.mark.parametrize("name", ["other", "demo:other", "ns/demo"])
def test_a_model_that_is_not_there_is_not_found_by_the_name_asked_for(model: Path, name: str):
    store = Catalog(declared_models(Settings(model=str(model))))
    with pytest.raises(ModelNotFound, match=f"^model '{name}' not found$"):
        store.find(name)


def test_what_is_no_name_is_refused(model: Path):
    with pytest.raises(BadRequest, match=r"^invalid model name$"):
        Catalog(declared_models(Settings(model=str(model)))).find("a b")


def test_a_model_can_be_replaced_and_removed(model: Path):
    catalog = Catalog(declared_models(Settings(model=str(model))))
    name = ModelName.parse("DEMO")
    other = Model(name, "elsewhere")
    catalog.put(other, catalog.info(other))
    assert [catalog.get(name), *catalog.models()] == [other, other]
    catalog.remove(name)
    assert (catalog.get(name), catalog.models()) == (None, [])


def test_a_repository_is_described_again_until_its_files_are_there(tmp_path: Path):
    catalog = Catalog([model := Model(ModelName.parse("late"), str(tmp_path))])
    assert catalog.info(model).architecture == ""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    assert catalog.info(model).architecture == "qwen3"
