"""The spans of a notification's way: whose child each is, what it is linked to, what it says."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode
from tests.unit.engine.house import ACME, SHOP, GatedStore, furnish, letter, turns

from restante.engine.broker import Broker
from restante.engine.settling import Settle
from restante.errors import IdempotencyKeyReused
from restante.model import Publication, Verb
from restante.testing.clock import FakeClock
from restante.tracers import otel
from restante.tracers.otel import OtelTracer

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "congo=1"}


class House:
    """A broker whose spans are in ``spans``, by the first word of their names."""

    def __init__(self, broker, exporter):
        self.broker = broker
        self._exporter = exporter

    async def spans(self, word):
        # The memory store has done it before it is asked: what waits for that runs in the next turn.
        await turns()
        return [s for s in self._exporter.get_finished_spans() if s.name.startswith(f"{word} ")]

    async def collect(self, **asked):
        session = await self.broker.session("acme", ACME)
        deliveries = await session.receive(**asked)
        await turns()
        return session, deliveries

    async def settle(self, session, delivery, verb=Verb.ACK, **said):
        item = Settle(lease=session.token(delivery), verb=verb, **said)
        return (await (await session.settle([item])).results())[0]


@pytest.fixture
async def open_house():
    opened = []

    async def house(sampler=None):
        exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        clock = FakeClock()
        store = await GatedStore(clock, jitter=lambda: 0.5).__aenter__()
        await furnish(store)
        tracer = OtelTracer(provider.get_tracer("test"))
        broker = await Broker(store, clock, tracer=tracer).__aenter__()
        opened.append((broker, store))
        return House(broker, exporter)

    yield house
    for broker, store in opened:
        await broker.__aexit__(None, None, None)
        await store.__aexit__(None, None, None)


def parent_of(span):
    return f"{span.parent.span_id:016x}"


def id_of(span):
    return f"{span.context.span_id:016x}"


def is_sampled(traceparent):
    return bool(int(traceparent[-2:], 16) & 1)


async def test_a_whole_way_is_one_trace(open_house):
    house = await open_house()
    appended = await house.broker.publish(letter(attributes={"region": "eu", **GIVEN}), SHOP)
    session, (delivery,) = await house.collect()
    await house.settle(session, delivery)

    (publish,) = await house.spans("publish")
    (deliver,) = await house.spans("deliver")
    (settle,) = await house.spans("settle")
    assert {f"{s.context.trace_id:032x}" for s in (publish, deliver, settle)} == {TRACE}
    assert parent_of(publish) == SPAN
    assert parent_of(deliver) == id_of(publish)
    assert parent_of(settle) == id_of(deliver)
    # What is handed on is the publish's own context, and the publisher's state.
    assert delivery.attributes == {
        "region": "eu",
        "traceparent": f"00-{TRACE}-{id_of(publish)}-01",
        "tracestate": "congo=1",
    }
    for span in (deliver, settle):
        assert [f"{link.context.span_id:016x}" for link in span.links] == [id_of(publish)]
    assert [s.name for s in (publish, deliver, settle)] == [
        "publish acme",
        "deliver acme",
        "settle acme",
    ]
    assert [s.kind for s in (publish, deliver, settle)] == [
        SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.CLIENT,
    ]  # fmt: skip
    for span in (publish, deliver, settle):
        assert span.attributes["messaging.message.id"] == appended.id
        assert span.attributes["messaging.destination.name"] == "acme"
    assert deliver.attributes["restante.attempt"] == 1
    assert settle.attributes["messaging.operation.name"] == "ack"
    assert settle.attributes["restante.outcome"] == "acked"


async def test_each_attempt_has_its_own_delivery(open_house):
    house = await open_house()
    await house.broker.publish(letter(attributes=dict(GIVEN)), SHOP)
    session, (first,) = await house.collect()
    await house.settle(session, first, Verb.RELEASE)
    session, (second,) = await house.collect()
    await house.settle(session, second, Verb.REJECT, reason="cannot be read")
    assert first.attributes == second.attributes
    one, two = await house.spans("deliver")
    assert parent_of(one) == parent_of(two)
    assert [parent_of(s) for s in await house.spans("settle")] == [id_of(one), id_of(two)]
    assert (await house.spans("settle"))[1].attributes["restante.state"] == "dead"


async def test_without_a_context_a_trace_begins(open_house):
    house = await open_house()
    await house.broker.publish(letter(attributes={"traceparent": "nonsense"}), SHOP)
    (span,) = await house.spans("publish")
    assert span.parent is None
    _, (delivery,) = await house.collect()
    (parent,) = delivery.attributes.values()
    assert parent.startswith(f"00-{span.context.trace_id:032x}-{id_of(span)}-")
    assert is_sampled(parent)


async def test_a_trace_that_is_not_sampled_makes_no_spans_and_is_carried_on(open_house):
    house = await open_house(ParentBased(ALWAYS_OFF))
    await house.broker.publish(letter(), SHOP)
    session, (delivery,) = await house.collect()
    await house.settle(session, delivery)
    assert not is_sampled(delivery.attributes["traceparent"])
    for word in ("publish", "deliver", "settle"):
        assert not await house.spans(word)
    # The publisher's decision goes before this node's own.
    await house.broker.publish(letter(attributes=dict(GIVEN)), SHOP)
    assert len(await house.spans("publish")) == 1


async def test_what_is_refused_says_so(open_house):
    house = await open_house()
    await house.broker.publish(letter(idempotency_key="k"), SHOP)
    # Another context makes no other request of it.
    again = await house.broker.publish(letter(idempotency_key="k", attributes=dict(GIVEN)), SHOP)
    assert again.replayed
    with pytest.raises(IdempotencyKeyReused):
        await house.broker.publish(letter(b"other", idempotency_key="k"), SHOP)
    _, repeat, refused = await house.spans("publish")
    assert repeat.attributes["messaging.message.id"] == again.id
    assert repeat.attributes["restante.replayed"]
    assert refused.status.status_code is StatusCode.ERROR
    assert refused.attributes["error.type"] == IdempotencyKeyReused.code


async def test_a_topic_without_subscribers_is_a_publish_too(open_house):
    house = await open_house()
    await house.broker.publish_to_topic(Publication(body=b"x", topic="news"), SHOP)
    (span,) = await house.spans("publish")
    assert span.name == "publish news"
    assert span.attributes["restante.queues"] == 0


async def test_what_is_not_settled_is_forgotten_at_last(open_house, monkeypatch):
    monkeypatch.setattr(otel, "REMEMBERED", 1)
    house = await open_house()
    for _ in range(2):
        await house.broker.publish(letter(), SHOP)
    session, (first, second) = await house.collect()
    await house.settle(session, first)
    await house.settle(session, second)
    (settle,) = await house.spans("settle")
    assert settle.attributes["messaging.message.id"] == second.id
