from __future__ import annotations

import pytest

from service.dialects.openai.models import model, models
from service.protocol.model_info import ModelInfo


@pytest.mark.parametrize(
    ("name", "owner"), [("demo:latest", "library"), ("you/demo:7b", "you"), ("hf.co/org/repo:latest", "org")]
)
def test_a_model_is_owned_by_its_namespace(name: str, owner: str):
    info = ModelInfo(name=name, modified_at=12.9)
    assert model(info) == {"id": name, "object": "model", "created": 12, "owned_by": owner}


def test_a_model_has_its_context_length_as_in_vllm():
    assert model(ModelInfo(name="demo:latest", context_length=2048))["max_model_len"] == 2048


def test_a_model_echoes_the_name_that_was_asked_for():
    assert model(ModelInfo(name="demo:latest"), "demo")["id"] == "demo"


def test_the_newest_comes_first_and_no_model_is_an_empty_list():
    infos = [ModelInfo(name="old", modified_at=1), ModelInfo(name="new", modified_at=2)]
    assert [entry["id"] for entry in models(infos)["data"]] == ["new", "old"]
    assert models([]) == {"object": "list", "data": []}
