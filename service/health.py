"""Whether this web worker lives, and whether requests should be sent here now."""

from __future__ import annotations

from .client import Client
from .drain import GOING_DOWN, RETRY_SECONDS, drain
from .errors import Unavailable


def refuse_while_draining() -> None:
    """Raises Unavailable once this process has been told to end."""
    if drain.begun:
        raise Unavailable(GOING_DOWN, RETRY_SECONDS)


def check_ready(client: Client) -> None:
    """Raises Unavailable, and says why, unless the engine host can be reached and has a model for new requests."""
    refuse_while_draining()
    if trouble := client.trouble():
        raise Unavailable(trouble)
