"""Which status code of gRPC and Connect stands for which error."""

import re
from pathlib import Path

import pytest

import restante.web
from restante import errors
from restante.wire.codes import Code, code_of, detail_of

PROTO = Path(restante.web.__file__).with_name("restante.proto").read_text()


def all_errors(kind=errors.RestanteError):
    # Those of the SDK, and others that are not told to callers, are elsewhere.
    if kind is errors.StartupError or kind.__module__ != errors.__name__:
        return set()
    return {kind}.union(*(all_errors(below) for below in kind.__subclasses__()))


def an(kind):
    """One of that class: only their classes count here."""
    error = kind.__new__(kind)
    error.args = ("x",)
    return error


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.Malformed, Code.INVALID_ARGUMENT),
        (errors.OutOfBounds, Code.INVALID_ARGUMENT),
        (errors.BodyTooLarge, Code.INVALID_ARGUMENT),
        (errors.InvalidName, Code.INVALID_ARGUMENT),
        (errors.IdempotencyKeyReused, Code.ALREADY_EXISTS),
        (errors.Unauthenticated, Code.UNAUTHENTICATED),
        (errors.Forbidden, Code.PERMISSION_DENIED),
        (errors.QueueNotFound, Code.NOT_FOUND),
        (errors.LeaseNotFound, Code.NOT_FOUND),
        (errors.LeaseLost, Code.FAILED_PRECONDITION),
        (errors.Displaced, Code.ABORTED),
        (errors.TooManyConnections, Code.RESOURCE_EXHAUSTED),
        (errors.StoreFull, Code.RESOURCE_EXHAUSTED),
        (errors.StoreUnavailable, Code.UNAVAILABLE),
        (errors.ShuttingDown, Code.UNAVAILABLE),
        (errors.OutcomeUnknown, Code.UNKNOWN),
        (errors.TooSlow, Code.DEADLINE_EXCEEDED),
        (errors.UnsupportedMedia, Code.UNIMPLEMENTED),
        (errors.RestanteError, Code.INTERNAL),
    ],
)
def test_the_code_of(kind, code):
    assert code_of(an(kind)) is code


def test_only_what_is_ours_to_blame_is_internal():
    assert {kind for kind in all_errors() if code_of(an(kind)) is Code.INTERNAL} == {
        errors.RestanteError,
        errors.LogDamaged,
    }


def test_the_table_that_vendors_are_given_is_true():
    of_word = {kind.code: code_of(an(kind)).name for kind in all_errors()}
    rows = re.findall(r"^//     ([A-Z_]+) +(.*)$", PROTO, re.MULTILINE)
    assert len(rows) >= 10
    for code, text in rows:
        words = [word for word in re.findall(r"[a-z_]+", text.split(":")[0]) if word in of_word]
        assert words, text
        assert {of_word[word] for word in words} == {code}, text


def test_what_an_error_says_has_an_end():
    assert len(detail_of(errors.QueueNotFound("x" * 100_000))) == 1_000
