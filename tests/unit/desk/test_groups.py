"""A group's page, and the way there from what was published in it."""

import html
import re

import pytest
from tests.unit.desk.test_pages import HOSTILE, Markup
from tests.unit.engine.group_house import ask, member, settle, take
from tests.unit.engine.house import ACME, SHOP, letter, turns

from restante.desk.groups import membership
from restante.engine.settling import Settle
from restante.model import Verb
from restante.queries import NotificationById


@pytest.fixture
async def browser(site):
    return await site.signed_in("viewer")


async def parts(broker, id):
    group = await broker.groups.group(id, SHOP)
    return [(one.notification, one.compensation) for one in group.members]


async def words(browser, path):
    answer = await browser.see(path)
    assert answer.status_code == 200
    assert Markup(answer.text).handlers == set()
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


async def test_while_it_is_pending(browser, broker, clock):
    id = await ask(broker, (member("acme"), member("bob", required=False, undo=False)))
    told = await words(browser, f"/groups/{id}")
    assert "It waits for every required member" in told
    assert "by shop" in told
    assert ", in 1 min" in told
    assert "Outcome recorded not yet" in told
    assert "2, 1 required" in told
    assert "acme yes ready" in told
    assert "kept ready" in told
    assert "bob no ready" in told
    assert "there is none" in told
    await take(broker, "acme")
    assert "acme yes leased" in await words(browser, f"/groups/{id}/now")


async def test_when_it_is_complete(browser, broker):
    id = await ask(broker)
    await settle(broker, "acme")
    await settle(broker, "bob")
    told = await words(browser, f"/groups/{id}")
    assert "Every required member was signed for." in told
    assert told.count("not needed") == 2
    assert "acme yes signed" in told
    assert "Outcome recorded 2026-01-01" in told


async def test_when_it_was_compensated(browser, broker):
    id = await ask(broker)
    await settle(broker, "acme")
    await settle(broker, "bob", Verb.REJECT, reason=HOSTILE)
    ((_, compensation), (other, _)) = await parts(broker, id)
    page = (await browser.see(f"/groups/{id}")).text
    told = await words(browser, f"/groups/{id}")
    assert "It has failed, and whoever had signed was sent" in told
    assert " ".join(HOSTILE.split()) in told
    assert f"{compensation} ready" in told
    assert f'href="/notifications/{compensation}"' in page
    assert f'href="/notifications/{other}"' in page
    assert "bob yes dead" in told
    await settle(broker, "acme")
    assert f"{compensation} signed" in await words(browser, f"/groups/{id}/now")
    words_there = await words(browser, f"/notifications/{compensation}")
    assert f"Compensates a part of group {id} , compensated" in words_there


async def test_while_a_late_one_may_still_be_signed(browser, broker):
    id = await ask(broker)
    session, one = await take(broker, "acme")
    await settle(broker, "bob", Verb.REJECT)
    told = await words(browser, f"/groups/{id}")
    assert "whoever has signed, or signs later on" in told
    assert "acme yes leased" in told
    await (await session.settle([Settle(lease=session.token(one), verb=Verb.ACK)])).results()
    await turns()
    assert "compensated" in await words(browser, f"/groups/{id}")


async def test_a_notification_leads_to_its_group(browser, broker):
    id = await ask(broker)
    ((notification, _), _) = await parts(broker, id)
    page = (await browser.see(f"/notifications/{notification}")).text
    assert f'href="/groups/{id}"' in page
    assert "Part of group" in page
    answer = await browser.see(f"/notifications?id={id}")
    assert answer.headers["location"] == f"/groups/{id}"


async def test_who_only_says_so_is_of_no_group(browser, broker):
    """Any publisher can give a notification the attribute."""
    id = await ask(broker)
    for named in (id, HOSTILE, "open/x"):
        appended = await broker.publish(letter(attributes={"group": named}), SHOP)
        page = (await browser.see(f"/notifications/{appended.id}")).text
        assert "Part of group" not in page
        assert "/groups/" not in page


async def test_a_group_that_is_not_there(browser):
    for path in ("/groups/nothing", "/groups/nothing/now", "/groups/open%2Fx"):
        assert (await browser.see(path)).status_code == 404


async def test_clients_hear_of_no_group(broker):
    """It would tell of others' queues."""
    id = await ask(broker)
    ((notification, _), _) = await parts(broker, id)
    found = await broker.store.browse(NotificationById(notification))
    assert await membership(broker, found, ACME) is None
    told = await membership(broker, found, SHOP)
    assert told is not None
    assert (told.group.id, told.compensates) == (id, False)
