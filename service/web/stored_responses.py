"""Reads the stored responses of a key, within the bounds of one request.

In: ids of responses. Out: the stored records, or their items. A short request may continue a conversation as long as a
body may be, so what it makes the server read counts as if the request had brought it.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from ..dialects.answer import Record
from ..dialects.json_size import JSONSize
from ..dialects.openai.responses_stored import conversation, whole
from ..engine_client.client import Client
from ..errors import BadRequest, ResponseNotFound, UnknownPrevious

# So many bytes are counted before other requests get their turn.
_COUNTED_BYTES = 1 << 18


def stored_response(client: Client, owner: str, id: str) -> Record:
    """Return a stored response of an owner. Raises ResponseNotFound, for a damaged file too."""
    return _decoded(client.fetch_response(owner, id), id)


class StoredConversations:
    """The stored responses that one request continues or refers to.

    Together they may have `max_bytes`, and together with the body as many values as a body. `size` has counted the
    body's.
    """

    def __init__(self, client: Client, owner: str, max_bytes: int, size: JSONSize) -> None:
        self._client = client
        self._owner = owner
        self._max_bytes = self._left = max_bytes
        self._size = size

    def continued(self, id: str) -> list[Record]:
        """Return the items of the response that a request continues, its output last.

        Raises UnknownPrevious, and BadRequest for too many bytes or values.
        """
        try:
            return conversation(self._fetch(id))
        except ResponseNotFound:
            raise UnknownPrevious(f"Previous response with id '{id}' not found.") from None

    def referred(self, ids: list[str]) -> list[Record]:
        """Return the items of the responses that exist. Raises BadRequest for too many bytes or values."""
        items: list[Record] = []
        for each in ids:
            try:
                items += conversation(self._fetch(each))
            except ResponseNotFound:
                continue
        return items

    def _fetch(self, id: str) -> Record:
        data = self._client.fetch_response(self._owner, id)
        self._left -= len(data)
        if self._left < 0:
            raise BadRequest(f"{_READ} hold more than {self._max_bytes} bytes")
        try:
            for start in range(0, len(data), _COUNTED_BYTES):
                self._size.add(data[start : start + _COUNTED_BYTES])
                time.sleep(0)
        except BadRequest as error:
            raise BadRequest(f"{_READ} are too long: together, {error.message}") from None
        return _decoded(data, id)


_READ = "the stored responses that the request continues or refers to"


def _decoded(data: bytes, id: str) -> Record:
    """Return the record in the JSON. Raises ResponseNotFound where it is damaged."""
    try:
        stored: Any = msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ResponseNotFound(f"Response with id '{id}' not found.") from None
    return whole(stored, id)
