"""What pages show, and that nothing of it is taken for markup."""

import re
import urllib.parse
from html.parser import HTMLParser

import pytest
from tests.unit.engine.house import ACME, OPERATOR, SHOP, bury, letter, turns

from restante.changes import AddClient, PutQueue
from restante.desk.site import HTML
from restante.engine.administration import Administration
from restante.engine.settling import Settle
from restante.model import Client, Queue, Role, Settings, Verb

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"
PAGES = (
    "/",
    "/overview/now",
    "/overview/queues",
    "/queues/acme",
    "/queues/acme/now",
    "/queues/acme/deliveries",
    "/queues/acme/settings",
    "/receipts?name=acme",
    "/audit",
    "/dead-letters",
    "/dead-letters/acme",
    "/jobs",
    "/alerts",
    "/alerts/now",
    "/log",
    "/log/now",
    "/operations",
    "/queues/acme/signing",
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@pytest.fixture
async def hostile(site, broker):
    """A queue of which everything that others choose is meant to do harm."""
    await Administration(broker, OPERATOR).add_key(Role.CLIENT, "acme", None, HOSTILE)
    await bury(broker, 1, reason=HOSTILE)
    await broker.publish_batch(
        [letter(ordering_key=HOSTILE, content_type="text/html"), letter(collapse_key=HOSTILE)], SHOP
    )
    session = await broker.session("acme", ACME)
    (one, two) = await session.receive(max=2)
    nacks = [
        Settle(lease=session.token(each), verb=Verb.NACK, reason=HOSTILE) for each in (one, two)
    ]
    await (await session.settle(nacks)).results()
    await broker.monitor.refresh("acme")
    return site


class Markup(HTMLParser):
    """What of a page a browser would take for markup, and what for text."""

    def __init__(self, page):
        super().__init__()
        self.loads = set()
        self.handlers = set()
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag in ("script", "img", "link", "iframe", "object", "embed"):
            self.loads.add(given.get("src") or given.get("href"))
        self.handlers |= {name for name in given if name.startswith(("on", "hx-on", "style"))}
        if any((value or "").lower().startswith("javascript:") for value in given.values()):
            self.handlers.add(tag)

    def handle_data(self, data):
        self.words += data


@pytest.mark.parametrize("path", PAGES)
async def test_what_others_choose_is_text(hostile, path):
    browser = await hostile.signed_in("admin")
    for query in ("", f"?{urllib.parse.urlencode({'q': HOSTILE, 'done': HOSTILE})}"):
        answer = await browser.see(path + (query.replace("?", "&") if "?" in path else query))
        assert answer.status_code == 200
        markup = Markup(answer.text)
        assert all(address.startswith("/static/") for address in markup.loads)
        assert markup.handlers == set()
        assert answer.headers["content-type"] == "text/html; charset=utf-8"


async def test_the_reason_is_there_to_be_read(hostile):
    browser = await hostile.signed_in("viewer")
    assert HOSTILE in Markup((await browser.see("/queues/acme")).text).words
    assert HOSTILE in Markup((await browser.see("/")).text).words


async def test_every_page_has_the_headers(site):
    browser = await site.signed_in("admin")
    for path in (*PAGES, "/sign-in", "/queues/nothing", "/queues/acme?span=never"):
        headers = (await browser.see(path)).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"


async def test_no_page_has_a_script_or_a_style_of_its_own(site):
    browser = await site.signed_in("admin")
    for path in (*PAGES, "/sign-in"):
        page = (await browser.see(path)).text
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=)|javascript:|hx-on", page)


async def test_files_are_kept_for_ever_under_the_hash_of_their_content(site):
    browser = await site.signed_in("viewer")
    page = (await browser.see("/")).text
    files = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page))
    assert len(files) == 7
    for file in files:
        answer = await site.browser().get(file)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (await browser.get("/static/desk.000000000000.css")).status_code == 404


async def test_an_address_that_nothing_is_at_is_a_page_for_those_who_have_signed_in(site):
    browser = await site.signed_in("viewer")
    for path in ("/nothing", "/queues/acme/nothing/at/all", "/queues"):
        answer = await browser.see(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, HTML.decode())
        assert f"there is nothing at {path}" in answer.text
        assert "To the overview" in answer.text
        # Others have asked for something else, and are told so, not led to a page.
        stranger = await site.browser().get(path)
        assert (stranger.status_code, stranger.json()["code"]) == (404, "route_not_found")
        for method in ("POST", "PUT", "DELETE"):
            answer = await browser.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (404, "route_not_found")


async def test_what_needs_attention_comes_first(site, broker):
    await broker.store.configure([PutQueue(Queue("acme", "acme", Settings(depth_limit=2)))])
    await broker.publish_batch([letter()] * 3, SHOP)
    await broker.monitor.refresh("acme")
    page = (await (await site.signed_in("viewer")).see("/")).text
    assert "1 queue needs attention" in page
    assert re.search(r"acme</a>\s+3 waiting \(limit 2\)", page)
    assert "Nothing needs attention" not in page


