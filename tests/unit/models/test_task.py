from __future__ import annotations

from typing import Any

import pytest

from service.models.task import embeds

POOLING = ["sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling"]


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("Qwen2ForCausalLM", False),
        ("Gemma3ForConditionalGeneration", False),
        ("GPT2LMHeadModel", False),
        ("ChatGLMModel", False),
        ("BertForSequenceClassification", False),
        ("InternLM2ForRewardModel", False),
        ("SomethingNew", False),
        ("BertModel", True),
        ("NomicBertModel", True),
        ("XLMRobertaModel", True),
        ("BertForMaskedLM", True),
        ("Gemma3TextModel", True),
        ("BgeM3EmbeddingModel", True),
    ],
)
def test_the_architectures_name_tells(architecture: str, expected: bool):
    assert embeds({}, {"architectures": [architecture]}, []) is expected


def test_sentence_transformers_pool_what_would_else_generate():
    assert embeds({}, {"architectures": ["Qwen3ForCausalLM"]}, POOLING)
    assert not embeds({}, {"architectures": ["Qwen3ForCausalLM"]}, POOLING[:1])


@pytest.mark.parametrize(
    ("engine_args", "expected"),
    [
        ({"runner": "pooling"}, True),
        ({"convert": "embed"}, True),
        ({"runner": "pooling", "convert": "embed"}, True),
        ({"runner": "pooling", "convert": "classify"}, False),
        ({"runner": "auto"}, False),
        ({"max_model_len": 512}, False),
    ],
)
def test_the_engines_arguments_overrule_the_files(engine_args: dict[str, Any], expected: bool):
    assert embeds(engine_args, {"architectures": ["Qwen2ForCausalLM"]}, []) is expected
    assert not embeds({"runner": "generate"}, {"architectures": ["BertModel"]}, POOLING)


def test_a_model_without_an_architecture_does_not_embed():
    assert not embeds({}, {}, [])
