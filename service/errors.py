"""Every way in which a request can fail.

    ServiceError                500
    ├── BadRequest              400
    │   ├── PromptTooLong       400
    │   └── UnknownPrevious     400
    ├── Unauthorized            401
    ├── Forbidden               403
    ├── ModelNotFound           404
    ├── ResponseNotFound        404
    ├── ClientTooSlow           408
    ├── StreamGone              410
    ├── PayloadTooLarge         413
    ├── UnsupportedCoding       415
    ├── TooManyRequests         429
    ├── HTTPRefusal             4xx
    ├── ClientGone              499
    ├── EngineFailure           500
    │   └── InternalError       500
    ├── Unsupported             501
    ├── Unavailable             503
    │   ├── ServerBusy          503
    │   ├── GoingDown           503
    │   │   └── EngineGoingDown 503
    │   ├── Drained             503
    │   └── EngineGone          503
    ├── DeadlineExceeded        504
    ├── StoreFailure            507
    └── SettingsError           500

Each class has its HTTP status. An error crosses the queue by the name of its class, so that the web worker raises again
what an engine process raised. Renaming a class therefore changes the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar


class ServiceError(Exception):
    """The base of all errors. `message` is a sentence for the client and holds nothing secret.

    `retry_after` is in seconds. Clients of OpenAI's API distinguish errors by `param` and `code`, whose values are
    OpenAI's. A message that repeats megabytes of what the client sent is cut.
    """

    status: int = 500
    param: str | None = None
    code: str | None = None
    kinds: ClassVar[dict[str, type[ServiceError]]] = {}
    arguments: ClassVar[tuple[str, ...]] = ()
    max_characters: ClassVar[int] = 4_000

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        message = message if len(message) <= self.max_characters else f"{message[: self.max_characters]}..."
        super().__init__(message)
        self.message, self.retry_after = message, retry_after

    def __init_subclass__(cls) -> None:
        cls.kinds[cls.__name__] = cls

    @property
    def kind(self) -> str:
        """The name under which the error crosses the queue."""
        return type(self).__name__

    @property
    def details(self) -> dict[str, Any]:
        """The further `arguments` that make this error again on the other side of the queue."""
        return {name: getattr(self, name) for name in self.arguments if getattr(self, name)}

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that the answer gets because of this error."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


class BadRequest(ServiceError):
    """The request is not valid; the message names the field."""

    status = 400
    arguments = ("param", "code")

    def __init__(
        self, message: str, retry_after: int | None = None, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, retry_after)
        self.param, self.code = (param or self.param or "")[: self.max_characters] or None, code or self.code


class PromptTooLong(BadRequest):
    """The prompt is too long: `tokens` is its length, `limit` the most for prompt and answer; 0 when not known.

    Agents shorten their conversation when they recognise this error, each API's by its own words.
    """

    code = "context_length_exceeded"
    arguments = ("tokens", "limit")

    def __init__(self, message: str, retry_after: int | None = None, tokens: int = 0, limit: int = 0) -> None:
        super().__init__(message, retry_after)
        self.tokens, self.limit = tokens, limit


class UnknownPrevious(BadRequest):
    """The stored response that a request wants to continue does not exist."""

    param = "previous_response_id"
    code = "previous_response_not_found"


class Unauthorized(ServiceError):
    """The request has no key, or an unknown one."""

    status = 401
    code = "invalid_api_key"

    @property
    def headers(self) -> dict[str, str]:
        # RFC 9110 §11.6.1 asks for it; the scheme is RFC 6750's.
        return {**super().headers, "WWW-Authenticate": "Bearer"}


class Forbidden(ServiceError):
    """The key is known and may not do this, or the server answers no other machines."""

    status = 403
    code = "permission_denied"


class ModelNotFound(ServiceError):
    """The model does not exist here."""

    status = 404
    code = "model_not_found"


class ResponseNotFound(ServiceError):
    """The caller has no response and no stream under this id."""

    status = 404


class StreamGone(ServiceError):
    """The caller's stream was ended, or is not kept any more."""

    status = 410


