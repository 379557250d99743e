"""The ids of kept streams, and the signed links with which a browser reads one: its EventSource can't send a key.

In: keys and ids. Out: ids and tokens, and whether they are genuine. Both are signed with the digest of the key that
made the stream, so that every web worker can check them, and so that they end with the key.
"""

from __future__ import annotations

import hmac
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable

from .key_file import Key

# 128 random bits, which nobody can guess, and 64 bits of a signature.
_RANDOM_BYTES, _SIGNATURE_BYTES = 16, 8
_TOKEN_SIGNATURE_BYTES = 16
# A stream may take long, and a browser comes back with the link that it began with.
LINK_SECONDS = 24 * 3600


def new_stream_id(key: Key) -> str:
    """Return an id that `is_stream_id_of` recognises as one of this key."""
    random = secrets.token_bytes(_RANDOM_BYTES)
    return _text(random + _signature(key, b"id", random)[:_SIGNATURE_BYTES])


def is_stream_id_of(key: Key, id: str) -> bool:
    """Return whether the id was made for this key. Without keys, anybody can make an id that looks genuine."""
    data = _bytes(id)
    random, signature = data[:_RANDOM_BYTES], data[_RANDOM_BYTES:]
    return hmac.compare_digest(signature, _signature(key, b"id", random)[:_SIGNATURE_BYTES])


def sign_link(key: Key, id: str) -> str:
    """Return a token for one stream of the key, valid for LINK_SECONDS."""
    expires = str(int(time.time()) + LINK_SECONDS)
    return ".".join([expires, _text(key.caller.name.encode()), _text(_link_signature(key, id, expires))])


def key_of_link(token: str, id: str, find: Callable[[str], Key | None]) -> Key | None:
    """Return the key that signed the token for this stream, None for a token that is expired or not genuine.

    `find` returns the key of a name.
    """
    expires, _, rest = token.partition(".")
    name, _, signature = rest.partition(".")
    if not (expires.isascii() and expires.isdecimal() and len(expires) < 15) or int(expires) < time.time():
        return None
    key = find(_bytes(name).decode(errors="replace"))
    if key is None or not key.is_of_file:
        return None
    return key if hmac.compare_digest(_bytes(signature), _link_signature(key, id, expires)) else None


def _link_signature(key: Key, id: str, expires: str) -> bytes:
    return _signature(key, b"link", f"{expires} {id}".encode(errors="replace"))[:_TOKEN_SIGNATURE_BYTES]


def _signature(key: Key, purpose: bytes, data: bytes) -> bytes:
    return hmac.digest(key.digest, b"vllm-wsgi stream " + purpose + b" " + data, "sha256")


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    """Undo `_text`. Return no bytes for a text that `_text` can't have made."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
    # The decoder skips characters that are not of its alphabet.
    return data if _text(data) == text else b""
