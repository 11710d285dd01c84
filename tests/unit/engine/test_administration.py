"""What operators do."""

import asyncio

import pytest
from tests.unit.engine.house import ACME, OPERATOR, SHOP, letter, settings, slow, turns

from restante import auth
from restante.certificates import key_id
from restante.engine.administration import Administration
from restante.errors import (
    AlreadyExists,
    ClientNotFound,
    InvalidHeader,
    InvalidName,
    KeyNotFound,
    OutOfBounds,
    QueueNotFound,
    TooManyKeys,
)
from restante.model import Actor, Role, Settings
from restante.queries import ClientByName, QueueByName


@pytest.fixture
def office(broker):
    return Administration(broker, OPERATOR)


# -- clients, queues, keys ----------------------------------------------------------------------


async def test_a_client_comes_with_its_queue_and_a_key(office, broker, clock):
    key, text = await office.add_client("carol")
    assert auth.parse(text) == (key.id, key.secret_hash)
    assert (key.role, key.name) == (Role.CLIENT, "carol")
    client = await broker.store.browse(ClientByName("carol"))
    assert client is not None
    assert client.created_at_ms == clock.wall_ms()
    assert (await broker.directory.queue("carol")).owner == "carol"
    assert await broker.directory.key(key.id) == key


async def test_a_client_whose_queue_is_there_is_not_half_made(office, broker):
    await office.put_queue("carol", "acme", None)
    with pytest.raises(AlreadyExists):
        await office.add_client("carol")
    assert await broker.store.browse(ClientByName("carol")) is None


async def test_a_queue_keeps_what_is_not_said(office, broker):
    queue = await office.put_queue("acme", None, Settings(max_attempts=3))
    assert (queue.owner, queue.settings.max_attempts) == ("acme", 3)
    assert (await office.put_queue("acme", "bob", None)).settings.max_attempts == 3
    assert (await broker.directory.queue("acme")).owner == "bob"
    assert await broker.store.browse(QueueByName("acme")) == await broker.directory.queue("acme")


async def test_refused_queues(office):
    for name, owner, changed, error in (
        ("a b", None, None, InvalidName),
        ("q", "a b", None, InvalidName),
        ("q", "nobody", None, ClientNotFound),
        ("q", None, None, ClientNotFound),
        ("acme", None, Settings(max_attempts=0), OutOfBounds),
    ):
        with pytest.raises(error):
            await office.put_queue(name, owner, changed)


async def test_new_settings_wake_who_they_let_go(office, broker):
    await settings(broker, max_in_flight=1)
    session = await broker.session("acme", ACME)
    for _ in range(2):
        await broker.publish(letter(), SHOP)
    await session.receive(max=1)
    waiting = asyncio.create_task(session.receive(wait_seconds=60))
    await turns()
    await office.put_queue("acme", None, Settings(max_in_flight=5))
    assert [one.ref.seq for one in await waiting] == [2]


async def test_keys_are_added_and_revoked(office, broker, clock):
    key, text = await office.add_key(Role.PUBLISHER, "shop", 60, "the shop")
    assert auth.parse(text)[0] == key.id
    assert key.expires_at_ms == clock.wall_ms() + 60_000
    await office.add_key(Role.PUBLISHER, "shop", None, "")
    with pytest.raises(TooManyKeys):
        await office.add_key(Role.PUBLISHER, "shop", None, "")
    assert (await broker.directory.key(key.id)).active(clock.wall_ms())
    await office.revoke_key(key.id)
    assert not (await broker.directory.key(key.id)).active(clock.wall_ms())
    await office.add_key(Role.PUBLISHER, "shop", None, "")
    with pytest.raises(KeyNotFound):
        await office.revoke_key("nothing")


async def test_refused_keys(office):
    for role, name, seconds, label, error in (
        (Role.ADMIN, "a b", None, "", InvalidName),
        (Role.ADMIN, "op", 0, "", OutOfBounds),
        (Role.ADMIN, "op", None, "x" * 256, OutOfBounds),
        (Role.ADMIN, "op", None, "a\0b", InvalidHeader),
        (Role.CLIENT, "nobody", None, "", ClientNotFound),
    ):
        with pytest.raises(error):
            await office.add_key(role, name, seconds, label)


