"""The load generator's HTTP: answers cut out of a stream however it is split."""

from __future__ import annotations

import pytest

from restante.bench.http import BadResponse, RequestTemplate, ResponseReader, request_bytes

CREATED = b"HTTP/1.1 201 Created\r\ndate: now\r\nContent-Length: 11\r\n\r\n" + b'{"id":"ab"}'
NOTHING = b"HTTP/1.1 204 No Content\r\nserver: x\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length:0\r\nx: y\r\n\r\n"
STREAM = CREATED + NOTHING + EMPTY + CREATED
ANSWERS = [(201, b'{"id":"ab"}'), (204, b""), (200, b""), (201, b'{"id":"ab"}')]


def test_answers_in_one_piece():
    assert ResponseReader().feed(STREAM) == ANSWERS


def test_answers_byte_by_byte():
    reader = ResponseReader()
    found = [answer for byte in STREAM for answer in reader.feed(bytes([byte]))]
    assert found == ANSWERS


@pytest.mark.parametrize("size", [2, 3, 7, 50, 91])
def test_answers_in_pieces(size: int):
    reader = ResponseReader()
    pieces = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert [answer for piece in pieces for answer in reader.feed(piece)] == ANSWERS


def test_a_body_may_look_like_an_answer():
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(CREATED) + CREATED
    assert ResponseReader().feed(answer + NOTHING) == [(200, CREATED), (204, b"")]


def test_an_answer_without_length_is_refused():
    with pytest.raises(BadResponse, match="Content-Length"):
        ResponseReader().feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")


def test_something_else_is_refused():
    with pytest.raises(BadResponse, match="not an HTTP"):
        ResponseReader().feed(b"SSH-2.0-whatever\r\n\r\n")


def test_a_filled_template_equals_the_whole_request():
    template = RequestTemplate("POST", "/v1/x", key="rst_1")
    for body in (b"{}", b'{"max":1}' * 20):
        assert template.fill(body) == request_bytes("POST", "/v1/x", key="rst_1", body=body)


def test_a_request_carries_its_headers():
    request = request_bytes("POST", "/v1/x", key="rst_1", headers={"Idempotency-Key": "7"})
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.splitlines() == [
        b"POST /v1/x HTTP/1.1",
        b"Host: 127.0.0.1",
        b"Authorization: Bearer rst_1",
        b"Content-Length: 0",
        b"Idempotency-Key: 7",
    ]
    assert body == b""
