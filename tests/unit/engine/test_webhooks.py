"""Webhooks as their owners set them."""

import asyncio
import base64

import msgspec
import pytest
from tests.unit.engine.house import OPERATOR, SHOP, letter, slow, turns

from restante.addresses import parse_networks
from restante.engine.administration import Administration
from restante.engine.broker import Broker
from restante.engine.settling import Settle
from restante.engine.webhooks import Pinged
from restante.errors import (
    InvalidHeader,
    InvalidUrl,
    LastSecret,
    OutOfBounds,
    SecretNotFound,
    StoreUnavailable,
    TooManySecrets,
    WebhookChanged,
    WebhookNotFound,
    WebhooksUnavailable,
)
from restante.model import Actor, Role, Verb
from restante.queries import LedgerSpan, WebhookOf
from restante.webhooks import Circuit
from restante.wire.sealing import Keyring, SealBroken

URL = "https://hooks.example/in"
OLD, NEW = b"o" * 32, b"n" * 32


class Courier:
    """Calls nobody, and remembers of which webhooks it was told."""

    def __init__(self):
        self.told = []
        self.answers = Circuit.CLOSED

    count = 0
    done = False

    def refresh(self, queue):
        self.told.append(queue)

    def refresh_all(self):
        self.told.append("all")

    async def ping(self, webhook):
        return Pinged(ok=True, status=200, reason=webhook.url, seconds=0.5)

    def circuit(self, queue):
        return self.answers


@pytest.fixture
def courier(broker):
    broker.webhooks.courier = Courier()
    return broker.webhooks.courier


@pytest.fixture
def desk(broker, courier):
    return broker.webhooks


async def put(desk, url=URL, headers=None, **settings):
    return await desk.put("acme", url, headers, settings)


def secret_of(text):
    assert text.startswith("whsec_")
    return base64.b64decode(text.removeprefix("whsec_"))


async def test_a_webhook_is_made_with_a_secret_that_is_shown_once(desk, courier, clock):
    webhook, text = await put(desk, "https://Hooks.Example", concurrency=7)
    assert (webhook.url, webhook.concurrency) == ("https://hooks.example/", 7)
    assert (webhook.version, webhook.enabled, webhook.payload) == (1, True, "body")
    assert webhook.created_at_ms == webhook.since_ms == clock.wall_ms()
    assert len(secret_of(text)) >= 24
    assert [secret for secret, _ in desk.open(webhook).secrets] == [secret_of(text)]
    assert secret_of(text) not in msgspec.json.encode(webhook)
    assert await desk.get("acme") == webhook
    await turns()
    assert courier.told == ["acme"]


async def test_what_is_left_out_keeps_its_value(desk, courier):
    first, _ = await put(desk, headers={"X-A": "1"}, timeout_seconds=3, rate_per_second=5)
    changed, again = await put(desk, "https://other.example/", concurrency=9)
    assert again is None
    assert (changed.timeout_seconds, changed.rate_per_second, changed.concurrency) == (3, 5, 9)
    assert desk.open(changed) == desk.open(first)
    assert desk.open(changed).headers == {"x-a": "1"}
    assert (changed.version, changed.header_names) == (2, ("x-a",))
    cleared, _ = await put(desk, headers={}, rate_per_second=None)
    assert (desk.open(cleared).headers, cleared.header_names) == ({}, ())
    assert cleared.rate_per_second is None
    await turns()
    assert courier.told == ["acme"] * 3


async def test_a_change_leaves_a_disabled_one_disabled(desk):
    await put(desk)
    await desk.disable("acme", "for now")
    changed, _ = await put(desk, concurrency=2)
    assert (changed.enabled, changed.reason) == (False, "for now")


@pytest.mark.parametrize(
    ("url", "headers", "settings", "error"),
    [
        ("http://hooks.example/", None, {}, InvalidUrl),
        ("https://10.0.0.1/", None, {}, InvalidUrl),
        (URL, {"host": "x"}, {}, InvalidHeader),
        (URL, None, {"timeout_seconds": 16}, OutOfBounds),
        (URL, None, {"concurrency": 0}, OutOfBounds),
        (URL, None, {"rate_per_second": 0}, OutOfBounds),
    ],
)
async def test_refused(desk, broker, courier, url, headers, settings, error):
    with pytest.raises(error):
        await put(desk, url, headers, **settings)
    assert await broker.store.browse(WebhookOf("acme")) is None
    await turns()
    assert courier.told == []


