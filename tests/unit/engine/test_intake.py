"""Taking in what was written into an outbox, against one that is in memory."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs
from tests.unit.engine.house import ACME, BOB, GatedStore, furnish, settings, turns

from restante.changes import AddSubscription
from restante.engine.broker import Broker
from restante.engine.ids import new_id
from restante.engine.intake import LOOK_SECONDS, MOVE_ROWS
from restante.errors import RestanteError, StoreUnavailable
from restante.model import Appended, Subscription
from restante.queries import FiguresOf, Receipts
from restante.wire.receipts import decode_entry
from restante.written import Moved, Refused, Written


class FakeOutbox:
    """Rows in memory beside the memory store, moved as the port has it."""

    def __init__(self, store):
        self.store = store
        self.rows: deque[Written] = deque()
        self.refused = []
        self.moves = 0
        self.failures = []
        self.gate = None
        self.hear: Callable[[], None] = lambda: None

    def write(self, *rows, told=True):
        self.rows.extend(rows)
        if told:
            self.hear()

    @contextlib.asynccontextmanager
    async def listening(self, on_written):
        self.hear = on_written
        on_written()
        yield

    def move(self, limit, drafts_of):
        return asyncio.ensure_future(self._move(limit, drafts_of))

    async def _move(self, limit, drafts_of):
        self.moves += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        rows = list(self.rows)[:limit]
        drafts = drafts_of(rows)
        ready: dict[str, int] = {}
        refused = []
        for row, draft in zip(rows, drafts, strict=False):
            self.rows.popleft()
            result = draft if isinstance(draft, RestanteError) else await self._append(draft)
            if isinstance(result, Appended):
                for queue, count in result.ready.items():
                    ready[queue] = ready.get(queue, 0) + count
            else:
                refused.append(Refused(row, result))
        self.refused += refused
        count = len(drafts) - len(refused)
        return Moved(count, ready, refused, more=len(rows) == limit or len(drafts) < len(rows))

    async def _append(self, draft):
        (result,) = await self.store.append([draft])
        return result


class Store(GatedStore):
    """The memory store, with an outbox."""

    def __init__(self, clock, **options):
        super().__init__(clock, **options)
        self._outbox = FakeOutbox(self)

    @property
    def outbox(self):
        return self._outbox


@pytest.fixture
async def store(clock):
    async with Store(clock, jitter=lambda: 0.5) as store:
        await furnish(store)
        yield store


@pytest.fixture
async def broker(store, clock):
    async with Broker(store, clock) as broker:
        await turns()
        yield broker


@pytest.fixture
def outbox(broker):
    return broker.store.outbox


def row(queue="acme", body=b"<hello/>", **fields):
    fields = {"id": new_id(5), "publisher": "shop", "content_type": "application/xml"} | fields
    return Written(queue=queue, body=body, **fields)


async def receive(broker, queue="acme", actor=ACME, **asked):
    session = await broker.session(queue, actor)
    return [(one.id, one.body) for one in await session.receive(**asked)]


async def test_what_is_written_is_delivered_under_its_own_id(broker, outbox):
    written = row(attributes='{"ce-type":"order"}')
    outbox.write(written)
    await turns()
    session = await broker.session("acme", ACME)
    (delivery,) = await session.receive()
    assert (delivery.id, delivery.body) == (written.id, b"<hello/>")
    assert (delivery.content_type, delivery.attributes) == ("application/xml", {"ce-type": "order"})


async def test_its_receipt_says_whose_it_is_and_by_what_way(broker, outbox):
    outbox.write(row(publisher="billing"))
    await turns()
    (stored,) = (await broker.store.browse(Receipts("acme", 0, 10))).receipts
    receipt = decode_entry(stored.entry)
    assert (receipt.outcome, receipt.principal, receipt.transport) == (
        "published",
        "billing",
        "outbox",
    )


async def test_whoever_waits_is_woken(broker, outbox):
    waiting = asyncio.ensure_future(receive(broker, wait_seconds=20))
    await turns()
    outbox.write(row(body=b"now"))
    await turns()
    assert [body for _, body in waiting.result()] == [b"now"]


async def test_what_nobody_told_of_is_found_by_looking(broker, outbox, clock):
    outbox.write(row(), told=False)
    await turns()
    assert len(outbox.rows) == 1
    clock.advance(LOOK_SECONDS)
    await turns()
    assert len(await receive(broker)) == 1


async def test_what_was_there_before_is_taken_in_at_the_start(store, clock):
    store.outbox.rows.append(row())
    async with Broker(store, clock) as broker:
        await turns()
        assert len(await receive(broker)) == 1


async def test_what_is_written_during_a_look_is_looked_for_at_once(broker, outbox):
    outbox.gate = asyncio.Event()
    outbox.write(row())
    await turns()
    looks = outbox.moves
    outbox.hear()
    outbox.gate.set()
    await turns()
    assert outbox.moves == looks + 2  # the queue had to be asked for
    outbox.write(row())
    await turns()
    assert len(await receive(broker)) == 2


async def test_many_are_moved_in_their_order_and_without_a_pause(broker, outbox):
    await settings(broker, max_in_flight=2_000)
    rows = [row(body=b"%d" % n) for n in range(2 * MOVE_ROWS + 1)]
    outbox.write(*rows)
    await turns(60)
    assert not outbox.rows
    found = await receive(broker, max=1_000)
    found += await receive(broker, max=1_000)
    assert found == [(one.id, one.body) for one in rows]


async def test_a_topic_goes_to_whoever_has_subscribed(broker, outbox):
    await broker.store.configure(
        [
            AddSubscription(Subscription("s1", "orders.#", "acme")),
            AddSubscription(Subscription("s2", "orders.new", "bob", {"kind": ["b"]})),
        ]
    )
    broker.directory.forget_subscriptions()
    both = row("", topic="orders.new", attributes='{"kind":"b"}')
    outbox.write(both, row("", topic="orders.old"), row("", topic="nobody"))
    await turns()
    assert not outbox.rows
    assert len(await receive(broker)) == 2
    assert await receive(broker, "bob", BOB) == [(both.id, both.body)]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"queue": "none"}, "there is no queue none here"),
        ({"queue": "a/b"}, "queue must be"),
        ({"topic": "orders"}, "either a queue or a topic"),
        ({"queue": ""}, "either a queue or a topic"),
        ({"id": "7"}, "a UUID"),
        ({"publisher": ""}, "publisher must be"),
        ({"content_type": "xml"}, "media type"),
        ({"attributes": "[]"}, "a JSON object of strings"),
        ({"attributes": '{"a": 1}'}, "a JSON object of strings"),
        ({"attributes": "{"}, "a JSON object of strings"),
        ({"attributes": '{"A": ""}'}, "an attribute name"),
        ({"ordering_key": "\n"}, "ordering key"),
        ({"deliver_after_seconds": -1.0}, "deliver_after_seconds"),
        ({"deliver_after_seconds": float("nan")}, "deliver_after_seconds"),
        ({"expires_after_seconds": 0.0}, "expires_after_seconds"),
        ({"body": b"x" * 11}, "at most 10 bytes"),
    ],
)
async def test_what_cannot_be_taken_in_is_refused_and_holds_up_nothing(
    broker, outbox, wrong, reason
):
    await settings(broker, max_body_bytes=10)
    with capture_logs() as logs:
        outbox.write(row(**wrong), row(body=b"fine"))
        await turns()
    assert [body for _, body in await receive(broker)] == [b"fine"]
    (refused,) = outbox.refused
    assert reason in refused.error.detail
    (told,) = [line for line in logs if line["event"] == "outbox.refused"]
    assert told["log_level"] == "warning"
    assert reason in told["reason"]


async def test_a_topic_is_refused_where_one_of_its_queues_takes_no_such_body(broker, outbox):
    await settings(broker, "bob", max_body_bytes=3)
    for queue in ("acme", "bob"):
        await broker.store.configure([AddSubscription(Subscription(queue, "orders", queue))])
    broker.directory.forget_subscriptions()
    outbox.write(row("", topic="orders", body=b"four"))
    await turns()
    assert len(outbox.refused) == 1
    assert (await broker.store.browse(FiguresOf("acme"))).published == 0


async def test_a_delay_counts_from_when_it_was_written(broker, outbox, clock):
    outbox.write(row(deliver_after_seconds=10.0, waited_seconds=4.0))
    await turns()
    assert await receive(broker) == []
    clock.advance(6)
    await turns()
    assert len(await receive(broker)) == 1


async def test_a_delay_that_has_passed_delays_no_longer(broker, outbox):
    outbox.write(row(deliver_after_seconds=10.0, waited_seconds=11.0))
    await turns()
    assert len(await receive(broker)) == 1


async def test_what_expires_on_its_way_is_published_and_expires(broker, outbox, clock):
    outbox.write(row(expires_after_seconds=10.0, waited_seconds=11.0))
    await turns()
    clock.advance(0.01)
    await turns()
    assert await receive(broker) == []
    figures = await broker.store.browse(FiguresOf("acme"))
    assert (figures.published, figures.expired) == (1, 1)


async def test_a_store_that_is_away_is_asked_again(broker, outbox, clock):
    outbox.failures = [StoreUnavailable("away"), ValueError("a defect"), StoreUnavailable("away")]
    with capture_logs() as logs:
        outbox.write(row())
        for _ in range(3):
            await turns()
            assert len(outbox.rows) == 1
            clock.advance(LOOK_SECONDS)
        await turns()
    # It is away for as long as it takes, and said so once.
    told = [line["event"] for line in logs if line["event"].startswith("intake")]
    assert told == ["intake.store_error", "intake.failed", "intake.goes_on"]
    assert len(await receive(broker)) == 1


async def test_what_is_being_moved_when_the_broker_closes_is_moved_all_the_same(store, clock):
    async with Broker(store, clock) as broker:
        await broker.directory.queue("acme")
        await turns()
        store.outbox.gate = asyncio.Event()
        store.outbox.write(row())
        await turns()
    store.outbox.gate.set()
    await turns()
    assert not store.outbox.rows
    assert (await store.browse(FiguresOf("acme"))).ready == 1
