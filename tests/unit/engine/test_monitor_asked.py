"""What is asked of the monitor while it looks: nothing of what it has found is lost, and asking writes nothing."""

from tests.unit.engine.house import SHOP, letter, turns

from restante.errors import StoreFull
from restante.queries import FiguresOfQueues
from restante.watching import Span


async def look(clock, seconds=1.0):
    clock.advance(seconds)
    await turns(80)


async def test_who_asks_in_the_middle_of_a_look_takes_no_news_from_others(
    broker, clock, monkeypatch
):
    """Somebody asks for acme while bob's figures are on their way: that bob's are new is told all the same."""
    await look(clock, 10)
    store, monitor = broker.store, broker.monitor
    browse = store.browse

    async def slow(asked):
        found = await browse(asked)
        if isinstance(asked, FiguresOfQueues) and asked.names == ("bob",):
            await monitor.refresh("acme")
        return found

    await broker.publish(letter(queue="bob"), SHOP)
    with monkeypatch.context() as patch:
        patch.setattr(store, "browse", slow)
        await look(clock)
    seen = monitor.view("bob")
    assert (seen.figures.ready, seen.version) == (1, monitor.version)


async def test_asking_writes_nothing(broker, clock, monkeypatch):
    """A store that takes nothing any more can still be asked, and what had to be written is when it takes it again."""

    def full(_):
        raise StoreFull("full")

    await broker.publish(letter(), SHOP)
    await look(clock)
    clock.advance(61)
    with monkeypatch.context() as patch:
        patch.setattr(broker.store, "configure", full)
        await turns(80)
        await broker.publish(letter(), SHOP)
        view = await broker.monitor.refresh("acme")
        assert view.figures.published == 2
        await look(clock)
    await look(clock)
    points = await broker.monitor.history("acme", Span.HOUR)
    assert [point.tally.published for point in points if point.tally.published] == [1, 1]