async def test_the_operator_allows_more(store, clock):
    async with Broker(store, clock, webhook_allow=parse_networks(["10.0.0.0/8"])) as broker:
        broker.webhooks.courier = Courier()
        webhook, _ = await put(broker.webhooks, "http://10.0.0.1:8080/")
        assert webhook.url == "http://10.0.0.1:8080/"


async def test_enabled_and_disabled_with_reason_and_time(desk, courier, clock):
    made, _ = await put(desk)
    clock.advance(5)
    disabled = await desk.disable("acme", "we move house")
    assert (disabled.enabled, disabled.reason) == (False, "we move house")
    assert disabled.since_ms == clock.wall_ms()
    clock.advance(5)
    assert await desk.disable("acme", "again") == disabled, "the first reason stands"
    enabled = await desk.enable("acme")
    assert (enabled.enabled, enabled.reason) == (True, "")
    assert enabled.since_ms == clock.wall_ms() == made.since_ms + 10_000
    assert await desk.enable("acme") == enabled
    await turns()
    assert courier.told == ["acme"] * 3
    with pytest.raises(OutOfBounds):
        await desk.disable("acme", "x" * 1_025)


async def test_disabled_only_as_it_was_seen(desk, clock):
    await put(desk, "https://old.example/")
    old = await desk.get("acme")
    await put(desk, "https://new.example/")
    new = await desk.get("acme")
    assert (await desk.disable("acme", "HTTP 410", seen=old)).enabled
    assert not (await desk.disable("acme", "HTTP 410", seen=new)).enabled
    # What was begun before its owner enabled it again, and answers late, counts no more.
    clock.advance(1)
    await desk.enable("acme")
    assert (await desk.disable("acme", "HTTP 410", seen=new)).enabled


async def test_a_secret_is_rotated_and_both_sign_for_a_day(desk, clock):
    _, first = await put(desk)
    secret, second = await desk.rotate("acme")
    webhook = await desk.get("acme")
    now = clock.wall_ms()
    opened = [(secret_of(second), None), (secret_of(first), now + 86_400_000)]
    assert desk.open(webhook).secrets == opened
    assert webhook.secrets[0].id == secret.id
    with pytest.raises(TooManySecrets):
        await desk.rotate("acme")
    clock.advance(86_400)
    _, third = await desk.rotate("acme")
    left = [one for one, _ in desk.open(await desk.get("acme")).secrets]
    assert left == [secret_of(third), secret_of(second)], "what has ended is let go of"


async def test_the_old_secret_is_ended(desk):
    await put(desk)
    await desk.rotate("acme")
    new, old = (await desk.get("acme")).secrets
    left = await desk.drop_secret("acme", old.id)
    assert [one.id for one in left.secrets] == [new.id]
    with pytest.raises(SecretNotFound):
        await desk.drop_secret("acme", old.id)
    with pytest.raises(LastSecret):
        await desk.drop_secret("acme", new.id)


async def test_the_new_secret_is_taken_back_and_the_old_one_stays(desk):
    _, first = await put(desk)
    await desk.rotate("acme")
    new, _ = (await desk.get("acme")).secrets
    left = await desk.drop_secret("acme", new.id)
    assert desk.open(left).secrets == [(secret_of(first), None)]


async def test_there_is_none(desk):
    for call in (
        desk.get("acme"),
        desk.drop("acme"),
        desk.enable("acme"),
        desk.disable("acme", ""),
        desk.rotate("acme"),
        desk.drop_secret("acme", "x"),
        desk.ping("acme", OPERATOR),
    ):
        with pytest.raises(WebhookNotFound):
            await call


async def test_it_is_dropped_and_made_anew_with_another_secret(desk):
    _, first = await put(desk)
    await desk.drop("acme")
    webhook, second = await put(desk)
    assert webhook.version == 1
    assert second not in (None, first)


async def test_a_ping_is_the_courier_s(desk):
    await put(desk)
    assert (await desk.ping("acme", OPERATOR)).reason == URL


async def test_without_a_courier_it_says_what_to_install(broker):
    desk = broker.webhooks
    for call in (put(desk), desk.enable("acme")):
        with pytest.raises(WebhooksUnavailable, match=r"restante\[webhooks\]"):
            await call
    broker.webhooks.courier = Courier()
    await put(desk)
    desk.courier = None
    with pytest.raises(WebhooksUnavailable):
        await desk.ping("acme", OPERATOR)
    assert not (await desk.disable("acme", "x")).enabled, "that can always be done"
    await desk.drop("acme")


