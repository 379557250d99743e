"""Read the images of a JSON body: base64, bare or in a data URL. The image's file goes out, as an Image."""

from __future__ import annotations

from ..errors import BadRequest
from ..protocol.request import Image
from . import go_base64

INVALID = "invalid image input"
INVALID_BASE64 = "invalid base64 image data"
MEDIA_TYPES = ("", "image/jpeg", "image/jpg", "image/png", "image/webp", "image/gif")


def decode(text: str, complaint: str = INVALID_BASE64) -> Image:
    """Return the image in base64. Raise BadRequest with the text `complaint` if it is not valid."""
    try:
        data = go_base64.decode(text)
    except BadRequest:
        data = b""
    if not data:
        raise BadRequest(complaint)
    return Image(data)


def from_url(url: str) -> Image:
    """Return the image in a data URL (RFC 2397). Raise BadRequest in Ollama's words: no other URL is fetched."""
    if url.lower().startswith(("http://", "https://")):
        raise BadRequest("image URLs are not currently supported, please use base64 encoded data instead")
    head, _, data = url.partition(",")
    # The scheme and the type are written in any case (RFC 3986 §3.1, RFC 2045 §5.1), and a type may have parameters.
    head = head.lower()
    media_type = head.removeprefix("data:").partition(";")[0]
    if not (head.startswith("data:") and head.endswith(";base64") and media_type in MEDIA_TYPES):
        raise BadRequest(INVALID)
    return decode(data, INVALID)
