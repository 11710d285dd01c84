"""A store with something of everything in it, every state and every key among it, and what can be asked of it."""

from __future__ import annotations

from typing import Any

from restante import queries
from restante.changes import (
    AddClient,
    AddKey,
    AddSeals,
    AddSubscription,
    PutPaper,
    PutWebhook,
    RevokeKey,
)
from restante.errors import LeaseLost
from restante.model import Actor, Client, Delivery, Key, Role, Selection, State, Subscription
from restante.papers import Kind, Paper
from restante.ports import Store
from restante.receipt_log import Seal
from restante.testing.conformance.stage import Stage, refused
from restante.webhooks import Webhook, WebhookSecret

GLOBEX = Actor("globex", Role.CLIENT, "k-globex", "websocket", "192.0.2.7", consumer="stream-1")
LONG = 200
"""Receipts in the long ledger: several shelves."""


async def furnish(stage: Stage) -> dict[str, Delivery]:
    """Play a service's life; the deliveries that are leased when it ends, by what is to become of them."""
    await administer(stage)
    # Receipts and notifications of old that are pruned: this ledger begins beyond 1.
    await stage.put_queue("old", receipt_retention_seconds=60, body_retention_seconds=10)
    for _ in range(70):
        await stage.publish(b"<old/>", queues=("old",))
    for delivery in await stage.lease(70, queue="old"):
        await stage.ack(delivery)
    stage.clock.advance(61)
    await stage.prune_all()
    await stage.publish(b"<younger/>", queues=("old",))
    await stage.ack(await stage.one(queue="old"))
    # A body whose time is over, with its receipts still there.
    await stage.put_queue("short", body_retention_seconds=5)
    await stage.publish(b"<short/>", queues=("short",))
    await stage.ack(await stage.one(queue="short"), reply=b"\xff\x00", reply_content_type="a/b")
    stage.clock.advance(6)
    await stage.prune_all()
    # A long ledger.
    await stage.put_queue("long", max_attempts=1_000, backoff_base_seconds=0)
    await stage.publish(b"<long/>" * 1_000, queues=("long",))
    for _ in range(LONG):
        await stage.nack(await stage.one(queue="long"), reason="not yet", retry_after_seconds=0)
    # Ordering keys: one parked by a dead letter, one with its next behind.
    await stage.put_queue("parks", after_dead="park", max_attempts=1)
    for body in (b"<first/>", b"<second/>", b"<third/>"):
        await stage.publish(body, queues=("parks",), ordering_key="shut")
    await stage.reject(await stage.one(queue="parks"), reason="poison\0 \u2603")
    await stage.publish(b"<other/>", queues=("parks",), ordering_key="open")
    await stage.publish(
        b"<behind/>", queues=("parks",), ordering_key="open", deliver_after_seconds=600
    )
    # Ends of every kind.
    await stage.publish(b"<replaced/>", collapse_key="c")
    await stage.publish(b"<replacing/>", collapse_key="c", attributes={"ce-type": "x"})
    await stage.publish(b"<gone/>", expires_after_seconds=1)
    await stage.pass_time(2)
    dead = await stage.one()
    await stage.reject(dead)
    await stage.discard(dead.ref.seq)
    seq = await stage.bury(b"<again/>")
    await stage.redrive(seq)
    await stage.ack(await stage.one())
    # Two queues, one body; a topic without a queue; idempotency keys.
    await stage.publish(b"<both/>", queues=("acme", "globex"), topic="news", idempotency_key="k1")
    await stage.publish(b"<nobody/>", queues=(), topic="void", idempotency_key="k2")
    await stage.publish(
        b"\x00\xff\xfe", queues=("globex",), content_type="application/octet-stream"
    )
    await stage.publish(b"", queues=("globex",), expires_after_seconds=900)
    await stage.publish(b"<later/>", deliver_after_seconds=300)
    # Leases: one that ran out and may be forgiven, one that was overtaken, and those that run.
    late, lost = (
        await stage.one(seconds=5),
        await stage.one(queue="globex", actor=GLOBEX, seconds=5),
    )
    await stage.pass_time(6)
    newer = await stage.one(queue="globex", actor=GLOBEX, seconds=400)
    await refused(LeaseLost, stage.ack(lost))
    await stage.publish(b"<overtaken/>", queues=("long",), collapse_key="o")
    overtaken = (await stage.lease(2, queue="long", seconds=500))[1]
    await stage.publish(b"<newer/>", queues=("long",), collapse_key="o")
    running = await stage.one(queue="parks", seconds=450)
    await stage.publish(b"<ready/>")
    # Some of it in the log, in two steps, and the rest not yet.
    place = 0
    for limit in (40, 200):
        page = await stage.store.browse(queries.Unsealed(limit))
        seals = []
        for run in page.runs:
            seals.append(Seal(run.queue, run.first, len(run.entries), place))
            place += len(run.entries)
        await stage.configure(AddSeals(tuple(seals), page.cursor))
    return {"late": late, "newer": newer, "overtaken": overtaken, "running": running}


