"""The stream of news, as its reader gets it."""

import asyncio

import pytest
from tests.unit.engine.house import SHOP, letter, turns

from restante.desk import live
from restante.model import SYSTEM


class Reader:
    """Asks for the stream as a visitor, and keeps what comes."""

    def __init__(self, site, cookies):
        self.events = []
        self.status = None
        self._site = site
        self._asked = False
        self._leave = asyncio.Event()
        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        self._scope = {
            "type": "http",
            "method": "GET",
            "path": "/live",
            "query_string": b"",
            "headers": [(b"cookie", cookie.encode()), (b"host", b"desk.test")],
            "client": ("192.0.2.1", 1),
            "scheme": "https",
        }
        self.task = asyncio.create_task(site.app(self._scope, self._receive, self._send))

    async def _receive(self):
        await self._leave.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        self.status = message.get("status", self.status)
        if message.get("body"):
            self.events.append(message["body"].decode())

    def leave(self):
        self._leave.set()

    def kinds(self):
        return [
            line.removeprefix("event: ")
            for event in self.events
            for line in event.splitlines()
            if line.startswith("event: ")
        ]


async def happen(broker):
    """Have something happen, and be seen."""
    await broker.publish(letter(), SHOP)
    await broker.monitor.refresh("acme")


@pytest.fixture
async def reader(site):
    browser = await site.signed_in("viewer")
    reader = Reader(site, browser.cookies)
    await turns(60)
    yield reader
    reader.leave()
    site.broker.retire()
    await turns(60)
    if not reader.task.done():
        reader.task.cancel()


async def test_news_are_told_and_no_more_often_than_is_good(site, broker, clock, reader):
    assert (reader.status, reader.kinds()) == (200, ["open"])
    for _ in range(3):
        await happen(broker)
        await turns(60)
    assert reader.kinds() == ["open", "changed"]
    clock.advance(live.PAUSE_SECONDS)
    await turns(60)
    assert reader.kinds() == ["open", "changed", "changed"]


async def test_it_ends_with_the_visit(site, broker, reader):
    await site.operators.change("viewer", sign_out=True, actor=SYSTEM)
    await happen(broker)
    await reader.task
    assert reader.kinds() == ["open", "over"]


async def test_it_ends_with_the_service(broker, reader):
    broker.retire()
    await reader.task
    assert reader.kinds() == ["open"]


async def test_it_ends_with_its_reader(reader):
    reader.leave()
    await reader.task
    assert reader.kinds() == ["open"]


async def test_there_are_only_so_many(site, reader, monkeypatch):
    monkeypatch.setattr(live, "STREAMS", 1)
    browser = await site.signed_in("viewer")
    assert (await browser.see("/live")).status_code == 429
    reader.leave()
    await reader.task
    again = Reader(site, browser.cookies)
    await turns(60)
    assert again.status == 200
    again.leave()
    await again.task
