"""Receipts are sealed once, in their order, whatever happens in between; and what is sealed can be proved."""

import asyncio
import contextlib

import msgspec
import pytest
import structlog.testing
from tests.unit.engine.house import turns

from restante import merkle
from restante.changes import AddSeals, DropPaper, PutPaper
from restante.engine.log_export import LogExport
from restante.engine.log_reader import TOLD_SECONDS
from restante.engine.receipt_log import (
    SEAL_SECONDS,
    STEP_RECEIPTS,
    WATCH_SECONDS,
    ReceiptLog,
)
from restante.errors import (
    LogDamaged,
    LogEmpty,
    Malformed,
    OutOfBounds,
    PaperChanged,
    ReceiptNotFound,
    ReceiptNotSealed,
    StoreUnavailable,
)
from restante.log_audit import HeldHead, LogAuditor
from restante.papers import Kind, Paper
from restante.queries import PaperOf, Receipts, Seals
from restante.receipt_log import STATE_KEY, Lag, decode_state, encode_state, tile_key
from restante.stores.memory import MemoryStore
from restante.testing.conformance.stage import Stage
from restante.wire import proofs
from restante.wire.checkpoints import LogKeys, SignerKey, TreeHead, of_note, to_note

KEY = SignerKey("receipts.example", b"\x01" * 32)
NEXT = SignerKey("receipts.example/2", b"\x02" * 32)


@pytest.fixture
async def stage(tmp_path):
    async with Stage(
        lambda folder, clock, jitter: MemoryStore(clock, jitter=jitter), tmp_path
    ) as it:
        yield it


def log_of(stage, *keys, node="one", **options):
    return ReceiptLog(stage.store, stage.clock, node, LogKeys(keys or (KEY,)), **options)


async def seal_all(log):
    while await log.step():
        pass


async def publish(stage, count=1, **options):
    for number in range(count):
        await stage.publish(b"<n>%d</n>" % number, **options)


async def audit(stage, *heads, trusted=(KEY.verifier,), retention_seconds=None):
    auditor = LogAuditor(trusted, [HeldHead(note, "here") for note in heads], retention_seconds)
    export = LogExport(stage.store, stage.clock, log_of(stage))
    cursor: str | None = ""
    while cursor is not None:
        page = await export.page(cursor)
        for line in page.lines:
            auditor.look(line)
        cursor = page.next
    return auditor.verdict()


async def test_nothing_is_in_the_log_at_first(stage):
    log = log_of(stage)
    with pytest.raises(LogEmpty):
        await log.state()
    for _ in range(2):
        assert not await log.step()
        assert (await log.state()).head == (0, merkle.EMPTY_ROOT, stage.clock.wall_ms())
    assert len(await log.heads(None, 10)) == 1
    assert (await audit(stage)).findings == []
    with pytest.raises(ReceiptNotFound):
        await log.proof("acme", 1)
    await publish(stage)
    with pytest.raises(ReceiptNotSealed):
        await log.proof("acme", 1)


async def test_the_tree_is_that_of_all_entries(stage):
    log = log_of(stage)
    await stage.put_queue("billing")
    for count in (1, 300, 7):
        await publish(stage, count, queues=("acme", "billing"))
        await seal_all(log)
    state = await log.state()
    assert state.size == 2 * 308
    leaves = [b""] * state.size
    for queue in ("acme", "billing"):
        page = await stage.store.browse(Receipts(queue, limit=1_000))
        for receipt in page.receipts:
            place = await log.place(queue, receipt.number)
            assert place is not None
            assert not leaves[place]
            leaves[place] = merkle.leaf_hash(receipt.entry)
    tiles = merkle.grown(0, leaves, lambda tile: b"")
    assert merkle.root(state.size, tiles.__getitem__) == state.root
    assert of_note(state.checkpoint, state.origin, [KEY.verifier]) == state.head
    assert (await audit(stage)).findings == []


