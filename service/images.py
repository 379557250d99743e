"""Images as they come in JSON: base64, bare or in a data URL. Bytes come out of it in one piece, an Image."""

from __future__ import annotations

import base64
import binascii

from .errors import BadRequest
from .messages import Image

MEDIA_TYPES = ("image/jpeg", "image/jpg", "image/png", "image/webp", "image/gif")


def decode(text: str) -> Image:
    """The image in base64; line breaks are ignored, as Go's decoder does. Raises BadRequest."""
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise BadRequest("invalid base64 image data")
    return Image(data)


def from_url(url: str) -> Image:
    """The image in a data URL (RFC 2397). Raises BadRequest, for every other URL too: nothing is fetched from here."""
    if url.lower().startswith(("http://", "https://")):
        raise BadRequest("image URLs are not currently supported, please use base64 encoded data instead")
    head, comma, data = url.partition(",")
    media_type, _, encoding = head.removeprefix("data:").partition(";")
    if not (comma and head.startswith("data:") and encoding == "base64" and media_type in ("", *MEDIA_TYPES)):
        raise BadRequest("invalid image input")
    return decode(data)
