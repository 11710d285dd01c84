"""Clients, queues, keys and subscriptions: what may be changed, and all or nothing."""

from __future__ import annotations

from typing import Any

from restante.changes import (
    AddClient,
    AddKey,
    AddSubscription,
    DropSubscription,
    PutQueue,
    RevokeKey,
)
from restante.errors import (
    AlreadyExists,
    ClientNotFound,
    KeyNotFound,
    QueueNotFound,
    SubscriptionNotFound,
    TooManyKeys,
)
from restante.model import Client, Key, Queue, Role, Settings, State, Subscription
from restante.queries import (
    ClientByName,
    Clients,
    FiguresOf,
    KeyById,
    Keys,
    KeysOf,
    QueueByName,
    Subscriptions,
)
from restante.testing.conformance.stage import Stage, refused


async def a_client_is_there_once(stage: Stage) -> None:
    client = Client("bob", 1_234)
    await stage.configure(AddClient(client))
    assert await stage.store.browse(ClientByName("bob")) == client
    await refused(AlreadyExists, stage.configure(AddClient(Client("bob", 5))))
    assert await stage.store.browse(ClientByName("bob")) == client


async def a_queue_needs_an_owner_that_is_there(stage: Stage) -> None:
    await refused(ClientNotFound, stage.put_queue("q", owner="nobody"))
    assert await stage.store.browse(QueueByName("q")) is None


async def every_setting_is_kept(stage: Stage) -> None:
    settings = Settings(
        lease_seconds=45,
        max_attempts=3,
        backoff_base_seconds=0.25,
        backoff_factor=1.5,
        backoff_cap_seconds=12.5,
        max_in_flight=7,
        max_body_bytes=123,
        body_retention_seconds=99,
        receipt_retention_seconds=1_000,
        after_dead="park",
        depth_limit=5,
        oldest_age_limit_seconds=6,
        silence_limit_seconds=7,
    )
    await stage.configure(PutQueue(Queue("q", "acme", settings)))
    assert await stage.store.browse(QueueByName("q")) == Queue("q", "acme", settings)


async def a_queue_can_be_changed_or_has_to_be_new(stage: Stage) -> None:
    await stage.configure(AddClient(Client("bob")))
    new = Queue("q", "acme", Settings(max_attempts=2))
    await stage.configure(PutQueue(new, must_be_new=True))
    await refused(AlreadyExists, stage.configure(PutQueue(new, must_be_new=True)))
    changed = Queue("q", "bob", Settings(max_attempts=3))
    await stage.configure(PutQueue(changed))
    assert await stage.store.browse(QueueByName("q")) == changed


async def a_change_of_settings_keeps_what_is_in_the_queue(stage: Stage) -> None:
    await stage.publish()
    await stage.publish()
    await stage.one()
    await stage.put_queue(max_attempts=1)
    assert await stage.states() == [State.LEASED, State.READY]
    assert (await stage.publish()).deliveries[0].seq == 3
    assert len(await stage.ledger()) == 3


async def changed_settings_hold_at_once(stage: Stage) -> None:
    await stage.publish()
    delivery = await stage.one()
    await stage.put_queue(max_attempts=1)
    assert (await stage.nack(delivery)).state is State.DEAD


async def changes_take_effect_together_or_not_at_all(stage: Stage) -> None:
    await stage.put_queue(after_dead="park", max_attempts=1)
    await stage.publish(ordering_key="k")
    await stage.publish(ordering_key="k")
    await stage.nack(await stage.one())
    key = _key("k1", Role.ADMIN, "op")
    subscription = Subscription("s1", "a.*", "acme")
    await refused(
        SubscriptionNotFound,
        stage.configure(
            AddClient(Client("bob")),
            PutQueue(Queue("bob", "bob")),
            PutQueue(Queue("acme", "bob", Settings(max_attempts=9))),
            AddKey(key),
            AddSubscription(subscription),
            DropSubscription("nowhere"),
        ),
    )
    assert await stage.store.browse(ClientByName("bob")) is None
    assert await stage.store.browse(QueueByName("bob")) is None
    assert await stage.store.browse(FiguresOf("bob")) is None
    assert await stage.store.browse(KeyById("k1")) is None
    assert await stage.store.browse(Subscriptions()) == []
    acme = await stage.store.browse(QueueByName("acme"))
    assert acme == Queue("acme", "acme", Settings(after_dead="park", max_attempts=1))
    # Neither in what it answers nor in what it does: the key is shut, one attempt is all.
    assert await stage.states() == [State.DEAD, State.HELD]
    assert await stage.lease() == []
    await stage.discard(1)
    assert (await stage.nack(await stage.one())).state is State.DEAD
    await refused(QueueNotFound, stage.publish(queues=("bob",)))


