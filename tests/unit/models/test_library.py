from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from service.errors import BadRequest, Forbidden, ModelNotFound, Unsupported
from service.models.library import Library, check_recipe, with_adapter
from service.models.model import Model
from service.protocol.model_info import Recipe
from service.protocol.request import Message, Sampling
from service.syntax.names import ModelName

DECLARED = Model(ModelName.parse("demo"), "weights", {"max_model_len": 512}, "hermes", system="Be brief.", pinned=True)
WEIGHTS = {"config.json": b"{}", "model.safetensors": b"\0"}
DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return open_library(tmp_path)


def open_library(tmp_path: Path) -> Library:
    (tmp_path / "snapshot").mkdir(exist_ok=True)
    repository = Model(ModelName.parse("declared-repository"), "org/declared")
    found = {("org/repo", "abc"): tmp_path / "snapshot"}
    return Library(tmp_path, [DECLARED, repository], lambda *wanted: found.get(wanted))


def name(text: str) -> ModelName:
    return ModelName.parse(text)


def upload(library: Library, files: dict[str, bytes]) -> dict[str, str]:
    digests = {path: f"sha256:{hashlib.sha256(data).hexdigest()}" for path, data in files.items()}
    for path, data in files.items():
        library.blobs.put("0" * 32, digests[path], data, last=True)
    return digests


def adapter(rank: int) -> dict[str, bytes]:
    return {"adapter_config.json": json.dumps({"r": rank}).encode(), "adapter_model.safetensors": b"\0"}


# --- created ---------------------------------------------------------------------------------------------


def test_a_model_that_is_made_from_another_shares_its_engine(library: Library):
    made = library.create(name("mine"), Recipe("demo", system="Rhyme.", options={"temperature": 0.1}), DECLARED)
    assert made.engine == DECLARED.engine
    assert (made.name.short, made.parent, made.pinned) == ("mine:latest", "demo:latest", False)
    assert (made.system, made.sampling) == ("Rhyme.", Sampling(temperature=0.1))


def test_what_a_recipe_leaves_open_is_as_it_was(library: Library):
    first = library.create(
        name("a"), Recipe("demo", options={"seed": 1, "top_k": 5}, template="{{ .Prompt }}"), DECLARED
    )
    second = library.create(name("b"), Recipe("a", options={"seed": 2}, messages=[Message("user", "x")]), first)
    assert (second.system, second.go_template, second.parent) == ("Be brief.", "{{ .Prompt }}", "a:latest")
    assert second.sampling == Sampling(seed=2, top_k=5)
    assert second.messages == (Message("user", "x"),)


def test_what_was_made_is_there_after_a_restart(library: Library, tmp_path: Path):
    files = upload(library, WEIGHTS)
    made = [
        library.create(name("a"), Recipe("demo", license=["MIT"]), DECLARED),
        library.create(name("b"), Recipe(files=files), None),
        library.pulled(name("org/repo"), "org/repo", "abc", downloaded=True),
    ]
    assert sorted(open_library(tmp_path).models(), key=str) == sorted(made, key=str)


def test_a_model_of_uploaded_files_is_a_directory_of_them(library: Library):
    made = library.create(name("b"), Recipe(files=upload(library, WEIGHTS)), None)
    assert {path.name: path.read_bytes() for path in Path(made.source).iterdir()} == WEIGHTS


def test_an_option_that_ollama_has_no_more_is_left_out(library: Library):
    made = library.create(name("a"), Recipe("demo", options={"mirostat": 1, "seed": 3}), DECLARED)
    assert made.options == {"seed": 3}


def test_what_the_operator_has_declared_nobody_else_changes(library: Library):
    for attempt in (
        lambda: library.create(name("DEMO"), Recipe("demo"), DECLARED),
        lambda: library.copy(DECLARED, name("demo:latest")),
        lambda: library.delete(name("demo")),
    ):
        with pytest.raises(Forbidden, match="declared by the operator"):
            attempt()


def test_a_recipe_that_makes_no_model_leaves_the_one_that_was_there(library: Library):
    before = library.create(name("a"), Recipe("demo"), DECLARED)
    with pytest.raises(BadRequest, match="not found"):
        library.create(
            name("a"), Recipe("demo", adapters={"adapter_config.json": DIGEST, "a.safetensors": DIGEST}), before
        )
    assert library.models() == [before]


@pytest.mark.parametrize(
    ("recipe", "kind", "message"),
    [
        (Recipe(), BadRequest, "neither 'from' or 'files' was specified"),
        (Recipe("a", options={"seed": "x"}), BadRequest, 'option "seed" must be of type integer'),
        (Recipe("a", template="{{ range .Messages }}{{ end }}"), BadRequest, "is not supported"),
        (Recipe("a", template="{{ .Response }}{{ if .System }}"), BadRequest, "has no"),
        (Recipe(files={"/etc/passwd": DIGEST}), BadRequest, "file path must be relative"),
        (Recipe(files={"a/../../b.json": DIGEST}), BadRequest, "file path must be relative"),
        (Recipe(files={"model.gguf": DIGEST}), Unsupported, "GGUF files are not supported"),
        (Recipe(files={"model.bin": DIGEST}), BadRequest, "model.bin: a model is made of safetensors"),
        (Recipe(files={"modeling.py": DIGEST}), BadRequest, "modeling.py: a model is made of safetensors"),
        (Recipe(files={"config.json": DIGEST}), BadRequest, "no files provided to convert"),
        (
            Recipe("a", adapters={"a.safetensors": DIGEST}),
            BadRequest,
            "adapter_config.json and safetensors",
        ),
    ],
)
def test_a_recipe_is_checked_before_anything_is_written(recipe: Recipe, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        check_recipe(recipe)


# --- adapters --------------------------------------------------------------------------------------------


def test_a_model_with_an_adapter_has_an_engine_that_takes_it(library: Library):
    made = library.create(name("a"), Recipe("demo", adapters=upload(library, adapter(9))), DECLARED)
    assert made.engine_args == {"max_model_len": 512, "enable_lora": True, "max_lora_rank": 16, "max_loras": 4}
    assert (Path(made.adapter) / "adapter_config.json").is_file()
    assert made.defaults.adapter == made.adapter


@pytest.mark.parametrize(
    ("engine_args", "rank", "expected"),
    [
        ({}, 1, {"enable_lora": True, "max_lora_rank": 1, "max_loras": 4}),
        ({"max_loras": 2}, 512, {"enable_lora": True, "max_lora_rank": 512, "max_loras": 2}),
        ({"enable_lora": True}, 16, {"enable_lora": True}),
        ({"enable_lora": True}, 17, {"enable_lora": True, "max_lora_rank": 32, "max_loras": 4}),
        ({"enable_lora": True, "max_lora_rank": 64}, 8, {"enable_lora": True, "max_lora_rank": 64}),
    ],
)
def test_an_engine_that_takes_the_adapter_already_stays(
    tmp_path: Path, engine_args: dict[str, Any], rank: int, expected: dict[str, Any]
):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))
    assert with_adapter(engine_args, tmp_path) == expected


