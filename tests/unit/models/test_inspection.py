from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from service.models.inspection import describe
from service.models.model import Model
from service.protocol.model_info import ModelInfo
from service.syntax.names import ModelName

CONFIG = {
    "model_type": "qwen3",
    "dtype": "bfloat16",
    "max_position_embeddings": 4096,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
}
FIM = ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]


def safetensors(shapes: dict[str, list[int]]) -> bytes:
    tensors = {name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    header = json.dumps({"__metadata__": {"format": "pt"}} | tensors).encode()
    return struct.pack("<Q", len(header)) + header


def tokenizer(tokens: list[str]) -> str:
    return json.dumps({"added_tokens": [{"id": number, "content": token} for number, token in enumerate(tokens)]})


def info(directory: Path, **engine_args: Any) -> ModelInfo:
    return describe(Model(ModelName.parse("demo"), str(directory), engine_args))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory as a model lies on the Hub, without its weights."""
    directory = tmp_path / "demo"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(CONFIG))
    (directory / "model-1.safetensors").write_bytes(safetensors({"a": [10, 20], "b": [5]}))
    (directory / "model-2.safetensors").write_bytes(safetensors({"c": [3, 3, 3], "scalar": []}))
    (directory / "tokenizer.json").write_text(tokenizer(["<|im_end|>", *FIM]))
    (directory / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "top_k": 20, "top_p": None}))
    (directory / "chat_template.jinja").write_text("{{ messages }}")
    (directory / "LICENSE").mkdir()
    (directory / "LICENSE.txt").write_text("Apache")
    return directory


def test_a_description_is_what_the_files_say(model: Path):
    described = info(model)
    assert described.name == "demo:latest"
    assert (described.architecture, described.quantization) == ("qwen3", "BF16")
    assert (described.context_length, described.embedding_length, described.block_count) == (4096, 128, 4)
    assert (described.head_count, described.head_count_kv, described.vocabulary_size) == (8, 2, 1000)
    assert (described.template, described.license) == ("{{ messages }}", "Apache")


def test_the_weights_say_how_large_the_model_is(model: Path):
    assert info(model).parameter_count == 10 * 20 + 5 + 27 + 1
    assert info(model).size == sum(path.stat().st_size for path in model.glob("*.safetensors"))


def test_a_model_is_as_old_as_its_youngest_file(model: Path):
    for path in model.iterdir():
        os.utime(path, (1_000, 1_000))
    os.utime(model / "config.json", (2_000, 2_000))
    assert info(model).modified_at == 2_000


def test_the_models_own_sampling_is_told_in_the_names_of_ollamas_options(model: Path):
    generation = {"temperature": 0.6, "repetition_penalty": 1.1, "max_new_tokens": 9, "eos_token_id": 1, "top_p": None}
    (model / "generation_config.json").write_text(json.dumps(generation))
    assert info(model).parameters == {"temperature": 0.6, "repeat_penalty": 1.1, "num_predict": 9}


@pytest.mark.parametrize(
    ("tokens", "capabilities"), [(FIM, ["completion", "insert"]), (FIM[:2], ["completion"]), ([], ["completion"])]
)
def test_only_a_model_with_the_tokens_for_it_can_fill_in(model: Path, tokens: list[str], capabilities: list[str]):
    (model / "tokenizer.json").write_text(tokenizer(tokens))
    assert info(model).capabilities == capabilities


def test_a_model_that_pools_embeds_and_does_nothing_else(model: Path):
    assert info(model, runner="pooling").capabilities == ["embedding"]
    modules = [{"idx": 0, "type": "sentence_transformers.models.Pooling"}]
    (model / "modules.json").write_text(json.dumps(modules))
    assert info(model).capabilities == ["embedding"]


@pytest.mark.parametrize("modules", ["", "[]", "{}", "null", "[1]", '[{"path": "1_Pooling"}]'])
def test_a_list_of_modules_that_says_nothing_is_none(model: Path, modules: str):
    (model / "modules.json").write_text(modules)
    assert info(model).capabilities == ["completion", "insert"]


def test_the_engines_limit_is_the_context_length(model: Path):
    assert info(model, max_model_len=512).context_length == 512


def test_a_model_with_eyes_is_described_by_its_text_part(model: Path):
    (model / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": CONFIG}))
    assert (info(model).architecture, info(model).context_length, info(model).block_count) == ("gemma3", 4096, 4)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", CONFIG | {"vision_config": {"hidden_size": 8}}),
        ("processor_config.json", {"image_processor": {"image_processor_type": "X"}}),
        ("preprocessor_config.json", {"image_processor_type": "X"}),
    ],
)
def test_a_model_sees_where_its_files_say_so_and_the_operator_lets_it(model: Path, file: str, content: dict[str, Any]):
    (model / file).write_text(json.dumps(content))
    assert info(model).capabilities == ["completion", "insert", "vision"]
    assert info(model, limit_mm_per_prompt={"image": 2}).capabilities == ["completion", "insert", "vision"]
    for shut in ({"limit_mm_per_prompt": {"image": 0}}, {"language_model_only": True}):
        assert info(model, **shut).capabilities == ["completion", "insert"]


@pytest.mark.parametrize("file", ["processor_config.json", "preprocessor_config.json"])
def test_a_model_that_only_hears_does_not_see(model: Path, file: str):
    (model / file).write_text(json.dumps({"feature_extractor_type": "X", "feature_extractor": {}}))
    assert info(model).capabilities == ["completion", "insert"]


@pytest.mark.parametrize(
    ("config", "quantization"),
    [
        ({"dtype": "bfloat16"}, "BF16"),
        ({"torch_dtype": "float16"}, "F16"),
        ({"dtype": "float32"}, "F32"),
        ({"dtype": "bfloat16", "quantization_config": {"quant_method": "awq"}}, "AWQ"),
        ({}, ""),
    ],
)
def test_the_quantization_is_a_method_or_the_type_of_the_weights(
    model: Path, config: dict[str, Any], quantization: str
):
    (model / "config.json").write_text(json.dumps(config))
    assert info(model).quantization == quantization


def test_the_chat_template_may_stand_in_the_tokenizers_configuration(model: Path):
    (model / "chat_template.jinja").unlink()
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ m }}"}))
    assert info(model).template == "{{ m }}"


def test_the_digest_changes_with_the_files(model: Path):
    before = info(model).digest
    assert before == info(model).digest
    assert len(bytes.fromhex(before)) == 32
    (model / "generation_config.json").write_text("{}")
    assert info(model).digest != before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", '{"text_config": null}'),
        ("config.json", '{"quantization_config": null}'),
        ("generation_config.json", "null"),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", '{"added_tokens": null}'),
        ("tokenizer_config.json", '{"chat_template": [{"name": "default", "template": "x"}]}'),
        ("model-1.safetensors", ""),
        ("model-1.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        ("model-1.safetensors", "\2\0\0\0\0\0\0\0[]"),
        ("model-1.safetensors", '\11\0\0\0\0\0\0\0{"a": {}}'),
    ],
)
def test_a_file_that_is_broken_leaves_its_part_open(model: Path, name: str, text: str):
    (model / name).write_text(text)
    described = info(model)
    assert described.name == "demo:latest"
    assert described.parameter_count == (28 if name == "model-1.safetensors" else 233)


def test_a_directory_without_files_is_described_by_its_name(tmp_path: Path):
    described = info(tmp_path)
    assert (described.name, described.size, described.parameter_count) == ("demo:latest", 0, 0)


def test_a_repository_that_is_not_downloaded_has_only_its_name():
    described = describe(Model(ModelName.parse("nobody/nothing"), "nobody/nothing"))
    assert described == ModelInfo(name="nobody/nothing:latest", capabilities=["completion"])
