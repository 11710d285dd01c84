"""What a scrape tells, as Prometheus' own parser reads it."""

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain
from tests.unit.engine.house import ACME, SHOP, letter, settings, turns

from restante.app import build_admin_api
from restante.changes import PutQueue, PutWebhook
from restante.engine.settling import Settle
from restante.errors import RequestUnknown
from restante.idempotency import Asked
from restante.metering import ACK_BOUNDS_SECONDS
from restante.model import Queue, Verb
from restante.receipt_log import Lag
from restante.webhooks import Webhook


@pytest.fixture
async def admin(broker):
    transport = httpx.ASGITransport(build_admin_api(broker))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
        yield client


async def look(clock, seconds=11.0):
    """Let time pass, and the monitor look at every queue."""
    clock.advance(seconds)
    await turns(200)


async def scrape(admin, query="", **headers):
    """Each sample by its name and its labels."""
    answer = await admin.get(f"/metrics{query}", headers=headers)
    assert answer.status_code == 200
    read = openmetrics if "openmetrics" in answer.headers["content-type"] else plain
    samples = {}
    for family in read(answer.text):
        for sample in family.samples:
            key = sample.name, *sorted(sample.labels.items())
            assert key not in samples
            samples[key] = sample.value
    return samples


def queue(name):
    return ("queue", name)


async def settle(broker, verb, **said):
    session = await broker.session("acme", ACME)
    (delivery,) = await session.receive(max=1)
    item = Settle(lease=session.token(delivery), verb=verb, **said)
    await (await session.settle([item])).results()


async def test_what_happened_is_counted_in_all_and_by_queue(admin, broker, clock):
    await broker.publish(letter(), SHOP)
    await broker.publish(letter(), SHOP)
    await broker.publish(letter(queue="bob"), SHOP)
    clock.advance(0.5)
    await settle(broker, Verb.ACK)
    await settle(broker, Verb.REJECT, reason="cannot be read")
    await look(clock)
    told = await scrape(admin)
    for name, all_queues, acme in (
        ("published", 3, 2),
        ("delivered", 2, 2),
        ("redelivered", 0, 0),
        ("acked", 1, 1),
        ("rejected", 1, 1),
        ("dead", 1, 1),
        ("nacked", 0, 0),
    ):
        assert told[f"restante_{name}_total",] == all_queues
        assert told[f"restante_queue_{name}_total", queue("acme")] == acme
    assert told["restante_failures_total", ("reason", "cannot be read")] == 1
    assert told["restante_queue_failures_total", queue("acme")] == 1
    assert told["restante_queue_failures_total", queue("bob")] == 0
    buckets = [
        told[
            "restante_publish_to_ack_seconds_bucket",
            ("le", f"{bound:.1f}" if bound >= 1 else str(bound)),
        ]
        for bound in ACK_BOUNDS_SECONDS
    ]
    assert buckets == [1 if bound >= 1 else 0 for bound in ACK_BOUNDS_SECONDS]
    assert told["restante_publish_to_ack_seconds_count",] == 1
    assert told["restante_publish_to_ack_seconds_sum",] == 0.5
    assert told["restante_queue_publish_to_ack_seconds_count", queue("acme")] == 1
    assert told["restante_deliveries", ("state", "ready")] == 1
    assert told["restante_deliveries", ("state", "dead")] == 1
    assert told["restante_queue_deliveries", queue("acme"), ("state", "ready")] == 0
    assert told["restante_queue_deliveries", queue("bob"), ("state", "ready")] == 1
    assert told["restante_queues",] == 2


async def test_requests_that_nobody_knows_of_are_counted(admin, broker):
    asked = Asked(who="admin/op", key="k", method="POST", path="/x", fingerprint=b"")

    async def failing():
        raise RuntimeError("it broke")

    assert (await scrape(admin))[("restante_requests_unknown_total",)] == 0
    with pytest.raises(RuntimeError):
        await broker.requests.once(asked, failing)
    for _ in range(2):
        with pytest.raises(RequestUnknown):
            await broker.requests.once(asked, failing)
    assert (await scrape(admin))[("restante_requests_unknown_total",)] == 1


async def test_ages_go_on_while_the_store_is_away(admin, broker, clock, monkeypatch):
    await broker.publish(letter(), SHOP)
    await look(clock)
    before = (await scrape(admin))["restante_oldest_unsettled_age_seconds",]
    assert before >= 11
    monkeypatch.setattr(type(broker.store), "available", False)
    clock.advance(0.5)
    told = await scrape(admin)
    assert told["restante_oldest_unsettled_age_seconds",] == before + 0.5
    assert told["restante_queue_oldest_unsettled_age_seconds", queue("acme")] == before + 0.5
    assert told["restante_store_available",] == 0
    assert told["restante_ready",] == 0