async def a_principal_has_two_active_keys(stage: Stage) -> None:
    for id in ("k1", "k2"):
        await stage.configure(AddKey(_key(id)))
    await refused(TooManyKeys, stage.configure(AddKey(_key("k3"))))
    await stage.configure(AddKey(_key("p1", Role.PUBLISHER)))
    await stage.configure(RevokeKey("k1", 50))
    await stage.configure(AddKey(_key("k3")))
    assert [key.id for key in await stage.store.browse(Keys())] == ["k1", "k2", "k3", "p1"]


async def keys_are_found_by_their_principal(stage: Stage) -> None:
    for number, id in enumerate(("k1", "k2", "k3")):
        await stage.configure(AddKey(_key(id, created_at_ms=10 + number)))
        await stage.configure(RevokeKey(id, 50))
    await stage.configure(AddKey(_key("p1", Role.PUBLISHER)))
    await stage.configure(AddKey(_key("a1", Role.ADMIN, "other")))
    found = await stage.store.browse(KeysOf(Role.CLIENT, "acme"))
    assert [(key.id, key.revoked_at_ms) for key in found] == [("k3", 50), ("k2", 50), ("k1", 50)]
    (newest,) = await stage.store.browse(KeysOf(Role.CLIENT, "acme", 1))
    assert newest.id == "k3"
    assert await stage.store.browse(KeysOf(Role.ADMIN, "acme")) == []


async def a_principal_has_two_active_certificates_beside_its_keys(stage: Stage) -> None:
    for id in ("k1", "k2"):
        await stage.configure(AddKey(_key(id)))
    for id in ("san-a", "san-b"):
        await stage.configure(AddKey(_key(id, certificate_san=f"dns:{id}")))
    await refused(TooManyKeys, stage.configure(AddKey(_key("san-c", certificate_san="dns:c"))))
    await stage.configure(RevokeKey("k1", 50))
    await refused(TooManyKeys, stage.configure(AddKey(_key("san-c", certificate_san="dns:c"))))
    await stage.configure(RevokeKey("san-a", 50))
    await stage.configure(AddKey(_key("san-c", certificate_san="dns:c")))


async def a_certificate_takes_the_place_of_one_that_has_ended(stage: Stage) -> None:
    await stage.configure(AddClient(Client("bob")))
    first = _key("san-a", certificate_san="dns:a", expires_at_ms=1_000)
    await stage.configure(AddKey(first))
    others = _key("san-a", name="bob", certificate_san="dns:a", created_at_ms=999)
    await refused(AlreadyExists, stage.configure(AddKey(others)))
    assert await stage.store.browse(KeyById("san-a")) == first
    after_its_end = _key("san-a", name="bob", certificate_san="dns:a", created_at_ms=1_000)
    await stage.configure(AddKey(after_its_end))
    await stage.configure(RevokeKey("san-a", 1_100))
    again = _key("san-a", certificate_san="dns:a", created_at_ms=1_200)
    await stage.configure(AddKey(again))
    assert await stage.store.browse(Keys()) == [again]


async def a_refused_certificate_takes_nobodys_place(stage: Stage) -> None:
    ended = _key("san-a", certificate_san="dns:a", expires_at_ms=11)
    await stage.configure(AddKey(ended))
    for id in ("san-b", "san-c"):
        other = _key(id, certificate_san=f"dns:{id}", created_at_ms=15)
        await stage.configure(AddKey(other))
    third = _key("san-a", certificate_san="dns:a", created_at_ms=20)
    await refused(TooManyKeys, stage.configure(AddKey(third)))
    assert await stage.store.browse(KeyById("san-a")) == ended