async def test_a_proof_of_each_receipt_holds(stage):
    log = log_of(stage)
    for count in (5, 260):
        await publish(stage, count)
        await seal_all(log)
    for number in (1, 5, 6, 256, 257, 265):
        proved = proofs.check(await log.proof("acme", number), KEY.verifier.name, [KEY.verifier])
        assert (proved.receipt.number, proved.index) == (number, number - 1)


async def test_an_older_log_is_the_beginning_of_a_newer(stage):
    log = log_of(stage)
    heads = []
    for count in (3, 300, 40):
        await publish(stage, count)
        await seal_all(log)
        heads.append((await log.state()).head)
    for old in heads:
        for new in heads[heads.index(old) :]:
            path = await log.consistency(old.size, new.size)
            assert merkle.extends(old.size, new.size, path, old.root, new.root)
    for old, new in ((0, 3), (4, 3), (1, 344)):
        with pytest.raises(OutOfBounds):
            await log.consistency(old, new)


async def test_a_node_that_starts_goes_on_where_the_log_is(stage):
    for count in (1, 255, 600, 1):
        await publish(stage, count)
        await seal_all(log_of(stage))
    assert (await log_of(stage).state()).size == 857
    assert (await audit(stage)).findings == []


async def test_of_two_that_seal_at_once_one_does(stage):
    one, two = log_of(stage, node="one"), log_of(stage, node="two")
    await publish(stage, 3)
    await seal_all(one)
    await seal_all(two)
    await publish(stage, 3)
    page = stage.store.browse
    held = asyncio.get_running_loop().create_future()

    async def slow(query):
        found = await page(query)
        await held
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.store, "browse", slow)
        first = asyncio.create_task(one.step())
        await turns()
        patch.undo()
        # The other has read the same, and is faster.
        await two.step()
        held.set_result(None)
        with pytest.raises(PaperChanged):
            await first
    assert await stage.store.browse(Seals("acme")) == [
        *(await stage.store.browse(Seals("acme", limit=1))),
        (await stage.store.browse(Seals("acme", 4)))[0],
    ]
    assert (await one.state()).size == 6
    await publish(stage, 1)
    await seal_all(one)
    assert (await audit(stage)).findings == []


