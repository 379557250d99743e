"""Settings: one table of name, type, default and sentence, read from the environment prefix `VLLM_WSGI_`.

`python -m service.config` prints the table as Markdown; the README holds it, and a test compares them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import Field, dataclass, field, fields
from typing import Any

import msgspec

from .errors import BadRequest, SettingsError
from .syntax.durations import parse_server_keep_alive

PREFIX = "VLLM_WSGI_"


def check_prefix(text: str) -> None:
    """Raises BadRequest for what is no path to put routes under."""
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", text):
        raise BadRequest("a prefix is like /llm, without a slash at its end")


def check_positive(text: str) -> None:
    """Raises BadRequest for a zero; what is no number is told elsewhere."""
    with suppress(ValueError):
        if float(text) == 0:
            raise BadRequest("it must be more than 0")


def setting(default: Any, sentence: str, check: Callable[[str], Any] = str) -> Any:
    """A field of the table; `check` raises BadRequest for a text that is none."""
    metadata = {"sentence": sentence, "check": check}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Durations are in seconds, sizes in bytes."""

    model: str = setting("models/demo", "The model to serve: a local directory or a Hugging Face repository.")
    model_name: str = setting("", "The name that clients use; empty: the directory's or the repository's.")
    engine_args: dict[str, Any] = setting(
        {}, 'Arguments for vLLM\'s `AsyncEngineArgs`, as a JSON object: `{"max_model_len": 8192}`.'
    )
    tool_parser: str = setting(
        "", "vLLM's tool parser for the model; empty: told from its chat template; `none`: it calls no tools."
    )
    reasoning_parser: str = setting(
        "", "vLLM's reasoning parser; empty: told from the chat template; `none`: the model does not think."
    )
    models: str = setting(
        "", "A models.toml that declares several models; where it is set, the five settings above have no effect."
    )
    store: str = setting(
        "",
        "Where models that clients make or pull are kept, and responses; "
        "empty: `vllm-wsgi` in `$XDG_DATA_HOME` or `~/.local/share`.",
    )
    responses_days: int = setting(
        30, "How long responses are kept in the store for clients that ask for it (`/v1/responses`); 0: none ever is."
    )
    keep_alive: str = setting(
        "5m",
        "How long an unused model stays loaded: seconds, or a duration as Go writes it; negative: for ever.",
        parse_server_keep_alive,
    )
    max_loaded: int = setting(0, "How many models may be loaded at once; 0: any number.")
    max_memory: int = setting(0, "How many bytes the loaded models may take together; 0: any number.")
    engine: str = setting("vllm", "`vllm`, or `scripted`: answers from a script, without a model, for tests.")
    engine_socket: str = setting(
        "", "The control socket of an engine host that runs already; empty: gunicorn starts one of its own."
    )
    ollama_version: str = setting("0.33.0", "What `/api/version` reports: clients compare it with Ollama's.")
    origins: str = setting(
        "", "Origins of web pages that may call, besides Ollama's own; a comma list, `*` in one is any text."
    )
    hosts: str = setting(
        "",
        "Host names that clients may use besides local ones where the server listens on loopback; a comma list or `*`.",
    )
    keys: str = setting("", "A keys.toml: who may come in, and how much; read again when it changes. Empty: no keys.")
    allow_anyone: bool = setting(
        False, "Without keys, serve other machines too: whoever reaches the port may use and change every model."
    )
    open_discovery: bool = setting(
        False, "Let clients without a key see which models there are, as Copilot must: it sends its key to chats only."
    )
    heartbeat: float = setting(
        10.0,
        "After so many silent seconds a stream sends a byte that clients ignore, so that no proxy closes it.",
        check_positive,
    )
    prefix: str = setting("", "The path that `app.py` puts every route under: `/llm`.", check_prefix)
    proxy_hops: int = setting(
        0, "How many proxies stand in front, each of which adds to `X-Forwarded-*`; 0: these headers are ignored."
    )
    max_body: int = setting(32 * 1024 * 1024, "The longest request body; more is a 413.")
    header_timeout: float = setting(
        20.0, "A request's header that is not whole so many seconds after its first byte is a 408. 0: wait for ever."
    )
    body_timeout: float = setting(
        30.0, "A body has so many seconds to come in, and one more for each 1,000 bytes; then it is a 408. 0: for ever."
    )
    max_queue: int = setting(
        512, "How many requests may wait for a model, to be loaded or to run; more are a 503. 0: any number."
    )
    max_prompt_tokens: int = setting(0, "The longest prompt, unless the key says otherwise; more is a 400. 0: any.")
    max_output_tokens: int = setting(0, "Where each answer ends, unless the key says otherwise. 0: where it likes.")
    deadline: float = setting(
        0.0, "After so many seconds a request ends with an error: a 504, or a stream's last record. 0: never."
    )
    drain: float = setting(
        120.0, "So many seconds the engine host lets requests run on when it is told to end; then it ends them."
    )
    log_requests: bool = setting(
        True, "gunicorn.conf.py has a JSON line for each request written to stdout, at its end, with its real ending."
    )
    log_prompts: bool = setting(False, "The lines hold the prompts, too.")
    traces: str = setting(
        "", "Where traces go: `http://127.0.0.1:4318/v1/traces`, an OTLP/HTTP collector; needs requirements/otel.txt."
    )
    engine_timeout: float = setting(
        60.0,
        "An engine that has answered nothing for so long hangs, and is replaced. Longer than any decode step.",
        check_positive,
    )
    load_timeout: float = setting(1800.0, "A model that has not loaded by then has failed to load.", check_positive)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Settings from `VLLM_WSGI_*`; raises SettingsError that names the variable."""
        environ = os.environ if environ is None else environ
        known = {PREFIX + each.name.upper(): each for each in fields(cls)}
        for name in environ:
            if name.startswith(PREFIX) and name not in known:
                raise SettingsError(f"{name} is not a setting; known are {', '.join(known)}")
        return cls(**{each.name: _read(name, each, environ[name]) for name, each in known.items() if name in environ})


def _read(name: str, setting: Field[Any], text: str) -> Any:
    kind = type(_default(setting))
    try:
        setting.metadata["check"](text)
    except BadRequest as error:
        raise SettingsError(f"{name}={text!r}: {error.message}") from None
    if kind is str:
        return text
    try:
        value = msgspec.json.decode(text.encode(), type=kind, strict=kind is dict)
    except msgspec.MsgspecError as error:
        raise SettingsError(f"{name}={text!r} is not {_ARTICLES[kind]}: {error}") from None
    if kind in (int, float) and value < 0:
        raise SettingsError(f"{name}={text!r} must not be negative")
    return value


def _write(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _default(setting: Field[Any]) -> Any:
    return setting.default_factory() if callable(setting.default_factory) else setting.default


_ARTICLES = {int: "a whole number", float: "a number", bool: "0 or 1", dict: "a JSON object"}


def table() -> str:
    """The settings as a Markdown table."""
    rows = ["| variable | default | what it does |", "|---|---|---|"]
    for each in fields(Settings):
        default = _write(_default(each))
        rows.append(
            f"| `{PREFIX}{each.name.upper()}` | {f'`{default}`' if default else 'empty'} |"
            f" {each.metadata['sentence']} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