class ClientTooSlow(ServiceError):
    """The client sends its request, or reads its answer, too slowly."""

    status = 408


class PayloadTooLarge(ServiceError):
    """The request's body is longer than VLLM_WSGI_MAX_BODY."""

    status = 413


class UnsupportedCoding(ServiceError):
    """The request's body has a Content-Encoding that can't be decoded here. RFC 9110 §15.5.16 asks for the header."""

    status = 415
    accepted = "gzip, deflate"

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, "Accept-Encoding": self.accepted}


class TooManyRequests(ServiceError):
    """A limit of the caller's key is reached."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after: int | None = 1) -> None:
        super().__init__(message, retry_after)


class HTTPRefusal(ServiceError):
    """HTTP itself refuses: an unknown path, a wrong method, a page of another origin. `status` is the one for it."""

    def __init__(self, message: str, retry_after: int | None = None, status: int = 404) -> None:
        super().__init__(message, retry_after)
        self.status = status


class ClientGone(ServiceError):
    """The client has closed its connection. 499 is nginx' status for that; it stands in logs only."""

    status = 499


class EngineFailure(ServiceError):
    """The engine runs and this generation failed."""


class InternalError(EngineFailure):
    """An exception that nobody expected; the server's log has its trace."""

    def __init__(
        self, message: str = "internal error; the server's log has the details", retry_after: int | None = None
    ) -> None:
        super().__init__(message, retry_after)


class Unsupported(ServiceError):
    """This model can't do what is asked; another one may."""

    status = 501


class Unavailable(ServiceError):
    """The server can't do it now, and may after `retry_after` seconds."""

    status = 503

    def __init__(self, message: str, retry_after: int | None = 1) -> None:
        super().__init__(message, retry_after)


class ServerBusy(Unavailable):
    """The queue of waiting requests is full. The text is Ollama's, spaces and all (`server/sched.go`, ErrMaxQueue)."""

    code = "server_is_overloaded"

    def __init__(
        self,
        message: str = "server busy, please try again.  maximum pending requests exceeded",
        retry_after: int | None = 1,
    ) -> None:
        super().__init__(message, retry_after)


class GoingDown(Unavailable):
    """The web worker shuts down and takes no new requests. Another one answers two seconds later."""

    def __init__(
        self, message: str = "the server is going down, please try again", retry_after: int | None = 2
    ) -> None:
        super().__init__(message, retry_after)


class EngineGoingDown(GoingDown):
    """The engine host shuts down and takes no new requests."""

    def __init__(
        self, message: str = "the engine is going down, please try again", retry_after: int | None = 5
    ) -> None:
        super().__init__(message, retry_after)


class Drained(Unavailable):
    """The request was running at a shutdown and did not end in time."""

    @classmethod
    def by(cls, cause: GoingDown) -> Drained:
        """Return the error of a request that `cause` has cut off, with its message and its `retry_after`."""
        return cls(cause.message, cause.retry_after)


class EngineGone(Unavailable):
    """The engine's process has exited or hangs. `crashed`: its worker reports that nothing killed it from outside."""

    arguments = ("crashed",)

    def __init__(self, message: str, retry_after: int | None = 1, crashed: bool = False) -> None:
        super().__init__(message, retry_after)
        self.crashed = crashed


class DeadlineExceeded(ServiceError):
    """The request took longer than VLLM_WSGI_DEADLINE."""

    status = 504


class StoreFailure(ServiceError):
    """The model store can't be written. The status is RFC 4918's (§11.5)."""

    status = 507


class SettingsError(ServiceError):
    """A setting can't be used; the message names the variable, and repeats all of the operator's own text."""

    max_characters = 1 << 20


def revive(
    kind: str, message: str, retry_after: int | None, details: Mapping[str, Any] = MappingProxyType({})
) -> ServiceError:
    """Return the error that crossed the queue; one of an unknown `kind` (a newer peer) is an EngineFailure."""
    known = ServiceError.kinds.get(kind)
    return EngineFailure(message, retry_after) if known is None else known(message, retry_after, **details)
