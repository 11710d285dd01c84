"""Hostile content in every place that others can write to, and every page that shows it, in a real browser.

A crawler follows every link there is, presses what shows a body, and holds each page to the same: nothing of what was
sent in runs, nothing is asked for from elsewhere, and the policy is never needed, as nothing tries. A page that no link
leads to fails the test too: so a new page cannot be forgotten here.
"""

from __future__ import annotations

import base64
import re
import urllib.parse
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from playwright.async_api import Browser, Request, expect
from tests.e2e.conftest import Mailbox, Service
from tests.e2e.windows import Window, window_of

import restante.desk
from restante.client import Signer
from restante.desk import composition
from restante.engine.broker import Broker
from restante.engine.operators import Operators
from restante.engine.passwords import Passwords
from restante.http.api import Routes
from restante.http.authentication import Authenticator
from restante.portal import composition as portal
from restante.stores.memory import MemoryStore
from restante.testing.clock import FakeClock

pytestmark = pytest.mark.timeout(300)

RUN: Final = "window.pwned=1;alert(1)"
MARKUP: Final = (
    f"<script>{RUN}</script>",
    f'"><img src=x onerror="{RUN}">',
    f"'><svg onload='{RUN}'>",
    f"</textarea></title></style></script><iframe srcdoc='<script>{RUN}</script>'>",
    f"javascript:{RUN}//",
    f"<a href=javascript:{RUN}>see</a>",
    "{{7*7}}{% raw %}${7*7}<%= 7*7 %>",
    f"<div hx-get=/sign-out hx-trigger=load hx-on:click='{RUN}'></div>",
    "\u202egnp.exe\u2066 \u200bzero",
    "=cmd|' /C calc'!A0",
)
HOSTILE: Final = " ".join(MARKUP)[:480]
BODIES: Final[tuple[tuple[str, bytes], ...]] = (
    *((kind, text.encode()) for text in MARKUP for kind in ("application/xml", "text/html")),
    ("application/xml", f"<order><note><![CDATA[{MARKUP[0]}]]></note></order>".encode()),
    ("application/xml", f"<order>{MARKUP[0]}<unclosed></order>".encode()),
    ("application/xml", f'<x xmlns="http://www.w3.org/1999/xhtml">{MARKUP[0]}</x>'.encode()),
    ("application/xml", f'<?xml-stylesheet href="javascript:{RUN}"?><x/>'.encode()),
    (
        "application/xml",
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]><x>&b;&c;</x>',
    ),
    ("application/xml; charset=utf-16", MARKUP[0].encode("utf-16")),
    ("text/html; charset=utf-7", b"+ADw-script+AD4-alert(1)+ADw-/script+AD4-"),
    ("application/json", b'{"a": "' + MARKUP[0].encode() + b'", "b": [1, {"c": null}]}'),
    (
        "image/svg+xml",
        f'<svg xmlns="http://www.w3.org/2000/svg"><script>{RUN}</script></svg>'.encode(),
    ),
    ("text/plain", bytes(range(256))),
    ("text/plain", b"\xff\xfe\x00" + MARKUP[0].encode()),
    ("application/xml", b"<a>" * 20_000),
    ("application/xml", b"<a>" + MARKUP[1].encode() * 20_000 + b"</a>"),
    ("application/octet-stream", b""),
)
VISITS: Final = 4
"""So many pages of one kind are looked at: of one place, with the same parameters."""
NAMED: Final = re.compile(r"\d")
"""Names of queues, ids and files of the day have a digit, and no word of an address has."""
ELSEWHERE: Final = frozenset({"/sign-in", "/static/*", "/portal/sign-in", "/portal/static/*"})
"""What has tests of its own, and shows nothing that somebody sent in."""
BESIDE: Final = frozenset({"/docs", "/openapi.yaml", "/asyncapi.yaml", "/restante.proto"})
"""What the clients' page leads to beside itself."""


