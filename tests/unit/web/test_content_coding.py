"""Bodies that are compressed: decoded within a limit, and refused when they are not what their header says."""

from __future__ import annotations

import gzip
import itertools
import sys
import zlib
from collections.abc import Callable, Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest, UnsupportedCoding
from service.web.content_coding import MAX_STREAMS, decoded


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "zstd": zstandard.ZstdCompressor().compress,
    "identity": bytes,
    "": bytes,
}
CODED = [name for name in ENCODERS if name not in ("identity", "")]


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The data in chunks of these sizes, again and again."""
    start = 0
    for size in itertools.cycle(sizes):
        if start >= len(data):
            return
        yield data[start : start + size]
        start += size


def whole(data: bytes, header: str) -> bytes:
    return b"".join(decoded(iter([data]), header))


@given(st.binary(max_size=5000), st.sampled_from(sorted(ENCODERS)), st.lists(st.integers(1, 999), min_size=1))
def test_what_was_encoded_is_decoded_however_it_is_cut(data: bytes, name: str, sizes: list[int]):
    assert b"".join(decoded(cut(ENCODERS[name](data), sizes), name)) == data


@given(st.lists(st.binary(max_size=100), min_size=1), st.sampled_from(["gzip", "zstd"]))
def test_streams_that_follow_each_other_are_one_body(parts: list[bytes], name: str):
    assert whole(b"".join(map(ENCODERS[name], parts)), name) == b"".join(parts)


@pytest.mark.parametrize("header", ["deflate, gzip", " Deflate ,GZIP", "deflate, identity, gzip"])
def test_stacked_codings_are_undone_in_reverse(header: str):
    assert whole(gzip.compress(zlib.compress(b"text")), header) == b"text"


@pytest.mark.parametrize("header", ["br", "compress", "gzip, br", "gzip;q=1", "gzip gzip", "gzip, gzip, gzip", "x"])
def test_another_coding_is_a_415_that_names_it_and_the_known_ones(header: str):
    with pytest.raises(UnsupportedCoding) as caught:
        decoded(iter([]), header)
    assert caught.value.headers == {"Accept-Encoding": "gzip, deflate, zstd"}
    assert caught.value.message.split("'")[1] in header


def test_zstd_is_a_415_where_the_package_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UnsupportedCoding, match=r"'zstd' is not supported; these are: gzip, deflate$"):
        decoded(iter([]), "zstd")


@pytest.mark.parametrize("name", CODED)
@given(data=st.binary(min_size=1, max_size=300), lost=st.integers(1, 300))
def test_a_body_that_ends_in_the_middle_is_refused(name: str, data: bytes, lost: int):
    encoded = ENCODERS[name](data)
    with pytest.raises(BadRequest, match=f"is not valid {name.lower()}"):
        whole(encoded[: max(1, len(encoded) - lost)], name)


@given(st.sampled_from(CODED), st.binary(min_size=1, max_size=300))
def test_garbage_is_decoded_or_refused_and_nothing_else(name: str, garbage: bytes):
    try:
        whole(garbage, name)
        whole(ENCODERS[name](b"a") + garbage, name)
    except BadRequest as error:
        assert error.message.startswith(f"the request body is not valid {name.lower()}: ")  # noqa: PT017


@pytest.mark.parametrize("name", CODED)
def test_a_bomb_can_be_stopped_at_its_limit(name: str):
    """No piece holds more than 16 MB, so a reader that stops at a limit has never more than that beyond it."""
    size = 50_000_000
    bomb = ENCODERS[name](bytes(size))
    assert len(bomb) < size / 500
    assert max(map(len, decoded(iter([bomb]), name))) <= 16 * 1024 * 1024


def test_a_bomb_in_a_bomb_is_never_whole_in_memory():
    inner = gzip.compress(bytes(50_000_000))
    bomb = gzip.compress(inner * 20)
    taken = 0
    for chunk in decoded(iter([bomb]), "gzip, gzip"):
        taken += len(chunk)
        if taken > 1_000_000:
            break
    assert taken < 20_000_000


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_body_of_very_many_small_streams_is_refused(name: str):
    assert whole(ENCODERS[name](b"a") * MAX_STREAMS, name) == b"a" * MAX_STREAMS
    with pytest.raises(BadRequest, match=f"more than {MAX_STREAMS} parts"):
        whole(ENCODERS[name](b"") * (MAX_STREAMS + 1), name)


def test_a_window_that_takes_much_memory_is_refused():
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    encoded = zstandard.ZstdCompressor(compression_params=parameters).compressobj().compress(bytes(200_000_000))
    with pytest.raises(BadRequest, match="is not valid zstd"):
        whole(encoded, "zstd")
