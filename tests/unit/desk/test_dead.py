"""Dead letters and bulk work on the operators' page: what is shown, what is done, for whom, and how often."""

import asyncio
import functools
import html
import re
import urllib.parse

import pytest
from tests.unit.desk.test_pages import HOSTILE, Markup
from tests.unit.engine.house import ACME, SHOP, acts, bury, figures, letter, settings

from restante.desk.dead import LETTERS, QUEUES
from restante.engine.job import JobState
from restante.engine.settling import Settle
from restante.model import Verb
from restante.queries import DeadSeqs

PLACE = "/dead-letters/acme"


@pytest.fixture
async def operator(site):
    return await site.signed_in("operator")


async def test_they_are_grouped_by_what_they_died_of(site, broker, operator):
    await bury(broker, 3, reason=HOSTILE)
    await bury(broker, 1, reason="no such article")
    await bury(broker, 2, queue="bob", reason="")
    for queue in ("acme", "bob"):
        await broker.monitor.refresh(queue)
    page = (await operator.see("/dead-letters")).text
    words = re.sub(r"\s+", " ", Markup(page).words)
    assert "6 dead letters in 2 queues" in words
    assert words.index("acme 4 dead letters") < words.index("bob 2 dead letters")
    assert re.search(f"3 . {re.escape(HOSTILE)}", words)
    assert re.search("2 . rejected last", words)
    assert Markup(page).handlers == set()
    # Each reason leads to those that died of it.
    links = [
        link.replace("&amp;", "&")
        for link in re.findall(r'href="(/dead-letters/[^"]+\?[^"]+)"', page)
    ]
    counts = [len(re.findall('class="letter"', (await operator.see(link)).text)) for link in links]
    assert counts == [3, 1, 2]


async def test_queues_are_paged(site, broker, operator, monkeypatch):
    monkeypatch.setattr("restante.desk.dead.QUEUES", 1)
    await bury(broker, 2)
    await bury(broker, 1, queue="bob")
    for queue in ("acme", "bob"):
        await broker.monitor.refresh(queue)
    first = (await operator.see("/dead-letters")).text
    assert ("acme</a>" in first, "bob</a>" in first) == (True, False)
    second = (await operator.see("/dead-letters?page=2")).text
    assert ("acme</a>" in second, "bob</a>" in second) == (False, True)
    assert 'rel="next"' not in second
    assert QUEUES == 10


async def test_each_is_told_with_its_history(site, broker, operator):
    await bury(broker, LETTERS + 2, reason=HOSTILE)
    page = (await operator.see(PLACE)).text
    assert len(re.findall('class="letter"', page)) == LETTERS
    assert HOSTILE in Markup(page).words
    assert re.findall(r'class="step (\w+)"', page)[:3] == ["published", "leased", "rejected"]
    page = (await operator.see(f"{PLACE}?after={LETTERS}")).text
    assert len(re.findall('class="letter"', page)) == 2
    assert (await operator.see("/dead-letters/nothing")).status_code == 404


async def test_the_ticked_are_redriven_and_discarded(broker, operator):
    await bury(broker, 5)
    await operator.see(PLACE)
    answer = await operator.send_form(f"{PLACE}/redrive", seq=["1", "3"])
    assert answer.headers["location"] == f"{PLACE}?done=redriven&count=2"
    assert "2 given new attempts" in (await operator.see(answer.headers["location"])).text
    assert ((await figures(broker)).ready, (await figures(broker)).dead) == (2, 3)
    answer = await operator.send_form(f"{PLACE}/discard", seq=["2"])
    assert (answer.status_code, "say why" in answer.text) == (400, True)
    await operator.see(PLACE)
    answer = await operator.send_form(f"{PLACE}/discard", seq=["2", "1"], why="a test order")
    assert answer.headers["location"] == f"{PLACE}?done=discarded&count=1"
    assert (await figures(broker)).discarded == 1
    told = await acts(broker, what="dead")
    assert [(act.what, act.who.name, act.who.transport) for act in told] == [
        ("dead.redriven", "operator", "dashboard"),
        ("dead.discarded", "operator", "dashboard"),
    ]
    await operator.see(PLACE)
    for seqs in ([], ["x"], ["-1"], [str(n) for n in range(LETTERS + 1)]):
        assert (await operator.send_form(f"{PLACE}/redrive", seq=seqs)).status_code == 400


