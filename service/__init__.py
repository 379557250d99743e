"""Ollama's HTTP API on vLLM, for WSGI applications.

    from service import create_blueprint
    app.register_blueprint(create_blueprint(), url_prefix="/llm")

Importing this package starts nothing, patches nothing and needs neither vLLM nor gevent. The engine's processes
import it too and must not load Flask, hence the names are looked up when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .config import Settings
    from .errors import SettingsError
    from .web.blueprint import create_blueprint, register_json_errors

__all__ = ["Settings", "SettingsError", "__version__", "create_blueprint", "register_json_errors"]

_HOMES = {
    "Settings": ".config",
    "SettingsError": ".errors",
    "create_blueprint": ".web.blueprint",
    "register_json_errors": ".web.blueprint",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
