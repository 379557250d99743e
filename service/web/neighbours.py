"""The application's other extensions and hooks: keeps them from taking a request's body or a stream's pieces.

In: the current request, before any hook sees it, and the application's class of responses. Out: a body that our routes
can still read, and streamed responses that nothing collects.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any, Union

from flask import Blueprint, Response, current_app, request

from .fast_path import FastResponse

logger = logging.getLogger("vllm_wsgi.web")

_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def keep_body() -> None:
    """Keep the application's hooks from parsing the body as a form.

    curl, and so the examples in Ollama's documentation, declare each body to be a form. A hook that reads
    `request.form` in a `before_request` would take the body from the route.
    """
    declared = request.environ.get("CONTENT_TYPE", "")
    if declared.partition(";")[0].strip().lower() in _FORMS:
        # Every route reads JSON, whatever type its body has.
        request.environ["CONTENT_TYPE"] = "application/json"


def body_read_before() -> bytes | None:
    """Return the body when a hook of the application has read it already with `get_data` or `get_json`."""
    kept: bytes | None = vars(request).get("_cached_data")
    return kept


def share_exemption(blueprint: Blueprint, nested: list[Blueprint]) -> None:
    """Let `csrf.exempt(blueprint)` of Flask-WTF hold for the blueprints in ours, which it does not know."""
    csrf = current_app.extensions.get("csrf")
    exempt: set[Blueprint] = getattr(csrf, "_exempt_blueprints", set())
    if csrf is not None and blueprint in exempt and not exempt.issuperset(nested):
        for each in nested:
            csrf.exempt(each)


class UncollectedResponse(FastResponse):
    """A stream whose pieces no hook can collect: to a hook it looks empty.

    An `after_request` that reads `response.data` would otherwise wait for the whole answer, and the client with it.
    """

    def get_data(self, as_text: bool = False) -> Any:
        """Return nothing, and log that a hook asked for it."""
        self._warn("reads")
        return "" if as_text else b""

    def set_data(self, value: Union[bytes, str]) -> None:
        """Leave the stream as it is, and log that a hook wanted to replace it."""
        self._warn("replaces")

    data = property(get_data, set_data)

    def make_sequence(self) -> None:
        """Leave the stream as it is."""

    def _warn(self, does: str) -> None:
        _warn_once(does)


@cache
def _warn_once(does: str) -> None:
    logger.warning(
        "a hook of the application %s the data of a streamed response, which stays a stream; "
        "let the hook skip responses with `is_streamed`",
        does,
    )


def uncollected(response_class: type[Response]) -> type[FastResponse]:
    """Return the class of streamed responses for an application with this class of responses.

    Flask would turn a response of another class into one of the application's own.
    """
    if issubclass(UncollectedResponse, response_class):
        return UncollectedResponse
    if response_class not in _made:
        _made[response_class] = type("UncollectedResponse", (UncollectedResponse, response_class), {})
    return _made[response_class]


# By the application's class.
_made: dict[Any, type[FastResponse]] = {}