async def test_what_was_done_leads_back_to_those_of_the_same_reason(broker, operator):
    await bury(broker, 3, reason=HOSTILE)
    await bury(broker, 2, reason="")
    for reason, seq, left in ((HOSTILE, "1", 2), ("rejected", "4", 1)):
        chosen = urllib.parse.urlencode({"reason": reason})
        page = (await operator.see(f"{PLACE}?{chosen}")).text
        (kept,) = {html.unescape(one) for one in re.findall('name="chosen" value="([^"]*)"', page)}
        answer = await operator.send_form(f"{PLACE}/redrive", seq=[seq], chosen=kept)
        assert answer.headers["location"] == f"{PLACE}?{chosen}&done=redriven&count=1"
        page = (await operator.see(answer.headers["location"])).text
        assert len(re.findall('class="letter"', page)) == left
    chosen = urllib.parse.urlencode({"reason": HOSTILE})
    answer = await operator.send_form(f"{PLACE}/3/edit", chosen=chosen)
    (kept,) = {
        html.unescape(one) for one in re.findall('name="chosen" value="([^"]*)"', answer.text)
    }
    assert kept == chosen
    answer = await operator.send_form(f"{PLACE}/redrive", seq=["2"], chosen="done=x&next=//evil")
    assert answer.headers["location"] == f"{PLACE}?done=redriven&count=1"


async def test_all_of_a_reason_is_a_job_after_a_preview(broker, operator):
    await bury(broker, 3, reason=HOSTILE)
    await bury(broker, 2, reason="other")
    await operator.see(PLACE)
    answer = await operator.send_form(f"{PLACE}/preview", task="redrive", reason=HOSTILE, rate="1")
    operator.page = answer.text
    assert "Redrive 3 dead letters?" in answer.text
    assert Markup(answer.text).handlers == set()
    assert (await figures(broker)).dead == 5, "a preview does nothing"
    answer = await operator.send_form(f"{PLACE}/job", task="redrive", reason=HOSTILE, rate="1")
    place = answer.headers["location"]
    page = (await operator.see(place)).text
    assert f'hx-get="{place}/now" hx-trigger="every 1s"' in page
    assert HOSTILE in Markup(page).words
    answer = await operator.send_form(f"{place}/pause")
    assert answer.headers["location"] == place
    page = (await operator.see(f"{place}/now")).text
    assert "paused" in page
    assert "Go on" in page
    await operator.send_form(f"{place}/resume")
    await operator.send_form(f"{place}/cancel")
    page = (await operator.see(place)).text
    assert "hx-trigger" not in page.split("<main")[1]
    assert place in (await operator.see("/jobs")).text
    assert (await operator.see("/jobs/nothing")).status_code == 404


async def test_two_operators_with_the_same_wish(site, broker, operator):
    """Begun twice, each is redriven once."""
    await bury(broker, 7)
    other = await site.signed_in("admin")
    for browser in (operator, other):
        await browser.see(PLACE)
    begun = await asyncio.gather(
        *(
            browser.send_form(f"{PLACE}/job", task="redrive", any_reason="1")
            for browser in (operator, other)
        )
    )
    ids = [answer.headers["location"].removeprefix("/jobs/") for answer in begun]
    ended = [await broker.jobs.ended(id) for id in ids]
    assert sum(job.done for job in ended) == 7
    assert {job.state for job in ended} == {JobState.DONE}
    assert (await figures(broker)).ready == 7
    page = (await operator.see(f"/jobs/{ids[0]}")).text
    assert 'value="7"' in page


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"task": "explode"}, "task must be one of"),
        ({"task": "redrive", "rate": "fast"}, "the rate must be a number"),
        ({"task": "redrive", "rate": "0"}, "rate_per_second"),
        ({"task": "discard"}, "say why they are discarded"),
    ],
)
async def test_wrong_wishes(broker, operator, fields, words):
    await bury(broker, 1)
    await operator.see(PLACE)
    answer = await operator.send_form(f"{PLACE}/job", any_reason="1", **fields)
    assert answer.status_code in (400, 422)
    assert words in answer.text
    assert (await broker.jobs.page()).jobs == []


