"""gRPC: what a client does wrong or badly, and what the service says of it. What it does well is the suite's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tests.e2e import h2
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service

from restante.client import Notification, Receipt, Signer, verify_signature
from restante.testing.transports import Target
from restante.testing.transports.drivers.grpc import Connection
from restante.testing.transports.drivers.over_proto import SERVICE
from restante.wire.proto import restante_pb2 as pb

FORGED = "A" * 50
MIB = 1024 * 1024
UNARY = ("Publish", "Pull", "Settle", "Extend")


def connection_to(service: Service, key: str) -> Connection:
    return Connection(Target(url=service.url, admin_key=ADMIN_KEY, grpc=service.grpc), key)


@pytest.fixture
async def client(server: Service, mailbox: Mailbox) -> AsyncIterator[Connection]:
    connection = connection_to(server, mailbox.key)
    yield connection
    await connection.close()


@pytest.fixture
async def publisher(server: Service, mailbox: Mailbox) -> AsyncIterator[Connection]:
    connection = connection_to(server, mailbox.publisher_key)
    yield connection
    await connection.close()


@pytest.fixture
def another(server: Service) -> Iterator[Mailbox]:
    box = Mailbox(server)
    yield box
    box.close()


async def failure(call: Any) -> tuple[str, str]:
    """The status and the stable code with which a call fails, however many messages come before."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        if hasattr(call, "read"):
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
    trailers = dict(await call.trailing_metadata() or ())
    return (await call.code()).name, str(trailers.get("restante-code", ""))


def requests_for(box: Mailbox) -> dict[str, Any]:
    """One of each call, for that client's queue."""
    credit = pb.Credit(messages=1)
    return {
        "Publish": pb.PublishRequest(notifications=[pb.Publication(queue=box.name)]),
        "PublishStream": pb.PublishStreamRequest(notifications=[pb.Publication(queue=box.name)]),
        "Receive": pb.ReceiveRequest(queue=box.name, credit=credit),
        "Subscribe": pb.SubscribeRequest(queue=box.name, credit=credit),
        "Pull": pb.PullRequest(queue=box.name, wait_seconds=0),
        "Settle": pb.SettleRequest(settle=[pb.Settlement(lease=FORGED, ack=pb.Ack())]),
        "Extend": pb.ExtendRequest(leases=[FORGED]),
    }


async def made(connection: Connection, name: str, request: Any) -> Any:
    """The call, with its one request."""
    if not SERVICE.methods_by_name[name].client_streaming:
        return connection.call(name, request)
    call = connection.call(name)
    await call.write(request)
    return call


async def refused(connection: Connection, name: str, request: Any) -> tuple[str, str]:
    """How a call fails that is refused by its head: on a stream, nothing has been said yet.

    A write to a stream that has just been refused is an error of the client library's own.
    """
    streams = SERVICE.methods_by_name[name].client_streaming
    return await failure(connection.call(name, None if streams else request))


async def receiving(connection: Connection, box: Mailbox, messages: int = 10) -> Any:
    """A call of Receive that has been attached."""
    call = connection.call("Receive")
    await call.write(pb.ReceiveRequest(queue=box.name, credit=pb.Credit(messages=messages)))
    assert (await call.read()).HasField("attached")
    return call


# -- who may ------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "nonsense", "rst_abcdefghij_" + "a" * 38])
async def test_no_call_without_a_key(server, mailbox, key):
    connection = connection_to(server, key)
    for name, request in requests_for(mailbox).items():
        failed = await refused(connection, name, request)
        assert failed == ("UNAUTHENTICATED", "unauthenticated"), name
    await connection.close()


async def test_a_stranger_has_nothing_of_a_request_read(server):
    """Refused by the head alone: no byte of the message is ever sent."""
    connection = h2.Connection(server.grpc)
    connection.send(connection.call(1, "Publish", "nonsense"))
    trailers = connection.until(h2.HEADERS, h2.END_STREAM)
    assert b"unauthenticated" in trailers
    connection.close()


async def test_the_key_may_be_given_in_any_case_of_the_scheme(server, mailbox):
    connection = connection_to(server, mailbox.key)
    connection.metadata = (("authorization", f"bearer  {mailbox.key} "),)
    await connection.unary("Pull", pb.PullRequest(queue=mailbox.name, wait_seconds=0))
    await connection.close()


async def test_another_clients_queue_is_not_there(client, another):
    for name in ("Receive", "Subscribe", "Pull"):
        call = await made(client, name, requests_for(another)[name])
        assert await failure(call) == ("NOT_FOUND", "queue_not_found")


