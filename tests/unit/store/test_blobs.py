from __future__ import annotations

import hashlib
import os
from collections import namedtuple
from pathlib import Path

import pytest

from service.errors import BadRequest, StoreFailure
from service.store.blobs import UNUSED_SECONDS, Blobs

UPLOAD = "0" * 32


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "store")


def put(blobs: Blobs, data: bytes) -> str:
    blobs.put(UPLOAD, digest(data), data, last=True)
    return digest(data)


def files(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path / "store")) for path in tmp_path.rglob("*") if path.is_file())


def test_a_blob_that_comes_in_pieces_is_there_when_the_last_one_has_come(blobs: Blobs):
    path = blobs.path(digest(b"abcd"))
    assert not blobs.put(UPLOAD, digest(b"abcd"), b"ab", last=False)
    assert not path.exists()
    assert blobs.put(UPLOAD, digest(b"abcd"), b"cd", last=True)
    assert path.read_bytes() == b"abcd"


def test_two_uploads_of_one_blob_do_not_mix(blobs: Blobs):
    blobs.put(UPLOAD, digest(b"abcd"), b"ab", last=False)
    blobs.put("1" * 32, digest(b"abcd"), b"abcd", last=True)
    assert blobs.put(UPLOAD, digest(b"abcd"), b"cd", last=True)


def test_what_is_not_what_it_was_announced_as_is_refused_and_gone(blobs: Blobs, tmp_path: Path):
    expected, got = digest(b"a"), digest(b"b")
    with pytest.raises(BadRequest) as error:
        blobs.put(UPLOAD, expected, b"b", last=True)
    assert error.value.message == f'digest mismatch, expected "{expected}", got "{got}"'
    assert files(tmp_path) == []


@pytest.mark.parametrize("text", ["", "sha256:abc", "sha256:" + "g" * 64, "md5:" + "0" * 64, "../sha256-" + "0" * 64])
def test_a_digest_has_its_form(blobs: Blobs, text: str):
    with pytest.raises(BadRequest, match="invalid digest format"):
        blobs.path(text)


@pytest.mark.parametrize("upload", ["", "../../etc", "0" * 31])
def test_an_upload_is_no_path(blobs: Blobs, upload: str):
    with pytest.raises(BadRequest):
        blobs.put(upload, digest(b""), b"", last=True)


def test_an_upload_that_is_given_up_leaves_nothing(blobs: Blobs, tmp_path: Path):
    blobs.put(UPLOAD, digest(b"abcd"), b"ab", last=False)
    blobs.drop(UPLOAD)
    assert files(tmp_path) == []


def test_a_directory_holds_its_files_under_their_names(blobs: Blobs):
    directory = blobs.assemble({"a.json": put(blobs, b"a"), "1_Pooling/config.json": put(blobs, b"b")})
    assert (directory / "a.json").read_bytes() == b"a"
    assert (directory / "1_Pooling" / "config.json").read_bytes() == b"b"
    assert blobs.assemble({"1_Pooling/config.json": digest(b"b"), "a.json": digest(b"a")}) == directory


def test_a_directory_with_a_missing_blob_is_not_begun(blobs: Blobs, tmp_path: Path):
    with pytest.raises(BadRequest, match="not found"):
        blobs.assemble({"a": put(blobs, b"a"), "b": digest(b"b")})
    assert not (tmp_path / "store" / "files").exists()


def test_discarded_are_only_files_that_nothing_else_holds(blobs: Blobs, tmp_path: Path):
    ours, others = {"a": put(blobs, b"a"), "b": put(blobs, b"b")}, {"a": digest(b"a")}
    blobs.assemble(ours), blobs.assemble(others)
    blobs.discard(ours, [others])
    assert not blobs.directory(ours).exists()
    assert (blobs.directory(others) / "a").read_bytes() == b"a"
    assert (blobs.path(digest(b"a")).exists(), blobs.path(digest(b"b")).exists()) == (True, False)


