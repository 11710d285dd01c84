"""The calls about the log of receipts, over the service itself in this process, through the client."""

import httpx
import pytest
from tests.unit.engine.house import SHOP, letter

from restante.app import build_api
from restante.changes import PutPaper
from restante.client import Client
from restante.engine import waiting
from restante.engine.receipt_log import ReceiptLog
from restante.errors import LogEmpty, OutOfBounds, ReceiptNotSealed, TooManyWaiters
from restante.papers import Kind, Paper
from restante.receipt_log import head_key
from restante.wire import proofs
from restante.wire.checkpoints import LogKeys, SignerKey

KEY = SignerKey("receipts.example", b"\x01" * 32)
ADMIN = "the-administrators-key"


@pytest.fixture
async def admin(broker):
    transport = httpx.ASGITransport(build_api(broker, ADMIN))
    async with Client("http://service.test", ADMIN, transport=transport) as client:
        yield client


async def keep_head(broker, key, content):
    await broker.configure(PutPaper(Paper(kind=Kind.LOG_HEAD, key=key, content=content)))


async def test_a_damaged_head_is_handed_out_as_it_is_and_ends_no_page(admin, broker):
    for size, content in ((5, b"junk"), (7, b"o\nmuch\n"), (9, b"\xff")):
        await keep_head(broker, head_key(size), content)
    pages = [await admin.ledger_heads(after=after, limit=1) for after in (None, 5, 7, 9)]
    assert [page.heads for page in pages] == [["junk"], ["o\nmuch\n"], ["\ufffd"], []]
    assert [page.next for page in pages] == [5, 7, 9, None]


async def test_a_head_under_a_damaged_key_is_passed_over(admin, broker):
    for key in ("!", head_key(5), head_key(5) + "x", head_key(7), "9" * 19, "junk"):
        await keep_head(broker, key, key.encode())
    pages = [await admin.ledger_heads(after=after, limit=1) for after in (None, 5, 7)]
    assert [page.heads for page in pages] == [[head_key(5)], [head_key(7)], []]
    assert [page.next for page in pages] == [5, 7, None]


async def test_who_waits_for_a_proof_takes_a_place(admin, broker, monkeypatch):
    await broker.publish(letter(), SHOP)
    monkeypatch.setattr(waiting, "WAITERS", 0)
    with pytest.raises(ReceiptNotSealed):
        await admin.proof("acme~1", wait_seconds=0)
    with pytest.raises(TooManyWaiters):
        await admin.proof("acme~1", wait_seconds=1)
    # One that is in the log is not waited for.
    await ReceiptLog(broker.store, broker.clock, "one", LogKeys((KEY,))).step()
    proof = await admin.proof("acme~1", wait_seconds=1)
    assert proofs.check(proof, "receipts.example", [KEY.verifier]).receipt.number == 1


async def test_bounds_are_those_of_the_log_as_it_is(admin, broker):
    log = ReceiptLog(broker.store, broker.clock, "one", LogKeys((KEY,)))
    await log.step()
    with pytest.raises(LogEmpty, match="the log is empty"):
        await admin.ledger_consistency(1, 1)
    await broker.publish(letter(), SHOP)
    await log.step()
    assert (await admin.ledger_consistency(1, 1)).path == []
    for old, new, told in (
        (1, 2, "to must be between 1 and 1, not 2"),
        (0, 1, "from must be between 1 and 1, not 0"),
        (-1, 1, "from must be between 1 and 1, not -1"),
        (10**30, 1, f"from must be between 1 and 1, not {10**30}"),
    ):
        with pytest.raises(OutOfBounds, match=told):
            await admin.ledger_consistency(old, new)


async def test_a_size_that_no_log_has_is_out_of_bounds(admin):
    for after in (10**26, -1):
        with pytest.raises(OutOfBounds, match=f"after must be between 0 and {2**62}, not {after}"):
            await admin.ledger_heads(after=after)
    assert (await admin.ledger_heads(after=2**62)).heads == []
