"""Notifications with their bodies, receipts and the audit, on the operators' page."""

import csv
import io
import json
import re

import msgspec
import pytest
from tests.unit.desk.test_pages import HOSTILE, Markup
from tests.unit.engine.house import ACME, OPERATOR, SHOP, acts, bury, letter

from restante.desk.receipts import EXPORTED, PAGE
from restante.engine.administration import Administration
from restante.engine.settling import Settle
from restante.errors import StoreUnavailable
from restante.model import Verb
from restante.queries import Receipts

XML = b"<order><note><![CDATA[<script>alert(1)</script>]]></note></order>"


@pytest.fixture
async def signed(broker):
    """A notification that failed once and was then signed for, with a reply; its id."""
    appended = await broker.publish(
        letter(XML, content_type="application/xml", attributes={"note": HOSTILE}), SHOP
    )
    session = await broker.session("acme", ACME)
    for verb, more in (
        (Verb.NACK, {"reason": HOSTILE, "retry_after_seconds": 0}),
        (Verb.ACK, {"reply": XML}),
    ):
        (one,) = await session.receive()
        await (
            await session.settle([Settle(lease=session.token(one), verb=verb, **more)])
        ).results()
    return appended.id


async def test_the_way_of_a_notification(site, signed):
    browser = await site.signed_in("viewer")
    page = (await browser.see(f"/notifications/{signed}")).text
    told = re.findall(r'class="step (\w+)"', page)
    assert told == ["published", "leased", "nacked", "leased", "acked"]
    words = Markup(page).words
    assert HOSTILE in words
    assert "<![CDATA[<script>alert(1)</script>]]>" in words, "the reply"
    assert "Operators may see it." in words
    assert Markup(page).handlers == set()
    assert (await browser.see("/notifications/nothing")).status_code == 404


async def test_who_has_it_now_is_told(site, broker):
    appended = await broker.publish(letter(), SHOP)
    browser = await site.signed_in("viewer")
    assert "Now leased" not in (await browser.see(f"/notifications/{appended.id}")).text
    over = msgspec.structs.replace(ACME, transport="websocket", remote_address="192.0.2.7:1")
    session = await broker.session("acme", over)
    await session.receive()
    words = Markup((await browser.see(f"/notifications/{appended.id}")).text).words
    assert (
        "Now leased, attempt 1, by acme over websocket from 192.0.2.7:1; the lease ends in" in words
    )


async def test_a_body_is_shown_and_the_look_recorded(site, broker, signed):
    browser = await site.signed_in("operator")
    page = (await browser.see(f"/notifications/{signed}")).text
    assert "c-tag" not in page.split('id="body"')[1], "not before it was asked for"
    answer = await browser.send_form(f"/notifications/{signed}/body")
    assert (
        "<![CDATA[<script>alert(1)</script>]]>" in Markup(answer.text.split('id="body"')[1]).words
    )
    answer = await browser.send_form(f"/notifications/{signed}/download")
    assert answer.content == XML
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == f'attachment; filename="{signed}.xml"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    looks = await acts(broker, what="body.viewed", subject=signed)
    assert [act.who.name for act in looks] == ["operator", "operator"]
    assert (await browser.see("/audit")).status_code == 403
    assert "/audit" not in (await browser.see("/")).text
    page = (await (await site.signed_in("admin")).see(f"/audit?subject={signed}")).text
    assert page.count("body.viewed") == 2


async def test_viewers_see_no_bodies(site, broker, signed):
    browser = await site.signed_in("viewer")
    await browser.see(f"/notifications/{signed}")
    for what in ("body", "download"):
        for id in (signed, "nothing"):
            answer = await browser.send_form(f"/notifications/{id}/{what}")
            assert answer.status_code == 403
            assert "order" not in answer.text
    assert await acts(broker, what="body") == []


async def test_a_body_that_is_gone(site, broker, clock, signed):
    clock.advance(8 * 86_400)
    while await broker.store.prune(1_000):
        pass
    browser = await site.signed_in("operator")
    await browser.see(f"/notifications/{signed}")
    answer = await browser.send_form(f"/notifications/{signed}/body")
    assert "The body is no longer kept." in answer.text
    assert await acts(broker, what="body") == []


async def test_one_that_went_to_very_many(site, broker, monkeypatch):
    monkeypatch.setattr("restante.desk.notification.QUEUES", 1)
    for queue in ("acme", "bob"):
        await Administration(broker, OPERATOR).subscribe("news", queue, {})
    id = (await broker.publish_to_topic(letter(queue="", topic="news"), SHOP)).id
    words = Markup((await (await site.signed_in("viewer")).see(f"/notifications/{id}")).text).words
    assert "It went to 1 queue more" in words
    assert "bob" not in words


async def test_found_by_any_id(site, signed):
    browser = await site.signed_in("viewer")
    for id in (signed, f" {signed} ", "acme~1"):
        answer = await browser.see("/notifications", params={"id": id})
        assert answer.headers["location"] == f"/notifications/{signed}"
    assert (await browser.see("/notifications?id=acme~99")).status_code == 404
    assert (await browser.see("/notifications?id=%2F%2Fevil")).headers["location"] == (
        "/notifications/%2F%2Fevil"
    )


