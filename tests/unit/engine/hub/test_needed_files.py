from __future__ import annotations

import pytest

from service.engine.hub.needed_files import needed_files

TEXT = ["config.json", "tokenizer.json", "tokenizer.model", "chat_template.jinja", "LICENSE", "README.md"]


def test_safetensors_are_taken_and_the_same_weights_in_other_formats_are_left():
    others = ["pytorch_model.bin", "model.gguf", "onnx/model.onnx", "original/consolidated.00.pth", "tf_model.h5"]
    assert needed_files([*TEXT, "model.safetensors", *others]) == sorted([*TEXT, "model.safetensors"])


def test_pickled_weights_are_taken_where_there_are_no_safetensors():
    weights = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    assert needed_files(["config.json", *weights, "training_args.bin", "optimizer.pt"]) == ["config.json", *weights]


def test_mistrals_consolidated_weights_are_taken_only_where_they_are_the_only_ones():
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert needed_files(["consolidated.safetensors", *shards]) == shards
    assert needed_files(["consolidated.safetensors", "params.json"]) == ["consolidated.safetensors", "params.json"]


def test_the_modules_of_a_sentence_transformer_are_taken():
    paths = ["1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "model.safetensors"]
    assert needed_files([*paths, "openvino/openvino_model.xml", "checkpoint-5/model.safetensors"]) == paths


@pytest.mark.parametrize("paths", [[], TEXT, ["config.json", "model-Q4_K_M.gguf"], ["onnx/model.safetensors"]])
def test_without_weights_that_vllm_loads_nothing_is_taken(paths: list[str]):
    assert needed_files(paths) == []
