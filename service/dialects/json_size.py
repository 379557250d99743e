"""Bounds the number of values in a JSON body while it comes in, before any of them is made.

In: the body in chunks, as they are read. Out: nothing, or a BadRequest.
It never knows whether the body is valid JSON.
"""

from __future__ import annotations

import re

from ..errors import BadRequest

# A decoder holds up every other client of the web worker: it runs in one piece, and takes about a tenth of a second for
# 100,000 small objects. So a body may have this many commas, colons and opening brackets outside of its texts. That is
# a prompt of 500,000 token ids. To make a message or a tool of an object takes longer than to decode the object, so the
# bound for objects is lower. A conversation of 10,000 messages that call tools has 30,000 or so.
MAX_MARKS = 500_000
MAX_OBJECTS = 40_000
_MARKS = (b",", b":", b"[", b"{")
_DIGITS = b"0123456789"
# The longest integer of 64 bits has 19 digits.
_LONG_NUMBER = re.compile(rb"(?<![0-9])[0-9]{20}")


class JSONSize:
    """Counts the marks outside of texts. Chunks may be cut anywhere.

    `long_numbers` is whether numbers of many digits were seen, unless a cut between two chunks hid them.
    """

    def __init__(self) -> None:
        self.marks = self.objects = 0
        self.long_numbers = False
        self._in_text = False
        self._escape = b""

    def add(self, chunk: bytes) -> None:
        """Count a chunk. Raise BadRequest when the body has too many values so far."""
        chunk = self._escape + chunk
        # The first half of an escape waits for the second one.
        whole = len(chunk) - (len(chunk) - len(chunk.rstrip(b"\\"))) % 2
        chunk, self._escape = chunk[:whole], chunk[whole:]
        # JSON has backslashes in its texts only, where an escaped quote is not an end.
        parts = chunk.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = b'"'.join(parts[self._in_text :: 2])
        self._in_text ^= len(parts) % 2 == 0
        self.objects += outside.count(b"{")
        self.marks += sum(map(outside.count, _MARKS))
        if self.objects > MAX_OBJECTS:
            raise BadRequest(f"the body has too many values: more than {MAX_OBJECTS} objects")
        if self.marks > MAX_MARKS:
            raise BadRequest(f"the body has too many values: more than {MAX_MARKS} commas, colons and brackets")
        # Dropping all digits is quick, and rules out most chunks.
        digits = len(outside) - len(outside.translate(None, _DIGITS))
        if not self.long_numbers and digits >= 20:
            self.long_numbers = _LONG_NUMBER.search(outside) is not None