def fill(box: Mailbox) -> list[str]:
    """Write hostile content wherever a publisher, a client or an operator can; ids of what only a search leads to."""
    box.settings(max_attempts=1, depth_limit=1, dead_limit=1, after_dead="park")
    group = fail_group(box)
    items = [
        {
            "queue": box.name,
            "content_type": kind,
            "attributes": {"ce-type": HOSTILE, "note": HOSTILE},
            "ordering_key": f"{number % 7}{HOSTILE}"[:200],
            "body_base64": base64.b64encode(body).decode(),
        }
        for number, (kind, body) in enumerate(BODIES)
    ]
    made = box.publisher.post("/v1/notifications", json={"notifications": items})
    assert made.status_code == 200, made.text
    assert all(one["ok"] for one in made.json()["results"]), made.text
    hostile = {"User-Agent": MARKUP[1]}
    taken = box.client.post(f"/v1/queues/{box.name}/receive", json={"max": 7}, headers=hostile)
    for number, one in enumerate(taken.json()["notifications"]):
        if number % 2:
            said = box.settle(one["lease"], "reject", reason=HOSTILE)
        else:
            reply = {"content-type": "text/html", **hostile}
            said = box.client.post(
                f"/v1/leases/{one['lease']}/ack", content=HOSTILE.encode(), headers=reply
            )
        assert said.status_code == 200, said.text
    asked = {"task": "redrive", "queues": [box.name], "all": True, "rate_per_second": 1}
    job = box.admin.post("/v1/jobs", json=asked | {"reason": HOSTILE}).json()
    assert box.admin.post(f"/v1/jobs/{job['id']}/pause").status_code == 200
    key = {"role": "client", "name": box.name, "label": HOSTILE[:200]}
    assert box.admin.post("/v1/keys", json=key).status_code == 201
    signer = Signer(Ed25519PrivateKey.generate())
    pasted = {"pem": signer.public_pem, "label": HOSTILE[:200]}
    made = box.admin.post(f"/v1/clients/{box.name}/signing-keys", json=pasted)
    assert made.status_code == 201, made.text
    words = {"title": HOSTILE[:255], "client": box.name, "queue": box.name}
    operation = box.publisher.post("/v1/operations", json=words)
    assert operation.status_code == 201, operation.text
    ended = box.publisher.post("/v1/operations", json=words).json()["id"]
    for id, move in (
        (operation.json()["id"], {"state": "running", "note": HOSTILE}),
        (
            ended,
            {"state": "succeeded", "result": MARKUP[0], "result_content_type": "text/html"},
        ),
    ):
        moved = box.publisher.patch(f"/v1/operations/{id}", json=move)
        assert moved.status_code == 200, moved.text
    return [group, ended]


def fail_group(box: Mailbox) -> str:
    """A group that was rejected with hostile words; its id."""
    undo = {"body": MARKUP[0], "content_type": "text/html"}
    member = {"queue": box.name, "body": MARKUP[1], "content_type": "text/html"}
    asked = {"timeout_seconds": 600, "members": [member | {"compensation": undo}]}
    made = box.publisher.post("/v1/groups", json=asked)
    assert made.status_code == 202, made.text
    (one,) = box.receive(max=1, wait=20)
    assert box.settle(one["lease"], "reject", reason=HOSTILE).status_code == 200
    id: str = made.json()["id"]
    assert box.publisher.get(f"/v1/groups/{id}?wait=20").json()["state"] != "pending"
    return id


class Crawler:
    """Follows every link of a site, to a few pages of each kind."""

    def __init__(self, window: Window, at: str, root: str = "") -> None:
        """``at`` is the listener's address, and the site is what is below ``root`` there."""
        self.page = window.page
        self.at = at
        self.root = root
        self.window = window
        self.kinds: Counter[str] = Counter()
        """Pages seen, by their kind."""
        self.seen: set[str] = set()
        self.asked: set[str] = set()
        """Places asked for, whether as a page or for one."""
        self.pressed: Counter[str] = Counter()
        """What was shown on the press of a button, by its name."""
        self.page.on("request", self._note)

    def _note(self, request: Request) -> None:
        """What a page asks for by itself, too."""
        if request.url.startswith(f"{self.at}{self.root}/"):
            self.asked.add(_place(request.url.removeprefix(self.at)))

    async def crawl(self, begin: str) -> None:
        """Look at everything that can be reached from there."""
        waiting = [begin]
        while waiting:
            path = waiting.pop(0)
            if path in self.seen or self.kinds[kind := _kind(path)] >= VISITS:
                continue
            self.seen.add(path)
            self.kinds[kind] += 1
            await self._see(path)
            waiting += await self._links()

    async def _see(self, path: str) -> None:
        self.asked.add(_place(path))
        answer = await self.page.context.request.get(f"{self.at}{path}")
        if "attachment" in answer.headers.get("content-disposition", ""):
            assert answer.headers["x-content-type-options"] == "nosniff", path
            assert "html" not in answer.headers["content-type"], path
            return
        shown = await self.page.goto(f"{self.at}{path}")
        assert shown is not None
        assert shown.status == 200, path
        # What is live is fetched anew, as when something has happened.
        await self.page.evaluate(NEWS)
        if await self.page.locator("[hx-trigger^=every]").count():
            await self.page.wait_for_event("request", lambda one: one.url.endswith("/now"))
        await self._is_harmless(path)
        for name, shown_at in SHOWS.items():
            press = self.page.get_by_role("button", name=name)
            if await press.count():
                await press.first.click()
                await self.page.locator(shown_at).first.wait_for()
                self.pressed[name] += 1
                await self._is_harmless(path)

    async def stray(self) -> None:
        """Look at addresses where nothing is: their page says what was asked for."""
        for text in MARKUP:
            path = f"{self.root}/{urllib.parse.quote(text, safe='')}0"
            async with self.page.expect_console_message(lambda told: "404" in told.text) as told:
                shown = await self.page.goto(f"{self.at}{path}")
            assert shown is not None
            assert shown.status == 404, path
            self.window.wrong.remove((await told.value).text)
            await self._is_harmless(path)

    async def _links(self) -> list[str]:
        found = await self.page.eval_on_selector_all("a[href]", "all => all.map(a => a.href)")
        outward = [href for href in found if not href.startswith(f"{self.at}{self.root}/")]
        assert {href.removeprefix(self.at) for href in outward} <= BESIDE, "a link leads elsewhere"
        return [
            href.removeprefix(self.at).partition("#")[0] for href in found if href not in outward
        ]

    async def _is_harmless(self, path: str) -> None:
        assert await self.page.evaluate("window.pwned") is None, path
        foreign = await self.page.evaluate(FOREIGN, [f"{self.at}{self.root}/static/", PRINTED])
        assert foreign == [], path
        await self.window.is_well()


