"""Heads of the log that leave the machine: posted to a server that fails as servers do, by one that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.e2e.conftest import Mailbox, Service
from tests.e2e.hooks import next_call, receiving
from tests.e2e.test_ledger import head_of, key_of, proof_of, restante

from restante.senders.heads import of_file
from restante.testing.transports.drivers.webhook import Receiver, Request

pytestmark = pytest.mark.timeout(120)
SECONDS = 40.0


class Keeper:
    """A server of Restante, and another that it posts heads to."""

    def __init__(self, service: Service, receiver: Receiver) -> None:
        self.service = service
        self.receiver = receiver

    async def posted(self, size: int | None = None) -> Request:
        """The next call, or the next that has a head of that size; those before are taken."""
        while True:
            call = await next_call(self.receiver)
            if size is None or size_of(call) == size:
                return call
            await self.receiver.answer(call, 204)


def size_of(call: Request) -> int:
    return int(call.body.split(b"\n")[1])


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeper]:
    async with receiving() as (receiver, url):
        flags = ("--ledger-head-seconds", "1", "--ledger-head-url", url)
        service = Service(tmp_path / "data", *flags)
        await asyncio.to_thread(service.start)
        yield Keeper(service, receiver)
        with contextlib.suppress(ProcessLookupError):
            service.end(signal.SIGKILL)


@pytest.fixture
async def box(keeper: Keeper) -> AsyncIterator[Mailbox]:
    box = Mailbox(keeper.service)
    yield box
    box.close()


async def test_what_is_posted_is_the_signed_note(keeper: Keeper, box: Mailbox) -> None:
    box.publish()
    call = await keeper.posted(1)
    await keeper.receiver.answer(call, 200)
    assert call.headers["content-type"] == "text/plain; charset=utf-8"
    assert head_of(call.body.decode(), key_of(box.admin))[0] == 1
    known = keeper.service.data / "head.txt"
    known.write_bytes(call.body)
    told = await asyncio.to_thread(restante, "verify", "--head", str(known), of=keeper.service)
    assert "nothing is wrong" in told


@pytest.mark.parametrize("answer", [None, 500, 307])
async def test_a_head_that_was_not_taken_is_sent_again_though_nothing_is_written_any_more(
    keeper: Keeper, box: Mailbox, answer: int | None
) -> None:
    box.publish()
    call = await keeper.posted(1)
    if answer is None:
        call.writer.transport.abort()
    else:
        await keeper.receiver.answer(call, answer, location="/elsewhere")
    again = await keeper.posted()
    assert (again.target, again.body) == (call.target, call.body)
    await keeper.receiver.answer(again, 200)


@pytest.mark.parametrize("answer", [None, 500])
async def test_a_killed_server_sends_what_it_had_not_as_soon_as_it_starts(
    keeper: Keeper, box: Mailbox, answer: int | None
) -> None:
    box.publish()
    call = await keeper.posted(1)
    if answer is not None:
        await keeper.receiver.answer(call, answer)
    # Killed in the middle of sending, or while it waits for the next try.
    assert keeper.service.end(signal.SIGKILL) == -signal.SIGKILL
    await asyncio.to_thread(keeper.service.start)
    again = await keeper.posted()
    assert again.body == call.body
    await keeper.receiver.answer(again, 200)
    # What was taken is known to be: the next call has something new.
    box.publish()
    new = await keeper.posted()
    assert size_of(new) == 2
    await keeper.receiver.answer(new, 200)


async def test_sealing_goes_on_while_a_target_says_nothing(keeper: Keeper, box: Mailbox) -> None:
    box.publish()
    await keeper.posted(1)
    for count in (2, 3):
        box.publish()
        receipt = box.receipts()[-1]
        proof = await asyncio.to_thread(proof_of, box.client, receipt)
        assert head_of(proof["checkpoint"], key_of(box.admin))[0] == count


async def heads_in(file: Path, service: Service) -> list[str]:
    """The heads of the file, once there are any."""
    async with asyncio.timeout(SECONDS), httpx.AsyncClient(base_url=service.admin_url) as admin:
        while not (heads := of_file(file)):
            await admin.get("/metrics")
    return heads


@pytest.mark.parametrize("emptied", [True, False])
async def test_a_file_without_the_newest_head_gets_it_from_an_idle_server(
    tmp_path: Path, emptied: bool
) -> None:
    file = tmp_path / "heads.txt"
    service = Service(tmp_path / "data", "--ledger-head-file", str(file))
    await asyncio.to_thread(service.start)
    (head,) = await heads_in(file, service)
    assert await asyncio.to_thread(service.end, signal.SIGTERM) == 0
    if emptied:
        os.truncate(file, 0)
    else:
        file.rename(tmp_path / "heads.1.txt")
    await asyncio.to_thread(service.start)
    assert await heads_in(file, service) == [head]
    assert await asyncio.to_thread(service.end, signal.SIGTERM) == 0
