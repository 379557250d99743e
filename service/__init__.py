"""Ollama's HTTP API on vLLM, for WSGI applications.

    from service import create_blueprint
    app.register_blueprint(create_blueprint(), url_prefix="/llm")

Views, tasks and shells of the application ask the engine through `inference()` or an `Inference`, and stream the answer
with `stream_response`. Importing this package starts nothing, patches nothing and needs neither vLLM nor gevent. The
engine's processes import it too and must not load Flask, hence the names are looked up when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .config import Settings
    from .errors import ServiceError, SettingsError
    from .protocol.events import Delta
    from .web.blueprint import create_blueprint, register_json_errors
    from .web.generation import Generation, WholeAnswer
    from .web.inference import Inference, inference
    from .web.response_stream import stream_response

__all__ = [
    "Delta",
    "Generation",
    "Inference",
    "ServiceError",
    "Settings",
    "SettingsError",
    "WholeAnswer",
    "__version__",
    "create_blueprint",
    "inference",
    "register_json_errors",
    "stream_response",
]

_HOMES = {
    "Delta": ".protocol.events",
    "Generation": ".web.generation",
    "Inference": ".web.inference",
    "ServiceError": ".errors",
    "Settings": ".config",
    "SettingsError": ".errors",
    "WholeAnswer": ".web.generation",
    "create_blueprint": ".web.blueprint",
    "inference": ".web.inference",
    "register_json_errors": ".web.blueprint",
    "stream_response": ".web.response_stream",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
