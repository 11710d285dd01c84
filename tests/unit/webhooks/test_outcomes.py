"""What each answer means."""

import math

import pytest

from restante.model import REASON_CHARACTERS, Signature, Verb
from restante.transports.webhook.calls import Answered, Failed
from restante.transports.webhook.outcomes import (
    TRANSCRIPT_BODY_BYTES,
    Endpoint,
    cut,
    judge,
    retry_after,
    transcript,
)
from restante.wire.client_signatures import to_header

NOW_MS = 1_767_225_600_000  # Thu, 01 Jan 2026 00:00:00 GMT
WELL, FAILS, THROTTLES, GONE = Endpoint.WELL, Endpoint.FAILS, Endpoint.THROTTLES, Endpoint.GONE


@pytest.mark.parametrize(
    ("status", "verb", "endpoint", "reason"),
    [
        *((status, Verb.ACK, WELL, "") for status in (200, 201, 202, 204, 206, 226, 299)),
        *((s, Verb.NACK, FAILS, f"HTTP {s}") for s in (101, 199, 300, 301, 302, 304, 307, 308)),
        *((s, Verb.NACK, FAILS, f"HTTP {s}") for s in (400, 401, 403, 404, 408, 409, 413, 422)),
        *((s, Verb.NACK, FAILS, f"HTTP {s}") for s in (428, 451, 500, 501, 505, 507, 520, 599)),
        *((s, Verb.NACK, THROTTLES, f"HTTP {s}") for s in (429, 502, 503, 504)),
        (410, Verb.RELEASE, GONE, "HTTP 410"),
    ],
)
def test_statuses(status, verb, endpoint, reason):
    verdict = judge(Answered(status, "Word"), NOW_MS)
    assert (verdict.verb, verdict.endpoint, verdict.reason) == (verb, endpoint, reason)
    assert verdict.retry_after_seconds == 0


def test_no_answer_is_a_failure():
    verdict = judge(Failed("timed out after 10 s"), NOW_MS)
    assert verdict[:3] == (Verb.NACK, FAILS, "timed out after 10 s")
    assert (verdict.reply, verdict.reply_content_type) == (None, "")


@pytest.mark.parametrize("status", [400, 404, 410, 422, 429, 500, 503, 302])
@pytest.mark.parametrize("word", [b"reject", b"Reject", b" REJECT "])
def test_reject(status, word):
    answer = Answered(status, headers=[(b"Restante-Outcome", word)], body=b"no\r\nsuch\0sku \xff")
    verdict = judge(answer, NOW_MS)
    assert verdict[:3] == (Verb.REJECT, WELL, "no such sku \N{REPLACEMENT CHARACTER}")


def test_what_was_signed_for_is_not_rejected_and_another_word_means_nothing():
    headers = [(b"restante-outcome", b"reject")]
    assert judge(Answered(200, headers=headers), NOW_MS).verb is Verb.ACK
    assert judge(Answered(422, headers=headers), NOW_MS).reason == "HTTP 422"
    assert judge(Answered(422, headers=[(b"restante-outcome", b"x")]), NOW_MS).verb is Verb.NACK


def test_a_reason_is_one_line_and_bounded():
    headers = [(b"restante-outcome", b"reject")]
    verdict = judge(Answered(400, headers=headers, body="ä\n".encode() * 9_000), NOW_MS)
    assert len(verdict.reason) == REASON_CHARACTERS
    assert "\n" not in verdict.reason


def test_the_answer_s_body_is_the_reply():
    headers = [(b"Content-Type", b"text/xml"), (b"content-type", b"second")]
    verdict = judge(Answered(200, headers=headers, body=b"<booked/>"), NOW_MS)
    assert (verdict.reply, verdict.reply_content_type) == (b"<booked/>", "text/xml")
    verdict = judge(Answered(200, headers=headers), NOW_MS)
    assert (verdict.reply, verdict.reply_content_type) == (None, "")
    long = [(b"content-type", b"x" * 300)]
    assert len(judge(Answered(200, headers=long, body=b"x"), NOW_MS).reply_content_type) == 255


def test_retry_after_counts_where_the_endpoint_throttles():
    headers = [(b"Retry-After", b"30")]
    assert judge(Answered(503, headers=headers), NOW_MS).retry_after_seconds == 30
    assert judge(Answered(500, headers=headers), NOW_MS).retry_after_seconds == 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("999999999", 999_999_999),
        ("1" * 50, math.inf),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60),
        ("Thu, 01 Jan 2026 01:01:00 +0100", 60),
        ("Thursday, 01-Jan-26 00:01:00 GMT", 60),
        ("Thu Jan  1 00:01:00 2026", 60),
        ("Wed, 31 Dec 2025 23:59:00 GMT", 0),
        *((text, 0) for text in ("", "-5", "1.5", "soon", "+3", "٣", "1e9", "Thu, 99 Foo 2026")),
        # Larger than what a number of the machine holds.
        (f"Thu, 01 Jan 2026 00:01:00 +{'9' * 20}", 0),
        (f"Thu, 01 Jan {'9' * 30} 00:01:00 GMT", 0),
    ],
)
def test_retry_after(value, seconds):
    assert retry_after(value, NOW_MS) == seconds


def test_what_was_answered_is_kept_as_it_was_on_the_wire():
    answer = Answered(500, "Oh no", [(b"X-A", b"1"), (b"Set-Cookie", b"a=b")], b"sorry", "1.0")
    verdict = judge(answer, NOW_MS)
    assert verdict.reply == b"HTTP/1.0 500 Oh no\r\nX-A: 1\r\nSet-Cookie: a=b\r\n\r\nsorry"
    assert verdict.reply_content_type == "message/http"


def test_what_is_kept_is_bounded():
    headers = [(b"x-%d" % n, b"v" * 1_000) for n in range(100)]
    kept = transcript(Answered(500, "x", headers, b"y" * 65_536))
    assert len(kept) < 8_192 + TRANSCRIPT_BODY_BYTES + 200
    assert kept.endswith(b"\r\n\r\n" + b"y" * TRANSCRIPT_BODY_BYTES)


def test_a_cut_is_not_in_the_middle_of_a_character():
    assert cut("aäb".encode(), 10) == "aäb".encode()
    assert cut("aäb".encode(), 3) == "aä".encode()
    assert cut("aäb".encode(), 2) == b"a"
    assert cut("a😀".encode(), 4) == b"a"
    assert cut(b"\x80" * 10, 6) == b"\x80" * 6, "that is no text anyway"
    assert cut(b"abc", 0) == b""


def test_an_ack_and_a_reject_may_bear_a_signature():
    signature = Signature(
        key="0" * 64,
        at="2026-01-01T00:00:00Z",
        notification="n",
        body_sha256="0" * 64,
        value=b"value",
    )
    signed = (b"restante-signature", to_header(signature).encode())
    assert judge(Answered(200, headers=[signed]), NOW_MS).signature == signature
    reject = (b"restante-outcome", b"reject")
    verdict = judge(Answered(400, headers=[reject, signed]), NOW_MS)
    assert (verdict.verb, verdict.signature) == (Verb.REJECT, signature)
    assert judge(Answered(200), NOW_MS).signature is None


def test_what_cannot_be_a_signature_is_no_ack():
    verdict = judge(Answered(200, headers=[(b"restante-signature", b"key=1")]), NOW_MS)
    assert (verdict.verb, verdict.endpoint) == (Verb.NACK, FAILS)
    assert verdict.reason.startswith("HTTP 200, Restante-Signature lacks ")
