"""Describe a model by reading its files, without loading it.

In: models, and their directories. Out: descriptions for the queue and the dialects. Each value that comes from a file
has been checked for its type and its range (`model_files`).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec

from ..errors import BadRequest
from ..protocol.events import Event, Located, Models, Shown
from ..protocol.model_info import ModelInfo, Tensor
from ..protocol.wire import UNFIT, decode_events, pack
from .infill import fim_tokens
from .model import Model
from .model_files import (
    JSON_FILES,
    MAX_VALUES,
    TEMPLATE_BYTES,
    Count,
    GenerationConfig,
    ModelConfig,
    ProcessorConfig,
    TextConfig,
    TokenizerConfig,
    read,
    read_header,
    read_json,
    read_text,
    read_tokenizer,
)
from .parser_names import parser_names
from .task import embeds

# A larger file is identified by its name, size and time: reading it would take minutes.
HASHED_BYTES = 64 * 1024 * 1024
# A licence is shown up to this many characters.
LICENSE_BYTES = 1 << 20


def describe(model: Model) -> ModelInfo:
    """Return a description from the model's files. Of a repository that is not downloaded yet it has only the name.

    Raises BadRequest where a file holds a value of a wrong kind, or one that no message can hold (lone surrogates).
    """
    info = _described(model)
    _check_crossing(Models(0, [info]))
    return info


def _described(model: Model) -> ModelInfo:
    directory = directory_of(model.source)
    if directory is None:
        return ModelInfo(
            name=model.name.short, capabilities=["completion"], parameters=model.options, system=model.system,
            modified_at=model.made_at, parent=model.parent,
        )  # fmt: skip
    config = read(directory, "config.json", ModelConfig)
    text = config.text_config or config
    weights = _weights(model, directory)
    template = read_text(Path(model.template), TEMPLATE_BYTES) if model.template else _template(directory)
    return ModelInfo(
        name=model.name.short,
        size=sum(path.stat().st_size for path in weights),
        digest=_digest(directory, model),
        modified_at=model.made_at or max((path.stat().st_mtime for path in directory.iterdir()), default=0.0),
        architecture=config.model_type or "",
        parameter_count=_parameter_count(weights),
        quantization=_quantization(config),
        context_length=_context_length(model, text),
        embedding_length=text.hidden_size or 0,
        block_count=text.num_hidden_layers or 0,
        head_count=_most(text.num_attention_heads),
        head_count_kv=_most(text.num_key_value_heads or text.num_attention_heads),
        vocabulary_size=text.vocab_size or 0,
        capabilities=_capabilities(model, directory, config, template),
        parameters=_parameters(read(directory, "generation_config.json", GenerationConfig)) | model.options,
        template=model.go_template or template,
        system=model.system,
        license="\n".join(model.license) or _license(directory),
        messages=list(model.messages),
        parent=model.parent,
    )


def prove(model: Model) -> None:
    """Raise BadRequest where the model could not be described, shown or served later, whatever the reason."""
    directory = directory_of(model.source)
    for path in [directory / name for name in JSON_FILES] if directory else []:
        if path.exists() and not isinstance(read_json(path), (dict, list)):
            raise BadRequest(f"{path.name}: is not a JSON object")
    try:
        _check_crossing(Shown(0, _described(model), tensors(model), tokens(model)))
        _check_crossing(Located(0, "", 0, [], model.defaults))
    except OSError as error:
        raise BadRequest(f"the model's files can't be read: {error.strerror}") from None


def _check_crossing(event: Event) -> None:
    """Raise BadRequest for an event that can't cross the queue."""
    try:
        decode_events(pack([event])[4:])
    except UNFIT as error:
        raise BadRequest(f"the model can't be described: {error}") from None


def tensors(model: Model) -> list[Tensor]:
    """Return the tensors of the model's weights, sorted by name. Raises BadRequest."""
    directory = directory_of(model.source)
    headers = [read_header(path) for path in _weights(model, directory)] if directory else []
    found = [Tensor(name, entry.dtype, entry.shape or []) for header in headers for name, entry in header.items()]
    return sorted(found, key=lambda tensor: tensor.name)


def tokens(model: Model) -> list[str]:
    """Return the model's vocabulary in the order of the ids; empty when tokenizer.json has none. Raises BadRequest."""
    directory = directory_of(model.source)
    if directory is None:
        return []
    tokenizer = read_tokenizer(directory)
    ids = tokenizer.model.vocab if tokenizer.model else None
    added = {token.content: token.id for token in tokenizer.added_tokens or []}
    known = (ids if isinstance(ids, dict) else {}) | added
    return sorted(known, key=known.__getitem__)