SHOWS: Final = {
    "Show the body": "#body pre, #body .gone",
    "Show the result": "#result pre",
}
"""The buttons that show what was sent in, and where they do."""
NEWS: Final = """() => new Promise(done => {
    let awaited = document.querySelectorAll("[hx-trigger*='news']").length;
    if (!awaited) done();
    document.body.addEventListener("htmx:afterSettle", () => --awaited || done());
    document.body.dispatchEvent(new Event("news"));
})"""
PRINTED: Final = (Path(restante.desk.__file__).parent / "static" / "printed.css").read_text()
"""The one style that stands in a page: the printed receipt loads nothing."""
FOREIGN: Final = """([ours, printed]) => [...document.querySelectorAll("*")].filter(one =>
    (one.localName === "script" && !one.src.startsWith(ours))
    || ["iframe", "object", "embed", "base", "foreignobject"].includes(one.localName)
    || (one.localName === "style" && one.textContent !== printed)
    || (one.localName === "img" && !one.src.startsWith(ours))
    || [...one.attributes].some(at => at.name.startsWith("on") || at.name.startsWith("hx-on")
        || /^\\s*javascript:/i.test(at.value))
).map(one => one.outerHTML.slice(0, 200))"""
"""What no page of ours has in it, and what was sent in does."""


def _kind(path: str) -> str:
    """Pages of one kind: what they are of, and in which order, does not count."""
    return f"{_place(path)}?{'&'.join(sorted(urllib.parse.parse_qs(path.partition('?')[2])))}"


def _place(path: str) -> str:
    return "/".join(
        "*" if NAMED.search(part) else part for part in path.partition("?")[0].split("/")
    )


async def places() -> set[str]:
    """Every place with a page, or what a page asks for; not those of acts, which lead back to one."""
    clock = FakeClock()
    async with MemoryStore(clock) as store:
        broker = Broker(store, clock)
        routes = Routes()
        keys = Authenticator(broker, None)
        composition.add_routes(routes, broker, Operators(broker, Passwords()), keys, "1")
        portal.add_routes(routes, broker, keys, "1")
    acts = {path for method, path in routes if method == "POST"}
    return {
        re.sub("{.*?}", "*", path)
        for method, path in routes
        if method == "GET" and path not in acts
    }


async def unasked(crawler: Crawler) -> set[str]:
    """Places of the site that nothing leads to."""
    here = {path for path in await places() if path.startswith("/portal/") == bool(crawler.root)}
    return here - crawler.asked - ELSEWHERE


async def test_nothing_of_it_runs(window: Window, box: Mailbox) -> None:
    found_by_id = fill(box)
    await expect(window.page.locator("#table tbody tr").first).to_contain_text("bad")
    crawler = Crawler(window, window.at)
    for id in found_by_id:
        await crawler.crawl(f"/notifications?id={id}")
    await crawler.crawl("/")
    await crawler.crawl(f"/notifications?id={box.name}~1")
    await crawler.stray()
    assert await unasked(crawler) == set()
    assert crawler.pressed["Show the body"] >= VISITS
    assert crawler.pressed["Show the result"] >= 1


async def test_nothing_of_it_runs_on_the_clients_page(
    chromium: Browser, own_server: Service, box: Mailbox
) -> None:
    fill(box)
    box.settings(client_may_redrive=True)
    window = await window_of(await chromium.new_context(), own_server)
    await window.page.goto(f"{own_server.url}/portal/")
    await window.page.get_by_label("Key").fill(box.key)
    await window.page.get_by_role("button", name="Sign in").click()
    await expect(window.page.get_by_role("heading", level=1)).to_contain_text("Queues of")
    crawler = Crawler(window, own_server.url, "/portal")
    await crawler.crawl("/portal/")
    await crawler.crawl(f"/portal/notifications?id={box.name}~1")
    await crawler.stray()
    assert await unasked(crawler) == set()
    assert crawler.pressed["Show the body"] >= VISITS
