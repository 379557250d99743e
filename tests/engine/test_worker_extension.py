"""What the process of a model does before vLLM runs anything in it. Needs vLLM's classes, but no engine."""

from __future__ import annotations

import importlib

import pytest
import torch

from service.engine.vllm import worker_extension


def test_the_kernel_is_asked_for_amx_before_vllm_makes_its_worker(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(torch.cpu, "_init_amx", lambda: asked.append("AMX"), raising=False)
    # As vLLM imports it, by its name.
    importlib.reload(worker_extension)
    assert asked == ["AMX"]


def test_a_torch_that_can_not_ask_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.cpu, "_init_amx", raising=False)
    assert importlib.reload(worker_extension) is worker_extension
