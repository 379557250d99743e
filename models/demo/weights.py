"""Weights in files, under the names that transformers and vLLM read."""

from pathlib import Path

import torch
from network import Qwen2
from safetensors.torch import load_file, save_file


def save_weights(model: Qwen2, out: Path) -> None:
    weights = {f"model.{name}": weight.detach().to(torch.bfloat16) for name, weight in model.named_parameters()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def load_weights(model: Qwen2, path: Path) -> None:
    model.load_state_dict({name.removeprefix("model."): weight for name, weight in load_file(path).items()})