async def a_key_takes_nobodys_place(stage: Stage) -> None:
    await stage.configure(AddKey(_key("k1")))
    await stage.configure(RevokeKey("k1", 50))
    await refused(AlreadyExists, stage.configure(AddKey(_key("k1", created_at_ms=60))))


async def an_expired_key_is_not_active(stage: Stage) -> None:
    await stage.configure(AddKey(_key("k1", expires_at_ms=1_000)))
    await stage.configure(AddKey(_key("k2", expires_at_ms=2_000)))
    await refused(TooManyKeys, stage.configure(AddKey(_key("k3", created_at_ms=999))))
    await stage.configure(AddKey(_key("k3", created_at_ms=1_000)))


async def a_client_key_needs_its_client(stage: Stage) -> None:
    await refused(ClientNotFound, stage.configure(AddKey(_key("k1", name="nobody"))))
    await stage.configure(AddKey(_key("k1", Role.PUBLISHER, "nobody")))


async def a_key_is_kept_as_it_is(stage: Stage) -> None:
    key = _key("k1", expires_at_ms=99, label='the "old" system')
    await stage.configure(AddKey(key))
    assert await stage.store.browse(KeyById("k1")) == key
    assert await stage.store.browse(KeyById("k2")) is None
    certificate = _key("san-a", certificate_san="uri:spiffe://acme/'backend'")
    await stage.configure(AddKey(certificate))
    assert await stage.store.browse(KeyById("san-a")) == certificate
    assert await stage.store.browse(Keys()) == [key, certificate]


async def a_key_is_revoked_once(stage: Stage) -> None:
    await stage.configure(AddKey(_key("k1")))
    await stage.configure(RevokeKey("k1", 50))
    await stage.configure(RevokeKey("k1", 70))
    found = await stage.store.browse(KeyById("k1"))
    assert found is not None
    assert found.revoked_at_ms == 50
    assert not found.active(60)
    await refused(KeyNotFound, stage.configure(RevokeKey("k2", 50)))


async def a_subscription_is_there_once(stage: Stage) -> None:
    first = Subscription("s1", "orders.*", "acme", {"region": ["eu", "us"], "kind": ["new"]})
    await stage.configure(AddSubscription(first))
    alike = Subscription("s2", "orders.*", "acme", {"kind": ["new"], "region": ["eu", "us"]})
    await refused(AlreadyExists, stage.configure(AddSubscription(alike)))
    other = Subscription("s2", "orders.*", "acme", {"kind": ["new"]})
    await stage.configure(AddSubscription(other))
    assert await stage.store.browse(Subscriptions()) == [first, other]
    await stage.configure(DropSubscription("s1"))
    assert await stage.store.browse(Subscriptions()) == [other]
    await refused(SubscriptionNotFound, stage.configure(DropSubscription("s1")))
    nowhere = Subscription("s3", "a", "nowhere")
    await refused(QueueNotFound, stage.configure(AddSubscription(nowhere)))


async def pages_go_by_name(stage: Stage) -> None:
    for name in ("d", "b", "c"):
        await stage.configure(AddClient(Client(name)))
    names = [client.name for client in await stage.store.browse(Clients(limit=2))]
    assert names == ["acme", "b"]
    names = [client.name for client in await stage.store.browse(Clients(after="b", limit=9))]
    assert names == ["c", "d"]
    for id in ("k2", "k1"):
        await stage.configure(AddKey(_key(id)))
    assert [key.id for key in await stage.store.browse(Keys(limit=1))] == ["k1"]
    assert [key.id for key in await stage.store.browse(Keys(after="k1", limit=5))] == ["k2"]


def _key(id: str, role: Role = Role.CLIENT, name: str = "acme", **fields: Any) -> Key:
    values: dict[str, Any] = {"secret_hash": b"\x00\xff" * 16, "created_at_ms": 10}
    return Key(id=id, role=role, name=name, **(values | fields))