async def test_a_certificate_is_added_and_revoked_as_a_key_is(office, broker, clock):
    made = await office.add_certificate(Role.CLIENT, "acme", "dns:Back.Acme.example", 60, "their")
    assert made.certificate_san == "dns:back.acme.example"
    assert (made.role, made.name, made.label) == (Role.CLIENT, "acme", "their")
    assert made.expires_at_ms == clock.wall_ms() + 60_000
    assert await broker.directory.key(key_id("dns:back.acme.example")) == made
    with pytest.raises(AlreadyExists, match=r"dns:back\.acme\.example is in use"):
        await office.add_certificate(Role.PUBLISHER, "shop", "dns:back.acme.example", None, "")
    await office.revoke_key(made.id)
    assert not (await broker.directory.key(made.id)).active(clock.wall_ms())
    again = await office.add_certificate(Role.PUBLISHER, "shop", "dns:back.acme.example", None, "")
    assert await broker.directory.key(made.id) == again


async def test_refused_certificates(office):
    for role, name, san, seconds, error in (
        (Role.ADMIN, "a b", "dns:a", None, InvalidName),
        (Role.ADMIN, "op", "dns:*.a", None, InvalidName),
        (Role.ADMIN, "op", "dns:a", 0, OutOfBounds),
        (Role.CLIENT, "nobody", "dns:a", None, ClientNotFound),
    ):
        with pytest.raises(error):
            await office.add_certificate(role, name, san, seconds, "")


async def test_a_key_that_is_revoked_while_its_poll_looks_does_not_wait(
    office, broker, store, monkeypatch
):
    key, _ = await office.add_client("late")
    session = await broker.session("late", Actor("late", Role.CLIENT, key.id))
    slow(monkeypatch, store, "lease")
    poll = asyncio.create_task(session.receive(wait_seconds=60))
    await turns(2)
    await office.revoke_key(key.id)
    assert await poll == []
    # One that was let in just before, and comes to look just after.
    assert await session.receive(wait_seconds=60) == []


async def test_a_revoked_key_waits_no_longer(office, broker):
    key, _ = await office.add_key(Role.CLIENT, "acme", None, "")
    tasks = [
        asyncio.create_task((await broker.session("acme", actor)).receive(wait_seconds=60))
        for actor in (ACME, type(ACME)("acme", Role.CLIENT, key.id))
    ]
    await turns()
    await office.revoke_key(key.id)
    await turns()
    assert [task.done() for task in tasks] == [False, True]
    broker.drain()
    assert await asyncio.gather(*tasks) == [[], []]


# -- subscriptions ------------------------------------------------------------------------------


async def test_a_subscription_routes_at_once(office, broker):
    topic = letter(queue="", topic="orders.new")
    assert (await broker.publish_to_topic(topic, SHOP)).deliveries == []
    subscription = await office.subscribe("orders.*", "acme", {})
    assert len((await broker.publish_to_topic(topic, SHOP)).deliveries) == 1
    assert await office.subscriptions() == [subscription]
    await office.unsubscribe(subscription.id)
    assert (await broker.publish_to_topic(topic, SHOP)).deliveries == []


async def test_refused_subscriptions(office):
    for pattern, queue, conditions, error in (
        ("a b", "acme", {}, InvalidName),
        ("a", "a b", {}, InvalidName),
        ("a", "nowhere", {}, QueueNotFound),
        ("a", "acme", {"Upper": ["x"]}, InvalidHeader),
        ("a", "acme", {"x": []}, OutOfBounds),
        ("a", "acme", {"x": ["v"] * 101}, OutOfBounds),
        ("a", "acme", {f"x{n}": ["v"] for n in range(17)}, OutOfBounds),
    ):
        with pytest.raises(error):
            await office.subscribe(pattern, queue, conditions)
