"""Groups page by page: each sees its own, and a page costs what is on it, however many there are of others."""

import pytest
import structlog
from tests.unit.engine.group_house import OTHER, ask, settle
from tests.unit.engine.house import OPERATOR, SHOP

from restante.changes import PutPaper
from restante.engine.group_papers import GROUP_RETENTION_SECONDS
from restante.errors import GroupNotFound, Malformed
from restante.model import Actor, Role
from restante.papers import Kind, Paper
from restante.queries import Papers

MOLE = Actor("mole", Role.PUBLISHER, "k-mole")


@pytest.fixture
def begin(broker, clock):
    """Asks for a group, some time after the one before."""

    async def begin(actor=SHOP):
        clock.advance(0.001)
        return await ask(broker, actor=actor)

    return begin


@pytest.fixture
def done(broker, begin):
    """Asks for a group and has it signed for. None may be open before."""

    async def done(actor=SHOP):
        id = await begin(actor)
        await settle(broker, "acme")
        await settle(broker, "bob")
        return id

    return done


async def pages(broker, actor, limit):
    """The ids on each page, to the end."""
    found, after = [], ""
    while True:
        page = await broker.groups.page(actor, after, limit)
        found.append([group.id for group in page.groups])
        if page.next is None:
            return found
        after = page.next


async def test_those_that_are_open_come_first_then_the_newest(broker, begin, done):
    closed = [await done() for _ in range(3)]
    opened = [await begin() for _ in range(3)]
    of_another = await begin(OTHER)
    a, b, c = reversed(opened)
    d, e, f = reversed(closed)
    assert await pages(broker, SHOP, 2) == [[a, b], [c, d], [e, f], []]
    assert await pages(broker, SHOP, 4) == [[a, b, c, d], [e, f]]
    assert await pages(broker, SHOP, 100) == [[a, b, c, d, e, f]]
    assert await pages(broker, OTHER, 1) == [[of_another], []]
    assert await pages(broker, OPERATOR, 3) == [[of_another, a, b], [c, d, e], [f]]


async def test_a_page_tells_nothing_of_others(broker, begin, done):
    for _ in range(5):
        await done()
    await begin()
    assert await broker.groups.page(MOLE, limit=2) == ([], None)
    # Nor does it with what somebody has made up, or has from somewhere else.
    theirs = await broker.groups.page(SHOP, limit=2)
    for after in (theirs.next, "open/~", "past/~", "past/~~~", "open//", "past/../publisher/shop/"):
        assert await broker.groups.page(MOLE, after, 2) == ([], None)
    for after in (theirs.groups[0].id, "past", "/", "publisher/shop/past/~"):
        with pytest.raises(Malformed):
            await broker.groups.page(MOLE, after, 2)


@pytest.mark.parametrize("actor", [MOLE, SHOP, OPERATOR])
async def test_a_page_reads_what_is_on_it(broker, store, begin, done, monkeypatch, actor):
    for _ in range(10):
        await done()
    for _ in range(10):
        await begin()
    read: list[object] = []
    browse = store.browse

    async def note(query):
        found = await browse(query)
        read.extend(found if isinstance(query, Papers) else [found] if found else [])
        return found

    monkeypatch.setattr(store, "browse", note)
    page = await broker.groups.page(actor, limit=3)
    while page.next is not None:
        assert len(page.groups) == 3
        # Of each its place in the list, and the group.
        assert len(read) <= 2 * 3
        read.clear()
        page = await broker.groups.page(actor, page.next, limit=3)


async def test_one_that_ends_meanwhile_is_on_some_page_and_on_none_twice(
    broker, store, begin, monkeypatch
):
    first, second, third = [await begin() for _ in range(3)]
    page = await broker.groups.page(SHOP, limit=1)
    assert [group.id for group in page.groups] == [third]
    for queue in ("acme", "bob"):
        await settle(broker, queue)
    rest = await broker.groups.page(SHOP, page.next, limit=10)
    assert [group.id for group in rest.groups] == [second, first]
    browse = store.browse

    async def then_end(query):
        found = await browse(query)
        if isinstance(query, Papers):
            monkeypatch.setattr(store, "browse", browse)
            for queue in ("acme", "bob"):
                await settle(broker, queue)
        return found

    for actor in (SHOP, OPERATOR):
        monkeypatch.setattr(store, "browse", then_end)
        page = await broker.groups.page(actor)
        assert sorted(group.id for group in page.groups) == [first, second, third]


async def test_what_cannot_be_read_is_left_out_and_said(broker, store, begin, done):
    damaged, whole = await done(), await done()
    odd = Paper(kind=Kind.GROUP, key=f"past/{damaged}", content=b'{"id":')
    await store.configure([PutPaper(odd)])
    for actor in (SHOP, OPERATOR):
        with structlog.testing.capture_logs() as logs:
            assert await pages(broker, actor, 100) == [[whole]]
        assert ("group.damaged", odd.key) in {(one["event"], one.get("paper")) for one in logs}


async def test_nothing_is_left_of_those_that_are_forgotten(broker, store, clock, begin, done):
    id = await done()
    clock.advance(GROUP_RETENTION_SECONDS + 1)
    await store.prune(100)
    with pytest.raises(GroupNotFound):
        await broker.groups.group(id, SHOP)
    assert await pages(broker, SHOP, 100) == [[]]
    assert await store.browse(Papers(Kind.GROUP_OF)) == []
