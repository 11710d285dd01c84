"""A way over real processes, as a collector of OpenTelemetry's protocol gets to see it, and the contexts on the way."""

from __future__ import annotations

import asyncio
import base64
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from tests.e2e.conftest import Mailbox, Service, bearer

from restante.wire.proto import restante_pb2 as pb

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
WAIT_SECONDS = 30.0
pytestmark = pytest.mark.timeout(120)


class Collector:
    """Takes in spans over OTLP/HTTP."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.url = ""
        self._came = asyncio.Condition()

    async def take(self, request: web.Request) -> web.Response:
        export = ExportTraceServiceRequest.FromString(await request.read())
        for of_resource in export.resource_spans:
            named = {a.key: a.value.string_value for a in of_resource.resource.attributes}
            self.services.add(named["service.name"])
            for scope in of_resource.scope_spans:
                self.spans += scope.spans
        async with self._came:
            self._came.notify_all()
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )

    async def until(self, *names: str) -> list[Any]:
        """The first span of each name."""
        async with asyncio.timeout(WAIT_SECONDS), self._came:
            await self._came.wait_for(lambda: set(names) <= {span.name for span in self.spans})
        return [next(s for s in self.spans if s.name == name) for name in names]


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    collector.url = f"http://{host}:{port}/v1/traces"
    yield collector
    await runner.cleanup()


async def test_a_way_is_one_trace_in_the_collector(collector: Collector, tmp_path: Path) -> None:
    service = Service(tmp_path / "data", "--tracing-endpoint", collector.url)
    await asyncio.to_thread(service.start)
    box = await asyncio.to_thread(Mailbox, service)
    try:
        async with service.async_caller(box.publisher_key) as publisher:
            answer = await publisher.post(
                f"/v1/queues/{box.name}/notifications",
                content=b"<order/>",
                headers={"traceparent": PARENT, "tracestate": "congo=1"},
            )
        assert answer.status_code == 201
        async with service.async_caller(box.key) as client:
            taken = await client.post(f"/v1/queues/{box.name}/next")
            acked = await client.post(f"/v1/leases/{taken.headers['restante-lease']}/ack")
        assert acked.status_code == 200
    finally:
        box.close()
        # What it has not sent yet is sent when it stops.
        assert await asyncio.to_thread(service.end, signal.SIGTERM) == 0
    publish, deliver, settle = await collector.until(
        f"publish {box.name}", f"deliver {box.name}", f"settle {box.name}"
    )
    assert {span.trace_id.hex() for span in (publish, deliver, settle)} == {TRACE}
    assert publish.parent_span_id.hex() == SPAN
    assert deliver.parent_span_id == publish.span_id
    assert settle.parent_span_id == deliver.span_id
    assert [link.span_id for link in settle.links] == [publish.span_id]
    assert collector.services == {"restante"}
    assert taken.headers["traceparent"] == f"00-{TRACE}-{publish.span_id.hex()}-01"
    assert taken.headers["tracestate"] == "congo=1"


async def test_a_collector_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    service = Service(tmp_path / "data", "--tracing-endpoint", "http://127.0.0.1:9/v1/traces")
    await asyncio.to_thread(service.start)
    box = await asyncio.to_thread(Mailbox, service)
    try:
        async with service.async_caller(box.publisher_key) as publisher:
            answer = await publisher.post(f"/v1/queues/{box.name}/notifications", content=b"x")
        assert answer.status_code == 201
    finally:
        box.close()
        assert await asyncio.to_thread(service.end, signal.SIGTERM) == 0


# -- without a collector ------------------------------------------------------------------------


def attributes_of(mailbox: Mailbox) -> list[dict[str, str]]:
    return [one.get("attributes", {}) for one in mailbox.receive(max=10)]


def test_headers_of_a_publish_come_out_as_headers_and_attributes(mailbox: Mailbox) -> None:
    for parent in (PARENT, "nonsense"):
        assert mailbox.publish(traceparent=parent, tracestate="a=1").status_code == 201
    first = mailbox.client.post(f"/v1/queues/{mailbox.name}/next")
    assert (first.headers["traceparent"], first.headers["tracestate"]) == (PARENT, "a=1")
    second = mailbox.client.post(f"/v1/queues/{mailbox.name}/next")
    assert second.status_code == 200
    assert not {"traceparent", "tracestate"} & set(second.headers)
    mailbox.publish(traceparent=PARENT)
    assert attributes_of(mailbox) == [{"traceparent": PARENT}]


def test_a_repeat_in_another_trace_is_a_repeat(mailbox: Mailbox) -> None:
    first = mailbox.publish(idempotency_key="k", traceparent=PARENT)
    again = mailbox.publish(idempotency_key="k", traceparent=PARENT.replace("4bf9", "0000"))
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"


def test_of_a_batch_each_may_have_its_own(mailbox: Mailbox) -> None:
    own = PARENT.replace("4bf9", "1111")
    items = [
        {"queue": mailbox.name, "body": "1"},
        {"queue": mailbox.name, "body": "2", "attributes": {"traceparent": own}},
    ]
    answer = mailbox.publisher.post(
        "/v1/notifications", json={"notifications": items}, headers={"traceparent": PARENT}
    )
    assert answer.status_code == 200
    assert attributes_of(mailbox) == [{"traceparent": PARENT}, {"traceparent": own}]


async def test_metadata_of_a_call_over_grpc(mailbox: Mailbox) -> None:
    request = pb.PublishRequest(
        notifications=[pb.Publication(queue=mailbox.name, body=b"x")]
    ).SerializeToString()
    key = ("authorization", f"Bearer {mailbox.publisher_key}")
    async with grpc.aio.insecure_channel(mailbox.service.grpc) as channel:
        call: Any = channel.unary_unary("/restante.v1.Delivery/Publish")
        await call(request, metadata=(key, ("traceparent", PARENT), ("tracestate", "a=1")))
    assert attributes_of(mailbox) == [{"traceparent": PARENT, "tracestate": "a=1"}]


def test_headers_of_a_call_over_connect(mailbox: Mailbox) -> None:
    body = base64.b64encode(b"x").decode()
    answer = httpx.post(
        f"{mailbox.service.url}/restante.v1.Delivery/Publish",
        json={"notifications": [{"queue": mailbox.name, "body": body}]},
        headers={**bearer(mailbox.publisher_key), "traceparent": PARENT},
    )
    assert answer.status_code == 200
    assert attributes_of(mailbox) == [{"traceparent": PARENT}]
