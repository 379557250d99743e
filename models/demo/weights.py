"""Weights in files, under the names that transformers and vLLM read."""

from pathlib import Path

import torch
from network import Qwen2
from safetensors.torch import load_file, save_file


def save_weights(model: Qwen2, out: Path) -> None:
    weights = {f"model.{name}": weight.detach().to(torch.bfloat16) for name, weight in model.named_parameters()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def load_weights(model: Qwen2, path: Path) -> None:
    """Load weights, with or without the FAR token."""
    weights = {name.removeprefix("model."): weight for name, weight in load_file(path).items()}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight[: len(weights[name])].copy_(weights[name])
