from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from service import errors
from service.errors import (
    BadRequest,
    ClientGone,
    ClientTooSlow,
    DeadlineExceeded,
    Drained,
    EngineFailure,
    EngineGoingDown,
    EngineGone,
    Forbidden,
    GoingDown,
    HTTPRefusal,
    InternalError,
    ModelNotFound,
    PayloadTooLarge,
    PromptTooLong,
    ResponseNotFound,
    ServerBusy,
    ServiceError,
    SettingsError,
    StoreFailure,
    StreamGone,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnknownPrevious,
    Unsupported,
    UnsupportedCoding,
    revive,
)
from service.protocol.events import Failed
from service.protocol.wire import decode_events, pack

STATUSES = {
    BadRequest: 400,
    PromptTooLong: 400,
    UnknownPrevious: 400,
    Unauthorized: 401,
    Forbidden: 403,
    ModelNotFound: 404,
    ResponseNotFound: 404,
    HTTPRefusal: 404,
    PayloadTooLarge: 413,
    UnsupportedCoding: 415,
    TooManyRequests: 429,
    ClientGone: 499,
    EngineFailure: 500,
    InternalError: 500,
    Unsupported: 501,
    Unavailable: 503,
    EngineGone: 503,
    ServerBusy: 503,
    GoingDown: 503,
    EngineGoingDown: 503,
    Drained: 503,
    ClientTooSlow: 408,
    StreamGone: 410,
    DeadlineExceeded: 504,
    StoreFailure: 507,
    SettingsError: 500,
}


@pytest.mark.parametrize(("kind", "status"), STATUSES.items())
def test_each_error_knows_its_status(kind: type[ServiceError], status: int):
    assert kind("no").status == status


def test_the_tree_has_no_error_that_the_table_above_lacks():
    known = {kind for kind in ServiceError.kinds.values() if kind.__module__ == "service.errors"}
    assert known == set(STATUSES)


@pytest.mark.parametrize("kind", STATUSES)
@pytest.mark.parametrize("retry_after", [None, 7])
def test_an_error_that_crosses_the_queue_is_raised_again_as_what_it_was(
    kind: type[ServiceError], retry_after: int | None
):
    error = kind("<b> & \u2028", retry_after)
    (failed,) = decode_events(pack([Failed.of(3, error)])[4:])
    revived = failed.error()
    assert (type(revived), revived.message, revived.retry_after) == (kind, "<b> & \u2028", retry_after)


@pytest.mark.parametrize(
    "error",
    [
        PromptTooLong("no", tokens=9000, limit=4096),
        BadRequest("no", param="stop", code="array_above_max_length"),
        UnknownPrevious("no"),
    ],
)
def test_what_programs_read_in_an_error_crosses_the_queue_with_it(error: ServiceError):
    (failed,) = decode_events(pack([Failed.of(3, error)])[4:])
    revived = failed.error()
    assert (revived.details, revived.param, revived.code) == (error.details, error.param, error.code)


def test_an_error_that_only_a_newer_peer_knows_is_a_failure_of_the_engine():
    error = revive("FromTheFuture", "no", None, {"number": 5})
    assert (type(error), error.message) == (EngineFailure, "no")


def test_an_error_that_passes_says_when_to_try_again():
    for kind in (Unavailable, EngineGone, TooManyRequests):
        assert kind("later").headers == {"Retry-After": "1"}
    assert [kind().headers["Retry-After"] for kind in (ServerBusy, GoingDown, EngineGoingDown)] == ["1", "2", "5"]
    assert BadRequest("no").headers == {}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ServerBusy, "server busy, please try again.  maximum pending requests exceeded"),
        (GoingDown, "the server is going down, please try again"),
        (EngineGoingDown, "the engine is going down, please try again"),
        (InternalError, "internal error; the server's log has the details"),
    ],
)
def test_an_error_with_one_sentence_has_it(kind: Callable[[], ServiceError], message: str):
    assert kind().message == message


def test_a_request_that_is_cut_off_says_by_which_shutdown():
    drained = Drained.by(EngineGoingDown())
    assert (drained.message, drained.retry_after) == ("the engine is going down, please try again", 5)


def test_each_error_is_drawn_in_the_tree_and_explained():
    for kind in ServiceError.kinds.values():
        if kind.__module__ == "service.errors":
            assert kind.__doc__
            assert re.search(rf"─ {kind.__name__} +(4xx|{STATUSES[kind]})$", errors.__doc__ or "", re.MULTILINE)


def test_a_request_without_a_key_gets_the_scheme_for_one():
    assert Unauthorized("no").headers == {"WWW-Authenticate": "Bearer"}


def test_an_error_says_its_message():
    assert str(EngineGone("the engine stopped")) == "the engine stopped"


def test_a_message_that_repeats_megabytes_of_a_client_is_cut():
    error = BadRequest("x" * 10_000_000, param="y" * 10_000_000)
    assert error.message == str(error) == "x" * 4_000 + "..."
    assert (error.param, BadRequest(error.message).message) == ("y" * 4_000, error.message)
