"""What can go wrong while serving, and the gRPC status each error becomes.

ServingError
  x InvalidArgument     the request breaks a rule; names the field
  x Unauthenticated     no key, or one that is unknown
  x Forbidden           the key is not for this
  x UnknownModel        no such model, version or signature
  x LimitExceeded       a size, a queue or a concurrency limit
  x BackendUnavailable  no backend can answer now
  x DeadlineExceeded    the caller's time is over
  x BackendFault        the backend answered with what it must not
  x ConfigError         the server can't start with these settings
"""

from __future__ import annotations

import grpc

from bundle.errors import BundleError, InputError


class ServingError(Exception):
    """Base of everything `serving` raises; its message is safe to show to a caller."""


class InvalidArgument(ServingError):
    """A field of the request breaks a rule.

    Args:
        field: its path in the request, such as `inputs[2].text`.
        problem: the value and the fix, in one sentence without the field.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class Unauthenticated(ServingError):
    """The caller has no key, or one that is unknown."""


class Forbidden(ServingError):
    """The caller's key is not for what it asks."""


class UnknownModel(ServingError):
    """The model, the version or the signature is not there."""


class LimitExceeded(ServingError):
    """A limit of the server is reached; the message names it and its value.

    Args:
        retry_after_s: when the same call may go through; None if never.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BackendUnavailable(ServingError):
    """No backend can answer now; trying again later may help."""


class DeadlineExceeded(ServingError):
    """The caller's deadline passed before the answer was there."""


class BackendFault(ServingError):
    """The backend's answer makes no sense for this model."""


class ConfigError(ServingError):
    """A setting is wrong; the message names it, its value and the fix."""


# The first class an error is an instance of decides, so subclasses stand before their bases.
STATUS: dict[type[Exception], grpc.StatusCode] = {
    InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    UnknownModel: grpc.StatusCode.NOT_FOUND,
    LimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    BackendUnavailable: grpc.StatusCode.UNAVAILABLE,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    BackendFault: grpc.StatusCode.INTERNAL,
    ConfigError: grpc.StatusCode.FAILED_PRECONDITION,
    InputError: grpc.StatusCode.INVALID_ARGUMENT,
    BundleError: grpc.StatusCode.INTERNAL,  # a damaged bundle: our side's fault
}


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The gRPC status and the message a caller gets for `error`.

    An error outside the table is a fault of ours: its text stays in the log.
    """
    for kind, code in STATUS.items():
        if isinstance(error, kind):
            hidden = code is grpc.StatusCode.INTERNAL
            return code, "internal error; see the server's log" if hidden else str(error)
    return grpc.StatusCode.INTERNAL, "internal error; see the server's log"


_KINDS = {code: kind for kind, code in STATUS.items() if issubclass(kind, ServingError)}


def error_of(code: grpc.StatusCode, message: str) -> ServingError:
    """What a client raises for a gRPC status: `status_of` the other way round."""
    kind = _KINDS.get(code)
    if kind is None:
        return ServingError(f"{code.name}: {message}")
    if kind is InvalidArgument:
        field, colon, problem = message.partition(": ")
        return InvalidArgument(field, problem) if colon else InvalidArgument("request", message)
    return kind(message)
