"""The refusals of JSON schemas, and the log of keywords that are not enforced."""

from __future__ import annotations

import logging
from typing import NoReturn

from ...errors import BadRequest

logger = logging.getLogger("vllm_wsgi.worker")

# OpenAI's code.
INVALID_SCHEMA = "invalid_json_schema"

_reported: set[str] = set()


def report(keyword: str) -> None:
    """Log a keyword that is not enforced, once in this process. Clients choose formats, so their number is bounded."""
    if keyword not in _reported and len(_reported) < 200:
        _reported.add(keyword)
        logger.warning("structured output: not enforced: %r", keyword)


def fail(place: str, reason: str) -> NoReturn:
    """Raise the refusal of a schema."""
    raise invalid_schema(place, reason)


def invalid_schema(place: str, reason: str) -> BadRequest:
    """Return the refusal of a schema. The place is a JSON pointer into it, and the code is OpenAI's."""
    return BadRequest(f"invalid JSON schema: {place[:200]}: {reason}", code=INVALID_SCHEMA)
