from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.errors import PayloadTooLarge, ResponseNotFound, StoreFailure
from service.store.responses import DAY_SECONDS, Responses

ID = "resp_" + "a" * 24
OTHER = "resp_" + "b" * 24


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