async def test_a_body_is_replaced(broker, operator):
    await broker.publish(
        letter(b"\n<order>\n<broken></order>", content_type="application/xml"), SHOP
    )
    session = await broker.session("acme", ACME)
    (one,) = await session.receive()
    await (await session.settle([Settle(lease=session.token(one), verb=Verb.REJECT)])).results()
    await operator.see(PLACE)
    answer = await operator.send_form(f"{PLACE}/1/edit")
    operator.page = answer.text
    # A browser drops the first end of a line in a text area, and sends the others as CR LF.
    assert '<textarea name="body" rows="22" spellcheck="false">\n\n&lt;order&gt;' in answer.text
    answer = await operator.send_form(
        f"{PLACE}/1/replace", content_type="application/xml", body="\r\n<order>\r\n</order>"
    )
    assert answer.headers["location"] == f"{PLACE}?done=replaced&count=1"
    (new,) = await session.receive()
    assert new.body == b"\n<order>\n</order>"
    page = (await operator.see(f"/notifications/{new.id}")).text
    assert f'<a href="/notifications/{one.id}">' in page
    page = (await operator.see(f"/notifications/{one.id}")).text
    assert f'In its place came <a class="id" href="/notifications/{new.id}">' in page
    told = [
        act.what for act in await acts(broker, queue="acme") if act.what != "operator.signed_in"
    ]
    assert told == ["body.viewed", "dead.replaced"]
    answer = await operator.send_form(f"{PLACE}/1/replace", content_type="x", body="y")
    assert (answer.status_code, "content type" in answer.text) == (422, True)
    assert (await operator.send_form(f"{PLACE}/9/edit")).status_code == 404


async def test_what_is_held_up_is_let_go(broker, operator):
    await settings(broker, after_dead="park", max_attempts=1)
    await broker.publish_batch([letter(ordering_key="k")] * 2, SHOP)
    session = await broker.session("acme", ACME)
    (one,) = await session.receive()
    await (await session.settle([Settle(lease=session.token(one), verb=Verb.REJECT)])).results()
    assert await session.receive() == []
    page = (await operator.see(PLACE)).text
    assert "holds up k" in page
    answer = await operator.send_form(f"{PLACE}/1/open")
    assert answer.headers["location"] == f"{PLACE}?done=opened&count=1"
    assert len(await session.receive()) == 1


async def test_a_viewer_does_nothing(site, broker):
    await bury(broker, 1)
    viewer = await site.signed_in("viewer")
    page = (await viewer.see(PLACE)).text
    assert "Redrive" not in page
    for path in ("redrive", "discard", "preview", "job", "1/edit", "1/replace", "1/open", "9/edit"):
        answer = await viewer.send_form(f"{PLACE}/{path}", seq="1", task="redrive", any_reason="1")
        assert answer.status_code == 403, path
        assert "bad" not in Markup(answer.text).words
    for path in ("pause", "resume", "cancel"):
        assert (await viewer.send_form(f"/jobs/none/{path}")).status_code == 403
    assert (await figures(broker)).dead == 1


async def test_a_page_looks_at_a_bounded_number(site, broker, operator, monkeypatch):
    """Of a reason that is rare among very many: what was not found yet is told from what is not there."""
    monkeypatch.setattr("restante.desk.dead.DeadSeqs", functools.partial(DeadSeqs, scanned=5))
    await bury(broker, 6, reason="frequent")
    await bury(broker, 1, reason="rare")
    page = (await operator.see(f"{PLACE}?reason=rare")).text
    assert "There are none among those looked at" in page
    (further,) = re.findall(r'href="([^"]+)" rel="next"', page)
    page = (await operator.see(further.replace("&amp;", "&"))).text
    assert len(re.findall('class="letter"', page)) == 1
    assert 'rel="next"' not in page
