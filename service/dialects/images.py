"""Images as they come in JSON: base64, bare or in a data URL. Bytes come out of it in one piece, an Image."""

from __future__ import annotations

from ..errors import BadRequest
from ..protocol.request import Image
from . import go_base64

INVALID = "invalid image input"
MEDIA_TYPES = ("", "image/jpeg", "image/jpg", "image/png", "image/webp", "image/gif")


def decode(text: str, complaint: str = "invalid base64 image data") -> Image:
    """The image in base64. Raises BadRequest that says `complaint`."""
    try:
        data = go_base64.decode(text)
    except BadRequest:
        data = b""
    if not data:
        raise BadRequest(complaint)
    return Image(data)


def from_url(url: str) -> Image:
    """The image in a data URL (RFC 2397). Raises BadRequest in Ollama's words: nothing is fetched from here."""
    if url.lower().startswith(("http://", "https://")):
        raise BadRequest("image URLs are not currently supported, please use base64 encoded data instead")
    head, _, data = url.partition(";base64,")
    if head not in [f"data:{media_type}" for media_type in MEDIA_TYPES]:
        raise BadRequest(INVALID)
    return decode(data, INVALID)