def _weights(model: Model, directory: Path) -> list[Path]:
    adapter = Path(model.adapter).glob("*.safetensors") if model.adapter else []
    return sorted([*directory.glob("*.safetensors"), *adapter])


def _capabilities(model: Model, directory: Path, config: ModelConfig, template: str) -> list[str]:
    """Return the model's capabilities in Ollama's words and order. A model that embeds has no other."""
    if embeds(model.engine_args, {"architectures": config.architectures}, _modules(directory)):
        return ["embedding"]
    kind = parser_names(template, config.model_type or "", model.tool_parser, model.reasoning_parser)
    able = {
        "completion": True,
        "tools": bool(kind.tools) and not model.go_template,
        "insert": fim_tokens(_added_tokens(directory)) is not None,
        "vision": _sees(model, directory, config) and not model.go_template,
        "thinking": bool(kind.thinking),
    }
    return [capability for capability, can in able.items() if can]


def _sees(model: Model, directory: Path, config: ModelConfig) -> bool:
    """Return whether the model has a vision configuration or an image processor, and the operator allows images."""
    arguments = model.engine_args
    limits = arguments.get("limit_mm_per_prompt")
    shut = isinstance(limits, dict) and limits.get("image") in (0, {"count": 0})
    if arguments.get("language_model_only") or shut:
        return False
    processor = read(directory, "processor_config.json", ProcessorConfig).image_processor
    older = read(directory, "preprocessor_config.json", ProcessorConfig).image_processor_type
    return bool(config.vision_config or processor or older)


def _modules(directory: Path) -> list[str]:
    """Return the types of the model's Sentence Transformers modules; empty when modules.json lists none."""
    modules = read_json(directory / "modules.json")
    entries = modules if isinstance(modules, list) else []
    return [str(entry["type"]) for entry in entries if isinstance(entry, dict) and "type" in entry]


def directory_of(source: str) -> Path | None:
    """Return where the files of a source are on this machine; None for a repository that is not in the hub's cache."""
    if Path(source).is_dir():
        return Path(source)
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    path = try_to_load_from_cache(source, "config.json")
    return Path(path).parent if isinstance(path, str) else None


def _template(directory: Path) -> str:
    """Return the chat template, from its own file or from the tokenizer's configuration."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        return read_text(path, TEMPLATE_BYTES)
    template = read(directory, "tokenizer_config.json", TokenizerConfig).chat_template
    if not isinstance(template, str):
        return ""
    if len(template) > TEMPLATE_BYTES:
        raise BadRequest(f"tokenizer_config.json: its chat template has more than {TEMPLATE_BYTES} bytes")
    return template


def _added_tokens(directory: Path) -> dict[str, int]:
    """Return the ids of the added tokens, which include the special ones."""
    return {token.content: token.id for token in read_tokenizer(directory).added_tokens or []}


def _parameter_count(weights: list[Path]) -> int:
    count = sum(tensor.values for path in weights for tensor in read_header(path).values())
    if count > MAX_VALUES:
        raise BadRequest("the model has more than 2^60 parameters")
    return count


def _context_length(model: Model, config: TextConfig) -> int:
    """Return the engine's limit where the operator has set one as a number of tokens, else the model's own."""
    limit = model.engine_args.get("max_model_len")
    return limit if isinstance(limit, int) and 0 < limit < 2**48 else config.max_position_embeddings or 0


def _most(heads: Count | list[Count] | None) -> int:
    """Return a number of heads; the largest where each layer has its own."""
    return max(heads, default=0) if isinstance(heads, list) else heads or 0


def _quantization(config: ModelConfig) -> str:
    """Return the quantization's name, else the type of the weights as GGUF spells it."""
    method = (config.quantization_config or {}).get("quant_method")
    if isinstance(method, str) and method:
        return method.upper()
    dtype = config.dtype or config.torch_dtype
    known = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
    return known.get(dtype, dtype.upper()) if isinstance(dtype, str) else ""


def _parameters(generation: GenerationConfig) -> dict[str, Any]:
    """Return the values of generation_config.json under the names of Ollama's options."""
    named = {
        "temperature": generation.temperature,
        "top_k": generation.top_k,
        "top_p": generation.top_p,
        "min_p": generation.min_p,
        "repeat_penalty": generation.repetition_penalty,
        "num_predict": generation.max_new_tokens,
    }
    return {name: value for name, value in named.items() if value is not None}


def _license(directory: Path) -> str:
    """Return the beginning of the first file that holds a licence; empty where there is none."""
    # Some repositories have a directory LICENSES, too.
    for path in sorted(path for path in directory.glob("LICENSE*") if path.is_file()):
        with path.open("rb") as file:
            return file.read(LICENSE_BYTES).decode(errors="replace")
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
