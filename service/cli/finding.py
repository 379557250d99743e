"""A row of `vllm-wsgi check`, and its words for how long a certificate is valid."""

from __future__ import annotations

import time
from typing import NamedTuple

# A certificate that is valid for fewer days should be renewed.
RENEWAL_DAYS = 30


class Finding(NamedTuple):
    """One row: what was looked at, whether it can serve, and what was found."""

    what: str
    good: bool
    found: str


def validity(expires_at: float) -> str:
    """Return how long a certificate is valid that expires at this time, in seconds since the epoch."""
    date = time.strftime("%Y-%m-%d", time.gmtime(expires_at))
    days = int((expires_at - time.time()) / 86_400)
    return f"valid until {date}, {days} days{'; renew it now' if days < RENEWAL_DAYS else ''}"
