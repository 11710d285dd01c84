"""The newest head of the log leaves the machine, whatever fails in between, and nothing waits for it."""

import asyncio
import contextlib

import msgspec
import pytest
import structlog.testing
from tests.unit.engine.house import turns
from tests.unit.engine.neighbours import SharedStore

from restante.changes import DropPaper, PutPaper
from restante.engine.head_post import (
    RETRY_SECONDS_MAXIMUM,
    SEND_SECONDS,
    HeadPost,
    Sending,
)
from restante.engine.log_reader import TOLD_SECONDS, LogReader
from restante.engine.sending import CLAIM_SECONDS, CLOCKS_APART_MS, LOOK_SECONDS, RETRY_SECONDS
from restante.errors import StoreUnavailable
from restante.papers import Kind, Paper
from restante.queries import PaperOf
from restante.receipt_log import STATE_KEY, LogState, encode_state, head_key
from restante.testing.clock import FakeClock
from restante.wire.checkpoints import LogKeys, SignerKey, TreeHead, to_note

KEY = SignerKey("receipts.example", b"\x01" * 32)
OTHER = SignerKey("receipts.example", b"\x02" * 32)
PLACE = "url/0123456789abcdef"
SHOWN = "https://keeper.example/heads"


def encode_sent(sent):
    return msgspec.json.encode(Sending(sent=sent))


def note_of(size, key=KEY):
    return to_note(key.verifier.name, TreeHead(size, bytes(32), size), [key])


class Place:
    """Where heads are sent to. It takes them unless it ``refuses``, and answers only while its ``gate`` is open.

    ``came`` are the sizes of the heads that came.
    """

    def __init__(self):
        self.came = []
        self.held = []
        self.refuses = ""
        self.gate = asyncio.Event()
        self.gate.set()

    async def take(self, head):
        self.came.append(head.split("\n")[1])
        await self.gate.wait()
        if self.refuses:
            raise OSError(self.refuses)
        self.held.append(head)

    async def holds(self, head):
        if self.refuses:
            raise OSError(self.refuses)
        return head in self.held


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def store(clock):
    async with SharedStore(clock) as store:
        yield store


@pytest.fixture
def place():
    return Place()


@pytest.fixture
async def start(store, clock, place):
    """Starts a node's post; what ends it as a crash does is its task's ``cancel``."""
    async with asyncio.TaskGroup() as group:
        jobs = []

        async def started(node="one", place=place, holds=None):
            log = LogReader(store, clock, LogKeys((KEY,)))
            post = HeadPost(store, clock, log, node, PLACE, SHOWN, place.take, holds)
            jobs.append(group.create_task(post.deliver()))
            await turns()
            return post, jobs[-1]

        yield started
        for job in jobs:
            job.cancel()


async def keep(store, size, post=None):
    """Have a head of that size kept, as sealing does, and the post told of it."""
    note = note_of(size)
    state = LogState(
        origin=KEY.verifier.name,
        size=size,
        root=bytes(32),
        at_ms=size,
        node="one",
        checkpoint=note,
        kept_at_ms=size,
        kept_size=size,
    )
    await put(store, Kind.LOG, STATE_KEY, encode_state(state))
    await put(store, Kind.LOG_HEAD, head_key(size), note.encode())
    if post is not None:
        post.hurry()
    await turns()


async def put(store, kind, key, content):
    """Write a paper whatever is there, as whoever can write into the database does."""
    await store.configure([DropPaper(kind, key)])
    await store.configure([PutPaper(Paper(kind=kind, key=key, content=content))])


async def wait(clock, seconds):
    clock.advance(seconds)
    await turns()


async def test_a_head_is_sent_once_as_soon_as_it_is_kept(store, clock, place, start):
    post, _ = await start()
    assert place.came == []
    await keep(store, 3, post)
    assert place.came == ["3"]
    await wait(clock, LOOK_SECONDS)
    await keep(store, 12, post)
    await wait(clock, 10 * LOOK_SECONDS)
    assert place.came == ["3", "12"]


async def test_what_was_not_taken_is_sent_again_later_and_later(store, clock, place, start):
    place.refuses = "HTTP 500"
    post, _ = await start()
    await keep(store, 3, post)
    tries, waits = 1, []
    for _ in range(9):
        seconds = 0
        while len(place.came) == tries:
            await wait(clock, RETRY_SECONDS)
            seconds += RETRY_SECONDS
        tries += 1
        waits.append(seconds)
    assert waits == [5, 10, 20, 40, 80, 160, *[RETRY_SECONDS_MAXIMUM] * 3]
    place.refuses = ""
    await wait(clock, RETRY_SECONDS_MAXIMUM)
    assert place.came == ["3"] * 11
    await wait(clock, RETRY_SECONDS_MAXIMUM)
    assert len(place.came) == 11
    # What comes after a success does not wait.
    place.refuses = "HTTP 500"
    await keep(store, 4, post)
    await wait(clock, RETRY_SECONDS)
    assert place.came[11:] == ["4", "4"]