@pytest.mark.parametrize("done", [True, False])
async def test_an_answer_that_is_lost_seals_nothing_twice(stage, done):
    log = log_of(stage)
    await publish(stage, 4)
    configure = stage.store.configure

    def lost(changes):
        if not any(isinstance(change, AddSeals) for change in changes):
            return configure(changes)
        if done:
            configure(changes)
        raise StoreUnavailable("gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.store, "configure", lost)
        with pytest.raises(StoreUnavailable):
            await log.step()
    await seal_all(log)
    assert (await log.state()).size == 4
    assert (await audit(stage)).findings == []


async def test_it_seals_by_itself(stage):
    log = log_of(stage)
    living = asyncio.create_task(log.live())
    await publish(stage)
    await turns()
    stage.clock.advance(SEAL_SECONDS)
    await turns()
    proof = await log.proof("acme", 1)
    assert proofs.check(proof, KEY.verifier.name, [KEY.verifier]).index == 0
    # One defect or an absent store does not end it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.store, "browse", lambda query: 1 / 0)
        stage.clock.advance(SEAL_SECONDS)
        await turns()
        assert log.trouble == "a defect: ZeroDivisionError"
        patch.setattr(stage.store, "browse", unavailable)
        stage.clock.advance(SEAL_SECONDS)
        await turns()
        assert (log.failing, log.trouble) == (True, "the disk is gone")
    await publish(stage)
    stage.clock.advance(SEAL_SECONDS)
    await turns()
    assert (await log.state()).size == log.size == 2
    assert not log.failing
    living.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await living


async def test_what_fails_at_every_try_is_logged_once_a_minute_and_how_often(stage):
    await seal_all(log_of(stage))
    stranger = log_of(stage, NEXT, node="two")
    await publish(stage)
    with structlog.testing.capture_logs() as logged:
        living = asyncio.create_task(stranger.live())
        await turns()
        told = [1]
        for minutes in (1, 2, 3):
            for _ in range(int(TOLD_SECONDS / SEAL_SECONDS)):
                assert [line["failures"] for line in logged] == told
                stage.clock.advance(SEAL_SECONDS)
                await turns()
            told.append(int(minutes * TOLD_SECONDS / SEAL_SECONDS) + 1)
        # Another reason is another matter.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage.store, "browse", lambda query: 1 / 0)
            stage.clock.advance(SEAL_SECONDS)
            await turns()
        living.cancel()
    assert [line["failures"] for line in logged] == [*told, told[-1] + 1]
    assert {line["event"] for line in logged[:-1]} == {"log.not_sealed"}
    assert {line["code"] for line in logged[:-1]} == {"log_damaged"}
    assert logged[-1]["event"] == "log.failed"
    with contextlib.suppress(asyncio.CancelledError):
        await living


async def test_a_node_with_another_key_says_so_while_others_seal(stage, monkeypatch):
    monkeypatch.setattr(MemoryStore, "nodes", True)
    nodes = [log_of(stage), log_of(stage, node="two"), log_of(stage, NEXT, node="three")]
    await publish(stage)
    with structlog.testing.capture_logs() as logged:
        living = [asyncio.create_task(log.live()) for log in nodes]
        for _ in range(10):
            await publish(stage)
            await turns()
            stage.clock.advance(SEAL_SECONDS)
        await turns()
        for task in living:
            task.cancel()
        await asyncio.gather(*living, return_exceptions=True)
    assert [log.failing for log in nodes] == [False, False, True]
    assert [line["event"] for line in logged] == ["log.not_sealed"]
    state = await nodes[0].state()
    assert (state.size, state.node) == (11, "one")


async def test_it_is_seen_how_far_the_log_is_behind(stage):
    log = log_of(stage)
    assert log.head_at_ms is None
    began = stage.clock.wall_ms()
    await publish(stage, 3)
    watching = asyncio.create_task(log.watch())
    await turns()
    assert log.lag == Lag(3, began)
    await seal_all(log)
    assert log.head_at_ms == began
    for error in (StoreUnavailable("gone"), ValueError("damaged")):
        with pytest.MonkeyPatch.context() as patch:

            def away(query, error=error):
                raise error

            patch.setattr(stage.store, "browse", away)
            stage.clock.advance(WATCH_SECONDS)
            await turns()
        assert log.lag == Lag(3, began)
    stage.clock.advance(WATCH_SECONDS)
    await turns()
    assert log.lag == Lag()
    await stage.store.close()
    stage.clock.advance(WATCH_SECONDS)
    await watching


def unavailable(query):
    raise StoreUnavailable("the disk is gone")


async def test_places_of_many_are_told_at_once(stage):
    """Of runs that another queue's stand between, and of receipts that are not sealed yet."""
    log = log_of(stage)
    await stage.put_queue("bob")
    for _ in range(3):
        await publish(stage, 2)
        await publish(stage, 1, queues=("bob",))
        await seal_all(log)
    await publish(stage, 1)
    places = await log.places("acme", (7, 6, 2, 3, 1))
    assert places == {n: await log.place("acme", n) for n in (1, 2, 3, 6)}
    assert len(set(places.values())) == 4
    assert await log.places("acme", (7, 8)) == await log.places("nothing", (1,)) == {}
    browse, asked = stage.store.browse, []

    def watched(query):
        asked.append(query)
        return browse(query)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.store, "browse", watched)
        await log.places("acme", range(1, 7))
    assert len(asked) == 1


async def test_the_newest_heads_come_first(stage):
    log = log_of(stage, head_seconds=0)
    for _ in range(3):
        await publish(stage)
        await seal_all(log)
    rising = await log.heads(None, 10)
    assert len(rising) >= 3
    assert await log.newest_heads(None, 10) == rising[::-1]
    assert await log.newest_heads(rising[-1][0], 1) == [rising[-2]]
    assert (await log.count_heads(10), await log.count_heads(2)) == (len(rising), 2)


