"""The register of clients' signing keys, and settling with what they signed: nothing is settled that does not hold."""

import asyncio
import contextlib
import datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.engine.house import ACME, BOB, OPERATOR, SHOP, acts, letter, settings

from restante.client import Signer, verify_signature
from restante.engine.broker import Broker
from restante.engine.settling import Settle
from restante.engine.signing_keys import ACTIVE_KEYS, AT_ONCE, KEYS
from restante.errors import (
    AlreadyExists,
    ClientNotFound,
    InvalidSigningKey,
    KeyNotFound,
    OutOfBounds,
    SignatureOutOfTime,
    SignatureRefused,
    SignatureRequired,
    SigningKeyEnded,
    SigningKeyUnknown,
    TooManySigningKeys,
)
from restante.http.delivering import to_notification
from restante.model import Settled, Verb
from restante.queries import Receipts
from restante.wire import client_signatures
from restante.wire.receipts import decode_entry

SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
OTHER = Signer(ec.derive_private_key(7, ec.SECP256R1()))


@pytest.fixture
async def keys(broker):
    return broker.signing_keys


async def add(broker, signer=SIGNER, client="acme"):
    return await broker.signing_keys.add(client, signer.public_pem, "", OPERATOR)


async def leased(broker, queue="acme", actor=ACME):
    """One notification in hand, as its client sees it."""
    await broker.publish(letter(queue=queue), SHOP)
    session = await broker.session(queue, actor)
    (delivery,) = await session.receive(max=1)
    return session, to_notification(session, delivery)


def signature(clock, notification, verb=Verb.ACK, said=b"", signer=SIGNER):
    at = datetime.datetime.fromtimestamp(clock.wall_ms() / 1_000, datetime.UTC)
    return signer.sign(notification, verb, said=said, at=at)


async def settle(session, notification, verb=Verb.ACK, signed=None, **fields):
    items = [Settle(lease=notification.lease, verb=verb, signature=signed, **fields)]
    (result,) = await (await session.settle(items)).results()
    return result


async def receipt(broker, queue="acme"):
    page = await broker.store.browse(Receipts(queue, newest_first=True, limit=1))
    return decode_entry(page.receipts[0].entry)


# -- the register -------------------------------------------------------------------------------


async def test_a_key_is_added_read_and_revoked(broker, keys, clock):
    key = await keys.add("acme", SIGNER.public_pem, "of the archive", OPERATOR)
    assert (key.id, key.label, key.revoked_at_ms) == (SIGNER.key_id, "of the archive", None)
    assert await keys.of("acme") == [key]
    assert await keys.of("bob") == []
    clock.advance(5)
    for _ in range(2):
        revoked = await keys.revoke("acme", key.id, OPERATOR)
        assert revoked.revoked_at_ms == key.added_at_ms + 5_000
        assert await keys.of("acme") == [revoked]
        clock.advance(5)
    told = [(act.what.value, act.subject) for act in await acts(broker, what="signing_key")]
    assert told == [("signing_key.added", key.id), ("signing_key.revoked", key.id)]


async def test_what_is_refused(keys):
    with pytest.raises(ClientNotFound):
        await keys.add("nobody", SIGNER.public_pem, "", OPERATOR)
    with pytest.raises(ClientNotFound):
        await keys.of("nobody")
    with pytest.raises(InvalidSigningKey):
        await keys.add("acme", "no key", "", OPERATOR)
    with pytest.raises(OutOfBounds):
        await keys.add("acme", SIGNER.public_pem, "x" * 256, OPERATOR)
    with pytest.raises(KeyNotFound):
        await keys.revoke("acme", SIGNER.key_id, OPERATOR)
    await keys.add("acme", SIGNER.public_pem, "", OPERATOR)
    with pytest.raises(AlreadyExists):
        await keys.add("acme", SIGNER.public_pem, "again", OPERATOR)
    with pytest.raises(KeyNotFound):
        await keys.revoke("bob", SIGNER.key_id, OPERATOR)
    await keys.revoke("acme", SIGNER.key_id, OPERATOR)
    with pytest.raises(AlreadyExists):
        await keys.add("acme", SIGNER.public_pem, "once more", OPERATOR)


async def test_their_number_is_bounded(broker, keys):
    made = [Signer(Ed25519PrivateKey.generate()) for _ in range(KEYS + 1)]
    for number, signer in enumerate(made[:KEYS]):
        if number >= ACTIVE_KEYS:
            with pytest.raises(TooManySigningKeys):
                await add(broker, signer)
            await keys.revoke("acme", made[number - ACTIVE_KEYS].key_id, OPERATOR)
        await add(broker, signer)
    await keys.revoke("acme", made[KEYS - 1].key_id, OPERATOR)
    with pytest.raises(TooManySigningKeys):
        await add(broker, made[KEYS])
    assert len(await keys.of("acme")) == KEYS


