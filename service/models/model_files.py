"""Read the files of a model, in which every value has a type and a range.

In: files that a client has uploaded, or that came from the hub. Out: structs. A value of a wrong kind is a BadRequest
that names the file and the place. A file that is missing or is not JSON gives an empty struct.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Annotated, Any, Optional, TypeVar, Union

import msgspec

from ..errors import BadRequest

# The longest tokenizer.json that is read; the largest that models come with have some 35 MB.
TOKENIZER_BYTES = 128 << 20
# The same of every other JSON file, and of a chat template.
JSON_BYTES = 16 << 20
TEMPLATE_BYTES = 1 << 20
# The safetensors library refuses a longer header.
HEADER_BYTES = 100_000_000
# The JSON files that are read. vLLM reads the model's other files.
JSON_FILES = (
    "config.json", "generation_config.json", "tokenizer_config.json", "processor_config.json",
    "preprocessor_config.json", "modules.json",
)  # fmt: skip
# More values than any model has; the queue's integers end at 2^64.
MAX_VALUES = 2**60
MAX_DIMENSIONS = 64

# The errors that msgspec raises for JSON whose values are of a wrong kind, too deep or not text.
UNREADABLE = (msgspec.ValidationError, RecursionError, UnicodeDecodeError)

Count = Annotated[int, msgspec.Meta(ge=0, le=2**48)]
T = TypeVar("T")


class TextConfig(msgspec.Struct):
    """The part of config.json that describes the language model. Lengths are in tokens; null is the same as absent."""

    max_position_embeddings: Optional[Count] = None
    hidden_size: Optional[Count] = None
    num_hidden_layers: Optional[Count] = None
    # Some architectures have a number for each layer.
    num_attention_heads: Optional[Union[Count, list[Count]]] = None
    num_key_value_heads: Optional[Union[Count, list[Count]]] = None
    vocab_size: Optional[Count] = None


class ModelConfig(TextConfig):
    """A config.json. `text_config` describes the language model where there is one."""

    model_type: Optional[str] = None
    text_config: Optional[TextConfig] = None
    architectures: Optional[list[str]] = None
    quantization_config: Optional[dict[str, Any]] = None
    dtype: Any = None
    torch_dtype: Any = None
    vision_config: Any = None


class GenerationConfig(msgspec.Struct):
    """A generation_config.json, as far as Ollama has options for it."""

    temperature: Optional[Annotated[float, msgspec.Meta(ge=0, le=1e6)]] = None
    top_k: Optional[Annotated[int, msgspec.Meta(ge=-1, le=2**31)]] = None
    top_p: Optional[Annotated[float, msgspec.Meta(ge=0, le=1)]] = None
    min_p: Optional[Annotated[float, msgspec.Meta(ge=0, le=1)]] = None
    repetition_penalty: Optional[Annotated[float, msgspec.Meta(gt=0, le=1e6)]] = None
    max_new_tokens: Optional[Count] = None


class AddedToken(msgspec.Struct):
    """A token that the tokenizer finds before it cuts the text."""

    id: Count
    content: str


class Vocabulary(msgspec.Struct):
    """The ids of the tokens; in tokenizers of some kinds a list without ids."""

    vocab: Optional[Union[dict[str, Count], list[Any]]] = None


class Tokenizer(msgspec.Struct):
    """A tokenizer.json."""

    model: Optional[Vocabulary] = None
    added_tokens: Optional[list[AddedToken]] = None


class TokenizerConfig(msgspec.Struct):
    """A tokenizer_config.json. The chat template may be several, by name."""

    chat_template: Any = None


class ProcessorConfig(msgspec.Struct):
    """A processor_config.json, or a preprocessor_config.json in the older form."""

    image_processor: Any = None
    image_processor_type: Any = None


class AdapterConfig(msgspec.Struct):
    """The adapter_config.json of a LoRA adapter: `r` is its rank."""

    r: Annotated[int, msgspec.Meta(ge=1, le=2**20)]


class TensorHeader(msgspec.Struct):
    """A tensor in the header of a safetensors file."""

    dtype: str = ""
    shape: Optional[Annotated[list[Count], msgspec.Meta(max_length=MAX_DIMENSIONS)]] = None

    @property
    def values(self) -> int:
        return 0 if self.shape is None else math.prod(self.shape)


def read(directory: Path, name: str, kind: type[T]) -> T:
    """Return a JSON file as a struct, an empty one where it is missing or not a JSON object. Raises BadRequest."""
    value = read_json(directory / name)
    return convert(value if isinstance(value, dict) else {}, kind, name)


def read_json(path: Path) -> Any:
    """Return the value of a JSON file; None where it is missing or not JSON. Raises BadRequest.

    Python's reader takes NaN and Infinity, which stand in the configurations of some models, and msgspec's does not.
    """
    data = read_bytes(path, JSON_BYTES)
    try:
        return json.loads(data) if data else None
    except RecursionError:
        raise BadRequest(f"{path.name}: is nested too deeply") from None
    except ValueError:
        return None


def convert(value: Any, kind: type[T], name: str) -> T:
    """Return the value as a struct. Raises BadRequest that names the file and the place."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise BadRequest(f"{name}: {error}") from None


def read_tokenizer(directory: Path) -> Tokenizer:
    """Return tokenizer.json as a struct, empty where it is missing. Raises BadRequest."""
    data = read_bytes(directory / "tokenizer.json", TOKENIZER_BYTES)
    return _decoded(data, Tokenizer, "tokenizer.json") or Tokenizer()


def read_header(path: Path) -> dict[str, TensorHeader]:
    """Return the tensors of a safetensors file by name; empty when the file is not one. Raises BadRequest.

    The file begins with the length of its header in bytes, 8 bytes little-endian, and the header in JSON.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                return {}
            if length > HEADER_BYTES:
                raise BadRequest(f"{path.name}: its header has more than {HEADER_BYTES} bytes")
            data = file.read(length)
    except (OSError, struct.error):
        return {}
    header = _decoded(data, dict[str, msgspec.Raw], path.name) or {}
    return {name: _tensor(entry, path.name) for name, entry in header.items() if name != "__metadata__"}


def read_text(path: Path, limit: int) -> str:
    """Return a text; empty where the file is missing. Raises BadRequest for one that is too long or not UTF-8."""
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError:
        raise BadRequest(f"{path.name}: is not UTF-8") from None


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the file's bytes, none where it can't be read. Raises BadRequest for more than `limit` bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError:
        return b""
    if len(data) > limit:
        raise BadRequest(f"{path.name}: has more than {limit} bytes")
    return data


def _tensor(entry: msgspec.Raw, file: str) -> TensorHeader:
    try:
        tensor = msgspec.json.decode(entry, type=TensorHeader)
    except UNREADABLE as error:
        raise BadRequest(f"{file}: {error}") from None
    if tensor.values > MAX_VALUES:
        raise BadRequest(f"{file}: a tensor has more than 2^60 values")
    return tensor


def _decoded(data: bytes, kind: type[T], name: str) -> T | None:
    """Return the value of some JSON; None where it is not JSON, or not an object. Raises BadRequest."""
    if data.lstrip()[:1] != b"{":
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except UNREADABLE as error:
        raise BadRequest(f"{name}: {error}") from None
    except msgspec.DecodeError:
        return None
