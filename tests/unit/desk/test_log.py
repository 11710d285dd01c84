"""What pages tell of the log of receipts, and the files that they hand out of it."""

import datetime
import json
import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.desk.house import ADMIN_KEY, Site
from tests.unit.desk.test_pages import Markup
from tests.unit.engine.house import ACME, OPERATOR, SHOP, letter, turns

from restante.changes import PutPaper
from restante.client import Signer
from restante.desk import log as log_page
from restante.desk.words import NONE
from restante.engine.broker import Broker
from restante.engine.receipt_log import HEAD_SECONDS, SEAL_SECONDS
from restante.engine.settling import Settle
from restante.http.delivering import to_notification
from restante.model import Verb
from restante.papers import Kind, Paper
from restante.receipt_log import STATE_KEY, head_key
from restante.wire import proofs
from restante.wire.checkpoints import LogKeys, SignerKey, of_note

KEY = SignerKey("receipts.example", b"\x01" * 32)
SIGNER = Signer(Ed25519PrivateKey.generate())


@pytest.fixture
async def broker(store, clock):
    async with Broker(store, clock, log_keys=LogKeys((KEY,))) as broker:
        yield broker


async def seal(broker, clock, seconds=SEAL_SECONDS):
    clock.advance(seconds)
    await turns()


async def sign(broker, clock, signer=None):
    """Publish one and have it signed for, by the client's own key too; its id."""
    appended = await broker.publish(letter(), SHOP)
    session = await broker.session("acme", ACME)
    (one,) = await session.receive()
    at = datetime.datetime.fromtimestamp(clock.wall_ms() / 1_000, datetime.UTC)
    signed = signer and signer.sign(to_notification(session, one), Verb.ACK, at=at)
    item = Settle(lease=session.token(one), verb=Verb.ACK, signature=signed)
    await (await session.settle([item])).results()
    return appended.id


async def test_the_newest_head_is_told(site, broker, clock):
    browser = await site.signed_in("viewer")
    await sign(broker, clock)
    await seal(broker, clock)
    state = await broker.log.state()
    page = (await browser.see("/log")).text
    words = Markup(page).words
    assert re.search(r"Receipts in the log</dt><dd>2<", page)
    for told in (state.root.hex(), KEY.verifier.text, f"{KEY.verifier.name} {key_id()}"):
        assert told in words, told
    assert state.root.hex() in (await browser.see("/log/now")).text
    assert "could not seal" not in words
    answer = await browser.see("/log/head")
    assert answer.text == state.checkpoint
    assert answer.headers["content-disposition"] == 'attachment; filename="head-2.txt"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    overview = (await browser.see("/overview/now")).text
    assert '<a id="log" href="/log">2</a>' in overview


def key_id():
    return KEY.verifier.id.hex()


async def test_a_node_without_a_key_seals_nothing(store, clock):
    async with Broker(store, clock) as keyless:
        browser = Site(keyless).browser()
        await browser.sign_in_by_key(ADMIN_KEY)
        words = Markup((await browser.see("/log")).text).words
        assert "This node has no key and seals nothing" in words
        assert "Nothing was sealed yet." in words
        assert (await browser.see("/log/head")).status_code == 404
        overview = (await browser.see("/overview/now")).text
        assert f'<a id="log" href="/log">{NONE}</a>' in overview


async def test_why_it_cannot_be_sealed_is_told(site, broker, clock, monkeypatch):
    browser = await site.signed_in("viewer")
    await sign(broker, clock)
    await seal(broker, clock)
    await sign(broker, clock)
    with monkeypatch.context() as patch:
        patch.setattr(broker.log, "step", lambda: 1 / 0)
        await seal(broker, clock)
    assert "could not seal when it last tried: a defect" in (await browser.see("/log")).text
    assert ">failing</a>" in (await browser.see("/overview/now")).text
    await seal(broker, clock)
    assert "could not seal" not in (await browser.see("/log")).text
    assert '<a id="log" href="/log">4</a>' in (await browser.see("/overview/now")).text


async def test_heads_are_told_page_by_page(site, broker, clock, monkeypatch):
    monkeypatch.setattr(log_page, "PAGE", 2)
    browser = await site.signed_in("viewer")
    for _ in range(4):
        await broker.publish(letter(), SHOP)
        await seal(broker, clock, HEAD_SECONDS)
    notes = [note for _, note in await broker.log.heads(None, 100)]
    sizes = [of_note(note, KEY.verifier.name, [KEY.verifier]).size for note in notes]
    page = (await browser.see("/log")).text
    assert f"Heads kept</dt><dd>{len(notes)}<" in page
    assert told_sizes(page) == sizes[:-3:-1]
    (older,) = re.findall(r'href="(/log\?before=\d+)" rel="next"', page)
    assert told_sizes((await browser.see(older)).text) == sizes[-3:-5:-1]
    assert "of a smaller log" in (await browser.see("/log?before=1")).text
    monkeypatch.setattr(log_page, "COUNTED", 3)
    assert "3 or more" in (await browser.see("/log/now")).text


