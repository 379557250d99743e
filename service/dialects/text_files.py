"""Read the text files of a JSON body: base64 in a data URL, as OpenAI's clients attach them. Their text goes out."""

from __future__ import annotations

import re

from ..errors import BadRequest
from . import go_base64
from .answer import Record

# A data URL (RFC 2397) of a text, or of a format that is text whatever its type is called.
_TEXT = re.compile(
    r"data:(?:text/[^;,]+|application/(?:[^;,]+\+)?(?:json|xml|yaml|x-yaml|toml|javascript|x-ndjson|sql))(?:;[^;,]+)*;base64",
    re.IGNORECASE,
)


def attached_text(part: Record, place: str = "") -> str | None:
    """Return the name and the text of the file in a part, None where it has no text file.

    The part is a chat's `file` or an `input_file` of the Responses API. With its `place` the part is new: raise
    BadRequest if its file can't be decoded.
    """
    nested = part.get("file")
    file = nested if isinstance(nested, dict) else part
    url, name = file.get("file_data"), file.get("filename")
    head, _, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not _TEXT.fullmatch(head):
        return None
    try:
        text = go_base64.decode(data).decode("utf-8-sig")
    except (BadRequest, UnicodeDecodeError):
        if not place:
            return None
        raise BadRequest(f"file_data must be base64 of a text in UTF-8: {place}", param=place) from None
    return f"{name}\n{text}" if isinstance(name, str) and name else text