async def test_another_clients_lease_is_not_there(client, mailbox, another):
    another.publish()
    (theirs,) = another.receive()
    lease = theirs["lease"]
    settle = [pb.Settlement(lease=lease, ack=pb.Ack())]
    settled = await client.unary("Settle", pb.SettleRequest(settle=settle))
    extended = await client.unary("Extend", pb.ExtendRequest(leases=[lease]))
    pulled = await client.unary(
        "Pull", pb.PullRequest(queue=mailbox.name, wait_seconds=0, settle=settle)
    )
    call = await receiving(client, mailbox)
    await call.write(pb.ReceiveRequest(settle=settle))
    (answer,) = (await call.read()).answers
    for results in (settled.results, extended.results, pulled.settled, answer.results):
        assert [result.problem.code for result in results] == ["lease_not_found"]
    assert another.figures()["leased"] == 1


async def test_each_role_has_its_calls(client, publisher, mailbox):
    requests = requests_for(mailbox)
    for name in ("Receive", "Subscribe", "Pull", "Settle", "Extend"):
        call = await made(publisher, name, requests[name])
        assert await failure(call) == ("PERMISSION_DENIED", "forbidden"), name
    for name in ("Publish", "PublishStream"):
        failed = await refused(client, name, requests[name])
        assert failed == ("PERMISSION_DENIED", "forbidden"), name


async def test_receipts_say_over_what_and_from_where(client, publisher, mailbox):
    await publisher.unary("Publish", requests_for(mailbox)["Publish"])
    pulled = await client.unary("Pull", pb.PullRequest(queue=mailbox.name))
    settle = [pb.Settlement(lease=pulled.notifications[0].lease, ack=pb.Ack())]
    await client.unary("Settle", pb.SettleRequest(settle=settle))
    for receipt in mailbox.receipts():
        assert receipt["transport"] == "grpc"
        host, _, port = receipt["remote_address"].rpartition(":")
        assert host == "127.0.0.1"
        assert port.isdigit()


# -- requests that will not do ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "failed"),
    [
        (pb.ReceiveRequest(), ("INVALID_ARGUMENT", "malformed")),
        (pb.ReceiveRequest(credit=pb.Credit(messages=1)), ("INVALID_ARGUMENT", "malformed")),
        (pb.ReceiveRequest(queue="*"), ("INVALID_ARGUMENT", "malformed")),
        (
            pb.ReceiveRequest(queue="*", credit=pb.Credit(messages=0)),
            ("INVALID_ARGUMENT", "out_of_bounds"),
        ),
        (
            pb.ReceiveRequest(queue="*", credit=pb.Credit(messages=-7)),
            ("INVALID_ARGUMENT", "out_of_bounds"),
        ),
        (
            pb.ReceiveRequest(queue="*", credit=pb.Credit(messages=2**31 - 1)),
            ("INVALID_ARGUMENT", "out_of_bounds"),
        ),
        (
            pb.ReceiveRequest(queue="*", credit=pb.Credit(messages=1, bytes=2**62)),
            ("INVALID_ARGUMENT", "out_of_bounds"),
        ),
        (
            pb.ReceiveRequest(queue="../..", credit=pb.Credit(messages=1)),
            ("NOT_FOUND", "queue_not_found"),
        ),
        (
            pb.ReceiveRequest(queue="x" * 100_000, credit=pb.Credit(messages=1)),
            ("NOT_FOUND", "queue_not_found"),
        ),
    ],
)
async def test_a_first_request_that_will_not_do(client, mailbox, request_, failed):
    if request_.queue == "*":
        request_.queue = mailbox.name
    call = client.call("Receive")
    await call.write(request_)
    assert await failure(call) == failed