async def test_a_newer_head_takes_the_place_of_one_that_was_not_taken(store, clock, place, start):
    place.refuses = "HTTP 500"
    post, _ = await start()
    for size in (3, 4, 5):
        await keep(store, size, post)
    # It waits as the older one did: the destination is no better for it.
    assert place.came == ["3"]
    place.refuses = ""
    await wait(clock, RETRY_SECONDS)
    await wait(clock, RETRY_SECONDS_MAXIMUM)
    assert place.came == ["3", "5"]


async def test_of_those_kept_while_one_is_under_way_the_newest_is_next(store, place, start):
    place.gate.clear()
    post, _ = await start()
    for size in (3, 4, 5):
        await keep(store, size, post)
    assert place.came == ["3"]
    place.gate.set()
    await turns()
    assert place.came == ["3", "5"]


async def test_a_head_that_was_kept_before_anybody_sent_is_sent_at_the_start(store, place, start):
    for size in (3, 4):
        await keep(store, size)
    await start()
    assert place.came == ["4"]


@pytest.mark.parametrize("refuses", ["", "HTTP 500"])
async def test_what_an_earlier_start_kept_and_did_not_send_is_sent_by_the_next(
    store, clock, place, start, refuses, monkeypatch
):
    monkeypatch.setattr(SharedStore, "nodes", None)
    place.refuses = refuses
    place.gate.clear()
    post, job = await start("one")
    await keep(store, 3, post)
    if refuses:
        place.gate.set()
        await turns()
    # Killed while it is under way, or while it waits for its next try.
    job.cancel()
    place.refuses = ""
    place.gate.set()
    await start("one again")
    assert place.came == ["3", "3"]
    job.cancel()
    await start("and again")
    await wait(clock, LOOK_SECONDS)
    assert place.came == ["3", "3"]


async def test_one_node_sends_and_another_goes_on_where_it_died(store, clock, place, start):
    place.gate.clear()
    post, job = await start("one")
    await start("two")
    await keep(store, 3, post)
    for _ in range(3):
        await wait(clock, LOOK_SECONDS)
    assert place.came == ["3"]
    job.cancel()
    place.gate.set()
    await wait(clock, CLAIM_SECONDS - 3 * LOOK_SECONDS)
    assert place.came == ["3", "3"]
    await wait(clock, CLAIM_SECONDS)
    assert place.came == ["3", "3"]


async def test_nodes_wait_together_for_a_destination_that_fails(store, clock, place, start):
    place.refuses = "HTTP 500"
    post, _ = await start("one")
    await start("two")
    await keep(store, 3, post)
    for _ in range(3):
        await wait(clock, RETRY_SECONDS)
    assert place.came == ["3"] * 3


async def test_a_claim_from_a_clock_that_was_set_back_holds_nobody_up(store, clock, place, start):
    place.gate.clear()
    post, job = await start("one")
    await keep(store, 3, post)
    job.cancel()
    place.gate.set()
    clock.jump_wall(-CLOCKS_APART_MS / 1_000 - CLAIM_SECONDS - 1)
    await start("two")
    assert place.came == ["3", "3"]


async def test_a_destination_that_never_answers_is_tried_again(
    store, clock, place, start, monkeypatch
):
    monkeypatch.setattr("restante.engine.head_post.SEND_SECONDS", 0)
    assert SEND_SECONDS < CLAIM_SECONDS
    place.gate.clear()
    post, _ = await start()
    await keep(store, 3, post)
    place.gate.set()
    monkeypatch.setattr("restante.engine.head_post.SEND_SECONDS", SEND_SECONDS)
    await wait(clock, RETRY_SECONDS)
    assert place.came == ["3", "3"]


async def test_a_store_that_is_away_ends_nothing(store, clock, place, start, monkeypatch):
    post, _ = await start()
    with monkeypatch.context() as patch:

        def away(query):
            raise StoreUnavailable("gone")

        patch.setattr(store, "browse", away)
        post.hurry()
        await turns()
    await keep(store, 3)
    await wait(clock, LOOK_SECONDS)
    assert place.came == ["3"]


async def test_a_store_that_closes_ends_it(store, start):
    post, job = await start()
    await store.close()
    post.hurry()
    with contextlib.suppress(asyncio.CancelledError):
        await job
    assert job.done()


