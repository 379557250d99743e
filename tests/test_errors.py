from __future__ import annotations

import pytest

from service.errors import (
    BadRequest,
    ClientGone,
    ClientTooSlow,
    DeadlineExceeded,
    Drained,
    EngineFailure,
    EngineGone,
    Forbidden,
    ModelNotFound,
    PayloadTooLarge,
    Refused,
    ResponseNotFound,
    ServiceError,
    SettingsError,
    StoreFailure,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnknownPrevious,
    Unsupported,
    revive,
)
from service.protocol.events import Failed
from service.protocol.wire import decode_events, pack

STATUSES = {
    BadRequest: 400,
    UnknownPrevious: 400,
    Unauthorized: 401,
    Forbidden: 403,
    ModelNotFound: 404,
    ResponseNotFound: 404,
    Refused: 404,
    PayloadTooLarge: 413,
    TooManyRequests: 429,
    ClientGone: 499,
    EngineFailure: 500,
    Unsupported: 501,
    Unavailable: 503,
    EngineGone: 503,
    Drained: 503,
    ClientTooSlow: 408,
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


def test_an_error_that_only_a_newer_peer_knows_is_a_failure_of_the_engine():
    error = revive("FromTheFuture", "no", None)
    assert (type(error), error.message) == (EngineFailure, "no")


def test_who_is_refused_for_now_is_told_when_to_come_back():
    for kind in (Unavailable, EngineGone, TooManyRequests):
        assert kind("later").headers == {"Retry-After": "1"}
    assert BadRequest("no").headers == {}


def test_who_has_no_key_is_told_how_to_bring_one():
    assert Unauthorized("no").headers == {"WWW-Authenticate": "Bearer"}


def test_an_error_says_its_message():
    assert str(EngineGone("the engine stopped")) == "the engine stopped"