async def test_a_later_request_that_will_not_do_is_answered_and_the_stream_goes_on(
    client, mailbox, another
):
    call = await receiving(client, mailbox)
    for request in (
        pb.ReceiveRequest(ref="empty"),
        pb.ReceiveRequest(ref="other", queue=another.name, credit=pb.Credit(messages=1)),
        pb.ReceiveRequest(ref="negative", credit=pb.Credit(messages=-1)),
        pb.ReceiveRequest(ref="mute", settle=[pb.Settlement(lease=FORGED)]),
    ):
        await call.write(request)
        (answer,) = (await call.read()).answers
        assert (answer.ref, answer.problem.status // 100) == (request.ref, 4)
    mailbox.publish(b"<still/>")
    (notification,) = (await call.read()).notifications
    assert notification.body == b"<still/>"
    await call.done_writing()
    assert await call.code() == grpc.StatusCode.OK


async def test_bounds_are_those_of_http(client, publisher, mailbox):
    name = mailbox.name
    ack = pb.Settlement(lease=FORGED, ack=pb.Ack())
    for connection, call, request in (
        (client, "Pull", pb.PullRequest(queue=name, max=0)),
        (client, "Pull", pb.PullRequest(queue=name, max=1_001)),
        (client, "Pull", pb.PullRequest(queue=name, wait_seconds=61)),
        (client, "Pull", pb.PullRequest(queue=name, lease_seconds=43_201)),
        (client, "Settle", pb.SettleRequest()),
        (client, "Settle", pb.SettleRequest(settle=[ack] * 1_001)),
        (client, "Extend", pb.ExtendRequest()),
        (publisher, "Publish", pb.PublishRequest()),
        (publisher, "Publish", pb.PublishRequest(notifications=[pb.Publication()] * 1_001)),
    ):
        failed = await failure(connection.call(call, request))
        assert failed == ("INVALID_ARGUMENT", "out_of_bounds"), (call, request)


async def test_what_is_no_message(client):
    for name in UNARY:
        garbled = client.channel.unary_unary(f"/{SERVICE.full_name}/{name}")
        call = garbled(b"\xff\xff", metadata=client.metadata)
        code = "forbidden" if name == "Publish" else "malformed"
        assert (await failure(call))[1] in {code, "malformed"}
    call = client.channel.stream_stream(f"/{SERVICE.full_name}/Receive")(metadata=client.metadata)
    await call.write(b"\xff\xff")
    assert await failure(call) == ("INVALID_ARGUMENT", "malformed")


async def test_a_message_that_is_too_large(client, publisher, mailbox):
    large = pb.Publication(queue=mailbox.name, body=bytes(25 * MIB))
    call = publisher.call("Publish", pb.PublishRequest(notifications=[large]))
    assert (await failure(call))[0] == "RESOURCE_EXHAUSTED"
    # The largest body that a queue may take gets through; this queue takes less, and says so of that one.
    bodies = [bytes(16 * MIB), b"<small/>"]
    batch = [pb.Publication(queue=mailbox.name, body=body) for body in bodies]
    response = await publisher.unary("Publish", pb.PublishRequest(notifications=batch))
    assert [result.problem.code for result in response.results] == ["body_too_large", ""]


async def test_a_compressed_message_is_not_unfolded(server, mailbox):
    bomb = pb.PublishRequest(
        notifications=[pb.Publication(queue=mailbox.name, body=bytes(20 * MIB))]
    )
    target = Target(url=server.url, admin_key=ADMIN_KEY, grpc=server.grpc)
    connection = Connection(target, mailbox.publisher_key, grpc.Compression.Gzip)
    assert (await failure(connection.call("Publish", bomb)))[0] == "UNIMPLEMENTED"
    await connection.close()
    assert mailbox.figures()["published"] == 0


async def test_an_unknown_call(client):
    call = client.channel.unary_unary(f"/{SERVICE.full_name}/Destroy")(
        b"", metadata=client.metadata
    )
    assert (await failure(call))[0] == "UNIMPLEMENTED"


async def test_a_settle_that_the_client_signed(client, mailbox):
    """As a call, on the way of a pull and on a stream; forged and left out it settles nothing."""
    signer = Signer(Ed25519PrivateKey.generate())
    keys = f"/v1/clients/{mailbox.name}/signing-keys"
    assert mailbox.admin.post(keys, json={"pem": signer.public_pem}).status_code == 201
    mailbox.settings(signature="required")
    for _ in range(3):
        mailbox.publish()
    notifications = mailbox.receive(max=3)
    stream = await receiving(client, mailbox)

    async def on_its_own(settle):
        return (await client.unary("Settle", pb.SettleRequest(settle=settle))).results

    async def on_the_way(settle):
        request = pb.PullRequest(queue=mailbox.name, wait_seconds=0, settle=settle)
        return (await client.unary("Pull", request)).settled

    async def on_the_stream(settle):
        await stream.write(pb.ReceiveRequest(settle=settle))
        (answer,) = (await stream.read()).answers
        return answer.results

    ways = (on_its_own, on_the_way, on_the_stream)
    for way, found in zip(ways, notifications, strict=True):
        signed = signer.sign(msgspec.convert(found, Notification), said=b"<ok/>")
        members = {name: getattr(signed, name) for name in pb.Signature.DESCRIPTOR.fields_by_name}
        for signature, code in (
            (None, "signature_required"),
            (members | {"value": bytes(64)}, "signature_invalid"),
            (members, ""),
        ):
            item = pb.Settlement(lease=found["lease"], ack=pb.Ack(reply=b"<ok/>"))
            if signature is not None:
                item.signature.CopyFrom(pb.Signature(**signature))
            (result,) = await way([item])
            assert result.problem.code == code, way.__name__
        receipt = msgspec.convert(mailbox.receipts(outcome="acked")[-1], Receipt)
        assert receipt.notification == found["id"]
        assert verify_signature(receipt, signer.public_pem)


async def test_a_settle_for_a_lost_lease(client, mailbox):
    mailbox.publish()
    (first,) = mailbox.receive()
    mailbox.settle(first["lease"], "release")
    mailbox.receive()
    settle = [pb.Settlement(lease=first["lease"], nack=pb.Nack())]
    (result,) = (await client.unary("Settle", pb.SettleRequest(settle=settle))).results
    assert (result.problem.code, result.problem.status) == ("lease_lost", 409)


# -- who leaves ---------------------------------------------------------------------------------


async def test_a_cancelled_pull_leaves_no_lease(client, mailbox):
    for _ in range(20):
        call = client.call("Pull", pb.PullRequest(queue=mailbox.name, wait_seconds=60))
        for _ in range(3):
            # Requests sent later, on another connection, are answered: it has reached the server.
            await asyncio.to_thread(mailbox.admin.get, "/v1/queues")
        call.cancel()
    mailbox.publish()
    # Whether it was noticed before or after: the delivery goes to who is there.
    (notification,) = mailbox.receive(wait=20)
    assert notification["attempt"] == 1
    assert mailbox.figures()["leased"] == 1


async def test_a_cancelled_stream_takes_nothing_along(client, mailbox):
    for _ in range(20):
        (await receiving(client, mailbox)).cancel()
    mailbox.publish()
    (notification,) = mailbox.receive(wait=20)
    assert notification["attempt"] == 1


async def test_a_deadline_ends_a_pull_and_leaves_no_lease(client, mailbox):
    request = pb.PullRequest(queue=mailbox.name, wait_seconds=60)
    call = client.call("Pull", request, timeout=0.2)
    assert (await failure(call))[0] == "DEADLINE_EXCEEDED"
    mailbox.publish()
    (notification,) = mailbox.receive(wait=20)
    assert notification["attempt"] == 1


async def test_a_revoked_key_ends_every_stream(server, mailbox):
    subscription = requests_for(mailbox)["Subscribe"]
    for role, name, opened in (
        ("client", mailbox.name, lambda c: receiving(c, mailbox)),
        ("client", mailbox.name, lambda c: made(c, "Subscribe", subscription)),
        ("publisher", "shop", lambda c: made(c, "PublishStream", pb.PublishStreamRequest())),
    ):
        key = mailbox.admin.post("/v1/keys", json={"role": role, "name": name}).json()
        connection = connection_to(server, key["key"])
        call = await opened(connection)
        if name != mailbox.name or role != "client":
            assert (await call.read()).answers
        mailbox.admin.delete(f"/v1/keys/{key['id']}")
        async with asyncio.timeout(5):
            assert await failure(call) == ("UNAUTHENTICATED", "unauthenticated")
        await connection.close()


# -- health and reflection ----------------------------------------------------------------------


def checks(channel: Any) -> Any:
    return channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )


