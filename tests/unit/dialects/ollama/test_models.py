from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from service.dialects.ollama.models import human_count, loaded, replica, show, tag
from service.protocol.model_info import EngineState, LoadedModel, ModelInfo, Replica

DETAILS = ["parent_model", "format", "family", "families", "parameter_size", "quantization_level"]

INFO = ModelInfo(
    name="ns/demo:latest",
    size=3_000_000,
    digest="ab" * 32,
    modified_at=1_767_323_045.5,
    architecture="qwen3",
    parameter_count=1_500_000_000,
    quantization="BF16",
    context_length=4096,
    embedding_length=128,
    block_count=4,
    head_count=8,
    head_count_kv=2,
    vocabulary_size=1000,
    capabilities=["completion", "insert"],
    parameters={"temperature": 0.6, "stop": ["<|im_end|>", '"\n']},
    template="{{ messages }}",
    license="Apache",
)


def test_an_entry_of_the_list_has_its_keys_in_ollamas_order():
    entry = tag(INFO)
    assert list(entry) == ["name", "model", "modified_at", "size", "digest", "details", "capabilities"]
    assert list(entry["details"])[:6] == DETAILS


def test_an_entry_of_the_list_tells_what_the_model_is():
    entry = tag(INFO)
    assert entry["name"] == entry["model"] == "ns/demo:latest"
    assert (entry["size"], entry["digest"]) == (3_000_000, "ab" * 32)
    assert entry["capabilities"] == ["completion", "insert"]
    assert entry["details"]["family"] == "qwen3"
    assert (entry["details"]["parameter_size"], entry["details"]["quantization_level"]) == ("1.5B", "BF16")


def test_a_time_is_that_instant_with_an_offset():
    time = datetime.fromisoformat(tag(INFO)["modified_at"])
    assert time.tzinfo is not None
    assert time.timestamp() == 1_767_323_045.5


def test_an_entry_of_the_loaded_models_has_its_keys_in_ollamas_order():
    entry = loaded(LoadedModel(info=INFO, state=EngineState.READY, size=5, device="cuda"))
    names = ["name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length"]
    assert list(entry)[: len(names)] == names
    assert entry["details"] == tag(INFO)["details"]


@pytest.mark.parametrize(("device", "size_vram"), [("cuda", 5), ("rocm", 5), ("cpu", 0)])
def test_only_a_model_on_a_gpu_takes_the_gpus_memory(device: str, size_vram: int):
    entry = loaded(LoadedModel(info=INFO, state=EngineState.READY, size=5, device=device))
    assert (entry["size"], entry["size_vram"]) == (5, size_vram)


@pytest.mark.parametrize(("loaded_length", "shown"), [(2048, 2048), (0, 4096)])
def test_a_loaded_model_shows_the_context_that_it_was_loaded_with(loaded_length: int, shown: int):
    model = LoadedModel(info=INFO, state=EngineState.READY, context_length=loaded_length)
    assert loaded(model)["context_length"] == shown


def test_a_model_that_stays_expires_in_centuries():
    entry = loaded(LoadedModel(info=INFO, state=EngineState.READY))
    assert datetime.fromisoformat(entry["expires_at"]).year > 2300


def test_show_has_its_keys_in_ollamas_order():
    assert list(show(INFO)) == [
        "license", "modelfile", "parameters", "template", "details", "model_info", "capabilities", "modified_at",
    ]  # fmt: skip


def test_show_leaves_out_what_is_not_known():
    answer = show(ModelInfo(name="m:latest"))
    assert not {"license", "parameters", "template"} & answer.keys()
    assert {"details", "model_info", "capabilities", "modified_at"} <= answer.keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("general.architecture", "qwen3"),
        ("general.basename", "demo"),
        ("general.parameter_count", 1_500_000_000),
        ("qwen3.context_length", 4096),
        ("qwen3.embedding_length", 128),
        ("qwen3.block_count", 4),
        ("qwen3.attention.head_count", 8),
        ("qwen3.attention.head_count_kv", 2),
    ],
)
def test_model_info_holds_what_clients_read_from_it(name: str, value: Any):
    assert show(INFO)["model_info"][name] == value


def test_parameters_are_lines_of_a_padded_name_and_a_value():
    assert show(INFO)["parameters"].split("\n") == [
        f"{'temperature':<30} 0.6",
        f'{"stop":<30} "<|im_end|>"',
        f'{"stop":<30} "\\"\\n"',
    ]


def test_the_modelfile_says_what_the_answer_says():
    lines = show(INFO)["modelfile"].splitlines()
    assert lines[0] == "FROM ns/demo:latest"
    assert 'PARAMETER stop "<|im_end|>"' in lines
    assert 'TEMPLATE """{{ messages }}"""' in lines


def test_a_model_of_which_only_the_name_is_known_has_no_family():
    details = tag(ModelInfo(name="m:latest"))["details"]
    assert not any(details["families"] or [])
    assert json.loads(json.dumps(details)) == details


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (596_000, "596K"),
        (1_100_000, "1.10M"),
        (134_515_008, "134.52M"),
        (137_000_000, "137M"),
        (1_543_714_304, "1.5B"),
        (8_000_000_000, "8B"),
        (8_030_261_248, "8.0B"),
        (70_553_706_496, "70.6B"),
        (405_853_388_800, "405.9B"),
    ],
)
def test_a_number_of_parameters_is_written_as_ollama_writes_it(count: int, text: str):
    assert human_count(count) == text


def test_a_model_on_a_cluster_names_its_nodes():
    replicas = [Replica(state=EngineState.READY, node="10.0.0.2"), Replica(id=1, state=EngineState.LOADING)]
    info = ModelInfo(name="m:latest")
    assert loaded(LoadedModel(info=info, state=EngineState.READY, replicas=replicas))["nodes"] == ["10.0.0.2"]
    assert "nodes" not in loaded(LoadedModel(info=info, state=EngineState.READY, replicas=replicas[1:]))
    assert ["node" in replica(each) for each in replicas] == [True, False]
