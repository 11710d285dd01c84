"""What gRPC's adapter does by itself: who calls, from where, with what status it ends."""

import asyncio
from typing import Any

import grpc
import pytest

from restante.errors import LeaseLost, Unauthenticated
from restante.rpc.link import LinkClosed
from restante.transports.grpc import callers, calls
from restante.wire.codes import Code


class Context:
    """An RPC's context, of which only its end is of interest."""

    def __init__(self, closed=False):
        self.aborted = []
        self._closed = closed

    async def abort(self, code, details, trailing_metadata):
        if self._closed:
            raise grpc.aio.InternalError
        self.aborted.append((code, details, dict(trailing_metadata)))
        raise grpc.aio.AbortError


async def failing(error):
    raise error


async def ended(context: Any, error):
    await calls._ended(context, failing(error))


async def test_an_error_is_a_status_with_its_stable_code():
    context = Context()
    with pytest.raises(grpc.aio.AbortError):
        await ended(context, LeaseLost("gone"))
    status = grpc.StatusCode.FAILED_PRECONDITION
    assert context.aborted == [(status, "gone", {"restante-code": "lease_lost"})]


async def test_what_goes_wrong_inside_is_not_told():
    context = Context()
    with pytest.raises(grpc.aio.AbortError):
        await ended(context, ZeroDivisionError("secret"))
    ((status, details, trailers),) = context.aborted
    assert status is grpc.StatusCode.INTERNAL
    assert "secret" not in details
    assert trailers == {"restante-code": "internal"}


@pytest.mark.parametrize("error", [LinkClosed(), LeaseLost()])
async def test_who_has_left_is_told_nothing(error):
    with pytest.raises(asyncio.CancelledError):
        await ended(Context(closed=True), error)


def test_every_code_is_a_status_of_grpc():
    assert set(calls._STATUSES) == set(Code)
    for code, status in calls._STATUSES.items():
        assert status.name in {code.name, "CANCELLED"}


@pytest.mark.parametrize(
    ("peer", "remote"),
    [
        ("ipv4:127.0.0.1:4711", "127.0.0.1:4711"),
        ("ipv6:%5B::1%5D:4711", "[::1]:4711"),
        ("ipv6:[2001:db8::1]:4711", "[2001:db8::1]:4711"),
    ],
)
def test_from_where(peer, remote):
    host = remote.rpartition(":")[0].strip("[]")
    assert callers._peer(peer) == (host, remote)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer  ", "Basic YTpi"])
def test_what_is_no_key_is_refused_at_once(header):
    with pytest.raises(Unauthenticated):
        callers.presented((("authorization", header),))


@pytest.mark.parametrize("metadata", [(), (("x-authorization", "Bearer key"),)])
def test_no_key(metadata):
    assert callers.presented(metadata) is None


def test_the_key():
    assert callers.presented((("te", "trailers"), ("authorization", "bearer key "))) == "key"