async def test_changes_at_once_are_all_made(desk, store, monkeypatch):
    await put(desk)
    slow(monkeypatch, store, "configure")
    await asyncio.gather(
        put(desk, concurrency=9), desk.disable("acme", "x"), put(desk, timeout_seconds=2)
    )
    webhook = await desk.get("acme")
    assert (webhook.concurrency, webhook.timeout_seconds, webhook.enabled) == (9, 2, False)
    assert webhook.version == 4


async def test_who_is_overtaken_for_ever_is_told(desk, store, monkeypatch):
    await put(desk)

    def refuse(_):
        answer = asyncio.get_running_loop().create_future()
        answer.set_exception(WebhookChanged("by another"))
        return answer

    monkeypatch.setattr(store, "configure", refuse)
    for call in (put(desk), desk.disable("acme", "x")):
        with pytest.raises(WebhookChanged, match="meanwhile"):
            await call


async def test_a_change_takes_effect_although_whoever_asked_has_left(
    desk, courier, store, monkeypatch
):
    slow(monkeypatch, store, "configure")
    asking = asyncio.create_task(put(desk))
    await turns(3)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await turns()
    assert courier.told == ["acme"]
    assert (await desk.get("acme")).url == URL


async def test_a_new_owner_finds_it_disabled(desk, broker, courier, clock):
    await put(desk)
    clock.advance(1)
    office = Administration(broker, OPERATOR)
    await office.put_queue("acme", None, None)
    assert (await desk.get("acme")).enabled
    await office.put_queue("acme", "bob", None)
    webhook = await desk.get("acme")
    assert (webhook.enabled, webhook.reason) == (False, "the queue has a new owner")
    assert webhook.since_ms == clock.wall_ms()
    await turns()
    assert courier.told == ["acme"] * 2


# -- keys ---------------------------------------------------------------------------------------


def with_keys(store, clock, *keys):
    broker = Broker(store, clock, keyring=Keyring(keys))
    broker.webhooks.courier = Courier()
    return broker.webhooks


async def test_what_an_older_key_sealed_is_sealed_anew_at_the_next_start(store, clock):
    desk = with_keys(store, clock, OLD)
    before, text = await put(desk, headers={"authorization": "Bearer x"})
    both = with_keys(store, clock, NEW, OLD)
    await both.seal_anew()
    after = await both.get("acme")
    assert after.version == before.version + 1
    opened = with_keys(store, clock, NEW).open(after)
    assert opened.headers == {"authorization": "Bearer x"}
    assert opened.secrets == [(secret_of(text), None)]
    await both.seal_anew()
    assert await both.get("acme") == after, "once"


async def test_what_an_older_key_sealed_is_sealed_anew_with_a_change(store, clock):
    _, text = await put(with_keys(store, clock, OLD))
    await put(with_keys(store, clock, NEW, OLD), concurrency=2)
    desk = with_keys(store, clock, NEW)
    assert desk.open(await desk.get("acme")).secrets == [(secret_of(text), None)]


async def test_what_no_key_opens_is_left_alone_and_can_be_replaced(store, clock):
    before, _ = await put(with_keys(store, clock, OLD))
    desk = with_keys(store, clock, NEW)
    await desk.seal_anew()
    assert await desk.get("acme") == before
    with pytest.raises(SealBroken):
        desk.open(before)
    assert "cannot be opened" in (await desk.standing(before)).problem
    _, text = await desk.rotate("acme")
    webhook = await desk.get("acme")
    assert desk.open(webhook).secrets == [(secret_of(text), None)]
    assert (await desk.standing(webhook)).problem == ""


async def test_a_secret_moved_to_another_webhook_does_not_open(desk):
    webhook, _ = await put(desk, headers={"x": "y"})
    moved = msgspec.structs.replace(webhook, queue="bob")
    with pytest.raises(SealBroken):
        desk.open(moved)
    with pytest.raises(SealBroken):
        desk.open(msgspec.structs.replace(moved, sealed_headers=b""))


# -- how it fares -------------------------------------------------------------------------------


async def settle(broker, verb, transport="webhook", **fields):
    await broker.publish(letter(), SHOP)
    actor = Actor("acme", Role.CLIENT, transport=transport)
    session = await broker.session("acme", actor)
    (delivery,) = await session.receive(max=1)
    item = Settle(lease=session.token(delivery), verb=verb, **fields)
    (result,) = await (await session.settle([item])).results()
    return result


