"""Waiting: woken at once, never longer than asked, and nothing left behind by who hangs up."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest
from tests.e2e.conftest import Mailbox, Service, raw_post


@pytest.fixture
async def caller(server: Service, mailbox: Mailbox) -> httpx.AsyncClient:
    return server.async_caller(mailbox.key)


async def _ask(caller: httpx.AsyncClient, mailbox: Mailbox, **asked: object) -> httpx.Response:
    return await caller.post(f"/v1/queues/{mailbox.name}/receive", json=asked)


async def test_a_poll_is_answered_when_something_comes(
    caller: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    async with caller:
        poll = asyncio.create_task(_ask(caller, mailbox, wait=60))
        await _settled_in(mailbox)
        assert not poll.done()
        mailbox.publish(b"<woken/>")
        answer = await asyncio.wait_for(poll, 30)
        assert [n["body"] for n in answer.json()["notifications"]] == ["<woken/>"]


async def test_a_poll_ends_with_nothing_when_its_wait_is_over(
    caller: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    async with caller:
        started = time.monotonic()
        answer = await _ask(caller, mailbox, wait=0.3)
        assert answer.json() == {"notifications": []}
        # Not sooner than asked; how much later is the machine's business.
        assert time.monotonic() - started >= 0.3
        nothing = await caller.post(f"/v1/queues/{mailbox.name}/next?wait=0")
        assert (nothing.status_code, nothing.content) == (204, b"")


async def test_who_hangs_up_leaves_no_lease(server: Service, mailbox: Mailbox) -> None:
    request = raw_post(f"/v1/queues/{mailbox.name}/receive", mailbox.key, b'{"wait":60}')
    for _ in range(20):
        _, writer = await asyncio.open_connection(*server.address)
        writer.write(request)
        await writer.drain()
        await _settled_in(mailbox)
        writer.close()
        await writer.wait_closed()
    mailbox.publish()
    # Whether the hang-ups were noticed before or after: the delivery goes to who is there.
    (notification,) = mailbox.receive(wait=20)
    assert notification["attempt"] == 1
    assert mailbox.figures()["leased"] == 1


async def test_many_pollers_of_one_queue_get_one_each(
    caller: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    async with caller:
        polls = [asyncio.create_task(_ask(caller, mailbox, wait=60, max=1)) for _ in range(30)]
        await _settled_in(mailbox)
        for number in range(30):
            mailbox.publish(f"<n{number}/>".encode())
        answers = await asyncio.wait_for(asyncio.gather(*polls), 60)
    bodies = [n["body"] for answer in answers for n in answer.json()["notifications"]]
    assert sorted(bodies) == sorted(f"<n{number}/>" for number in range(30))


async def test_a_scheduled_one_wakes_the_poll_when_its_time_has_come(
    caller: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    async with caller:
        poll = asyncio.create_task(_ask(caller, mailbox, wait=60))
        await _settled_in(mailbox)
        published = time.monotonic()
        mailbox.publish(b"<later/>", restante_deliver_after="0.4")
        answer = await asyncio.wait_for(poll, 30)
        assert len(answer.json()["notifications"]) == 1
        assert time.monotonic() - published >= 0.4


async def test_flow_control_holds_back_and_a_settle_lets_go(
    caller: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    mailbox.settings(max_in_flight=1)
    async with caller:
        mailbox.publish(b"<first/>")
        mailbox.publish(b"<second/>")
        (first,) = mailbox.receive(max=10)
        poll = asyncio.create_task(_ask(caller, mailbox, wait=60))
        await _settled_in(mailbox)
        assert not poll.done()
        mailbox.settle(first["lease"], "ack")
        answer = await asyncio.wait_for(poll, 30)
        assert [n["body"] for n in answer.json()["notifications"]] == ["<second/>"]


async def test_revoking_a_key_ends_its_polls(caller: httpx.AsyncClient, mailbox: Mailbox) -> None:
    async with caller:
        poll = asyncio.create_task(_ask(caller, mailbox, wait=60))
        await _settled_in(mailbox)
        mailbox.admin.delete(f"/v1/keys/{mailbox.key.split('_')[1]}")
        answer = await asyncio.wait_for(poll, 30)
        assert answer.json() == {"notifications": []}
        mailbox.publish()
        assert (await _ask(caller, mailbox)).status_code == 401


async def _settled_in(mailbox: Mailbox) -> None:
    """Let what was sent reach the server: requests sent later, on another connection, were answered."""
    for _ in range(3):
        await asyncio.to_thread(mailbox.admin.get, "/v1/queues")
