"""LoRA adapters on the demo model: made by clients, served by an engine that takes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import httpx
import pytest
import torch
from safetensors.torch import save

from tests.support.asking import Asker
from tests.support.servers import ROOT, Server
from tests.support.waiting import VLLM_SECONDS

pytestmark = pytest.mark.engine

RANK = 4
CONFIG = json.loads((ROOT / "models" / "demo" / "config.json").read_text())
QUESTION = "What is vllm-wsgi?"


def adapter(scale: float) -> dict[str, bytes]:
    """An adapter of the first layer's output projection; with a scale of 0 it changes nothing."""
    torch.manual_seed(0)
    name = "base_model.model.model.layers.0.self_attn.o_proj"
    weights = {
        f"{name}.lora_A.weight": torch.randn(RANK, CONFIG["hidden_size"], dtype=torch.bfloat16),
        f"{name}.lora_B.weight": scale * torch.randn(CONFIG["hidden_size"], RANK, dtype=torch.bfloat16),
    }
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": ["o_proj"], "bias": "none"}
    return {"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": save(weights)}


@pytest.fixture(scope="module")
def http(engine_server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=engine_server.url, timeout=VLLM_SECONDS) as client:
        yield client
        for name in ("same", "other"):
            client.post("/api/generate", json={"model": name, "keep_alive": 0})
            client.request("DELETE", "/api/delete", json={"model": name})


def create(http: httpx.Client, name: str, files: dict[str, bytes]) -> httpx.Response:
    digests = {path: f"sha256:{hashlib.sha256(data).hexdigest()}" for path, data in files.items()}
    for path, data in files.items():
        assert http.post(f"/api/blobs/{digests[path]}", content=data).is_success
    return http.post("/api/create", json={"model": name, "from": "demo", "adapters": digests, "stream": False})


def answer(http: httpx.Client, url: str, model: str) -> str:
    asker = Asker(url, model)
    try:
        return str(asker.chat(QUESTION, options={"temperature": 0, "num_predict": 24})["message"]["content"])
    finally:
        asker.close()


def test_an_adapter_changes_what_its_model_says_and_no_other(http: httpx.Client, engine_server: Server):
    for name, scale in (("same", 0.0), ("other", 30.0)):
        assert create(http, name, adapter(scale)).json() == {"status": "success"}
    base, same, other = (answer(http, engine_server.url, name) for name in ("demo", "same", "other"))
    assert same == base
    assert other != base
    assert len(engine_server.engine_workers()) == 2


def test_a_long_answer_of_one_adapter_keeps_no_other_waiting(http: httpx.Client, engine_server: Server):
    """vLLM itself computes one adapter after the other."""
    body = {"model": "same", "prompt": QUESTION, "max_tokens": 20_000, "ignore_eos": True, "stream": True}
    with http.stream("POST", "/v1/completions", json=body) as long:
        events = (json.loads(line[6:]) for line in long.iter_lines() if line)
        next(events)
        assert answer(http, engine_server.url, "other")
        assert next(events)["choices"][0]["finish_reason"] is None