async def test_two_nodes_add_at_once_and_both_are_kept(broker, store, clock, monkeypatch):
    """Another node is faster, twice: what it added is seen before the next try."""
    async with Broker(store, clock) as other:
        faster = [Signer(Ed25519PrivateKey.generate()) for _ in range(2)]
        left = list(faster)
        kept = broker.signing_keys._kept

        async def overtaken(client):
            seen = await kept(client)
            if left:
                await add(other, left.pop())
            return seen

        await add(broker, OTHER)
        monkeypatch.setattr(broker.signing_keys, "_kept", overtaken)
        await add(broker, SIGNER)
        ids = {key.id for key in await other.signing_keys.of("acme")}
        assert ids == {signer.key_id for signer in (OTHER, SIGNER, *faster)}


# -- settling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("signer", [SIGNER, OTHER])
@pytest.mark.parametrize(
    ("verb", "fields", "said"),
    [
        (Verb.ACK, {}, b""),
        (Verb.ACK, {"reply": b"\xff", "reason": "not said"}, b"\xff"),
        (Verb.NACK, {"reason": "busy"}, b"busy"),
        (Verb.REJECT, {"reason": "größe"}, "größe".encode()),
    ],
)
async def test_a_signed_outcome_is_in_the_receipt(broker, clock, signer, verb, fields, said):
    await add(broker, signer)
    session, notification = await leased(broker)
    signed = signature(clock, notification, verb, said, signer)
    assert isinstance(await settle(session, notification, verb, signed, **fields), Settled)
    kept = await receipt(broker)
    assert (kept.signature_key, kept.signed_at) == (signer.key_id, signed.at)
    assert verify_signature(kept, signer.public_pem)


async def test_what_does_not_hold_settles_nothing(broker, clock):
    await add(broker)
    await add(broker, OTHER, "bob")
    session, notification = await leased(broker)
    good = signature(clock, notification)
    clock.advance(1)
    _, another = await leased(broker)
    for signed, error in (
        (signature(clock, notification, said=b"<ok/>"), SignatureRefused),
        (signature(clock, notification, Verb.REJECT), SignatureRefused),
        (signature(clock, another), SignatureRefused),
        (signature(clock, notification, signer=OTHER), SigningKeyUnknown),
    ):
        result = await settle(session, notification, signed=signed)
        assert type(result) is error
    assert (await receipt(broker)).outcome == "published"
    assert isinstance(await settle(session, notification, signed=good), Settled)


async def test_a_signature_is_of_its_time(broker, clock):
    await settings(broker, lease_seconds=3_600)
    await add(broker)
    session, notification = await leased(broker)
    signed = signature(clock, notification)
    clock.advance(601)
    assert isinstance(await settle(session, notification, signed=signed), SignatureOutOfTime)
    again = signature(clock, notification)
    assert isinstance(await settle(session, notification, signed=again), Settled)


async def test_a_revoked_key_signs_nothing_more_on_any_node(broker, store, clock):
    async with Broker(store, clock) as other:
        await add(broker)
        session, notification = await leased(broker)
        await broker.signing_keys.revoke("acme", SIGNER.key_id, OPERATOR)
        there = await other.session("acme", ACME)
        for one in (session, there):
            result = await settle(one, notification, signed=signature(clock, notification))
            assert isinstance(result, SigningKeyEnded)


async def test_a_repeated_settle_is_answered_as_the_first(broker, clock):
    await add(broker)
    session, notification = await leased(broker)
    first = await settle(session, notification, signed=signature(clock, notification))
    clock.advance(20)
    again = await settle(session, notification, signed=signature(clock, notification))
    assert (again.number, again.repeated) == (first.number, True)


async def test_whoever_settles_for_a_client_needs_the_clients_signature(broker, clock):
    """An administrator hands on what the queue's owner signed."""
    await add(broker)
    session, notification = await leased(broker, actor=OPERATOR)
    signed = signature(clock, notification)
    assert isinstance(await settle(session, notification, signed=signed), Settled)
    kept = await receipt(broker)
    assert (kept.principal, kept.signature_key) == ("op", SIGNER.key_id)


@pytest.mark.parametrize("verb", [Verb.RELEASE, Verb.EXTEND])
async def test_what_says_nothing_of_the_document_is_not_signed(broker, clock, verb):
    await add(broker)
    session, notification = await leased(broker)
    result = await settle(session, notification, verb, signature(clock, notification))
    assert type(result) is SignatureRefused