@pytest.mark.parametrize("text", ["", "{}", '{"r": "x"}', '{"r": 513}', "[]"])
def test_an_adapter_without_a_rank_that_vllm_takes_is_refused(tmp_path: Path, text: str):
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(BadRequest):
        with_adapter({}, tmp_path)


# --- copied, deleted -------------------------------------------------------------------------------------


def test_a_copy_is_the_same_under_another_name(library: Library):
    made = library.create(name("a"), Recipe("demo", system="Rhyme."), DECLARED)
    copy = library.copy(made, name("b"))
    assert (copy.system, copy.engine, copy.parent) == ("Rhyme.", DECLARED.engine, "a:latest")


def test_a_copy_outlives_its_source(library: Library, tmp_path: Path):
    made = library.create(name("a"), Recipe(files=upload(library, WEIGHTS)), None)
    copy = library.copy(made, name("b"))
    library.delete(name("a"))
    assert (Path(copy.source) / "config.json").is_file()
    assert [model.name.short for model in open_library(tmp_path).models()] == ["b:latest"]


def test_with_the_last_model_its_files_go(library: Library, tmp_path: Path):
    library.create(name("a"), Recipe(files=upload(library, WEIGHTS)), None)
    library.delete(name("a"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_files_of_a_model_that_is_replaced_go(library: Library):
    old = upload(library, WEIGHTS)
    library.create(name("a"), Recipe(files=old), None)
    library.create(name("a"), Recipe(files=upload(library, WEIGHTS | {"config.json": b"{ }"})), None)
    assert not library.blobs.path(old["config.json"]).exists()
    assert library.blobs.path(old["model.safetensors"]).exists()


def test_what_is_not_there_cannot_be_deleted(library: Library):
    with pytest.raises(ModelNotFound):
        library.delete(name("a"))


def test_a_model_whose_base_is_declared_no_more_is_not_served_and_not_lost(library: Library, tmp_path: Path):
    library.create(name("a"), Recipe("demo"), DECLARED)
    assert Library(tmp_path, [], lambda *_: None).models() == []
    assert len(open_library(tmp_path).models()) == 1


# --- pulled ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "origin"),
    [
        ("hf.co/org/repo", ("org/repo", "main")),
        ("HuggingFace.co/Org/Repo:v1.0", ("Org/Repo", "v1.0")),
        ("org/repo", ("org/repo", "main")),
        ("declared-repository", ("org/declared", "main")),
    ],
)
def test_a_name_tells_where_its_files_come_from(library: Library, asked: str, origin: tuple[str, str]):
    assert library.origin(name(asked)) == origin


def test_what_is_here_already_comes_from_nowhere(library: Library, tmp_path: Path):
    library.create(name("a"), Recipe("demo"), DECLARED)
    assert library.origin(name("a")) is None


@pytest.mark.parametrize("asked", ["llama3", "library/llama3:8b", "quay.io/org/repo"])
def test_what_only_ollamas_registry_has_is_not_found(library: Library, asked: str):
    with pytest.raises(ModelNotFound, match="pull model manifest: file does not exist"):
        library.origin(name(asked))


def test_a_pulled_model_is_its_snapshot(library: Library, tmp_path: Path):
    made = library.pulled(name("hf.co/org/repo"), "org/repo", "abc", downloaded=True)
    assert made is not None
    assert (made.source, made.name.short) == (str(tmp_path / "snapshot"), "hf.co/org/repo:latest")


def test_pulled_again_a_model_is_still_the_one_that_was_downloaded_for_it(library: Library):
    for downloaded in (True, False):
        library.pulled(name("org/repo"), "org/repo", "abc", downloaded)
    assert library.delete(name("org/repo")).downloaded


def test_a_repository_is_held_by_every_model_of_it(library: Library):
    made = library.pulled(name("org/repo"), "org/repo", "abc", downloaded=True)
    assert made is not None
    library.copy(made, name("b"))
    library.delete(name("org/repo"))
    assert library.holds("org/repo", "abc")
    library.delete(name("b"))
    assert not library.holds("org/repo", "abc")
    assert library.holds("org/declared", "any")


def test_a_model_whose_snapshot_is_gone_is_not_served(library: Library, tmp_path: Path):
    library.pulled(name("org/repo"), "org/repo", "abc", downloaded=True)
    assert Library(tmp_path, [DECLARED], lambda *_: None).models() == []