def test_files_that_another_model_is_made_of_as_well_stay(blobs: Blobs):
    same = {"a": put(blobs, b"a")}
    blobs.assemble(same)
    blobs.discard(same, [same])
    assert (blobs.directory(same) / "a").exists()


def test_a_sweep_takes_what_crashes_have_left_and_nothing_else(blobs: Blobs, tmp_path: Path):
    kept, stray, fresh, old = {"a": put(blobs, b"a")}, {"b": put(blobs, b"b")}, put(blobs, b"c"), put(blobs, b"d")
    blobs.assemble(kept), blobs.assemble(stray)
    blobs.put(UPLOAD, digest(b"e"), b"", last=False)
    now = blobs.path(fresh).stat().st_mtime
    os.utime(blobs.path(old), (0, now - UNUSED_SECONDS - 9))
    Blobs(tmp_path / "store").sweep([kept], now)
    assert (blobs.directory(kept) / "a").exists()
    assert not blobs.directory(stray).exists()
    assert sorted(path.name for path in (tmp_path / "store" / "blobs").iterdir()) == sorted(
        blobs.path(digest(data)).name for data in (b"a", b"b", b"c")
    )


def test_a_blob_that_a_client_was_told_of_stays_for_a_day(blobs: Blobs):
    told = put(blobs, b"a")
    path = blobs.path(told)
    now = path.stat().st_mtime
    os.utime(path, (0, now - UNUSED_SECONDS - 9))
    assert blobs.has(told)
    blobs.expire([], now)
    assert path.exists()
    blobs.expire([], now + 2 * UNUSED_SECONDS)
    assert not path.exists()


def test_what_nobody_uses_for_a_day_goes_while_uploads_run(blobs: Blobs, tmp_path: Path):
    kept, old = {"a": put(blobs, b"a")}, put(blobs, b"b")
    blobs.assemble(kept)
    for upload in ("1" * 32, "2" * 32):
        blobs.put(upload, digest(b"cd"), b"c", last=False)
    now = blobs.path(old).stat().st_mtime
    directory = tmp_path / "store" / "blobs"
    for name in (blobs.path(kept["a"]).name, blobs.path(old).name, f"partial-{'1' * 32}"):
        os.utime(directory / name, (0, now - UNUSED_SECONDS - 9))
    blobs.expire([kept], now)
    assert {path.name for path in directory.iterdir()} == {blobs.path(kept["a"]).name, f"partial-{'2' * 32}"}
    assert blobs.put("2" * 32, digest(b"cd"), b"d", last=True)
    # One that was given up begins anew.
    with pytest.raises(BadRequest, match="digest mismatch"):
        blobs.put("1" * 32, digest(b"cd"), b"d", last=True)


@pytest.mark.parametrize(
    ("free", "fits"),
    [(1_000_100, True), (1_000_099, False), (0, False)],
)
def test_uploads_leave_a_part_of_the_disk_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, fits: bool):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(100_000_000, 0, free))
    blobs, data = Blobs(tmp_path / "store", reserve=1_000_000), b"a" * 100
    if fits:
        assert blobs.put(UPLOAD, digest(data), data, last=True)
    else:
        with pytest.raises(
            StoreFailure, match=r"uploads leave 0.001 GB free \(VLLM_WSGI_STORE_RESERVE\): delete models"
        ):
            blobs.put(UPLOAD, digest(data), data, last=True)
        assert files(tmp_path) == []
    assert Blobs(tmp_path / "store").put(UPLOAD, digest(data), data, last=True)


def test_a_small_disk_is_filled_up_to_a_twentieth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(2_000, 0, 200))
    blobs = Blobs(tmp_path / "store", reserve=1_000_000)
    assert blobs.put(UPLOAD, digest(b"a" * 100), b"a" * 100, last=True)
    with pytest.raises(StoreFailure, match="VLLM_WSGI_STORE_RESERVE"):
        blobs.put(UPLOAD, digest(b"b" * 101), b"b" * 101, last=True)


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path):
    (tmp_path / "store").write_text("no directory")
    with pytest.raises(StoreFailure, match="the model store can't be written: Not a directory"):
        put(Blobs(tmp_path / "store"), b"a")