async def test_a_queue_may_require_it(broker, clock):
    await settings(broker, signature="required", backoff_base_seconds=0)
    await add(broker)
    session, first = await leased(broker)
    assert isinstance(await settle(session, first, Verb.EXTEND), Settled)
    assert isinstance(await settle(session, first, Verb.NACK), Settled)
    (again,) = await session.receive(max=1)
    assert isinstance(await settle(session, to_notification(session, again), Verb.RELEASE), Settled)
    session, notification = await leased(broker)
    for verb in (Verb.ACK, Verb.REJECT):
        assert isinstance(await settle(session, notification, verb), SignatureRequired)
    signed = signature(clock, notification, Verb.REJECT, b"poison")
    result = await settle(session, notification, Verb.REJECT, signed, reason="poison")
    assert isinstance(result, Settled)


async def test_it_is_required_from_then_on_of_those_attached_before_too(broker, clock):
    """The session and the stream were opened when the queue took acks without."""
    await add(broker)
    session, notification = await leased(broker)
    with await broker.stream("acme", ACME) as stream:
        await settings(broker, signature="required")
        items = [Settle(lease=notification.lease, verb=Verb.ACK)]
        for attached in (session, stream):
            (result,) = await (await attached.settle(items)).results()
            assert isinstance(result, SignatureRequired)
        await settings(broker)
        assert isinstance(await settle(session, notification), Settled)


@pytest.fixture
def verifying(monkeypatch):
    """The values that have been verified, one after the other."""
    done = []
    holds = client_signatures.holds

    def note(public, text, value):
        done.append(value)
        return holds(public, text, value)

    monkeypatch.setattr(client_signatures, "holds", note)
    return done


async def held(broker, count):
    """So many notifications in hand."""
    await broker.publish_batch([letter()] * count, SHOP)
    session = await broker.session("acme", ACME)
    deliveries = await session.receive(max=count)
    return session, [to_notification(session, one) for one in deliveries]


async def test_large_batches_let_others_have_their_turns(broker, clock, verifying):
    """However many batches there are, the loop goes on after some signatures."""
    await add(broker)
    session, notifications = await held(broker, 100)
    items = [
        Settle(lease=one.lease, verb=Verb.ACK, signature=signature(clock, one))
        for one in notifications
    ]
    most = 0

    async def watch():
        nonlocal most
        before = 0
        while True:
            await asyncio.sleep(0)
            most, before = max(most, len(verifying) - before), len(verifying)

    watching = asyncio.create_task(watch())
    settlings = await asyncio.gather(session.settle(items[:47]), session.settle(items[47:]))
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    results = [result for settling in settlings for result in await settling.results()]
    assert all(isinstance(result, Settled) for result in results)
    assert (len(verifying), most) == (100, AT_ONCE)


async def test_a_lease_that_comes_again_in_a_batch_is_verified_once(broker, clock, verifying):
    await add(broker)
    session, (notification, another) = await held(broker, 2)
    good, bad = signature(clock, notification), signature(clock, another)
    again = Settle(lease=notification.lease, verb=Verb.ACK, signature=good)
    items = [
        again,
        again,
        Settle(lease=notification.lease, verb=Verb.ACK, signature=bad),
        Settle(lease=notification.lease, verb=Verb.ACK, signature=good, reply=b"else"),
        Settle(lease=notification.lease, verb=Verb.REJECT, signature=good),
    ]
    first, second, *others = await (await session.settle(items)).results()
    assert (first.repeated, second.repeated) == (False, True)
    assert [type(result) for result in others] == [SignatureRefused] * 3
    assert verifying == [good.value]


async def test_a_batch_over_queues_is_verified_by_each_owners_keys(broker, clock):
    await add(broker)
    await add(broker, OTHER, "bob")
    _, mine = await leased(broker)
    _, theirs = await leased(broker, "bob", BOB)
    items = [
        Settle(lease=mine.lease, verb=Verb.ACK, signature=signature(clock, mine)),
        Settle(lease=theirs.lease, verb=Verb.ACK, signature=signature(clock, theirs, signer=OTHER)),
    ]
    results = await (await broker.settle(items, OPERATOR)).results()
    assert all(isinstance(result, Settled) for result in results)


async def test_nothing_is_looked_up_where_nothing_is_signed(broker, store, monkeypatch):
    session, notification = await leased(broker)
    asked = []
    browse = store.browse

    def note(query):
        asked.append(query)
        return browse(query)

    monkeypatch.setattr(store, "browse", note)
    assert isinstance(await settle(session, notification), Settled)
    await broker.settle([Settle(lease=notification.lease, verb=Verb.ACK)], ACME)
    assert asked == []