async def test_receipts_are_searched_and_paged(site, broker):
    await bury(broker, PAGE, reason="bad")
    browser = await site.signed_in("viewer")
    page = (await browser.see("/receipts?name=acme")).text
    assert ids(page) == [f"acme~{number}" for number in range(2 * PAGE, PAGE, -1)]
    (older,) = re.findall(r'href="(/receipts\?[^"]+)" rel="next"', page)
    older = older.replace("&amp;", "&")
    page = (await browser.see(older)).text
    assert ids(page) == [f"acme~{number}" for number in range(PAGE, 0, -1)]
    page = (await browser.see("/receipts?name=acme&outcome=rejected")).text
    assert len(ids(page)) == PAGE
    page = (await browser.see("/receipts?name=acme&since=2026-01-02T00:00")).text
    assert ids(page) == []
    page = (await browser.see("/receipts?name=nobody")).text
    assert "There is no client or queue nobody" in page
    for wrong in ("outcome=none", "since=yesterday"):
        assert (await browser.see(f"/receipts?name=acme&{wrong}")).status_code == 400


def ids(page):
    return re.findall(r'class="id">(acme~\d+)<', page)


async def test_an_export_is_whole(site, broker):
    await bury(broker, EXPORTED, reason="=cmd|' /C calc'!A0")
    browser = await site.signed_in("viewer")
    answer = await browser.get("/receipts/export?name=acme&format=csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in rows] == [f"acme~{n}" for n in range(1, 2 * EXPORTED + 1)]
    assert {row["reason"] for row in rows if row["outcome"] == "rejected"} == {
        "'=cmd|' /C calc'!A0"
    }
    answer = await browser.get("/receipts/export?name=acme&format=jsonl&outcome=rejected")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert len(lines) == EXPORTED
    assert answer.headers["content-disposition"] == 'attachment; filename="receipts-acme.jsonl"'
    assert (await browser.get("/receipts/export?name=acme&format=exe")).status_code == 400
    assert (await browser.get("/receipts/export?name=nobody")).status_code == 404


async def test_an_export_that_breaks_off_does_not_look_whole(site, broker, monkeypatch):
    await bury(broker, EXPORTED)
    browser = await site.signed_in("viewer")
    browse = broker.store.browse

    def failing(query):
        if getattr(query, "after", 0):
            raise StoreUnavailable("gone")
        return browse(query)

    monkeypatch.setattr(broker.store, "browse", failing)
    with pytest.raises(StoreUnavailable):
        await browser.get("/receipts/export?name=acme")


async def test_an_export_ends_with_who_asked_for_it(site, broker, monkeypatch):
    """Signed out in the middle of it: nothing more is sent, and what was does not look whole."""
    await bury(broker, EXPORTED)
    browser = await site.signed_in("viewer")
    await browser.see("/receipts")
    browse, asked = broker.store.browse, 0

    def watched(query):
        nonlocal asked
        asked += isinstance(query, Receipts)
        return browse(query)

    monkeypatch.setattr(broker.store, "browse", watched)
    monkeypatch.setattr("restante.desk.visitors.Visitors.level", signed_out())
    with pytest.raises(AssertionError):
        # What httpx says of an application that ends before its answer does.
        await browser.get("/receipts/export?name=acme")
    assert asked == 1


def signed_out():
    levels = iter([None])

    async def level(_, visit):
        return next(levels)

    return level


async def test_a_time_is_looked_up_and_not_walked_to(site, broker, clock, monkeypatch):
    """Of a day in the middle of four, some receipts are read, and all of that day are told."""
    clock.advance(43_200)
    for _ in range(4):
        await bury(broker, EXPORTED)
        clock.advance(86_400)
    browser = await site.signed_in("viewer")
    browse, pages = broker.store.browse, []

    def watched(query):
        if isinstance(query, Receipts) and query.limit > 1:
            pages.append(query)
        return browse(query)

    monkeypatch.setattr(broker.store, "browse", watched)
    day = "since=2026-01-02T00:00&until=2026-01-03T00:00"
    answer = await browser.get(f"/receipts/export?name=acme&{day}")
    told = [row["id"] for row in csv.DictReader(io.StringIO(answer.text))]
    assert told == [f"acme~{n}" for n in range(2 * EXPORTED + 1, 4 * EXPORTED + 1)]
    assert len(pages) == 2
    page = (await browser.see(f"/receipts?name=acme&{day}")).text
    assert ids(page)[0] == f"acme~{4 * EXPORTED}"
    page = (await browser.see(f"/receipts?name=acme&{day}&before={2 * EXPORTED + 11}")).text
    assert (len(ids(page)), 'rel="next"' in page) == (10, False)
    for none in ("since=2027-01-01", "until=2025-01-01"):
        answer = await browser.get(f"/receipts/export?name=acme&{none}")
        assert answer.text.count("\n") == 1


async def test_what_a_clock_that_was_set_back_has_written_is_found(site, broker, clock):
    await bury(broker, 1)
    clock.jump_wall(-1_800)
    await bury(broker, 1)
    browser = await site.signed_in("viewer")
    answer = await browser.get("/receipts/export?name=acme&until=2025-12-31T23:45")
    assert answer.text.count("acme~") == 2
    answer = await browser.get("/receipts/export?name=acme&since=2026-01-01T00:00")
    assert answer.text.count("acme~") == 2


async def test_exports_are_bounded(site, broker, monkeypatch):
    monkeypatch.setattr("restante.desk.receipts.EXPORTS", 0)
    browser = await site.signed_in("viewer")
    answer = await browser.see("/receipts/export?name=acme")
    assert (answer.status_code, "under way" in answer.text) == (429, True)


async def test_the_audit_is_filtered(site, broker):
    browser = await site.signed_in("admin")
    await browser.see("/queues/acme")
    await browser.send_form("/queues/acme/keys", label=HOSTILE)
    page = (await browser.see("/audit")).text
    assert "key.minted" in page
    assert "operator.signed_in" in page
    page = (await browser.see("/audit?what=key&who=admin&queue=acme")).text
    assert "operator.signed_in" not in page
    assert "Nothing was found." in (await browser.see("/audit?who=nobody")).text
