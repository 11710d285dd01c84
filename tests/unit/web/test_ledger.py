"""The calls about the log of receipts, over the service itself in this process, through the client."""

import httpx
import pytest
from tests.unit.engine.house import SHOP, letter

from restante.app import build_api
from restante.changes import PutPaper
from restante.client import Client
from restante.engine import waiting
from restante.engine.receipt_log import ReceiptLog
from restante.errors import ReceiptNotSealed, TooManyWaiters
from restante.papers import Kind, Paper
from restante.receipt_log import head_key
from restante.wire import proofs
from restante.wire.checkpoints import LogKeys, SignerKey

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
    key = SignerKey("receipts.example", b"\x01" * 32)
    await ReceiptLog(broker.store, broker.clock, "one", LogKeys((key,))).step()
    proof = await admin.proof("acme~1", wait_seconds=1)
    assert proofs.check(proof, "receipts.example", [key.verifier]).receipt.number == 1
