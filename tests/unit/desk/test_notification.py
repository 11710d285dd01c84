"""A notification's page: its way, its body, and who looked at that; and what the audit shows of it."""

import re

import pytest
from tests.unit.desk.test_pages import HOSTILE, Markup
from tests.unit.engine.house import ACME, OPERATOR, SHOP, bury, letter

from restante.engine.dead_letters import DeadLetterDesk
from restante.engine.settling import Settle
from restante.model import State, Verb
from restante.queries import OpenDeliveries


async def published(broker, body=b"<a><script>alert(1)</script></a>"):
    (one,) = await broker.publish_batch([letter(body, content_type="application/xml")], SHOP)
    return one.id


async def test_the_way_is_told(site, broker):
    id = await published(broker)
    session = await broker.session("acme", ACME)
    (one,) = await session.receive(max=1)
    browser = await site.signed_in("viewer")
    assert "<strong>leased</strong> by acme" in (await browser.see(f"/notifications/{id}")).text
    await session.settle(
        [Settle(lease=session.token(one), verb=Verb.REJECT, reason=HOSTILE)]
    ).results()
    for path in (f"/notifications/{id}", f"/notifications/{id}/way"):
        page = Markup((await browser.see(path)).text)
        assert HOSTILE in page.words
        assert all(address.startswith("/static/") for address in page.loads)
        assert re.search(r"rejected\s+by acme", page.words)


async def test_a_look_at_the_body_is_recorded_and_shown(site, broker):
    id = await published(broker)
    browser = await site.signed_in("operator")
    page = (await browser.see(f"/notifications/{id}")).text
    assert "alert(1)" not in page
    assert "Who looked" not in page
    page = (await browser.send_form(f"/notifications/{id}/body")).text
    assert "<a><script>alert(1)</script></a>".replace("<", "") not in page
    assert "alert(1)" in Markup(page).words
    assert all(address.startswith("/static/") for address in Markup(page).loads)
    assert re.search(r"operator over dashboard", page)
    answer = await browser.send_form(f"/notifications/{id}/download")
    assert answer.content == b"<a><script>alert(1)</script></a>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == f'attachment; filename="{id}.bin"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    admin = await site.signed_in("admin")
    page = (await admin.see(f"/audit?subject={id}&what=body")).text
    assert page.count("<td>body.viewed</td>") == 2


@pytest.mark.parametrize("path", ["body", "download"])
async def test_a_viewer_does_not_see_bodies(site, broker, path):
    id = await published(broker)
    browser = await site.signed_in("viewer")
    await browser.see(f"/notifications/{id}")
    assert "Show the body" not in browser.page
    assert (await browser.send_form(f"/notifications/{id}/{path}")).status_code == 403


async def test_a_discarded_body_is_said_to_be_gone(site, broker):
    await bury(broker, 1)
    (dead,) = await broker.store.browse(OpenDeliveries("acme", State.DEAD))
    made = await DeadLetterDesk(broker, OPERATOR).replace("acme", dead.seq, b"better", "text/plain")
    browser = await site.signed_in("operator")
    page = (await browser.see(f"/notifications/{dead.id}")).text
    assert "The body is gone" in page
    assert f'replaced by <a class="id" href="/notifications/{made.id}"' in page
    answer = await browser.send_form(f"/notifications/{dead.id}/body")
    assert (answer.status_code, "The body is gone" in answer.text) == (410, True)
    page = (await browser.see(f"/notifications/{made.id}")).text
    assert f'It replaces <a class="id" href="/notifications/{dead.id}"' in page


async def test_it_is_found_by_its_id(site, broker):
    id = await published(broker)
    browser = await site.signed_in("viewer")
    answer = await browser.see(f"/notifications?id={id.upper()}")
    assert answer.headers["location"] == f"/notifications/{id}"
    assert (await browser.see("/notifications?id=none")).status_code == 404
    assert (await browser.see("/notifications/none")).status_code == 404


async def test_the_audit_is_for_administrators(site, broker):
    browser = await site.signed_in("operator")
    assert (await browser.see("/audit")).status_code == 403
    assert 'href="/audit"' not in browser.page
    admin = await site.signed_in("admin")
    page = (await admin.see("/audit?who=operator")).text
    assert "operator.signed_in" in page
    for _ in range(60):
        await broker.acts.record(OPERATOR, "dead.redriven", queue="acme")
    page = (await admin.see("/audit?queue=acme")).text
    assert page.count("<td>dead.redriven</td>") == 50
    older = re.search(r'href="(/audit\?[^"]*after=[^"]+)"', page)[1].replace("&amp;", "&")
    assert (await admin.see(older)).text.count("<td>dead.redriven</td>") == 10