async def administer(stage: Stage) -> None:
    now = stage.clock.wall_ms()
    await stage.configure(AddClient(Client("globex", now)))
    await stage.put_queue("globex", "globex", lease_seconds=45, depth_limit=5)
    await stage.configure(
        AddKey(
            Key(id="k-shop", role=Role.PUBLISHER, name="shop", secret_hash=b"h", created_at_ms=1)
        ),
        AddKey(
            Key(
                id="k-globex",
                role=Role.CLIENT,
                name="globex",
                secret_hash=b"\x00g",
                created_at_ms=2,
                expires_at_ms=now + 10_000_000,
                label="their \u00e9l\u00e8ve",
            )
        ),
        AddKey(
            Key(
                id="san-1",
                role=Role.CLIENT,
                name="acme",
                secret_hash=b"",
                created_at_ms=3,
                certificate_san="dns:acme.example",
            )
        ),
        RevokeKey("k-shop", 4),
        AddSubscription(Subscription("s1", "news", "globex", {"ce-type": ["x", "y"]})),
        AddSubscription(Subscription("s2", "news.#", "acme")),
        PutWebhook(
            Webhook(
                queue="globex",
                url="https://globex.example/hook",
                secrets=(WebhookSecret(id="w", sealed=b"\x01sealed", created_at_ms=5),),
            )
        ),
        PutPaper(Paper(kind=Kind.ACT, key="a", content=b"\x00\xff")),
        PutPaper(Paper(kind=Kind.ACT, key="a", content=b"\x00\xfe", version=2)),
        PutPaper(Paper(kind=Kind.JOB, key="a", content=b"", expires_at_ms=now + 10_000_000)),
    )


async def answers(store: Store, ids: list[str]) -> dict[str, Any]:
    """Every question of ``queries.py`` about everything there is, with its answer."""
    found: dict[str, Any] = {}

    async def ask(question: queries.Query[Any]) -> Any:
        found[repr(question)] = answer = await store.browse(question)
        return answer

    queues = await ask(queries.Queues(limit=1_000))
    await ask(queries.Queues(owner="globex"))
    for client in await ask(queries.Clients()):
        await ask(queries.ClientByName(client.name))
    for key in await ask(queries.Keys()):
        await ask(queries.KeyById(key.id))
    await ask(queries.Subscriptions())
    await ask(queries.Webhooks())
    for queue in queues:
        await ask(queries.QueueByName(queue.name))
        await ask(queries.FiguresOf(queue.name))
        await ask(queries.WebhookOf(queue.name))
        await ask(queries.DeadLetters(queue.name))
        await ask(queries.DeadReasons(queue.name))
        for state in (State.SCHEDULED, State.READY, State.HELD, State.LEASED, State.DEAD):
            await ask(queries.OpenDeliveries(queue.name, state))
        await ask(queries.CountDead(queue.name, Selection(reason="poison\0 \u2603")))
        await ask(queries.LeasedTo(queue.name, "stream-1"))
        await ask(queries.Receipts(queue.name, limit=50, newest_first=True))
        await ask(queries.Seals(queue.name))
        after: int | None = 0
        while after is not None:
            page = await ask(queries.Receipts(queue.name, after=after, limit=70))
            after = page.next
            for receipt in page.receipts[:1]:
                await ask(queries.ReceiptByNumber(queue.name, receipt.number))
    await ask(queries.FiguresOfQueues(limit=1_000))
    # In whatever order, and with whatever cursor.
    page = await store.browse(queries.Unsealed(limit=1_000))
    found["unsealed"] = {run.queue: run for run in page.runs}
    for kind in Kind:
        await ask(queries.Papers(kind))
    for id in ids:
        await ask(queries.NotificationById(id))
        await ask(queries.BodyOf(id))
        await ask(queries.ReceiptsOf(id))
    return found
