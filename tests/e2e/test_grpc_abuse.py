"""gRPC under stress: a service that stops, clients that never read, calls that are reset; ports, certificates."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.e2e import h2
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service
from tests.e2e.test_grpc import connection_to, failure, made, receiving, requests_for, watches

from restante.engine.stream import BATCH_BYTES
from restante.testing.transports.drivers.over_proto import SERVICE
from restante.wire.proto import restante_pb2 as pb

MIB = 1024 * 1024


def memory_of(service: Service) -> int:
    """Bytes resident."""
    text = Path(f"/proc/{service.pid}/status").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


async def until(condition: Any) -> None:
    """Ask the service until it says so; every asking is a round trip to it."""
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(condition):
            pass


# -- a service that stops -----------------------------------------------------------------------


async def test_a_stop_tells_streams_to_leave_and_lets_them_settle(own_server: Service) -> None:
    box = Mailbox(own_server)
    client = connection_to(own_server, box.key)
    publisher = connection_to(own_server, box.publisher_key)
    box.publish(b"<held/>")
    call = await receiving(client, box)
    (held,) = (await call.read()).notifications
    stream = await made(publisher, "PublishStream", pb.PublishStreamRequest(ref="first"))
    assert (await stream.read()).answers[0].ref == "first"
    watch = watches(client.channel)
    assert (await watch.read()).status == 1
    subscription = client.call("Subscribe", requests_for(box)["Subscribe"])
    assert (await subscription.read()).HasField("attached")

    stopping = asyncio.create_task(asyncio.to_thread(own_server.end, signal.SIGTERM))
    assert (await call.read()).drain.reconnect_after_seconds >= 1
    assert (await stream.read()).drain.reconnect_after_seconds >= 1
    assert (await watch.read()).status == 2
    assert (await subscription.read()).HasField("drain")
    assert await failure(subscription) == ("UNAVAILABLE", "shutting_down")
    late = client.call("Subscribe", requests_for(box)["Subscribe"])
    assert (await failure(late))[0] == "UNAVAILABLE"

    settle = [pb.Settlement(lease=held.lease, ack=pb.Ack())]
    await call.write(pb.ReceiveRequest(settle=settle))
    assert (await call.read()).answers[0].results[0].outcome == "acked"
    await call.done_writing()
    assert await call.code() == grpc.StatusCode.OK
    # The publisher stays: it is ended when its time is up.
    assert await failure(stream) == ("UNAVAILABLE", "shutting_down")
    assert await stopping == 0
    assert "Traceback" not in own_server.log()
    for connection in (client, publisher):
        await connection.close()
    box.close()


async def test_streams_come_back_to_a_service_that_was_killed(own_server: Service) -> None:
    box = Mailbox(own_server)
    client = connection_to(own_server, box.key)
    box.publish(b"<first/>")
    call = await receiving(client, box)
    (first,) = (await call.read()).notifications
    own_server.end(signal.SIGKILL)
    assert (await failure(call))[0] == "UNAVAILABLE"
    own_server.start()
    call = await receiving(client, box)
    # The lease has outlived the service, and settles it.
    settle = [pb.Settlement(lease=first.lease, ack=pb.Ack())]
    await call.write(pb.ReceiveRequest(settle=settle))
    assert (await call.read()).answers[0].results[0].outcome == "acked"
    await client.close()
    box.close()


# -- who never reads ----------------------------------------------------------------------------


async def test_who_never_reads_costs_no_more_than_one_response(own_server: Service) -> None:
    """It gives all the credit there is, and on its connection room for a hundred bytes."""
    box = Mailbox(own_server)
    body = bytes(100_000)
    publisher = connection_to(own_server, box.publisher_key)
    batch = [pb.Publication(queue=box.name, body=body)] * 100
    for _ in range(6):
        await publisher.unary("Publish", pb.PublishRequest(notifications=batch))
    box.settings(max_in_flight=10_000)
    before = memory_of(own_server)

    deaf = h2.Connection(own_server.grpc, {h2.INITIAL_WINDOW_SIZE: 100})
    credit = pb.Credit(messages=10_000, bytes=256 * MIB)
    opening = pb.ReceiveRequest(queue=box.name, credit=credit).SerializeToString()
    for number in (1, 3, 5):
        deaf.send(deaf.call(number, "Receive", box.key))
        deaf.send(h2.frame(h2.DATA, 0, number, h2.message(opening)))
    await until(lambda: box.figures()["leased"])

    # Somebody who reads has all the rest: what it gets makes room for what comes.
    client = connection_to(own_server, box.key)
    call = await receiving(client, box, 1_000)
    withheld = 3 * (BATCH_BYTES // len(body))
    got = 0
    while got < 600 - withheld:
        notifications = (await call.read()).notifications
        settle = [pb.Settlement(lease=one.lease, ack=pb.Ack()) for one in notifications]
        if settle:
            await call.write(pb.ReceiveRequest(settle=settle))
        got += len(notifications)
    assert memory_of(own_server) - before < 60 * MIB

    # Its key is revoked, and what it was never shown goes to others at once, uncounted.
    box.admin.delete(f"/v1/keys/{box.key.split('_')[1]}")
    await until(lambda: box.admin.get(f"/v1/queues/{box.name}").json()["figures"]["leased"] == 0)
    deaf.close()
    for connection in (client, publisher):
        await connection.close()
    box.close()


async def test_strangers_have_nothing_kept_by_asking_for_health(own_server: Service) -> None:
    """The one service that asks no key: what they send is refused, and those who ask as they should are heard."""
    before = memory_of(own_server)
    options = (("grpc.max_send_message_length", -1),)
    async with grpc.aio.insecure_channel(own_server.grpc, options=options) as channel:
        for _ in range(5):
            held = [watches(channel, "x" * 20_000_000) for _ in range(8)]
            codes = {(await failure(watch))[0] for watch in held}
            assert codes <= {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
        watch = watches(channel)
        assert (await watch.read()).status == 1
        # They sent 800 MB.
        assert memory_of(own_server) - before < 400 * MIB
        watch.cancel()
    assert own_server.end(signal.SIGTERM) == 0
    assert "Traceback" not in own_server.log()


async def test_nothing_is_kept_of_large_requests_that_are_refused(own_server: Service) -> None:
    box = Mailbox(own_server)
    before = memory_of(own_server)
    request = pb.PublishRequest(
        notifications=[pb.Publication(queue=box.name, body=bytes(20 * MIB))]
    )
    connection = connection_to(own_server, box.key)
    for _ in range(30):
        refused = await failure(connection.call("Publish", request))
        assert refused == ("PERMISSION_DENIED", "forbidden")
    # They were 600 MiB.
    assert memory_of(own_server) - before < 300 * MIB
    await connection.close()
    box.close()


async def test_a_small_request_of_many_members_holds_nobody_up(
    server: Service, mailbox: Mailbox
) -> None:
    connection = connection_to(server, mailbox.publisher_key)
    publish: Any = connection.channel.unary_unary(f"/{SERVICE.full_name}/Publish")
    many = publish(b"\x0a\x00" * 1_000_000, metadata=connection.metadata)
    assert await failure(many) == ("INVALID_ARGUMENT", "out_of_bounds")
    await connection.close()


# -- rapid reset --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["Receive", "Publish"])
async def test_calls_that_are_reset_at_once_cost_little(own_server: Service, method: str) -> None:
    """CVE-2023-44487: calls opened and reset by the thousand, faster than any can be served."""
    box = Mailbox(own_server)
    client = connection_to(own_server, box.key)
    await client.unary("Pull", pb.PullRequest(queue=box.name, wait_seconds=0))
    before = memory_of(own_server)
    cancel = h2.CANCEL.to_bytes(4, "big")
    rude = h2.Connection(own_server.grpc)
    with contextlib.suppress(OSError, EOFError):
        # A service may well hang up on that.
        for number in range(1, 10_001, 2):
            rude.send(rude.call(number, method, box.key))
            rude.send(h2.frame(h2.RST_STREAM, 0, number, cancel))
        rude.send(h2.frame(h2.PING, 0, 0, b"all sent"))
        rude.until(h2.PING, h2.ACK)
    async with asyncio.timeout(10):
        await client.unary("Pull", pb.PullRequest(queue=box.name, wait_seconds=0))
    assert memory_of(own_server) - before < 60 * MIB
    box.publish()
    (notification,) = (await client.unary("Pull", pb.PullRequest(queue=box.name))).notifications
    assert notification.attempt == 1
    assert "Traceback" not in own_server.log()
    rude.close()
    await client.close()
    box.close()


async def test_no_more_calls_at_a_time_than_a_connection_may_have(server, mailbox) -> None:
    greedy = h2.Connection(server.grpc)
    payload = greedy.until(h2.SETTINGS)
    told = {
        int.from_bytes(payload[at : at + 2], "big"): int.from_bytes(payload[at + 2 : at + 6], "big")
        for at in range(0, len(payload), 6)
    }
    assert told[0x3] == 1_000
    greedy.close()


@pytest.mark.long
def test_who_connects_and_says_nothing_is_let_go(server) -> None:
    for said in (b"", b"PRI * HTTP/2.0\r\n"):
        host, _, port = server.grpc.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=30) as silent:
            silent.sendall(said)
            while silent.recv(1_000):
                pass


# -- ports --------------------------------------------------------------------------------------


def started(tmp_path: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "restante", "serve", "--data", str(tmp_path / "data")]
    command += ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", *flags]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RESTANTE_")}
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        env=kept | {"RESTANTE_ADMIN_KEY": ADMIN_KEY} | environment,
    )


@pytest.mark.parametrize("flag", ["--grpc-listen", "--grpc-admin-listen"])
def test_a_port_in_use_is_told_of(server, tmp_path, flag) -> None:
    """By another server too: the kernel would have shared the port among the two."""
    for address in (server.grpc, server.url.removeprefix("http://")):
        done = started(tmp_path, flag, address)
        assert done.returncode == 3, done.stderr
        assert f"{address} is in use" in done.stderr
        assert "ready" not in done.stdout


def test_an_address_that_is_not_there_is_told_of(tmp_path) -> None:
    done = started(tmp_path, "--grpc-listen", "192.0.2.1:7072")
    assert done.returncode == 2, done.stderr
    assert "192.0.2.1:7072" in done.stderr


def test_without_the_extra_the_rest_is_there_and_grpc_says_what_it_needs(tmp_path) -> None:
    """As on a machine where neither grpc nor protobuf can be imported."""
    for name in ("grpc", "google"):
        package = tmp_path / "missing" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(
            f"raise ModuleNotFoundError('No module named {name}', name='{name}')\n"
        )
    missing = {"PYTHONPATH": str(tmp_path / "missing")}
    done = started(tmp_path, "--grpc-listen", "127.0.0.1:0", **missing)
    assert done.returncode == 2, done.stderr
    assert "pip install 'restante[grpc]'" in done.stderr
    code = (
        "import restante, asyncio; from restante.app import build_api, open_broker\n"
        "async def main():\n"
        "    async with open_broker('memory://') as broker:\n"
        "        print(*{path for _, path in build_api(broker).routes})\n"
        "asyncio.run(main())"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | missing,
    )
    assert "/v1/queues/{queue}/receive" in shown.stdout
    assert SERVICE.full_name not in shown.stdout
