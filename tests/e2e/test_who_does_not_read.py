"""Clients that take nothing of what is sent to them: the server's memory stays bounded, and others are served.

Each bound is far above what a connection takes, and far below what it took when nothing bounded it.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator

import pytest
from tests.e2e.conftest import Mailbox, Service, bearer
from tests.e2e.sockets import Bare, linked, memory_mib
from websockets.frames import Frame, Opcode

MIB = 1024 * 1024
ALL = {"messages": 10_000, "bytes": 256 * MIB}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server of its own, whose memory nobody else uses."""
    service = Service(tmp_path_factory.mktemp("readers") / "data")
    service.start()
    yield service
    assert service.end(signal.SIGTERM) == 0, service.log()
    assert "Traceback" not in service.log()


@pytest.fixture
def full(service: Service) -> Iterator[Mailbox]:
    """A mailbox with 40 MiB in it."""
    mailbox = Mailbox(service)
    for _ in range(40):
        assert mailbox.publish(b"x" * MIB).status_code == 201
    yield mailbox
    mailbox.close()


async def others_are_served(service: Service) -> None:
    """Twenty round trips to the disk and back, in which the server has long done what it would do otherwise too."""
    mailbox = Mailbox(service)
    async with linked(service, f"/v1/queues/{mailbox.name}/socket", mailbox.key) as link:
        await link.send({"type": "credit", "messages": 1})
        for number in range(20):
            await asyncio.to_thread(mailbox.publish, b"%d" % number)
            async with asyncio.timeout(5):
                delivered = await link.received.get()
            assert delivered.body == b"%d" % number
            await link.ask({"type": "ack", "items": [{"lease": delivered.lease}]})
    mailbox.close()


async def test_a_websocket_with_much_credit(service: Service, full: Mailbox) -> None:
    before = memory_mib(service)
    bare = await Bare.open(service, f"/v1/queues/{full.name}/socket", full.key)
    await bare.credit(**ALL)
    await others_are_served(service)
    assert full.figures()["leased"] != 0
    assert memory_mib(service) - before < 25
    # It holds what it has been sent, or could have been; the rest is there for others.
    async with linked(service, f"/v1/queues/{full.name}/socket", full.key) as link:
        await link.send({"type": "credit", "messages": 1})
        async with asyncio.timeout(20):
            assert (await link.received.get()).attempt == 1
    bare.abandon()


async def test_events_with_much_credit(service: Service, full: Mailbox) -> None:
    before = memory_mib(service)
    _, writer = await asyncio.open_connection(*service.address, limit=1_024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    path = f"/v1/queues/{full.name}/events?credit=10000&credit_bytes={256 * MIB}"
    headers = f"Host: x\r\nAuthorization: {bearer(full.key)['authorization']}"
    writer.write(f"GET {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode())
    await writer.drain()
    await others_are_served(service)
    assert full.figures()["leased"] != 0
    assert memory_mib(service) - before < 25
    writer.transport.abort()


async def test_a_websocket_with_many_queues(service: Service) -> None:
    mailbox = Mailbox(service)
    names = [f"{mailbox.name}-{number}" for number in range(40)]
    for name in names:
        mailbox.admin.put(f"/v1/queues/{name}", json={"owner": mailbox.name}).raise_for_status()
        for _ in range(2):
            path = f"/v1/queues/{name}/notifications"
            mailbox.publisher.post(path, content=b"x" * MIB).raise_for_status()
    before = memory_mib(service)
    bare = await Bare.open(service, "/v1/socket", mailbox.key)
    for name in names:
        await bare.credit(queue=name, **ALL)
    await others_are_served(service)
    assert memory_mib(service) - before < 50
    bare.abandon()
    mailbox.close()


async def test_who_only_pings(service: Service, mailbox_of: Mailbox) -> None:
    before = memory_mib(service)
    bare = await Bare.open(service, f"/v1/queues/{mailbox_of.name}/socket", mailbox_of.key)
    await bare.sends(b"p" * 125, Opcode.PING, times=250_000)
    await others_are_served(service)
    assert memory_mib(service) - before < 15
    bare.abandon()


async def test_who_only_errs(service: Service, mailbox_of: Mailbox) -> None:
    """It is answered with errors until these are not taken, and is read no further."""
    before = memory_mib(service)
    bare = await Bare.open(service, f"/v1/queues/{mailbox_of.name}/socket", mailbox_of.key)
    frame = json.dumps({"type": "eat", "ref": "r" * 128}).encode()
    # Not drained: most of it stays here, since nobody reads it there.
    bare.writer.write(Frame(Opcode.TEXT, frame).serialize(mask=True) * 200_000)
    await others_are_served(service)
    assert memory_mib(service) - before < 20
    bare.abandon()


async def test_who_only_publishes(service: Service, mailbox_of: Mailbox) -> None:
    """It is read no faster than the disk takes what it sends."""
    before = memory_mib(service)
    bare = await Bare.open(service, "/v1/socket", mailbox_of.publisher_key)
    one = {"queue": mailbox_of.name, "body": "x" * (MIB - 1)}
    frame = json.dumps({"type": "publish", "notifications": [one]}).encode()
    await bare.sends(frame, times=300)
    most = memory_mib(service)
    await others_are_served(service)
    assert most - before < 150
    bare.abandon()


@pytest.fixture
def mailbox_of(service: Service) -> Iterator[Mailbox]:
    mailbox = Mailbox(service)
    yield mailbox
    mailbox.close()
