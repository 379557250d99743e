"""Decodes the Content-Encoding of a request's body, piece by piece, so that the reader can stop at its limit.

In: chunks of the body as it was sent. Out: chunks of the decoded body.
It never knows how the chunks are read, or what they mean.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from ..errors import BadRequest, UnsupportedCoding

# One piece makes 16 MB at most (zstd: 4 bytes can stand for a block of 128 KB; deflate: 1 byte for 1,032 bytes).
PIECE_BYTES = 512
# Other requests get their turn after this many pieces, or after this many decoded bytes.
PIECES_A_TURN = 64
BYTES_A_TURN = 1024 * 1024
# Of gzip's members and zstd's frames; programs that compress in blocks write one for 64 KB or more.
MAX_STREAMS = 1_000
# No client stacks more, and each coding may expand the body again.
MAX_CODINGS = 2
# A sender of zstd may expect this much from a receiver (RFC 9659).
ZSTD_WINDOW_BYTES = 8 * 1024 * 1024


class Decompressor(Protocol):
    """One stream of a coding, as `zlib` and `zstandard` decode it."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def decoded(chunks: Iterator[bytes], header: str) -> Iterator[bytes]:
    """Return the chunks without the codings that a Content-Encoding header names (RFC 9110 §8.4).

    Raises UnsupportedCoding at once for an unknown coding. Iterating it raises BadRequest for a body that is not in
    the coding that the header names.
    """
    named = [name.strip().lower() for name in header.split(",")]
    codings = [name for name in named if name not in ("", "identity")]
    if len(codings) > MAX_CODINGS:
        raise _unsupported(header)
    for name in reversed(codings):
        chunks = _decode(chunks, name, _factory(name))
    return chunks


def known() -> str:
    """Return the names of the codings that can be decoded here; zstd needs the package `zstandard`."""
    return "gzip, deflate, zstd" if _zstd() else "gzip, deflate"


def _factory(name: str) -> Callable[[], Decompressor]:
    """Return the function that begins a stream of a coding; gzip's other name is in RFC 9110 §8.4.1.3."""
    if name in ("gzip", "x-gzip"):
        return lambda: zlib.decompressobj(16 + zlib.MAX_WBITS)
    if name == "deflate":
        return Deflate
    if name == "zstd" and (zstd := _zstd()):
        decompressor = zstd.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
        return decompressor.decompressobj  # type: ignore[no-any-return]
    raise _unsupported(name)


def _unsupported(coding: str) -> UnsupportedCoding:
    error = UnsupportedCoding(f"Content-Encoding {coding!r} is not supported; these are: {known()}")
    error.accepted = known()
    return error


def _zstd() -> Any:
    try:
        import zstandard
    except ImportError:
        return None
    return zstandard


def _decode(chunks: Iterable[bytes], name: str, begin: Callable[[], Decompressor]) -> Iterator[bytes]:
    """Decode stream after stream: gzip's members and zstd's frames may follow each other."""
    stream, begun, made = None, 0, 0
    for number, piece in enumerate(_pieces(chunks), 1):
        if number % PIECES_A_TURN == 0 or made > BYTES_A_TURN:
            made = 0
            time.sleep(0)
        data = piece
        while data:
            if stream is None:
                stream, begun = begin(), begun + 1
            if begun > MAX_STREAMS:
                raise BadRequest(f"the request body has more than {MAX_STREAMS} parts that were compressed with {name}")
            try:
                decompressed = stream.decompress(data)
            except Exception as error:
                # Each library has an error of its own, and nothing else happens here.
                raise BadRequest(f"the request body is not valid {name}: {error}") from None
            made += len(decompressed)
            if decompressed:
                yield decompressed
            data = b""
            if stream.eof:
                data, stream = stream.unused_data, None
    if stream is not None:
        raise BadRequest(f"the request body is not valid {name}: it ends in the middle")


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), PIECE_BYTES):
            yield chunk[start : start + PIECE_BYTES]


class Deflate:
    """The coding "deflate": a zlib stream (RFC 9110 §8.4.1.2), or a raw one, which some clients send instead."""

    def __init__(self) -> None:
        self._head = b""
        self._inner: Any = None

    @property
    def eof(self) -> bool:
        return bool(self._inner and self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        data: bytes = self._inner.unused_data
        return data

    def decompress(self, data: bytes, /) -> bytes:
        """Return the decoded bytes of the next piece. Raises zlib.error."""
        if self._inner is None:
            self._head += data
            if len(self._head) < 2:
                return b""
            self._inner, data = zlib.decompressobj(_window(self._head)), self._head
        decompressed: bytes = self._inner.decompress(data)
        return decompressed


def _window(head: bytes) -> int:
    """Return zlib's `wbits` for a stream with these first two bytes (RFC 1950 §2.2)."""
    is_zlib = head[0] & 0x0F == 8 and (head[0] << 8 | head[1]) % 31 == 0
    return zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS
