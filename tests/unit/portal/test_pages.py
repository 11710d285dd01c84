"""What a client's people see, and that nothing of anybody else's is among it."""

import datetime
import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.desk.house import Reader
from tests.unit.desk.test_pages import HOSTILE, POLICY, Markup
from tests.unit.engine.house import (
    ACME,
    BOB,
    OPERATOR,
    SHOP,
    acts,
    bury,
    figures,
    letter,
    settings,
    turns,
)

from restante.client import Signer
from restante.desk.live import HEARTBEAT_SECONDS, PAUSE_SECONDS
from restante.desk.site import HTML
from restante.engine.receipt_log import ReceiptLog
from restante.engine.settling import Settle
from restante.http.delivering import to_notification
from restante.model import Verb
from restante.portal.pages import SAMPLES, TEST_BODY, samples
from restante.wire.checkpoints import LogKeys, SignerKey


@pytest.fixture
async def filled(portal, broker):
    """Of both clients: one signed for, one dead, one waiting, all meant to do harm; the ids of each."""
    ids = {}
    for actor in (ACME, BOB):
        queue = actor.name
        fields = {"queue": queue, "ordering_key": HOSTILE, "attributes": {"note": HOSTILE}}
        appended = await broker.publish_batch(
            [letter(**fields | {"ordering_key": k}) for k in "abc"], SHOP
        )
        session = await broker.session(queue, actor)
        one, two = await session.receive(max=2)
        settling = await session.settle(
            [
                Settle(lease=session.token(one), verb=Verb.ACK, reply=HOSTILE.encode()),
                Settle(lease=session.token(two), verb=Verb.REJECT, reason=HOSTILE),
            ]
        )
        await settling.results()
        ids[queue] = [each.id for each in appended]
        await broker.monitor.refresh(queue)
    return ids


def pages(queue, ids):
    place = f"/portal/queues/{queue}"
    return [
        *(place, f"{place}/now", f"{place}/deliveries", f"{place}/charts", f"{place}/samples"),
        f"{place}/signing",
        *(f"/portal/dead-letters/{queue}", f"/portal/notifications/{ids[queue][0]}"),
        f"/portal/notifications?id={queue}~1",
    ]


async def test_ones_own(acme, filled):
    for path in ["/portal/", "/portal/receipts", *pages("acme", filled)]:
        answer = await acme.see(path, follow_redirects=True)
        assert answer.status_code == 200, path
        assert answer.headers["content-security-policy"] == POLICY
        if "html" in answer.headers["content-type"]:
            markup = Markup(answer.text)
            assert markup.handlers == set(), path
            assert all(address.startswith("/portal/static/") for address in markup.loads)
            links = re.findall(r'(?:href|action|hx-get|data-live)="([^"]+)"', answer.text)
            elsewhere = {link for link in links if not link.startswith(("/portal/", "#"))}
            assert elsewhere <= {"/docs", "/openapi.yaml", "/asyncapi.yaml", "/restante.proto"}, (
                path
            )


async def test_the_way_back_is_called_what_the_menu_calls_it(acme, filled):
    notification = f"/portal/notifications/{filled['acme'][0]}"
    for path in (notification, "/portal/queues/acme/webhook", "/portal/queues/acme/nothing"):
        answer = await acme.see(path)
        assert answer.headers["content-type"] == HTML.decode()
        assert "verview" not in answer.text, path
    missing = await acme.see("/portal/queues/acme/nothing")
    assert missing.status_code == 404
    assert "there is nothing at /portal/queues/acme/nothing" in missing.text
    assert (await acme.send_form("/portal/queues/acme/nothing")).status_code == 404


