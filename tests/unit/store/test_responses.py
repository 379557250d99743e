from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.errors import PayloadTooLarge, ResponseNotFound, StoreFailure
from service.store.response_sizes import BLOCK_BYTES
from service.store.responses import DAY_SECONDS, Responses

ID = "resp_" + "a" * 24
OTHER = "resp_" + "b" * 24
THIRD = "resp_" + "c" * 24
ALICE = 'alice \u00e9\\"'


@pytest.fixture
def responses(tmp_path: Path) -> Responses:
    return Responses(tmp_path, days=1, max_bytes=20)


def file(tmp_path: Path, id: str = ID) -> Path:
    return tmp_path / "responses" / f"{id}.json"


def age(path: Path, days: float) -> None:
    before = path.stat().st_mtime - days * DAY_SECONDS
    os.utime(path, (before, before))


def test_what_is_stored_is_there_for_its_owner_until_he_drops_it(responses: Responses, tmp_path: Path):
    responses.store(ID, "alice", b'{"a":[1.0,"\xc3\xa9"]}')
    assert Responses(tmp_path, 1, 20).fetch(ID, "alice") == b'{"a":[1.0,"\xc3\xa9"]}'
    assert os.stat(file(tmp_path)).st_mode & 0o077 == 0
    responses.drop(ID, "alice")
    assert not list(file(tmp_path).parent.iterdir())


@pytest.mark.parametrize("owner", ["", "bob"])
def test_to_everybody_else_it_is_not_there(responses: Responses, owner: str):
    responses.store(ID, "alice", b"1")
    for act in (responses.fetch, responses.drop):
        with pytest.raises(ResponseNotFound, match=f"Response with id '{ID}' not found."):
            act(ID, owner)
    assert responses.fetch(ID, "alice") == b"1"


@pytest.mark.parametrize("id", ["", "resp_", "../models", f"{ID}/../{ID}", ID + "\n", ID.upper(), f"{ID}\0"])
def test_what_is_no_id_becomes_no_path(responses: Responses, id: str):
    for act in (responses.fetch, responses.drop):
        with pytest.raises(ResponseNotFound):
            act(id, "")
    with pytest.raises(ResponseNotFound):
        responses.store(id, "", b"1")


def test_what_is_too_old_is_gone_before_its_file_is(responses: Responses, tmp_path: Path):
    responses.store(ID, "", b"1")
    responses.store(OTHER, "", b"2")
    (file(tmp_path).parent / ".half").touch()
    age(file(tmp_path), 1.1), age(file(tmp_path).parent / ".half", 1.1), age(file(tmp_path, OTHER), 0.9)
    with pytest.raises(ResponseNotFound):
        responses.fetch(ID, "")
    responses.prune()
    assert list(file(tmp_path).parent.iterdir()) == [file(tmp_path, OTHER)]


def test_with_no_days_nothing_is_stored_and_what_was_goes(responses: Responses, tmp_path: Path):
    responses.store(ID, "", b"1")
    none = Responses(tmp_path, 0, 20)
    with pytest.raises(StoreFailure, match="stores no responses"):
        none.store(OTHER, "", b"1")
    with pytest.raises(ResponseNotFound):
        none.fetch(ID, "")
    none.prune()
    assert not file(tmp_path).exists()


def test_what_is_too_long_is_refused(responses: Responses, tmp_path: Path):
    with pytest.raises(PayloadTooLarge, match="longer than 20 bytes"):
        responses.store(ID, "", b'"' + b"a" * 19 + b'"')
    assert not file(tmp_path).exists()


@pytest.fixture
def full(tmp_path: Path) -> Responses:
    """A store in which alice, who may have two blocks of the disk, has used both, the first one earlier."""
    full = Responses(tmp_path, days=1, max_bytes=20, owner_bytes=2 * BLOCK_BYTES)
    for number, each in enumerate((ID, OTHER)):
        full.store(each, ALICE, b"1")
        age(file(tmp_path, each), (10 - number) / 1000)
    return full


def test_the_oldest_responses_of_an_owner_go_when_they_take_too_much(
    full: Responses, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    full.store(THIRD, "bob", b"3")
    assert full.fetch(ID, ALICE) == b"1"
    full.store("resp_" + "d" * 24, ALICE, b"4")
    with pytest.raises(ResponseNotFound):
        full.fetch(ID, ALICE)
    assert (full.fetch(OTHER, ALICE), full.fetch(THIRD, "bob")) == (b"1", b"3")
    assert f"1 of them: VLLM_WSGI_RESPONSES_BYTES allows {2 * BLOCK_BYTES}" in caplog.text


def test_the_sizes_are_those_on_disk_after_a_restart_and_after_old_ones_were_removed(full: Responses, tmp_path: Path):
    (file(tmp_path).parent / f"resp_{'e' * 24}.json").write_text("{")
    again = Responses(tmp_path, 1, 20, 2 * BLOCK_BYTES)
    again.store(THIRD, ALICE, b"3")
    assert {path.stem for path in file(tmp_path).parent.iterdir()} == {OTHER, THIRD, "resp_" + "e" * 24}
    age(file(tmp_path, OTHER), 1.1)
    again.prune()
    again.store(ID, ALICE, b"1")
    assert (again.fetch(THIRD, ALICE), again.fetch(ID, ALICE)) == (b"3", b"1")


def test_what_is_dropped_or_stored_anew_takes_nothing_twice(full: Responses):
    full.store(OTHER, ALICE, b"2")
    assert full.fetch(ID, ALICE) == b"1"
    full.drop(OTHER, ALICE)
    full.store(THIRD, ALICE, b"3")
    assert (full.fetch(ID, ALICE), full.fetch(THIRD, ALICE)) == (b"1", b"3")


def test_the_newest_response_stays_even_alone(tmp_path: Path):
    small = Responses(tmp_path, 1, 20, owner_bytes=1)
    for each in (ID, OTHER):
        small.store(each, "alice", b"1")
    assert [path.stem for path in file(tmp_path).parent.iterdir()] == [OTHER]


def test_a_damaged_file_is_no_response(responses: Responses, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    responses.store(ID, "", b"1")
    file(tmp_path).write_text("{")
    with pytest.raises(ResponseNotFound):
        responses.fetch(ID, "")
    assert "it is not a stored response" in caplog.text


def test_a_store_that_cannot_be_used_says_so(responses: Responses, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "responses").touch()
    for act in (lambda: responses.store(ID, "", b"1"), lambda: responses.fetch(ID, "")):
        with pytest.raises(StoreFailure, match="the model store can't be"):
            act()
    responses.prune()
    assert "old responses can't be removed" in caplog.text