async def test_many_are_sealed_step_by_step(stage):
    log = log_of(stage)
    await publish(stage, STEP_RECEIPTS + 1)
    assert await log.step()
    assert (await log.state()).size == STEP_RECEIPTS
    assert not await log.step()
    assert (await log.state()).size == STEP_RECEIPTS + 1


async def test_heads_are_kept_at_intervals_and_told_of(stage):
    told = []
    log = log_of(stage, head_seconds=60)
    log.listen(lambda: told.append(log.size))
    await seal_all(log)
    for seconds in (0, 61, 30, 29, 2, 60):
        stage.clock.advance(seconds)
        await publish(stage)
        await seal_all(log)
    assert told == [0, 2, 5, 6]
    # What is sealed has a head though nothing more comes.
    await publish(stage)
    await seal_all(log)
    for seconds in (59, 2, 3_600):
        stage.clock.advance(seconds)
        await seal_all(log)
    assert told == [0, 2, 5, 6, 7]
    heads = await log.heads(None, 10)
    assert [size for size, _ in heads] == told
    assert [int(note.split("\n")[1]) for _, note in heads] == told
    assert await log.heads(0, 1) == heads[1:2]
    assert (await audit(stage, *(note for _, note in heads))).findings == []


async def test_a_log_that_somebody_else_has_written_is_not_gone_on_with(stage):
    log = log_of(stage)
    await publish(stage, 3)
    await seal_all(log)
    paper = await stage.store.browse(PaperOf(Kind.LOG, STATE_KEY))
    tile = await stage.store.browse(PaperOf(Kind.LOG_TILE, tile_key(merkle.Tile(0, 0))))
    state = decode_state(paper.content)
    stranger = SignerKey(state.origin, b"\x09" * 32)
    for forged in (
        msgspec.structs.replace(state, checkpoint=to_note(state.origin, state.head, [stranger])),
        msgspec.structs.replace(state, size=2),
        b"{}",
        b"\xff",
    ):
        content = forged if isinstance(forged, bytes) else encode_state(forged)
        await stage.configure(PutPaper(Paper(kind=Kind.LOG, key=STATE_KEY, content=content)))
        with pytest.raises(LogDamaged):
            await log_of(stage).step()
    await stage.configure(PutPaper(Paper(kind=Kind.LOG, key=STATE_KEY, content=paper.content)))
    content = bytes(32) + tile.content[32:]
    await stage.configure(PutPaper(Paper(kind=Kind.LOG_TILE, key=tile.key, content=content)))
    with pytest.raises(LogDamaged):
        await log_of(stage).step()
    await stage.configure(PutPaper(Paper(kind=Kind.LOG_TILE, key=tile.key, content=tile.content)))
    # By a key that is lost it is gone on with where somebody says so.
    await publish(stage)
    with pytest.raises(LogDamaged):
        await log_of(stage, NEXT).step()
    keys = LogKeys((NEXT,), (KEY.verifier,))
    await seal_all(ReceiptLog(stage.store, stage.clock, "one", keys))
    assert (await audit(stage, trusted=(NEXT.verifier, KEY.verifier))).findings == []


async def state_paper(stage):
    return await stage.store.browse(PaperOf(Kind.LOG, STATE_KEY))


async def test_what_was_signed_once_is_not_signed_otherwise(stage):
    log = log_of(stage)
    await publish(stage, 2)
    await seal_all(log)
    earlier = (await state_paper(stage)).content
    await publish(stage, 3)
    await seal_all(log)
    newest = (await log.state()).checkpoint

    async def refuses(**known):
        await publish(stage)
        with pytest.raises(PaperChanged):
            await log.step()
        for one in (log, log_of(stage, **known)):
            with pytest.raises(LogDamaged):
                await one.step()

    # An older state, which was signed too, is put back.
    await stage.configure(PutPaper(Paper(kind=Kind.LOG, key=STATE_KEY, content=earlier)))
    await refuses(heads=["no head", newest])
    # The log is put away, so that another begins.
    await stage.configure(DropPaper(Kind.LOG, STATE_KEY))
    for one in (log, log_of(stage, heads=[newest])):
        with pytest.raises(LogDamaged):
            await one.step()


