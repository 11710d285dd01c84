"""Which status code of gRPC and Connect stands for which error."""

import re
from pathlib import Path

import pytest

import restante.web
from restante import errors
from restante.wire.codes import Code, code_of, detail_of

GUIDE = (Path(__file__).parents[3] / "docs" / "grpc.md").read_text()
PROTO = Path(restante.web.__file__).with_name("restante.proto").read_text()


# What only other calls can come to, of those who look, administer, prove, wait, or speak plain HTTP.
NOT_OF_THE_SERVICE = {
    *("route_not_found", "method_not_allowed", "head_too_large", "upgrade_required"),
    *("notification_not_found", "receipt_not_found", "client_not_found", "key_not_found"),
    *("operator_not_found", "subscription_not_found", "webhook_not_found", "secret_not_found"),
    *("dead_letter_not_found", "job_not_found", "group_not_found", "operation_not_found"),
    *("request_not_found", "body_gone", "log_empty", "log_damaged", "receipt_not_sealed"),
    *("already_exists", "too_many_keys", "too_many_signing_keys", "invalid_signing_key"),
    *("too_many_secrets", "last_secret", "invalid_url", "webhook_changed", "webhooks_unavailable"),
    *("changed_meanwhile", "job_ended", "too_many_jobs", "too_many_groups", "too_many_waiters"),
    *("operation_ended", "operation_changed", "too_many_operations"),
    *("request_in_progress", "request_unknown", "answer_not_kept", "principal_required"),
    *("too_many_open_requests", "too_many_kept_requests"),
    *("too_many_sign_ins", "link_used", "openid_failed"),
    # Never raised but as one of their kinds.
    *("invalid", "conflict", "store_error"),
}


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


def rows_of(guide):
    return re.findall(r"^\| `([A-Z_]+)` \| ([^|]*) \|", guide, re.MULTILINE)


def test_the_table_of_the_guide_is_that_of_the_file():
    listed = {
        (code, word) for code, text in rows_of(GUIDE) for word in re.findall(r"`(\w+)`", text)
    }
    in_file = {
        (code, word)
        for code, text in re.findall(r"^//     ([A-Z_]+) +([^:;]*)", PROTO, re.MULTILINE)
        for word in re.findall(r"[a-z_]+", text)
    }
    assert listed == in_file


def test_every_word_that_a_call_can_end_with_is_in_the_guide():
    words = {kind.code for kind in all_errors()}
    assert words >= NOT_OF_THE_SERVICE
    listed = {word for _, text in rows_of(GUIDE) for word in re.findall(r"`(\w+)`", text)}
    assert listed == words - NOT_OF_THE_SERVICE


def test_what_an_error_says_has_an_end():
    assert len(detail_of(errors.QueueNotFound("x" * 100_000))) == 1_000
