"""Operations whose ends cannot be told, or of which something cannot be read: they hold up no other."""

import pytest
import structlog
from tests.unit.engine.house import SHOP, settings, turns
from tests.unit.engine.test_operations import DONE, KINDS, OTHER, collected, make, papers

from restante.changes import PutPaper
from restante.engine import operations
from restante.engine.broker import Broker
from restante.errors import OperationNotFound, StoreFull, StoreUnavailable, TooManyOperations
from restante.operation import Asked, OperationState
from restante.papers import Kind, Paper
from restante.queries import Papers

# -- what cannot be told ---------------------------------------------------------------------------


@pytest.mark.parametrize("told_already", [False, True])
async def test_a_crash_before_or_after_the_telling_has_it_told_once(
    store, clock, monkeypatch, told_already
):
    """Between the end and the telling, and between the telling and the note that it is done."""
    async with Broker(store, clock) as one:
        id = (await make(one)).operation.id
        with monkeypatch.context() as patch:
            if told_already:
                configure = store.configure

                def only_the_end(changes):
                    if any(
                        isinstance(c, PutPaper) and c.paper.kind is Kind.OPERATION for c in changes
                    ):
                        return configure(changes)
                    raise StoreUnavailable("gone")

                patch.setattr(store, "configure", only_the_end)
            else:

                def no_append(_):
                    raise StoreUnavailable("gone")

                patch.setattr(store, "append", no_append)
            await one.operations.move(id, DONE, SHOP)
            await turns()
    async with Broker(store, clock) as two:
        await turns()
        clock.advance(5)
        await turns()
        assert [told["id"] for told in await collected(two)] == [id]
        clock.advance(86_400)
        await turns()
        for kind in KINDS:
            assert await papers(two, kind) == []


async def test_a_store_that_is_away_is_asked_again(broker, store, clock, monkeypatch):
    id = (await make(broker)).operation.id
    with monkeypatch.context() as patch:

        def away(_):
            raise StoreUnavailable("away")

        patch.setattr(store, "append", away)
        await broker.operations.move(id, DONE, SHOP)
        await turns()
        assert await collected(broker) == []
    clock.advance(5)
    await turns()
    assert len(await collected(broker)) == 1


async def test_ends_that_no_queue_can_be_told_of_hold_up_no_other(
    broker, store, clock, monkeypatch
):
    """On a full disk nothing is published, while what is due can still be written down."""
    silent = await make(broker, Asked(timeout_seconds=10))
    ids = [(await make(broker)).operation.id for _ in range(operations._AT_ONCE)]
    with monkeypatch.context() as patch:

        def full(_):
            raise StoreFull("the disk is full")

        patch.setattr(store, "append", full)
        for id in ids:
            await broker.operations.move(id, DONE, SHOP)
        await turns(100)
        clock.advance(10)
        await turns(100)
        kept = await broker.operations.find(silent.operation.id, SHOP)
        assert kept.operation.state is OperationState.FAILED
        assert await collected(broker) == []
    clock.advance(5)
    await turns(100)
    assert {told["id"] for told in await collected(broker)} == set(ids)


async def test_a_queue_is_told_however_long_that_cannot_be_done(broker, store, clock, monkeypatch):
    id = (await make(broker, Asked(queue="acme", keep_seconds=60))).operation.id
    with monkeypatch.context() as patch:

        def away(_):
            raise StoreUnavailable("away")

        patch.setattr(store, "append", away)
        await broker.operations.move(id, DONE, SHOP)
        await turns()
        clock.advance(3_600)
        await turns()
        await store.prune(100)
    clock.advance(5)
    await turns()
    assert [told["id"] for told in await collected(broker)] == [id]
    clock.advance(59)
    await turns()
    assert (await broker.operations.find(id, SHOP)).version == 2, "it is kept after that"
    clock.advance(1)
    await turns()
    with pytest.raises(OperationNotFound):
        await broker.operations.find(id, SHOP)


async def test_what_no_queue_will_ever_take_is_given_up_and_logged(broker, clock):
    id = (await make(broker, Asked(queue="acme", keep_seconds=60))).operation.id
    await settings(broker, max_body_bytes=10)
    with structlog.testing.capture_logs() as logs:
        await broker.operations.move(id, DONE, SHOP)
        await turns()
    (line,) = [one for one in logs if one["event"] == "operation.not_told"]
    assert (line["log_level"], line["operation"], line["code"]) == ("error", id, "body_too_large")
    clock.advance(60)
    await turns()
    for kind in KINDS:
        assert await papers(broker, kind) == []