async def test_the_table_is_searched_sorted_and_paged(site, broker):
    names = [f"client-{number:03}" for number in range(120)]
    await broker.store.configure(
        [
            change
            for name in names
            for change in (AddClient(Client(name)), PutQueue(Queue(name, name)))
        ]
    )
    await broker.publish_batch([letter(queue="client-077")] * 3, SHOP)
    await broker.monitor.refresh("acme")
    for name in names:
        await broker.monitor.refresh(name)
    browser = await site.signed_in("viewer")
    assert rows((await browser.see("/?q=client-00&sort=name")).text) == names[:10]
    assert rows((await browser.see("/?sort=depth")).text)[0] == "client-077"
    page = (await browser.see("/overview/queues?q=CLIENT&sort=name&order=down&page=3")).text
    assert rows(page) == names[19::-1]
    assert "Page 3 of 3" in page
    assert 'href="/?q=CLIENT&amp;sort=name&amp;order=down&amp;page=2#queues"' in page
    # A page beyond the last one is the last one; an order that is not there is an error.
    assert rows((await browser.see("/?q=CLIENT&sort=name&page=9")).text) == names[100:]
    assert (await browser.see("/?sort=nonsense")).status_code == 400


def rows(page):
    return re.findall(r'id="q-([^"]+)"', page)


async def test_a_queue_that_is_not_there(site):
    browser = await site.signed_in("viewer")
    for path in ("", "/now", "/deliveries", "/charts"):
        answer = await browser.see(f"/queues/nothing{path}")
        assert (answer.status_code, "there is no queue" in answer.text) == (404, True)


async def test_deliveries_are_told_by_state(site, broker):
    await broker.publish_batch([letter()] * 30, SHOP)
    session = await broker.session("acme", ACME)
    await session.receive(max=2)
    await broker.monitor.refresh("acme")
    browser = await site.signed_in("viewer")
    page = (await browser.see("/queues/acme")).text
    assert len(re.findall(r'class="id"', page)) == 25
    assert "after=27#waiting" in page
    page = (await browser.see("/queues/acme/deliveries?after=27")).text
    assert len(re.findall(r'class="id"', page)) == 3
    page = (await browser.see("/queues/acme?state=leased")).text
    assert len(re.findall(r'class="id"', page)) == 2
    assert "in 30 s" in page
    assert (await browser.see("/queues/acme?state=acked")).status_code == 400


async def test_charts_have_a_number_for_each_step(site):
    browser = await site.signed_in("viewer")
    for span, points in (("1h", 60), ("24h", 96), ("7d", 84)):
        for path in ("/charts", "/queues/acme/charts"):
            numbers = (await browser.see(f"{path}?span={span}")).json()
            assert {len(column) for column in numbers.values()} == {points}


async def test_the_theme_is_the_visitors(site):
    browser = await site.signed_in("viewer")
    assert '<html lang="en">' in (await browser.see("/")).text
    browser.cookies.set("restante-theme", "dark")
    assert '<html lang="en" data-theme="dark">' in (await browser.see("/")).text
    browser.cookies.set("restante-theme", '"><script>')
    assert '<html lang="en">' in (await browser.see("/")).text


async def test_alerts_are_shown_while_they_are_open_and_afterwards(site, broker, clock):
    await broker.store.configure([PutQueue(Queue("acme", "acme", Settings(depth_limit=2)))])
    await broker.publish_batch([letter()] * 3, SHOP)
    browser = await site.signed_in("viewer")
    assert "No alert is open" in (await browser.see("/alerts")).text
    await looked_at(broker, clock)
    page = (await browser.see("/alerts")).text
    assert "1 open alert" in page
    assert "acme" in (await browser.see("/alerts/now")).text
    assert '<a id="alerts" href="/alerts">1</a>' in (await browser.see("/overview/now")).text
    assert "acme has 3 waiting (limit 2)" in (await browser.see("/queues/acme")).text
    assert "limit 2" not in (await browser.see("/queues/bob")).text
    await drained(broker)
    for _ in range(10):
        await looked_at(broker, clock)
    page = (await browser.see("/alerts?queue=acme")).text
    assert "No alert is open" in page
    assert len(re.findall(r"<td>depth</td>", page)) == 1
    assert "There were none." in (await browser.see("/alerts?queue=bob")).text


async def looked_at(broker, clock):
    clock.advance(60)
    await turns()
    await broker.monitor.refresh("acme")
    await broker.alerts.look()


async def drained(broker):
    session = await broker.session("acme", ACME)
    taken = [Settle(lease=session.token(one), verb=Verb.ACK) for one in await session.receive()]
    await (await session.settle(taken)).results()
