"""What OpenAI's routes have in common: how a failure is told. Knows no bytes and no Flask."""

from __future__ import annotations

from typing import Any

from .errors import ServiceError

# As Ollama's `openai/openai.go`, NewError: whatever is not named here is the server's.
_TYPES = {400: "invalid_request_error", 404: "not_found_error"}


def error_record(error: ServiceError) -> dict[str, Any]:
    """The last record of a stream that failed, and the body of every error answer."""
    kind = _TYPES.get(error.status, "api_error")
    return {"error": {"message": error.message, "type": kind, "param": None, "code": None}}
