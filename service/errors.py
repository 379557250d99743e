"""Every way in which a request can fail.

    ServiceError            500
    ├── BadRequest          400  the client's fault; the text names the field
    │   └── UnknownPrevious 400  there is no such response to go on from
    ├── Unauthorized        401  no key, or one that is not known
    ├── Forbidden           403  a known key that may not do this
    ├── ModelNotFound       404
    ├── ResponseNotFound    404  no stored response of this caller's
    ├── ClientTooSlow       408  what the client sends does not come, or what it is sent it does not read
    ├── PayloadTooLarge     413
    ├── TooManyRequests     429  this caller's limit, not the server's: try again in `retry_after` seconds
    ├── Refused             4xx  HTTP's own: no such route, a wrong method, a foreign page; each knows its own status
    ├── ClientGone          499  nobody is left to read the answer
    ├── EngineFailure       500  the engine lives, this generation failed
    ├── Unsupported         501  this model can't do that, another one can
    ├── Unavailable         503  try again in `retry_after` seconds
    │   ├── EngineGone      503  the engine process died or hangs
    │   └── Drained         503  what ran when the server was told to end, and did not end in time
    ├── DeadlineExceeded    504  the server's deadline for a whole request is over
    ├── SettingsError       500  a setting that can't be used; the text names the variable
    └── StoreFailure        507  the model store can't be written (RFC 4918 §11.5)

Each knows its HTTP status and crosses the queue by its class name, so that what an engine process raises
is raised again in the web worker.
"""

from __future__ import annotations

from typing import ClassVar


class ServiceError(Exception):
    """The base. `message` is a sentence for the client and holds nothing secret.

    `param` and `code` are for OpenAI's dialects, whose clients tell some errors apart by them.
    """

    status: int = 500
    param: str | None = None
    code: str | None = None
    kinds: ClassVar[dict[str, type[ServiceError]]] = {}

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after

    def __init_subclass__(cls) -> None:
        cls.kinds[cls.__name__] = cls

    @property
    def kind(self) -> str:
        """The name under which the error crosses the queue."""
        return type(self).__name__

    @property
    def headers(self) -> dict[str, str]:
        """What the HTTP answer says besides."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


class BadRequest(ServiceError):
    status = 400


class UnknownPrevious(BadRequest):
    param = "previous_response_id"
    code = "previous_response_not_found"


class Unauthorized(ServiceError):
    status = 401

    @property
    def headers(self) -> dict[str, str]:
        # RFC 9110 §11.6.1 asks for it; the scheme is RFC 6750's.
        return super().headers | {"WWW-Authenticate": "Bearer"}


class Forbidden(ServiceError):
    status = 403


class ModelNotFound(ServiceError):
    status = 404


class ResponseNotFound(ServiceError):
    status = 404


class ClientTooSlow(ServiceError):
    status = 408


class PayloadTooLarge(ServiceError):
    status = 413


class TooManyRequests(ServiceError):
    status = 429

    def __init__(self, message: str, retry_after: int | None = 1) -> None:
        super().__init__(message, retry_after)


class Refused(ServiceError):
    def __init__(self, message: str, retry_after: int | None = None, status: int = 404) -> None:
        super().__init__(message, retry_after)
        self.status = status


class ClientGone(ServiceError):
    status = 499


class EngineFailure(ServiceError):
    status = 500


class Unsupported(ServiceError):
    status = 501


class Unavailable(ServiceError):
    status = 503

    def __init__(self, message: str, retry_after: int | None = 1) -> None:
        super().__init__(message, retry_after)


class EngineGone(Unavailable):
    pass


class Drained(Unavailable):
    pass


class DeadlineExceeded(ServiceError):
    status = 504


class StoreFailure(ServiceError):
    status = 507


def revive(kind: str, message: str, retry_after: int | None) -> ServiceError:
    """The error that crossed the queue; an unknown `kind` (a newer peer) becomes an EngineFailure."""
    return ServiceError.kinds.get(kind, EngineFailure)(message, retry_after)


class SettingsError(ServiceError):
    """A setting that can't be used; the text names the variable."""


# Ollama's text, two spaces and all (`server/sched.go`, ErrMaxQueue).
BUSY = "server busy, please try again.  maximum pending requests exceeded"