async def test_a_defect_in_telling_is_tried_again_by_and_by(broker, clock, monkeypatch):
    id = (await make(broker, Asked(queue="acme", keep_seconds=60))).operation.id
    with monkeypatch.context() as patch:
        patch.setattr(broker, "publish", lambda *_: 1 / 0)
        await broker.operations.move(id, DONE, SHOP)
        for _ in range(10):
            await turns()
            clock.advance(60)
        await turns()
    clock.advance(60)
    await turns()
    assert [told["id"] for told in await collected(broker)] == [id]


# -- what cannot be read ---------------------------------------------------------------------------


async def damage(broker, id, content=b'{"id":'):
    paper = Paper(kind=Kind.OPERATION, key=id, content=content)
    await broker.store.configure([PutPaper(paper)])


async def test_a_look_that_fails_is_not_the_last(broker, store, clock, monkeypatch):
    id = (await make(broker, Asked(timeout_seconds=10))).operation.id
    await turns()
    browse = store.browse

    def broken(query):
        if isinstance(query, Papers) and query.kind is Kind.OPERATION_DUE:
            raise OSError("the file cannot be read")
        return browse(query)

    with monkeypatch.context() as patch:
        patch.setattr(store, "browse", broken)
        with structlog.testing.capture_logs() as logs:
            clock.advance(10)
            await turns()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["operations.failed"]
    clock.advance(2)
    await turns()
    assert (await broker.operations.find(id, SHOP)).operation.state is OperationState.FAILED


@pytest.mark.parametrize("content", [b'{"id":', b"\xff", b"{}", b'{"id": "\xff"}'])
async def test_one_that_cannot_be_read_holds_up_no_other(broker, clock, content):
    broken = (await make(broker, Asked(timeout_seconds=5))).operation.id
    whole = (await make(broker, Asked(queue="acme", timeout_seconds=10))).operation.id
    await damage(broker, broken, content)
    clock.advance(10)
    await turns()
    assert [told["id"] for told in await collected(broker)] == [whole]


async def test_a_time_that_cannot_be_read_holds_up_no_other(broker, store, clock):
    odd = Paper(kind=Kind.OPERATION_DUE, key="!soon/one", content=b"")
    await store.configure([PutPaper(odd)])
    id = (await make(broker, Asked(queue="acme", timeout_seconds=10))).operation.id
    await turns()
    clock.advance(10)
    with structlog.testing.capture_logs() as logs:
        await turns()
    assert [told["id"] for told in await collected(broker)] == [id]
    assert ("operation.damaged", odd.key) in {(one["event"], one.get("due")) for one in logs}
    assert odd.key in [paper.key for paper in await papers(broker, Kind.OPERATION_DUE)]


async def test_lists_leave_out_what_cannot_be_read_and_say_so(broker):
    first, broken, last = sorted([(await make(broker)).operation.id for _ in range(3)])
    await damage(broker, broken)
    with structlog.testing.capture_logs() as logs:
        page = await broker.operations.page(SHOP)
        everybody = await broker.operations.open()
    assert page == everybody
    assert [kept.operation.id for kept in page.kept] == [first, last]
    damaged = [one["operation"] for one in logs if one["event"] == "operation.damaged"]
    assert damaged == [broken, broken]
    assert await broker.operations.page(OTHER) == ([], None)


async def test_a_page_of_which_nothing_can_be_read_is_not_the_last(broker):
    broken, last = sorted([(await make(broker)).operation.id for _ in range(2)])
    await damage(broker, broken)
    assert await broker.operations.page(SHOP, limit=1) == ([], broken)
    page = await broker.operations.page(SHOP, after=broken, limit=1)
    assert ([kept.operation.id for kept in page.kept], page.next) == ([last], last)
    assert await broker.operations.page(SHOP, after=last, limit=1) == ([], None)


async def test_what_cannot_be_read_is_not_counted_as_open(broker, clock, monkeypatch):
    monkeypatch.setattr(operations, "OPEN_OPERATIONS", 3)
    made = [(await make(broker)).operation.id for _ in range(3)]
    await damage(broker, made[0])
    await broker.operations.page(SHOP)
    clock.advance(60)
    made.append((await make(broker)).operation.id)
    for _ in range(2):
        with pytest.raises(TooManyOperations):
            await make(broker)
        clock.advance(60)
    await broker.operations.move(made[1], DONE, SHOP)
    clock.advance(60)
    await make(broker)
