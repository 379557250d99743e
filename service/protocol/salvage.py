"""Find the request that a message belongs to when the message itself can't be decoded.

In: payloads of frames. Out: ids, and the payloads of single events. It walks through msgpack without making values of
it, so neither depth nor wrong types stop it. Only bytes that are not msgpack at all raise ValueError.
"""

from __future__ import annotations

import msgspec

# By the first byte of a value, as the msgpack specification has it: how many bytes follow it.
_FOLLOWED_BY = {
    0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4,
    0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip
# How many bytes give the length of bytes or text, and how many more bytes an extension has for its type.
_BYTES = {
    0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1), 0xD9: (1, 0), 0xDA: (2, 0),
    0xDB: (4, 0),
}  # fmt: skip
# How many bytes give the length of an array or a map, and how many values an entry has.
_ENTRIES = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def message_id(payload: bytes) -> int:
    """Return the id of a command or an event: an array that begins with its type and its id. Raises ValueError."""
    count, start = _entries(payload, 0)
    if count < 2:
        raise ValueError("a message without an id")
    start = _end(payload, start)
    try:
        return msgspec.msgpack.decode(payload[start : _end(payload, start)], type=int)
    except msgspec.MsgspecError as error:
        raise ValueError(f"a message without an id: {error}") from None


def single_events(payload: bytes) -> list[bytes]:
    """Return the payloads of the events that a message holds. Raises ValueError."""
    count, start = _entries(payload, 0)
    events = []
    for _ in range(count):
        end = _end(payload, start)
        events.append(payload[start:end])
        start = end
    if start != len(payload):
        raise ValueError("a message that goes on after its end")
    return events


def _entries(payload: bytes, start: int) -> tuple[int, int]:
    """Return how many values the array at `start` has, and where its first value begins."""
    head = payload[start] if start < len(payload) else 0
    if 0x90 <= head <= 0x9F:
        return head & 0x0F, start + 1
    width, values = _ENTRIES.get(head, (0, 0))
    if values != 1:
        raise ValueError("a message that is not an array")
    return int.from_bytes(payload[start + 1 : start + 1 + width], "big"), start + 1 + width


def _end(payload: bytes, start: int) -> int:
    """Return where the value that begins at `start` ends."""
    left = 1
    while left:
        left -= 1
        if start >= len(payload):
            raise ValueError("a message that ends too early")
        head, start = payload[start], start + 1
        if head <= 0x7F or head >= 0xE0:
            continue
        if head <= 0x8F:
            left += 2 * (head & 0x0F)
        elif head <= 0x9F:
            left += head & 0x0F
        elif head <= 0xBF:
            start += head & 0x1F
        elif head in _FOLLOWED_BY:
            start += _FOLLOWED_BY[head]
        elif head in _BYTES:
            width, more = _BYTES[head]
            start += width + more + int.from_bytes(payload[start : start + width], "big")
        elif head in _ENTRIES:
            width, values = _ENTRIES[head]
            left += values * int.from_bytes(payload[start : start + width], "big")
            start += width
        else:
            raise ValueError(f"the byte {head:#x}, which begins no value")
    if start > len(payload):
        raise ValueError("a message that ends too early")
    return start