async def test_anothers_is_not_there(acme, filled, broker):
    for path in pages("bob", filled):
        answer = await acme.see(path)
        assert answer.status_code == 404, path
        assert filled["bob"][0] not in answer.text.replace(path.rpartition("/")[2], "")
    await acme.see("/portal/")
    before = await figures(broker, "bob")
    for path in (
        *("queues/bob/try", "queues/bob/webhook/pause", "dead-letters/bob/redrive"),
        *(f"notifications/{filled['bob'][0]}/body", f"notifications/{filled['bob'][0]}/download"),
    ):
        answer = await acme.send_form(f"/portal/{path}", seq="2")
        assert answer.status_code == 404, path
    assert await figures(broker, "bob") == before
    assert "There is no client or queue bob" in (await acme.see("/portal/receipts?name=bob")).text
    assert (await acme.see("/portal/receipts/export?name=bob")).status_code == 404
    assert "bob" not in (await acme.see("/portal/receipts/export")).text


async def test_what_is_the_operators_is_not_here(acme, portal):
    for path in (
        "/portal/audit",
        "/portal/jobs",
        "/portal/queues/acme/settings",
        "/portal/dead-letters",
    ):
        assert (await acme.see(path)).status_code == 404, path
    here = {path for _, path in portal.routes}
    assert all(path.startswith("/portal/") for path in here)
    assert not any("keys" in path or "discard" in path or "replace" in path for path in here)


async def test_a_body_is_ones_own_to_see(acme, filled, broker):
    id = filled["acme"][0]
    await acme.see(f"/portal/notifications/{id}")
    answer = await acme.send_form(f"/portal/notifications/{id}/body")
    assert "<hello/>" in Markup(answer.text).words
    assert (await acme.send_form(f"/portal/notifications/{id}/download")).content == b"<hello/>"


async def test_they_redrive_where_they_may(acme, broker):
    await bury(broker, 2)
    page = (await acme.see("/portal/dead-letters/acme")).text
    assert "Redrive" not in page
    answer = await acme.send_form("/portal/dead-letters/acme/redrive", seq="1")
    assert (answer.status_code, (await figures(broker)).dead) == (403, 2)
    await settings(broker, client_may_redrive=True)
    page = (await acme.see("/portal/dead-letters/acme")).text
    assert ("Redrive" in page, "Discard" in page, "Replace" in page) == (True, False, False)
    answer = await acme.send_form("/portal/dead-letters/acme/redrive", seq="1")
    assert answer.headers["location"] == "/portal/dead-letters/acme?done=redriven&count=1"
    assert (await figures(broker)).ready == 1
    (act,) = await acts(broker, what="dead")
    assert (act.who.name, act.who.role, act.who.transport) == ("acme", "client", "portal")


async def test_ones_own_signing_keys_are_seen_alone(acme, portal, broker, clock):
    """And which receipts they have signed; they are changed by nobody here."""
    signers = {name: Signer(Ed25519PrivateKey.generate()) for name in ("acme", "bob")}
    for name, signer in signers.items():
        await broker.signing_keys.add(name, signer.public_pem, HOSTILE, OPERATOR)
    await broker.publish(letter(), SHOP)
    session = await broker.session("acme", ACME)
    (one,) = await session.receive()
    at = datetime.datetime.fromtimestamp(clock.wall_ms() / 1_000, datetime.UTC)
    signed = signers["acme"].sign(to_notification(session, one), Verb.ACK, at=at)
    item = Settle(lease=session.token(one), verb=Verb.ACK, signature=signed)
    await (await session.settle([item])).results()
    place = "/portal/queues/acme/signing"
    page = (await acme.see(place)).text
    assert f'id="k-{signers["acme"].key_id}"' in page
    assert signers["bob"].key_id not in page
    assert not re.findall(rf'action="{place}', page)
    assert f'href="{place}"' in (await acme.see("/portal/queues/acme")).text
    for path in ("/portal/receipts?name=acme", f"/portal/notifications/{one.id}"):
        page = (await acme.see(path)).text
        assert f'href="{place}#k-{signers["acme"].key_id}"' in page
    for path in (place, f"{place}/{signers['acme'].key_id}/revoke"):
        assert (await acme.send_form(path, pem="")).status_code in (404, 405)