async def test_how_it_fares_is_told_by_the_ledger(desk, broker, courier, clock):
    webhook, _ = await put(desk)
    standing = await desk.standing(webhook)
    assert (standing.circuit, standing.consecutive_failures) == (Circuit.CLOSED, 0)
    assert (standing.last_success_at, standing.last_error_at, standing.problem) == ("", "", "")
    later = {"retry_after_seconds": 90}
    await settle(broker, Verb.NACK, reason="HTTP 500", **later)
    clock.advance(1)
    await settle(broker, Verb.ACK)
    clock.advance(1)
    await settle(broker, Verb.NACK, reason="timed out after 10 s", **later)
    clock.advance(1)
    await settle(broker, Verb.NACK, reason="HTTP 503", **later)
    # What is collected otherwise says nothing of the webhook.
    await settle(broker, Verb.ACK, "http")
    await settle(broker, Verb.NACK, "http", reason="not the webhook's", **later)
    courier.answers = Circuit.OPEN
    standing = await desk.standing(webhook)
    assert standing.circuit is Circuit.OPEN
    assert standing.consecutive_failures == 2
    assert standing.last_success_at == "2026-01-01T00:00:01.000Z"
    assert standing.last_error_at == "2026-01-01T00:00:03.000Z"
    assert standing.last_error == "HTTP 503"
    desk.courier = None
    assert (await desk.standing(webhook)).circuit is None


async def test_a_new_webhook_is_not_blamed_for_the_one_before(desk, broker, clock):
    await put(desk)
    await settle(broker, Verb.NACK, reason="HTTP 500", retry_after_seconds=90)
    await desk.drop("acme")
    clock.advance(1)
    webhook, _ = await put(desk)
    standing = await desk.standing(webhook)
    assert (standing.consecutive_failures, standing.last_error_at) == (0, "")
    await settle(broker, Verb.NACK, reason="HTTP 503", retry_after_seconds=90)
    standing = await desk.standing(webhook)
    assert (standing.consecutive_failures, standing.last_error) == (1, "HTTP 503")


@pytest.mark.parametrize("ahead_seconds", [300, -300])
async def test_whose_failures_they_are_is_not_told_by_clocks(desk, broker, clock, ahead_seconds):
    """The store dates receipts by another clock than the one of the node where the webhook is made."""
    later = {"retry_after_seconds": 90}
    await put(desk)
    await settle(broker, Verb.NACK, reason="HTTP 500", **later)
    await desk.drop("acme")
    clock.jump_wall(ahead_seconds)
    webhook, _ = await put(desk)
    clock.jump_wall(-ahead_seconds)
    assert (await desk.standing(webhook)).last_error == ""
    await settle(broker, Verb.NACK, reason="HTTP 503", **later)
    webhook, _ = await put(desk, concurrency=2)
    standing = await desk.standing(webhook)
    assert (standing.consecutive_failures, standing.last_error) == (1, "HTTP 503")


async def test_what_is_older_than_a_webhook_is_not_looked_through(desk, broker, store, monkeypatch):
    for _ in range(3):
        await broker.publish_batch([letter()] * 100, SHOP)
    webhook, _ = await put(desk)
    asked = []
    browse = store.browse

    async def counted(query):
        asked.append(query)
        return await browse(query)

    monkeypatch.setattr(store, "browse", counted)
    assert (await desk.standing(webhook)).last_error == ""
    assert len(asked) == 1


async def test_where_the_ledger_cannot_be_looked_at_none_is_made(
    desk, broker, store, courier, monkeypatch
):
    browse = store.browse

    async def torn(query):
        if isinstance(query, LedgerSpan):
            raise StoreUnavailable("away")
        return await browse(query)

    monkeypatch.setattr(store, "browse", torn)
    with pytest.raises(StoreUnavailable):
        await put(desk)
    await turns()
    assert (await store.browse(WebhookOf("acme")), courier.told) == (None, [])


async def test_how_it_fares_is_found_behind_many_receipts(desk, broker):
    webhook, _ = await put(desk)
    await settle(broker, Verb.NACK, reason="HTTP 500", retry_after_seconds=90)
    for _ in range(3):
        await broker.publish_batch([letter()] * 100, SHOP)
    standing = await desk.standing(webhook)
    assert (standing.consecutive_failures, standing.last_error) == (1, "HTTP 500")
    for _ in range(8):
        await broker.publish_batch([letter()] * 100, SHOP)
    assert (await desk.standing(webhook)).last_error == "", "a thousand are looked at"
