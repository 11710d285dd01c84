"""gRPC over TLS: keys, certificates in their place, new files without a restart, and what proxies tell of a client."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.certificates import DAY, Authority, Issued
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service
from tests.e2e.test_grpc import failure, requests_for
from tests.e2e.ways import PROXIED, opened

from restante.testing.transports.driver import Target
from restante.testing.transports.drivers.grpc import Connection
from restante.testing.transports.drivers.over_proto import SERVICE
from restante.wire.proto import restante_pb2 as pb

SAN = "dns:backend.acme.example"


class Shown(Connection):
    """A channel over TLS that shows a certificate, and a key only where one is given."""

    def __init__(
        self, address: str, authority: Authority, shown: Issued | None, key: str | None = None
    ) -> None:
        super().__init__(
            Target(url="", admin_key="", grpc=address, ca_file=str(authority.file)), key or ""
        )
        pair = () if shown is None else (shown.key.read_bytes(), shown.certificate.read_bytes())
        credentials = grpc.ssl_channel_credentials(authority.file.read_bytes(), *pair)
        self.channel = grpc.aio.secure_channel(address, credentials)
        if key is None:
            self.metadata = ()


@contextmanager
def secure(tmp_path: Path, authority: Authority, *flags: str) -> Iterator[Service]:
    """A server that speaks TLS, with a certificate of that authority's."""
    issued = authority.for_server("127.0.0.1")
    service = Service(
        tmp_path / "data",
        *("--tls-certificate", str(issued.certificate), "--tls-key", str(issued.key)),
        *flags,
        ca_file=authority.file,
    )
    service.start()
    yield service
    assert service.end(signal.SIGTERM) == 0, service.log()
    assert "Traceback" not in service.log()


async def one_of_each(connection: Connection, box: Mailbox) -> dict[str, Any]:
    """What comes first of each call of a client, for a queue that has a notification for each."""
    requests = requests_for(box)
    first: dict[str, Any] = {}
    for name in ("Receive", "Subscribe", "Pull", "Settle", "Extend"):
        method = SERVICE.methods_by_name[name]
        call = connection.call(name, None if method.client_streaming else requests[name])
        if method.client_streaming:
            await call.write(requests[name])
        first[name] = await (call.read() if method.server_streaming else call)
        if method.server_streaming:
            call.cancel()
    return first


async def signed(connection: Connection, box: Mailbox) -> dict[str, Any]:
    """Collect and sign for one notification; the receipt of it."""
    box.publish(b"<a/>")
    pulled = await connection.call("Pull", requests_for(box)["Pull"])
    lease = pulled.notifications[0].lease
    settle = pb.SettleRequest(settle=[pb.Settlement(lease=lease, ack=pb.Ack())])
    settled = await connection.call("Settle", settle)
    receipt: dict[str, Any] = box.admin.get(f"/v1/receipts/{settled.results[0].receipt}").json()
    return receipt


async def test_a_certificate_does_what_a_key_does(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    mine = authority.for_client(SAN, file="mine")
    other = authority.for_client("dns:nobody.example", file="other")
    expired = authority.for_client(SAN, file="expired", valid=(-2 * DAY, -DAY))
    required = ("--tls-client-authority", str(authority.file), "--tls-client-required")
    with secure(tmp_path, authority, *required) as service:
        service.shown = mine
        box = Mailbox(service)
        asked = {"role": "client", "name": box.name, "certificate_san": SAN}
        assert box.admin.post("/v1/keys", json=asked).status_code == 201
        connection = Shown(service.grpc, authority, mine)
        first = await one_of_each(connection, box)
        assert first["Receive"].HasField("attached")
        assert first["Subscribe"].HasField("attached")
        assert first["Pull"] == pb.PullResponse()
        assert first["Settle"].results[0].problem.code == "lease_not_found"
        assert first["Extend"].results[0].problem.code == "lease_not_found"
        receipt = await signed(connection, box)
        assert receipt["principal"] == box.name
        assert receipt["key_id"].startswith("san-")
        assert receipt["transport"] == "grpc"
        # The name of another counts for nothing, and a key that is sent is the one that counts.
        for shown, key in ((other, None), (mine, "nonsense")):
            stranger = Shown(service.grpc, authority, shown, key)
            for name, request in requests_for(box).items():
                streams = SERVICE.methods_by_name[name].client_streaming
                call = stranger.call(name, None if streams else request)
                assert await failure(call) == ("UNAUTHENTICATED", "unauthenticated"), name
            await stranger.close()
        for bad in (None, expired):
            nobody = Shown(service.grpc, authority, bad, ADMIN_KEY)
            code, _ = await failure(nobody.call("Pull", requests_for(box)["Pull"]))
            assert code == "UNAVAILABLE"
            await nobody.close()
        await connection.close()
        box.close()


async def test_new_files_are_taken_without_a_restart(tmp_path: Path) -> None:
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")
    with secure(tmp_path, first) as service:
        box_call = ("Settle", pb.SettleRequest(settle=[pb.Settlement(lease="x", ack=pb.Ack())]))
        before = Shown(service.grpc, first, None, ADMIN_KEY)
        assert (await before.call(*box_call)).results
        issued = second.for_server("127.0.0.1", file="next")
        for new, old in zip(issued, first.for_server("127.0.0.1"), strict=True):
            old.write_bytes(new.read_bytes())
        os.kill(service.pid, signal.SIGHUP)
        while "tls.renewed" not in service.log():
            pass
        after = Shown(service.grpc, second, None, ADMIN_KEY)
        assert (await after.call(*box_call)).results
        # Who is connected stays so.
        assert (await before.call(*box_call)).results
        late = Shown(service.grpc, first, None, ADMIN_KEY)
        assert (await failure(late.call(*box_call)))[0] == "UNAVAILABLE"
        for connection in (before, after, late):
            await connection.close()


async def test_nothing_plain_where_it_speaks_tls(tmp_path: Path) -> None:
    with secure(tmp_path, Authority(tmp_path)) as service:
        host, _, port = service.grpc.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as plain:
            plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert plain.recv(100)[:2] in {b"", b"\x15\x03"}  # closed, or an alert of TLS


@pytest.mark.parametrize("way", PROXIED)
async def test_proxies_tell_of_the_client(way: str, tmp_path: Path) -> None:
    with opened(tmp_path) as ways:
        mine = ways.authority.for_client(SAN, file="mine")
        box = Mailbox(ways.plain)
        asked = {"role": "client", "name": box.name, "certificate_san": SAN}
        assert box.admin.post("/v1/keys", json=asked).status_code == 201
        address = ways.proxies[way].address
        connection = Shown(address, ways.authority, mine)
        # The proxy stands where another that is trusted could: what that one tells of its client is believed.
        connection.metadata = (("x-forwarded-for", "2001:db8::7"),)
        receipt = await signed(connection, box)
        assert receipt["key_id"].startswith("san-")
        assert receipt["remote_address"] == "[2001:db8::7]"
        # Who shows none to the proxy, and says in the header who it would be, is nobody.
        liar = Shown(address, ways.authority, None)
        liar.metadata = (("client-cert", mine.pem.replace("\n", "%0A")),)
        call = liar.call("Pull", requests_for(box)["Pull"])
        assert await failure(call) == ("UNAUTHENTICATED", "unauthenticated")
        await liar.close()
        await connection.close()
        box.close()
