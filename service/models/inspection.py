"""Describe a model by reading its files, without loading it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import msgspec

from ..protocol.model_info import ModelInfo, Tensor
from .infill import fim_tokens
from .model import Model
from .parser_names import parser_names
from .task import embeds

# A larger file is identified by its name, size and time: reading it would take minutes.
HASHED_BYTES = 64 * 1024 * 1024


def describe(model: Model) -> ModelInfo:
    """Return what the model's files say; of a repository that is not downloaded yet, the name alone."""
    directory = _directory(model.source)
    if directory is None:
        return ModelInfo(
            name=model.name.short, capabilities=["completion"], parameters=model.options, system=model.system,
            modified_at=model.made_at, parent=model.parent,
        )  # fmt: skip
    config = _read_json(directory / "config.json")
    text = config.get("text_config") or config
    weights = _weights(model, directory)
    template = Path(model.template).read_text() if model.template else _template(directory)
    return ModelInfo(
        name=model.name.short,
        size=sum(path.stat().st_size for path in weights),
        digest=_digest(directory, model),
        modified_at=model.made_at or max((path.stat().st_mtime for path in directory.iterdir()), default=0.0),
        architecture=config.get("model_type", ""),
        parameter_count=sum(_parameter_count(path) for path in weights),
        quantization=_quantization(config),
        context_length=model.engine_args.get("max_model_len") or text.get("max_position_embeddings", 0),
        embedding_length=text.get("hidden_size", 0),
        block_count=text.get("num_hidden_layers", 0),
        head_count=text.get("num_attention_heads", 0),
        head_count_kv=text.get("num_key_value_heads", text.get("num_attention_heads", 0)),
        vocabulary_size=text.get("vocab_size", 0),
        capabilities=_capabilities(model, directory, config, template),
        parameters=_parameters(_read_json(directory / "generation_config.json")) | model.options,
        template=model.go_template or template,
        system=model.system,
        license="\n".join(model.license) or _license(directory),
        messages=list(model.messages),
        parent=model.parent,
    )


def tensors(model: Model) -> list[Tensor]:
    """Return the tensors of the model's weights, sorted by name."""
    directory = _directory(model.source)
    headers = [_header(path) for path in _weights(model, directory)] if directory else []
    found = [Tensor(name, entry["dtype"], entry["shape"]) for header in headers for name, entry in header.items()]
    return sorted(found, key=lambda tensor: tensor.name)


def tokens(model: Model) -> list[str]:
    """Return the model's vocabulary in the order of the ids; empty when tokenizer.json has none."""
    directory = _directory(model.source)
    if directory is None:
        return []
    ids = _read_json(directory / "tokenizer.json").get("model", {}).get("vocab")
    ids = (ids if isinstance(ids, dict) else {}) | _vocabulary(directory)
    return sorted(ids, key=ids.__getitem__)


def _weights(model: Model, directory: Path) -> list[Path]:
    adapter = Path(model.adapter).glob("*.safetensors") if model.adapter else []
    return sorted([*directory.glob("*.safetensors"), *adapter])


def _capabilities(model: Model, directory: Path, config: dict[str, Any], template: str) -> list[str]:
    """Return what the model can do, in Ollama's words and order. A model that embeds does nothing else."""
    if embeds(model.engine_args, config, _modules(directory)):
        return ["embedding"]
    kind = parser_names(template, config.get("model_type", ""), model.tool_parser, model.reasoning_parser)
    able = {
        "completion": True,
        "tools": bool(kind.tools) and not model.go_template,
        "insert": fim_tokens(_vocabulary(directory)) is not None,
        "vision": _sees(model, directory, config) and not model.go_template,
        "thinking": bool(kind.thinking),
    }
    return [capability for capability, can in able.items() if can]


def _sees(model: Model, directory: Path, config: dict[str, Any]) -> bool:
    """Return whether the model has a vision configuration or an image processor, and the operator allows images."""
    arguments = model.engine_args
    limits = arguments.get("limit_mm_per_prompt") or {}
    if arguments.get("language_model_only") or limits.get("image") in (0, {"count": 0}):
        return False
    processor = _read_json(directory / "processor_config.json").get("image_processor")
    older = _read_json(directory / "preprocessor_config.json").get("image_processor_type")
    return bool(config.get("vision_config") or processor or older)


def _modules(directory: Path) -> list[str]:
    """Return the types of the model's Sentence Transformers modules; empty when modules.json lists none."""
    try:
        modules = json.loads((directory / "modules.json").read_text())
        return [str(module["type"]) for module in modules]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _directory(source: str) -> Path | None:
    if Path(source).is_dir():
        return Path(source)
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    path = try_to_load_from_cache(source, "config.json")
    return Path(path).parent if isinstance(path, str) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _template(directory: Path) -> str:
    """Return the chat template, from its own file or from the tokenizer's configuration."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        return path.read_text()
    template = _read_json(directory / "tokenizer_config.json").get("chat_template", "")
    return template if isinstance(template, str) else ""


def _vocabulary(directory: Path) -> dict[str, int]:
    """Return the ids of the added tokens, which include the special ones."""
    added = _read_json(directory / "tokenizer.json").get("added_tokens") or []
    return {token["content"]: token["id"] for token in added}


def _parameter_count(path: Path) -> int:
    try:
        return sum(math.prod(tensor["shape"]) for tensor in _header(path).values())
    except (TypeError, KeyError):
        return 0


def _header(path: Path) -> dict[str, Any]:
    """Return the tensors of a safetensors file by name; empty when the file is not one.

    The file begins with the length of its header in bytes, 8 bytes little-endian, and the header in JSON.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                return {}
            header = json.loads(file.read(length))
        return {name: tensor for name, tensor in header.items() if name != "__metadata__"}
    except (OSError, ValueError, AttributeError, struct.error):
        return {}


def _quantization(config: dict[str, Any]) -> str:
    """Return the quantization's name, else the type of the weights as GGUF spells it."""
    quantization = config.get("quantization_config")
    if isinstance(quantization, dict) and quantization.get("quant_method"):
        return str(quantization["quant_method"]).upper()
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "")
    return {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}.get(dtype, dtype.upper())


def _parameters(generation: dict[str, Any]) -> dict[str, Any]:
    """Return the values of generation_config.json under the names of Ollama's options."""
    names = {
        "temperature": "temperature",
        "top_k": "top_k",
        "top_p": "top_p",
        "min_p": "min_p",
        "repetition_penalty": "repeat_penalty",
        "max_new_tokens": "num_predict",
    }
    return {ours: generation[theirs] for theirs, ours in names.items() if generation.get(theirs) is not None}


def _license(directory: Path) -> str:
    for path in sorted(directory.glob("LICENSE*")):
        return path.read_text(errors="replace")
    return ""


def _digest(directory: Path, model: Model) -> str:
    """Return the SHA-256, in hexadecimal, of the files' names and contents and of what a client has set."""
    digest = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.suffix in (".json", ".safetensors", ".jinja", ".txt", ".model"):
            digest.update(path.name.encode() + b"\0")
            size = path.stat().st_size
            if size <= HASHED_BYTES:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
            else:
                digest.update(f"{size} {os.stat(path).st_mtime_ns}".encode())
    if model.made_at:
        made_of = model.options, model.system, model.messages, model.go_template, model.license, model.adapter
        digest.update(msgspec.json.encode(made_of))
    return digest.hexdigest()
