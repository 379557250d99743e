"""The settings, as one table: group, default, sentence and parser of each, read from variables `VLLM_WSGI_*`.

In: texts from the environment, or values from Python. Out: Settings that hold parsed values, or a SettingsError that
names the variable. docs/reference/settings.md and deploy/systemd/vllm-wsgi.env are generated from `table()`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields
from typing import Any

from .errors import SettingsError
from .limit_settings import LimitSettings
from .syntax.durations import parse_server_keep_alive
from .syntax.setting import Documented, Group, parsed, setting
from .syntax.values import (
    one_of,
    parse_count,
    parse_host_names,
    parse_json_object,
    parse_origins,
    parse_path_prefix,
    parse_positive_seconds,
    parse_seconds,
    parse_switch,
    parse_url,
    parse_version,
)
from .transport.address import parse_ports, parse_socket

PREFIX = "VLLM_WSGI_"


@dataclass(frozen=True)
class Settings(LimitSettings):
    """The settings of one process. Durations are in seconds, sizes in bytes.

    In Python a field takes its value or the text of its variable: `Settings(keep_alive=300)`, `Settings(hosts="a,b")`.
    Raises SettingsError for a text that is not valid.
    """

    model: str = setting(Group.MODEL, "models/demo", "The model: a local directory or a Hugging Face repository.")
    model_name: str = setting(
        Group.MODEL, "", "The name that clients use. When empty: the name of the directory or of the repository."
    )
    engine_args: dict[str, Any] = setting(
        Group.MODEL,
        "{}",
        'Arguments for vLLM\'s `AsyncEngineArgs`, as a JSON object: `{"max_model_len": 8192}`.',
        parse_json_object,
    )
    tool_parser: str = setting(
        Group.MODEL,
        "",
        "vLLM's tool parser for the model. When empty, it is derived from the chat template; "
        "with `none` the model calls no tools.",
    )
    reasoning_parser: str = setting(
        Group.MODEL,
        "",
        "vLLM's reasoning parser for the model. When empty, it is derived from the chat template; "
        "with `none` the model does not think.",
    )
    models: str = setting(
        Group.MODEL, "", "A models.toml that declares several models. When set, the five settings above have no effect."
    )
    engine: str = setting(
        Group.MODEL, "vllm", "`vllm`, or `scripted` for tests: it needs no model.", one_of("vllm", "scripted")
    )
    engine_socket: str = setting(
        Group.MODEL,
        "",
        "The control socket of an engine host that runs already: a path, or `tls://host:port` on another machine. "
        "When empty, gunicorn starts its own engine host.",
        parse_socket,
    )
    engine_ports: tuple[int, int] = setting(
        Group.MODEL,
        "0",
        "The ports of the engine workers when the control socket is `tls://host:port`: a range such as `7434-7465`, "
        "one port for each worker. Any free ports when 0.",
        parse_ports,
    )
    cluster: str = setting(
        Group.MODEL, "", "A Ray cluster, `host:port`, for the engine workers. When empty, the host's machine runs them."
    )
    keep_alive: float = setting(
        Group.MEMORY,
        "5m",
        "How long an idle model stays loaded: seconds, or a duration such as `5m` or `1h30m`. "
        "When negative, it is never unloaded.",
        parse_server_keep_alive,
    )
    max_loaded: int = setting(Group.MEMORY, "0", "How many models may be loaded at once. No limit when 0.", parse_count)
    max_memory: int = setting(
        Group.MEMORY, "0", "How many bytes the loaded models may take together. No limit when 0.", parse_count
    )
    store: str = setting(
        Group.MEMORY,
        "",
        "The directory of models that clients create or pull, and of stored responses. "
        "When empty: `vllm-wsgi` in `$XDG_DATA_HOME` or `~/.local/share`.",
    )
    responses_days: int = setting(
        Group.MEMORY,
        "30",
        "How many days a response is kept when a client asks for it (`/v1/responses`). None are kept when 0.",
        parse_count,
    )
    responses_bytes: int = setting(
        Group.MEMORY,
        str(1024**3),
        "How many bytes the responses of a key may take on disk. Its oldest are deleted beyond that. No limit when 0.",
        parse_count,
    )
    keys: str = setting(
        Group.ACCESS,
        "",
        "A keys.toml with the API keys, their scopes and their limits. It is read again when it changes. "
        "When empty, there are no keys and only this machine is served.",
    )
    allow_anyone: bool = setting(
        Group.ACCESS,
        "0",
        "Serve other machines without keys: whoever reaches the port may use, change and delete every model.",
        parse_switch,
    )
    open_discovery: bool = setting(
        Group.ACCESS,
        "0",
        "Let clients without a key list the models. Copilot needs it: it sends its key with chats only.",
        parse_switch,
    )
    origins: tuple[str, ...] = setting(
        Group.ACCESS,
        "",
        "Origins of web pages that may call besides Ollama's defaults: a comma list, "
        "in which one `*` an entry stands for any text.",
        parse_origins,
    )
    hosts: tuple[str, ...] = setting(
        Group.ACCESS,
        "",
        "Host names that clients may use besides local ones when the server listens on loopback: "
        "a comma list, or `*` for every name.",
        parse_host_names,
    )
    tls: str = setting(
        Group.ACCESS,
        "",
        "The directory with this machine's `ca.pem`, `certificate.pem` and `key.pem`, for a control socket with `tls://`.",
    )
    prefix: str = setting(
        Group.ACCESS, "", "The path under which our own application puts every route: `/llm`.", parse_path_prefix
    )
    proxy_hops: int = setting(
        Group.ACCESS,
        "0",
        "How many proxies in front add to the `X-Forwarded-*` headers. These headers are ignored when 0.",
        parse_count,
    )
    page: bool = setting(
        Group.ACCESS, "1", "Serve the web page at `/ui`. Its files need no key; its requests do.", parse_switch
    )
    ollama_version: str = setting(
        Group.ACCESS,
        "0.33.0",
        "The version that `/api/version` reports. Some clients require a minimum.",
        parse_version,
    )
    heartbeat: float = setting(
        Group.TIME_OUTS,
        "10",
        "After this many seconds without output, a stream sends a byte that clients ignore, "
        "so that no proxy closes the connection.",
        parse_positive_seconds,
    )
    header_timeout: float = setting(
        Group.TIME_OUTS,
        "20",
        "A request header gets a 408 when it is not complete this many seconds after its first byte. No limit when 0.",
        parse_seconds,
    )
    body_timeout: float = setting(
        Group.TIME_OUTS,
        "30",
        "A request body gets a 408 when it is not complete after this many seconds, "
        "plus one for each 1,000 bytes received. No limit when 0.",
        parse_seconds,
    )
    deadline: float = setting(
        Group.TIME_OUTS,
        "0",
        "A request that takes longer than this many seconds ends with an error: "
        "a 504, or the last record of its stream. No limit when 0.",
        parse_seconds,
    )
    drain: float = setting(
        Group.TIME_OUTS,
        "120",
        "How many seconds running requests may continue on an engine that is asked to end. "
        "Then they continue on another engine, or fail when `VLLM_WSGI_MOVES` is 0.",
        parse_seconds,
    )
    engine_timeout: float = setting(
        Group.TIME_OUTS,
        "60",
        "An engine that does not respond for this many seconds, and uses no CPU time, hangs and is replaced. "
        "One that uses CPU time is replaced after five times as long.",
        parse_positive_seconds,
    )
    load_timeout: float = setting(
        Group.TIME_OUTS,
        "1800",
        "A model that is not loaded after this many seconds has failed to load.",
        parse_positive_seconds,
    )
    log_requests: bool = setting(
        Group.LOGS,
        "1",
        "Our gunicorn configuration writes one JSON line to stdout at the end of each request.",
        parse_switch,
    )
    log_prompts: bool = setting(Group.LOGS, "0", "The lines of the request log contain the prompts.", parse_switch)
    traces: str | None = setting(
        Group.LOGS,
        "",
        "The URL of an OTLP/HTTP collector for traces: `http://127.0.0.1:4318/v1/traces`. "
        "It needs the extra `otel`; in a checkout, `requirements/otel.txt`.",
        parse_url,
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, str):
                object.__setattr__(self, each.name, parsed(each, value, variable(each)))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Return the settings of `VLLM_WSGI_*` variables. Raises SettingsError that names the variable."""
        environ = os.environ if environ is None else environ
        known = {variable(each): each.name for each in fields(cls)}
        for name in environ:
            if name.startswith(PREFIX) and name not in known:
                raise SettingsError(f"{name} is not a setting; known are {', '.join(known)}")
        texts: dict[str, Any] = {known[name]: text for name, text in environ.items() if name in known}
        return cls(**texts)


def table() -> Iterator[Documented]:
    """Yield each setting with what a reader needs to know, group by group."""
    groups = list(Group)
    for each in sorted(fields(Settings), key=lambda field: groups.index(field.metadata["group"])):
        yield Documented(variable(each), str(each.default), each.metadata["sentence"], each.metadata["group"])


def variable(setting: Field[Any]) -> str:
    """Return the name of the environment variable."""
    return PREFIX + setting.name.upper()
