"""Files that claim to be images and take much memory, time or a file of the server's when they are read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

from PIL import Image


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG (PNG specification, 5.3)."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def frames(format: str) -> bytes:
    file = BytesIO()
    pictures = [Image.new("RGB", (100, 100), (number, 0, 0)) for number in range(100)]
    pictures[0].save(file, format, save_all=True, append_images=pictures[1:])
    return file.getvalue()


def saved(picture: Image.Image, format: str = "PNG", **options: bytes) -> bytes:
    file = BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


BOMBS: dict[str, Callable[[], bytes]] = {
    "a wide header": lambda: png(2**31 - 1, 1),
    "a large header": lambda: png(60_000, 60_000, chunk(b"IDAT", zlib.compress(bytes(1000)))),
    "more data than pixels": lambda: png(10, 10, chunk(b"IDAT", zlib.compress(bytes(10**8)))),
    "a compressed text": lambda: png(10, 10, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))),
    "a compressed profile": lambda: png(10, 10, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8)))),
    "frames of a GIF": lambda: frames("GIF"),
    "frames of a TIFF": lambda: frames("TIFF"),
    "frames of a WebP": lambda: frames("WEBP"),
    "a line of one pixel's width": lambda: saved(Image.new("RGB", (1, 100_000))),
    "a line of one pixel's height": lambda: saved(Image.new("L", (100_000, 1))),
    "CMYK": lambda: saved(Image.new("CMYK", (30, 30)), "JPEG"),
    "16 bits": lambda: saved(Image.new("I;16", (30, 30))),
    "numbers with a point": lambda: saved(Image.new("F", (30, 30)), "TIFF"),
    "a file that is cut": lambda: saved(Image.effect_noise((300, 300), 90))[:-9_000],
    "a large profile": lambda: saved(Image.new("RGB", (30, 30)), icc_profile=bytes(3 * 10**6)),
    "a page's address": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1/"/></svg>',
    "PostScript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file showpage\n",
    "a file's list": lambda: b"P6 1000000 1000000 255 " + bytes(1000),
}
