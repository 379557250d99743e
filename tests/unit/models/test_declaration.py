from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from service.config import Settings
from service.errors import SettingsError
from service.models.catalog import Catalog
from service.models.declaration import KINDS, declared_models, read_models, servable_models
from service.models.inspection import describe
from service.models.model import Model
from service.protocol.request import Sampling
from service.syntax.names import ModelName

EXAMPLE = Path(__file__).parents[3] / "deploy" / "models.toml.example"

WHOLE = """
[models."team/Writer:v2"]
source = "weights"
engine_args = { max_model_len = 512, kv_cache_memory_bytes = 1000 }
tool_parser = "hermes"
reasoning_parser = "none"
system = "Be brief."
template = "chat.jinja"
keep_alive = "1h30m"
pinned = true
memory = 3_000
replicas = 2
devices = ["0,1", "2,3"]
gpus = 2

[models."team/Writer:v2".options]
temperature = 0
num_ctx = 256
stop = ["\\n"]
num_gpu = 1

[models.plain]
source = "org/plain"
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a models.toml may stand: beside a model and a template."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "generation_config.json").write_text('{"temperature": 0.6, "top_k": 20}')
    (tmp_path / "chat.jinja").write_text("{{ ours }}")
    return tmp_path


def read(directory: Path, text: str) -> list[Model]:
    (directory / "models.toml").write_text(text)
    return read_models(directory / "models.toml")


def test_every_field_is_read(directory: Path):
    writer, plain = read(directory, WHOLE)
    assert (writer.name.short, writer.source) == ("team/Writer:v2", str(directory / "weights"))
    assert writer.engine_args == {"max_model_len": 512, "kv_cache_memory_bytes": 1000}
    assert (writer.tool_parser, writer.reasoning_parser, writer.system) == ("hermes", "none", "Be brief.")
    assert (writer.keep_alive, writer.pinned, writer.memory) == (5400, True, 3000)
    assert (writer.replicas, writer.devices, writer.gpus) == (2, ("0,1", "2,3"), 2)
    assert (writer.sampling, writer.context_limit) == (Sampling(temperature=0, stop=["\n"]), 256)
    assert plain == Model(ModelName.parse("plain"), "org/plain")


def test_a_model_is_described_with_what_the_operator_says_of_it(directory: Path):
    info = describe(read(directory, WHOLE)[0])
    assert (info.template, info.system, info.context_length) == ("{{ ours }}", "Be brief.", 512)
    assert info.parameters == {"temperature": 0, "top_k": 20, "num_ctx": 256, "stop": ["\n"], "num_gpu": 1}


@pytest.mark.parametrize(
    ("text", "seconds"), [('"5m"', 300), ("7", 7), ("1.5", 1.5), ("0", 0), ("-1", math.inf), ('"-1m"', math.inf)]
)
def test_a_keep_alive_is_spelt_as_in_a_request(directory: Path, text: str, seconds: float):
    (model,) = read(directory, f'[models.a]\nsource = "o/a"\nkeep_alive = {text}')
    assert model.keep_alive == seconds


@pytest.mark.parametrize("source", ["org/Model-7B", "hf.co/org/Model-7B", "huggingface.co/org/Model-7B"])
def test_a_repository_may_be_written_with_its_host(directory: Path, source: str):
    (model,) = read(directory, f'[models.a]\nsource = "{source}"')
    assert model.source == "org/Model-7B"


def test_the_name_of_a_repository_needs_no_source(directory: Path):
    (model,) = read(directory, '[models."hf.co/org/Model-7B"]')
    assert (model.name.short, model.source) == ("hf.co/org/Model-7B:latest", "org/Model-7B")


@pytest.mark.parametrize("name", ["hf.co/org/model-7b", "HF.co/Org/Model-7B:latest", "huggingface.co/org/model-7b"])
def test_a_model_is_found_by_its_repository_too(directory: Path, name: str):
    store = Catalog(read(directory, '[models.a]\nsource = "org/Model-7B"'))
    assert store.find(name).name.short == "a:latest"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[models.a]\nsource = "o/a"\n\nsystm = "x"', 'line 4: models."a".systm: is unknown; known are source, '),
        ('[models.a]\nsource = "o/a"\nkeep_alive = "5d"', 'line 3: models."a".keep_alive: time: unknown unit "d"'),
        ('[models.a]\nsource = "o/a"\nkeep_alive = nan', 'line 3: models."a".keep_alive: must be a number'),
        ('[models.a]\nsource = "o/a"\nkeep_alive = true', 'line 3: models."a".keep_alive: must be seconds or a dura'),
        ('[models.a]\nsource = "o/a"\npinned = 1', 'line 3: models."a".pinned: must be true or false'),
        ('[models.a]\nsource = "o/a"\nmemory = "8G"', 'line 3: models."a".memory: must be a whole number'),
        ('[models.a]\nsource = "o/a"\nmemory = -1', 'line 3: models."a".memory: must not be negative'),
        ('[models.a]\nsource = "o/a"\nreplicas = 0', 'line 3: models."a".replicas: must be between 1 and 64'),
        ('[models.a]\nsource = "o/a"\ndevices = "0"', 'line 3: models."a".devices: must be a list'),
        ('[models.a]\nsource = "o/a"\ndevices = [0]', 'line 3: models."a".devices: must be a list of strings'),
        ('[models.a]\nsource = "o/a"\ndevices = ["0", "1"]', 'line 3: models."a".devices: must have an entry for each'),
        ('[models.a]\nsource = "o/a"\ngpus = -1', 'line 3: models."a".gpus: must be between 0 and'),
        ('[models.a]\nsource = "o/a"\ngpus = 0.00005', 'line 3: models."a".gpus: must be 0 or at least 0.0001'),
        ('[models.a]\nsource = "o/a"\ngpus = 1.5', 'line 3: models."a".gpus: must be a whole number when'),
        ('[models.a]\nsource = "o/a"\nengine_args = []', 'line 3: models."a".engine_args: must be a table'),
        ('[models.a]\nsource = ["o/a"]', 'line 2: models."a".source: must be a string'),
        ('[models.a]\nsource = "./no/where"', "line 2: models.\"a\".source: './no/where' is neither a directory"),
        ('[models.a]\nsource = "o/a"\ntemplate = "no.jinja"', 'line 3: models."a".template: can\'t be read: '),
        ('[models.a]\nsource = "o/a"\n[models.a.options]\n\ntop_k = "x"', 'line 5: models."a".options.top_k: option "'),
        ('[models.a]\nsource = "o/a"\noptions.topk = 1', 'line 3: models."a".options.topk: is not an Ollama option'),
        ('\n[models.a]\npinned = true', 'line 2: models."a": has no source'),
        ('[models]\na = "o/a"', 'line 2: models."a": must be a table'),
        ('[models."a b"]\nsource = "o/a"', 'line 1: models."a b": invalid model name'),
        ('[models.a]\nsource = "o/a"\n[models."A:latest"]\nsource = "o/a"', 'line 3: models."A:latest": names the'),
        ('# models\n[model.a]\nsource = "o/a"', "line 2: model: is unknown; a model stands in a table of its own"),
        ("[models]", "line 1: models: has no model"),
        ("", "line 1: models: has no model"),
        ('[models.a]\nsource = "o/a\n', "line 2: Illegal character"),
        ('[models.a]\nsource = "o/a"\n[models.a]', "line 3: Cannot declare"),
        ("[models.a]\nsource =", "line 2: Invalid value"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(directory: Path, text: str, message: str):
    with pytest.raises(SettingsError) as caught:
        read(directory, text)
    assert caught.value.message.startswith(f"{directory}/models.toml, {message}")


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_file_that_cant_be_read_is_named_by_its_setting(tmp_path: Path, content: bytes | None):
    path = tmp_path / "models.toml"
    if content:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=f"^VLLM_WSGI_MODELS={path} can't be read: "):
        read_models(path)


def test_the_example_is_read_and_shows_every_field():
    demo, repository = read_models(EXAMPLE)
    assert (demo.name.short, demo.pinned, repository.source) == ("demo:latest", True, "Qwen/Qwen3-8B")
    text = EXAMPLE.read_text()
    shown = [name for name in KINDS if f"\n{name} = " in text or f".{name}]" in text]
    assert set(KINDS) - set(shown) == {"template", "replicas", "devices", "gpus"}
    assert all(f"\n# {name} = " in text for name in ("template", "replicas", "devices", "gpus"))


def test_one_model_in_the_settings_is_pinned():
    (model,) = declared_models(Settings(model="hf.co/org/model"))
    assert (model.name.short, model.source, model.pinned) == ("hf.co/org/model:latest", "org/model", True)


def test_more_pinned_models_than_may_be_loaded_end_the_start(directory: Path):
    text = '[models.{0}]\nsource = "o/{0}"\npinned = true\n'
    (directory / "models.toml").write_text(text.format("a") + text.format("b"))
    with pytest.raises(SettingsError, match="VLLM_WSGI_MAX_LOADED=1 is less than the 2 pinned models"):
        declared_models(Settings(models=str(directory / "models.toml"), max_loaded=1))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"model": "org/model-7B"}, "org/model-7B:latest"),
        ({"model": "org/model-7B", "model_name": "small:v1"}, "small:v1"),
    ],
)
def test_a_model_is_named_by_the_settings_or_its_repository(settings: dict[str, str], name: str):
    (model,) = declared_models(Settings(**settings))
    assert model.name.short == name


@pytest.mark.parametrize("name", ["config.json", "params.json"])
def test_a_directory_without_a_models_configuration_is_refused_before_anything_starts(name: str, tmp_path: Path):
    settings = Settings(model=str(tmp_path))
    with pytest.raises(SettingsError, match="holds neither"):
        servable_models(settings)
    assert servable_models(replace(settings, engine="scripted"))
    (tmp_path / name).write_text("{}")
    assert servable_models(settings)[0].source == str(tmp_path)