async def test_a_log_goes_on_where_it_continues_what_is_known_of_it(stage):
    log = log_of(stage)
    await publish(stage, 300)
    await seal_all(log)
    head = (await log.state()).checkpoint
    await publish(stage, 300)
    await seal_all(log)
    await publish(stage, 1)
    await seal_all(log_of(stage, heads=[head, (await log.state()).checkpoint]))
    assert (await log.state()).size == 601
    # A head of another history, that the key has signed once.
    other = to_note(KEY.verifier.name, TreeHead(300, bytes(32), 0), [KEY])
    await publish(stage, 1)
    with pytest.raises(LogDamaged, match="another"):
        await log_of(stage, heads=[other]).step()
    # What somebody else has signed says nothing.
    strange = to_note(KEY.verifier.name, TreeHead(900, bytes(32), 0), [NEXT])
    await seal_all(log_of(stage, heads=[strange]))
    assert (await log.state()).size == 602


async def test_what_is_quiet_for_long_is_sound_still(stage):
    log = log_of(stage, head_seconds=60)
    await stage.put_queue(receipt_retention_seconds=60)
    await seal_all(log)
    await publish(stage, 2)
    await seal_all(log)
    stage.clock.advance(3_600)
    await stage.prune_all()
    assert (await audit(stage)).findings == []


async def test_what_was_there_before_the_log_may_go_in_its_time(stage):
    await stage.put_queue(receipt_retention_seconds=600)
    for _ in range(STEP_RECEIPTS // 2 + 10):
        await publish(stage)
        await stage.ack(await stage.one())
    stage.clock.advance(590)
    log = log_of(stage, head_seconds=1)
    while await log.step():
        stage.clock.advance(2)
    stage.clock.advance(20)
    await stage.prune_all()
    await seal_all(log)
    verdict = await audit(stage)
    assert verdict.pruned > STEP_RECEIPTS
    assert verdict.findings == []


async def test_keys_are_exchanged_without_a_gap(stage):
    for keys in ((KEY,), (NEXT, KEY), (NEXT,)):
        await publish(stage)
        await seal_all(log_of(stage, *keys))
    found = {one.key for one in await log_of(stage).keys()}
    assert found == {KEY.verifier.text, NEXT.verifier.text}
    state = await log_of(stage).state()
    assert state.origin == KEY.verifier.name
    assert of_note(state.checkpoint, state.origin, [NEXT.verifier]).size == 3
    assert (await audit(stage, trusted=(NEXT.verifier, KEY.verifier))).findings == []


async def test_without_a_key_nothing_is_sealed(stage):
    log = ReceiptLog(stage.store, stage.clock, "one")
    await log.live()
    assert not log.seals


async def test_what_retention_took_has_its_place_still(stage):
    log = log_of(stage)
    await stage.put_queue(receipt_retention_seconds=60)
    for _ in range(3):
        await publish(stage)
        await stage.ack(await stage.one())
    await seal_all(log)
    stage.clock.advance(61)
    await publish(stage)
    await stage.ack(await stage.one())
    await seal_all(log)
    await stage.prune_all()
    verdict = await audit(stage)
    assert (verdict.findings, verdict.pruned, verdict.receipts) == ([], 6, 2)
    proofs.check(await log.proof("acme", 8), KEY.verifier.name, [KEY.verifier])
    with pytest.raises(ReceiptNotFound):
        await log.proof("acme", 1)


@pytest.mark.parametrize("cursor", ["nonsense", "seals/acme", "receipts/acme/x", "seals//1"])
async def test_what_is_no_cursor(stage, cursor):
    with pytest.raises(Malformed):
        await LogExport(stage.store, stage.clock, log_of(stage)).page(cursor)
