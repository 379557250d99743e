"""A request's id: the caller's own, where it is fit for logs and headers, else a new one."""

from __future__ import annotations

import re
import uuid

HEADER = "X-Request-Id"

# What proxies make: UUIDs, nginx' hexadecimal $request_id, HAProxy's unique-id with its colons, AWS' Root=1-….
# No blanks, quotes or backslashes, so that it stands in any log line as it is.
_SANE = re.compile(r"[A-Za-z0-9._:=+/@~-]{1,128}\Z")


def accept_or_make(offered: str) -> str:
    """`offered` where it is sane, else 32 hexadecimal digits."""
    return offered if _SANE.match(offered) else uuid.uuid4().hex
