"""The stream of news, as its reader gets it."""

import pytest
from tests.unit.desk.house import Reader
from tests.unit.engine.house import SHOP, letter, turns

from restante.desk import live
from restante.model import SYSTEM


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
