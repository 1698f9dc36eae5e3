"""Laws of the error table: it is complete, and a status brings the same error back."""

from __future__ import annotations

from typing import TypeVar

import grpc
import pytest

from bundle.errors import BundleError, InputError
from serving.errors import STATUS, InvalidArgument, ServingError, error_of, status_of

E = TypeVar("E", bound=Exception)


def family(kind: type[E]) -> set[type[E]]:
    return {kind}.union(*(family(child) for child in kind.__subclasses__()))


def made(kind: type[Exception]) -> Exception:
    return (
        kind("text", "is wrong") if kind in {InvalidArgument, InputError} else kind("text: wrong")
    )


def test_every_error_of_serving_has_its_own_entry() -> None:
    assert family(ServingError) - {ServingError} <= STATUS.keys()


@pytest.mark.parametrize("kind", sorted(family(BundleError), key=lambda kind: kind.__name__))
def test_every_error_of_a_bundle_has_a_status(kind: type[Exception]) -> None:
    code, message = status_of(made(kind))
    wanted = grpc.StatusCode.INTERNAL
    if kind is InputError:
        wanted = grpc.StatusCode.INVALID_ARGUMENT
    assert code is wanted
    assert ("text" in message) is (kind is InputError)  # a damaged bundle is not a caller's matter


def test_subclasses_stand_before_their_bases() -> None:
    kinds = list(STATUS)
    for place, kind in enumerate(kinds):
        assert not any(issubclass(later, kind) for later in kinds[place + 1 :])


def test_an_error_of_nobody_says_nothing() -> None:
    assert status_of(KeyError("secret")) == (
        grpc.StatusCode.INTERNAL,
        "internal error; see the server's log",
    )


@pytest.mark.parametrize("kind", sorted(family(ServingError), key=lambda kind: kind.__name__))
def test_a_status_brings_the_error_back(kind: type[ServingError]) -> None:
    code, message = status_of(made(kind))
    if kind is not ServingError:
        assert type(error_of(code, message)) is kind
    if code is not grpc.StatusCode.INTERNAL:
        assert str(error_of(code, message)) == str(made(kind))


def test_every_status_becomes_an_error_with_its_message() -> None:
    for code in set(grpc.StatusCode) - {grpc.StatusCode.OK}:
        assert "why" in str(error_of(code, "why"))


def test_a_refused_field_is_told_apart_from_its_problem() -> None:
    error = error_of(grpc.StatusCode.INVALID_ARGUMENT, "inputs[0].text: is empty: send some")
    assert isinstance(error, InvalidArgument)
    assert (error.field, error.problem) == ("inputs[0].text", "is empty: send some")