def watches(channel: Any, service: str = "") -> Any:
    return channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )(health_pb2.HealthCheckRequest(service=service))


def reflects(channel: Any) -> Any:
    return channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )()


async def test_health_asks_for_no_key(server):
    for address in (server.grpc, server.grpc_admin):
        async with grpc.aio.insecure_channel(address) as channel:
            for service in ("", SERVICE.full_name):
                request = health_pb2.HealthCheckRequest(service=service)
                assert (await checks(channel)(request)).status == 1
                watch = watches(channel, service)
                assert (await watch.read()).status == 1
                watch.cancel()
            unknown = health_pb2.HealthCheckRequest(service="x")
            assert (await failure(checks(channel)(unknown)))[0] == "NOT_FOUND"
            watch = watches(channel, "x")
            assert (await watch.read()).status == 3
            watch.cancel()


async def test_reflection_is_for_operators_alone(server):
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        call = reflects(channel)
        assert (await failure(call))[0] == "UNIMPLEMENTED"
    async with grpc.aio.insecure_channel(server.grpc_admin) as channel:
        call = reflects(channel)
        await call.write(asked)
        listed = (await call.read()).list_services_response.service
        assert SERVICE.full_name in {service.name for service in listed}
        symbol = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE.full_name)
        await call.write(symbol)
        files = (await call.read()).file_descriptor_response.file_descriptor_proto
        assert any(b"restante.v1" in file for file in files)
        call.cancel()
        # The service itself is not there.
        pull: Any = channel.unary_unary(f"/{SERVICE.full_name}/Pull")
        assert (await failure(pull(b"")))[0] == "UNIMPLEMENTED"


async def test_nothing_of_all_this_was_a_surprise(server):
    assert "Traceback" not in server.log()
    assert "grpc.failed" not in server.log()