async def test_a_client_that_never_came_has_no_silence(admin, broker, clock):
    await broker.publish(letter(), SHOP)
    await settle(broker, Verb.ACK)
    await look(clock, 1.0)
    await look(clock)
    told = await scrape(admin)
    assert told["restante_queue_silence_seconds", queue("acme")] == 11
    assert ("restante_queue_silence_seconds", queue("bob")) not in told


async def test_limits_are_held_against_every_queue_whatever_is_told_of_one_by_one(
    admin, broker, clock
):
    await settings(broker, depth_limit=1, oldest_age_limit_seconds=5, silence_limit_seconds=15)
    await broker.publish(letter(), SHOP)
    await settle(broker, Verb.NACK, retry_after_seconds=3_600)
    await broker.publish(letter(), SHOP)
    await look(clock)
    limits = {
        name: (await scrape(admin, "?queues=0"))["restante_queues_over_limit", ("limit", name)]
        for name in ("depth", "oldest_age", "silence")
    }
    assert limits == {"depth": 1, "oldest_age": 1, "silence": 0}
    await look(clock)
    told = await scrape(admin, "?queues=0")
    assert told["restante_queues_over_limit", ("limit", "silence")] == 1


async def test_webhooks_are_counted_by_whether_they_are_called(admin, broker, clock):
    webhook = Webhook(queue="acme", url="https://acme.example/", secrets=(), created_at_ms=0)
    await broker.store.configure([PutWebhook(webhook)])
    await look(clock)
    told = await scrape(admin)
    assert told["restante_webhooks", ("state", "enabled")] == 1
    assert told["restante_queue_webhook_enabled", queue("acme")] == 1
    assert ("restante_queue_webhook_enabled", queue("bob")) not in told


async def test_how_far_the_log_is_behind_is_told_while_nothing_is_sealed(admin, broker, clock):
    before = await scrape(admin, "?queues=0")
    log = broker.log
    log.lag, log.head_at_ms = Lag(7, clock.wall_ms() - 3_000), clock.wall_ms() - 4_500
    clock.advance(1)
    told = await scrape(admin, "?queues=0")
    for name, at_first, behind in (
        ("unsealed_receipts", 0, 7),
        ("unsealed_age_seconds", 0, 4),
        ("head_age_seconds", 0, 5.5),
    ):
        assert before[f"restante_log_{name}",] == at_first
        assert told[f"restante_log_{name}",] == behind


async def test_only_the_queues_with_the_most_to_tell_are_told_of(admin, broker, clock):
    await broker.store.configure([PutQueue(Queue(f"q{n}", "acme")) for n in range(150)])
    for name, count in (("q7", 1), ("q140", 3)):
        for _ in range(count):
            await broker.publish(letter(queue=name), SHOP)
    await look(clock)

    async def names(query):
        told = await scrape(admin, query)
        return {key[1][1] for key in told if key[0] == "restante_queue_published_total"}

    assert len(await names("")) == 100
    assert await names("?queues=1") == {"q140"}
    assert await names("?queues=2") == {"q140", "q7"}
    assert await names("?queues=0") == set()
    assert len(await names("?queues=all")) == 152
    told = await scrape(admin, "?queues=0")
    assert told["restante_published_total",] == 4


async def test_a_queue_that_was_not_told_of_comes_back_with_all_it_counted(admin, broker, clock):
    await broker.publish(letter(), SHOP)
    await look(clock)
    assert (await scrape(admin, "?queues=1"))["restante_queue_published_total", queue("acme")] == 1
    await settle(broker, Verb.ACK)
    await broker.publish(letter(queue="bob"), SHOP)
    await look(clock)
    told = await scrape(admin, "?queues=1")
    assert ("restante_queue_published_total", queue("acme")) not in told
    await broker.publish(letter(), SHOP)
    await broker.publish(letter(), SHOP)
    await look(clock)
    assert (await scrape(admin, "?queues=1"))["restante_queue_published_total", queue("acme")] == 3


@pytest.mark.parametrize("queues", ["", "-1", "1.5", "some", "1000001", "²"])
async def test_no_such_number_of_queues(admin, queues):
    answer = await admin.get("/metrics", params={"queues": queues})
    assert answer.status_code in {400, 422}


async def test_the_form_is_the_one_that_is_asked_for(admin):
    answer = await admin.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    answer = await admin.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    assert await scrape(admin, accept=accept)


async def test_the_process_tells_of_itself(admin):
    told = await scrape(admin)
    assert told["process_resident_memory_bytes",] > 1_000_000
    assert ("python_gc_collections_total", ("generation", "0")) in told
