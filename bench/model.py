"""The demo model without an end token, so that every answer has as many tokens as requested, on every side.

Neither Ollama's API nor a plain request to vLLM's server can have the end token ignored.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DEMO = Path(__file__).resolve().parents[1] / "models" / "demo"
NAME = "endless"


def write_endless(directory: Path) -> Path:
    """Write the demo model's files to `directory`/endless, without the end token."""
    model = directory / NAME
    model.mkdir()
    for name in ("model.safetensors", "tokenizer.json", "chat_template.jinja"):
        (model / name).symlink_to(DEMO / name)
    _write(model, "config.json", {"eos_token_id": None})
    _write(model, "tokenizer_config.json", {"eos_token": None})
    _write(model, "generation_config.json", {"eos_token_id": None})
    return model


def _write(model: Path, name: str, changes: dict[str, Any]) -> None:
    (model / name).write_text(json.dumps(json.loads((DEMO / name).read_text()) | changes))


def question(words: int, number: int) -> str:
    """Return a question that no prefix cache holds, with `words` words of a few tokens each."""
    filling = " ".join(f"word{(number * 7 + index) % 90 + 10}" for index in range(words))
    return f"{number} {filling} What is vllm-wsgi?" if words else f"{number} What is vllm-wsgi?"