def told_sizes(page):
    rows = page.split('id="heads-title"')[1]
    return [int(size) for size in re.findall(r'</th><td class="number">(\d+)</td>', rows)]


async def test_a_head_that_nobody_has_signed_is_told_for_none(site, broker, clock):
    await broker.publish(letter(), SHOP)
    await seal(broker, clock)
    forged = (await broker.log.state()).checkpoint.replace("\n1\n", "\n7\n", 1)
    paper = Paper(kind=Kind.LOG_HEAD, key=head_key(7), content=forged.encode(), version=0)
    await broker.store.configure([PutPaper(paper)])
    page = (await (await site.signed_in("viewer")).see("/log")).text
    assert page.count("signed by none of the keys") == 1
    assert 7 not in told_sizes(page)


async def test_what_is_damaged_hides_nothing_else(site, broker, clock, monkeypatch):
    monkeypatch.setattr(log_page, "PAGE", 2)
    browser = await site.signed_in("viewer")
    for _ in range(4):
        await broker.publish(letter(), SHOP)
        await seal(broker, clock, HEAD_SECONDS)
    sizes = [size for size, _ in await broker.log.heads(None, 100)]

    async def damage(kind, key):
        await broker.store.configure([PutPaper(Paper(kind=kind, key=key, content=b"{"))])

    # Of a whole page none can be read, and it is gone on behind it.
    for size in sizes[-2:]:
        await damage(Kind.LOG_HEAD, head_key(size))
    await damage(Kind.LOG_HEAD, "9" * 19)
    page = (await browser.see("/log")).text
    assert page.count("signed by none of the keys") == 2
    (older,) = re.findall(r'href="(/log\?before=\d+)" rel="next"', page)
    assert told_sizes((await browser.see(older)).text) == sizes[-3:-5:-1]
    await damage(Kind.LOG_KEY, "0")
    words = Markup((await browser.see(older)).text).words
    assert "is damaged: paper log_key/0 is not what was written" in words
    assert KEY.verifier.text in words
    await damage(Kind.LOG, STATE_KEY)
    for path in (older, "/log/now"):
        answer = await browser.see(path)
        assert answer.status_code == 200
        words = Markup(answer.text).words
        assert "is damaged: paper log/state is not what was written" in words
        assert "is damaged: paper log_key/0 is not what was written" in words
        assert "Nothing was sealed yet" not in words
    assert told_sizes((await browser.see(older)).text) == sizes[-3:-5:-1]


async def test_receipts_tell_whether_they_are_sealed_and_who_signed(site, broker, clock):
    await broker.signing_keys.add("acme", SIGNER.public_pem, "", OPERATOR)
    browser = await site.signed_in("viewer")
    first = await sign(broker, clock, SIGNER)
    await seal(broker, clock)
    second = await sign(broker, clock)
    page = (await browser.see("/receipts?name=acme")).text
    assert linked(page) == ["acme~2", "acme~1"]
    assert page.count("not yet") == 2
    assert SIGNER.key_id[:12] in page
    page = (await browser.see(f"/notifications/{first}")).text
    assert linked(page) == ["acme~1", "acme~2"]
    assert SIGNER.key_id in page
    page = (await browser.see(f"/notifications/{second}")).text
    assert (linked(page), page.count("not yet"), SIGNER.key_id in page) == ([], 2, False)


def linked(page):
    return re.findall(r'href="/receipts/([^"]+)/proof"', page)


async def test_a_proof_is_the_document_that_the_interface_serves(site, broker, clock):
    browser = await site.signed_in("viewer")
    await sign(broker, clock)
    await sign(broker, clock)
    assert (await browser.see("/receipts/acme~3/proof")).status_code == 409
    await seal(broker, clock)
    answer = await browser.see("/receipts/acme~3/proof")
    assert answer.content == await broker.log.proof("acme", 3)
    proved = proofs.check(answer.content, KEY.verifier.name, [KEY.verifier])
    assert (proved.receipt.queue, proved.receipt.number) == ("acme", 3)
    assert json.loads(answer.content)["index"] == proved.index
    assert answer.headers["content-disposition"] == 'attachment; filename="proof-acme~3.json"'
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    for none in ("acme~99", "nothing~1", "acme"):
        assert (await browser.see(f"/receipts/{none}/proof")).status_code == 404