async def test_a_paper_under_a_larger_key_holds_nothing_back(store, clock, place, start):
    post, _ = await start()
    await put(store, Kind.LOG_HEAD, "9" * 19, b"of nobody\n9\n")
    await put(store, Kind.LOG_HEAD, "z", note_of(7).encode())
    post.hurry()
    await turns()
    assert place.came == []
    await keep(store, 3, post)
    await keep(store, 4, post)
    assert place.came == ["3", "4"]


@pytest.mark.parametrize(
    "content",
    [
        b"buy now\n4\n",
        b"\xff",
        note_of(4, OTHER).encode(),
        note_of(3).encode(),
        note_of(4).replace("\n4\n", "\n5\n").encode(),
        None,
    ],
)
async def test_what_was_not_signed_as_the_newest_is_not_sent_and_logged_once_a_minute(
    store, clock, place, start, content
):
    post, _ = await start()
    await keep(store, 4)
    if content is None:
        await store.configure([DropPaper(Kind.LOG_HEAD, head_key(4))])
    else:
        await put(store, Kind.LOG_HEAD, head_key(4), content)
    with structlog.testing.capture_logs() as logged:
        post.hurry()
        await turns()
        await wait(clock, LOOK_SECONDS)
        assert [line["event"] for line in logged] == ["log.head_damaged"]
        await wait(clock, TOLD_SECONDS)
        assert [line["event"] for line in logged] == ["log.head_damaged"] * 2
    assert place.came == []
    await keep(store, 5, post)
    assert place.came == ["5"]


async def test_a_log_that_cannot_be_read_sends_nothing(store, place, start):
    post, _ = await start()
    await keep(store, 3)
    await put(store, Kind.LOG, STATE_KEY, b"{")
    with structlog.testing.capture_logs() as logged:
        post.hurry()
        await turns()
    assert [line["event"] for line in logged] == ["log.head_damaged"]
    assert place.came == []


@pytest.mark.parametrize(
    "forged",
    [b"{", b"\xff", b'{"sent": 3}', encode_sent(note_of(9)), encode_sent("9" * 100)],
)
async def test_whatever_is_said_to_have_been_taken_holds_nothing_back(
    store, clock, place, start, forged
):
    await put(store, Kind.LOG_SENDING, PLACE, forged)
    post, _ = await start()
    await keep(store, 3, post)
    assert place.came == ["3"]
    await put(store, Kind.LOG_SENDING, PLACE, forged)
    await keep(store, 4, post)
    await wait(clock, LOOK_SECONDS)
    assert place.came == ["3", "4"]


@pytest.mark.parametrize("version", [-1, 0, 2**63 - 1])
async def test_a_version_that_cannot_be_counted_on_from_holds_nothing_back(
    store, place, start, monkeypatch, version
):
    browse = store.browse

    async def forged(query):
        paper = await browse(query)
        if isinstance(query, PaperOf) and paper is not None and paper.content == b"{}":
            return msgspec.structs.replace(paper, version=version)
        return paper

    monkeypatch.setattr(store, "browse", forged)
    await put(store, Kind.LOG_SENDING, PLACE, b"{}")
    post, _ = await start()
    await keep(store, 3, post)
    assert place.came == ["3"]


async def test_a_place_that_can_be_asked_is_sent_what_it_does_not_have(store, clock, place, start):
    post, _ = await start(holds=place.holds)
    await keep(store, 3, post)
    await wait(clock, LOOK_SECONDS)
    assert place.came == ["3"]
    # Somebody has taken away what it had.
    place.held.clear()
    await wait(clock, LOOK_SECONDS)
    await wait(clock, LOOK_SECONDS)
    assert place.came == ["3", "3"]
    # It is not there: then it is tried as any other.
    place.held.clear()
    place.refuses = "not mounted"
    await wait(clock, LOOK_SECONDS)
    place.refuses = ""
    await wait(clock, RETRY_SECONDS)
    assert place.came == ["3"] * 4


async def test_each_node_sends_to_its_own_place_of_one_name(store, clock, place, start):
    other = Place()
    post, _ = await start("one", holds=place.holds)
    await start("two", place=other, holds=other.holds)
    await keep(store, 3, post)
    await wait(clock, LOOK_SECONDS)
    await wait(clock, LOOK_SECONDS)
    assert (place.came, other.came) == (["3"], ["3"])


async def test_a_place_that_shows_nothing_is_sent_one_at_each_look(store, clock, place, start):
    async def never(head):
        return False

    post, _ = await start(holds=never)
    await keep(store, 3, post)
    assert place.came == ["3"]
    await wait(clock, LOOK_SECONDS)
    assert place.came == ["3", "3"]