async def test_the_proof_of_ones_own_receipts(acme, filled, broker):
    keys = LogKeys((SignerKey("receipts.example", b"\x01" * 32),))
    log = ReceiptLog(broker.store, broker.clock, "one", keys)
    assert "not yet" in (await acme.see("/portal/receipts?name=acme")).text
    while await log.step():
        pass
    for path in ("/portal/receipts?name=acme", f"/portal/notifications/{filled['acme'][0]}"):
        assert 'href="/portal/receipts/acme~1/proof"' in (await acme.see(path)).text
    answer = await acme.see("/portal/receipts/acme~1/proof")
    assert answer.content == await log.proof("acme", 1)
    for none in ("bob~1", "nothing~1"):
        assert (await acme.see(f"/portal/receipts/{none}/proof")).status_code == 404
    assert (await acme.see("/portal/log")).status_code == 404


async def test_a_test_notification(acme, broker, clock):
    await acme.see("/portal/queues/acme")
    answer = await acme.send_form("/portal/queues/acme/try")
    place = answer.headers["location"]
    assert "restante.test" in (await acme.see(place)).text
    session = await broker.session("acme", ACME)
    (one,) = await session.receive()
    assert (one.body, f"/portal/notifications/{one.id}") == (TEST_BODY, place)
    (act,) = await acts(broker, what="test.published")
    assert (act.who.name, act.subject) == ("acme", one.id)
    codes = [(await acme.send_form("/portal/queues/acme/try")).status_code for _ in range(5)]
    assert codes == [303] * 4 + [429]
    clock.advance(5)
    assert (await acme.send_form("/portal/queues/acme/try")).status_code == 303


async def test_samples_are_made_for_the_queue(acme, portal):
    page = Markup((await acme.see("/portal/queues/acme/samples")).text).words
    assert page.count("https://desk.test") >= len(SAMPLES)
    assert "@URL@" not in page
    assert portal.keys["acme"] not in page
    assert len(samples("http://a.test", "q")) == len(SAMPLES)


async def test_no_route_shows_another(acme, filled, portal):
    """The matrix: whatever names a queue or a notification is not there for anybody but its owner."""
    await acme.see("/portal/")
    seen = 0
    for method, path in sorted(portal.routes):
        if "{queue}" not in path and "{id}" not in path:
            continue
        if method == "GET" and ("POST", path) in portal.routes:
            continue  # it leads back to its page, which is among these
        seen += 1
        place = path.format(queue="bob", id=filled["bob"][0])
        answer = await (acme.see(place) if method == "GET" else acme.send_form(place, seq="1"))
        assert answer.status_code == 404, (method, path)
        if method == "GET":
            await acme.see("/portal/")
    assert seen > 12


async def test_what_was_loaded_again_leads_back_to_its_page(acme, filled, portal):
    for method, path in sorted(portal.routes):
        if method == "POST" and ("GET", path) in portal.routes and "enter" not in path:
            place = path.format(queue="acme", id=filled["acme"][0])
            answer = await acme.see(place, follow_redirects=True)
            assert answer.status_code == 200, path


async def test_one_hears_of_ones_own(portal, broker, acme, clock):
    reader = Reader(portal, acme.cookies, "/portal/live")
    await turns(60)
    await broker.publish(letter(queue="bob"), SHOP)
    await broker.monitor.refresh("bob")
    await turns(60)
    clock.advance(HEARTBEAT_SECONDS / 2)
    await turns(60)
    assert reader.kinds() == ["open"]
    assert len(reader.events) == 1
    await broker.publish(letter(), SHOP)
    await broker.monitor.refresh("acme")
    await turns(60)
    assert reader.kinds() == ["open", "changed"]
    broker.retire()
    clock.advance(PAUSE_SECONDS)
    await reader.task
