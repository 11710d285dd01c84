"""Two independent stores, one random history: whatever is asked, both must answer alike, and the invariants hold."""

import asyncio
import hashlib
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from restante.changes import AddClient, DropSubscription, PutQueue
from restante.errors import RestanteError
from restante.lifecycle import ENDED
from restante.model import (
    Actor,
    Appended,
    Client,
    Draft,
    Idempotency,
    LeaseRequest,
    Queue,
    Role,
    Selection,
    Settings,
    Settlement,
    State,
    Verb,
)
from restante.queries import (
    CountDead,
    DeadLetters,
    FiguresOf,
    NotificationById,
    Queues,
    Receipts,
)
from restante.stores.memory import MemoryStore
from restante.stores.sqlite import SqliteStore
from restante.testing.clock import FakeClock
from restante.testing.conformance.stage import check_chain, check_story
from restante.wire.receipts import decode_entry

# A disk of memory where there is one: every step is a transaction, and fsync is not what is tested here.
FAST = Path("/dev/shm")
SHOP = Actor("shop", Role.PUBLISHER, "k1", "http", "192.0.2.1")
ACME = Actor("acme", Role.CLIENT, "k2", "http", "192.0.2.2")
OPERATOR = Actor("op", Role.ADMIN)
QUEUES = ("a", "b")
# One test, of thousands of transactions.
pytestmark = pytest.mark.timeout(300)
ON_ITS_WAY = {State.READY, State.SCHEDULED, State.LEASED}

queues = st.sampled_from(["a", "a", "a", "b"])
drafts = st.fixed_dictionaries(
    {
        "queues": st.sampled_from([("a",)] * 7 + [("b",), ("a", "b"), (), ("a", "nowhere")]),
        "body": st.sampled_from([b"<one/>", b"\xff\x00"]),
        "damaged": st.sampled_from([False] * 12 + [True]),
        "topic": st.sampled_from(["", "t"]),
        "ordering_key": st.sampled_from(["", "k"]),
        "collapse_key": st.sampled_from(["", "", "", "c"]),
        "deliver_after_seconds": st.sampled_from([0.0, 0.0, 0.0, 0.0, 1.0, 4.0]),
        "expires_after_seconds": st.sampled_from([None, None, None, 1.0, 5.0]),
        "key": st.sampled_from([None] * 6 + ["x", "y"]),
    }
)
settlements = st.fixed_dictionaries(
    {
        # Mostly of the leases given out last: older ones are lost by then.
        "which": st.integers(0, 5) | st.integers(0, 50),
        "verb": st.sampled_from([Verb.ACK, Verb.NACK, Verb.REJECT, Verb.RELEASE]),
        "retry_after_seconds": st.sampled_from([None, None, 0, 2]),
        "reason": st.sampled_from(["", "busy", "ä\u2028\x00"]),
        "reply": st.sampled_from([None, b"", b"ok", b"\xff"]),
    }
)
selections = st.builds(
    Selection,
    seqs=st.none() | st.lists(st.integers(1, 12), max_size=4).map(tuple),
    reason=st.sampled_from([None, None, "busy", "rejected"]),
    topic=st.sampled_from([None, None, "t"]),
)
queue_settings = st.builds(
    Settings,
    max_attempts=st.sampled_from([1, 2, 10]),
    max_in_flight=st.sampled_from([2, 1_000, 1_000]),
    after_dead=st.sampled_from(["continue", "park"]),
    backoff_base_seconds=st.sampled_from([0.0, 2.0]),
    body_retention_seconds=st.sampled_from([0, 86_400]),
    receipt_retention_seconds=st.sampled_from([0, 3, 86_400]),
)

changes = st.tuples(
    st.builds(lambda name, to: PutQueue(Queue(name, "acme", to)), queues, queue_settings).map(
        lambda one: [one]
    ),
    st.sampled_from([[], [], [DropSubscription("nowhere")]]),
).map(lambda parts: parts[0] + parts[1])
limits = st.sampled_from([1, 2, 100])
operations = st.one_of(
    st.tuples(st.just("configure"), changes),
    st.tuples(st.just("configure"), changes),
    st.tuples(st.just("redrive"), queues, selections, st.just(OPERATOR), limits),
    st.tuples(st.just("redrive"), queues, st.just(Selection()), st.just(OPERATOR), limits),
    st.tuples(st.just("discard"), queues, selections, st.just(OPERATOR), limits, st.just("old")),
    st.tuples(st.just("extend"), st.integers(0, 5), st.sampled_from([1, 10])),
    st.tuples(st.just("prune")),
    st.tuples(st.just("restart")),
)


class TwoStores(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.folder = Path(tempfile.mkdtemp(dir=FAST if FAST.is_dir() else None))
        self.leases = []
        self.drafts = []
        self.ordered = {}
        self.memory = MemoryStore(self.clock, jitter=lambda: 0.5)
        self.open_sqlite()
        self.both("configure", [AddClient(Client("acme", 1))])
        self.both("configure", [PutQueue(Queue(name, "acme")) for name in QUEUES])

    def open_sqlite(self):
        self.sqlite = SqliteStore(self.folder, self.clock, jitter=lambda: 0.5)
        self.runner.run(self.sqlite.__aenter__())

    def teardown(self):
        self.runner.run(self.sqlite.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def both(self, verb, *arguments):
        """Call the same of both stores; their one answer."""
        answers = [
            self.runner.run(_answer(store, verb, arguments)) for store in (self.memory, self.sqlite)
        ]
        assert _plain(answers[0]) == _plain(answers[1]), (verb, arguments)
        return answers[1]

    # -- what happens ---------------------------------------------------------------------------

    @rule(asked=st.lists(drafts, min_size=1, max_size=4))
    def append(self, asked):
        batch: list[Any] = []
        for fields in map(dict, asked):
            digest = hashlib.sha256(fields["body"]).digest()
            key, damaged = fields.pop("key"), fields.pop("damaged")
            batch.append(
                Draft(
                    id=f"n{len(self.drafts) + len(batch)}",
                    actor=SHOP,
                    content_type="text/plain",
                    body_sha256=bytes(32) if damaged else digest,
                    idempotency=Idempotency("shop", key, digest) if key else None,
                    **fields,
                )
            )
        self.drafts += batch
        for draft, result in zip(batch, self.both("append", batch), strict=True):
            if isinstance(result, Appended) and not result.replayed:
                for place in result.deliveries:
                    if draft.ordering_key:
                        self.ordered[place] = draft

    @initialize(first=st.tuples(queue_settings, queue_settings), asked=st.lists(drafts, min_size=2))
    def begin(self, first, asked):
        put = [PutQueue(Queue(*one)) for one in zip(QUEUES, ("acme", "acme"), first, strict=True)]
        self.both("configure", put)
        self.append(asked)

    @rule(
        queue=queues,
        max=st.integers(1, 4),
        seconds=st.sampled_from([1, 3, 60]),
        max_bytes=st.sampled_from([7, 10_000, 10_000]),
    )
    def lease(self, queue, max, seconds, max_bytes):
        request = LeaseRequest(
            queue=queue, max=max, lease_seconds=seconds, actor=ACME, max_bytes=max_bytes
        )
        leased = self.both("lease", request)
        self.leases += [delivery.ref for delivery in leased.deliveries]

    @precondition(lambda self: self.leases)
    @rule(asked=st.lists(settlements, min_size=1, max_size=4))
    def settle(self, asked):
        self.both(
            "settle",
            [
                Settlement(
                    ref=self.leases[-1 - fields.pop("which") % len(self.leases)],
                    actor=ACME,
                    **fields,
                )
                for fields in map(dict, asked)
            ],
        )

    @rule(queue=queues, verb=st.sampled_from([Verb.REJECT, Verb.REJECT, Verb.NACK, Verb.ACK]))
    def take_one_and_settle_it(self, queue, verb):
        before = len(self.leases)
        self.lease(queue, 1, 60, 10_000)
        if len(self.leases) > before:
            ended = Settlement(ref=self.leases[-1], verb=verb, actor=ACME, retry_after_seconds=1)
            self.both("settle", [ended])

    @rule(
        seconds=st.sampled_from([0, 0.25, 1, 1, 3, 3, 10, 700_000]),
        limit=st.sampled_from([0, 0, 1, 2, 100, 100]),
    )
    def pass_time(self, seconds, limit):
        self.clock.advance(seconds)
        if limit:
            self.both("overdue", limit)

    @rule(asked=operations)
    def operate(self, asked):
        verb, *arguments = asked
        if verb == "restart":
            self.runner.run(self.sqlite.close())
            self.open_sqlite()
        elif verb == "prune":
            # How much there was to do is each store's own count.
            for store in (self.memory, self.sqlite):
                self.runner.run(_answer(store, verb, (1_000_000,)))
        elif verb == "extend" and self.leases:
            which, seconds = arguments
            self.both(verb, self.leases[-1 - which % len(self.leases)], seconds)
        elif verb != "extend":
            self.both(verb, *arguments)

    # -- what is true at any moment -------------------------------------------------------------

    @invariant()
    def both_tell_the_same_and_it_is_true(self):
        places = list(self.ordered)
        asked = [
            *(kind(queue) for queue in QUEUES for kind in (FiguresOf, _all_receipts, DeadLetters)),
            *(CountDead(queue, Selection()) for queue in QUEUES),
            Queues(),
            *(NotificationById(draft.id) for draft in self.drafts[-3:]),
            *(NotificationById(self.ordered[place].id) for place in places),
        ]
        answers = self.runner.run(_ask(self.sqlite, asked))
        assert self.runner.run(_ask(self.memory, asked)) == answers
        self.both("next_due")
        parked = set()
        for queue, (figures, page, dead) in zip(QUEUES, (answers[:3], answers[3:6]), strict=True):
            by_state = {state: getattr(figures, state.label) for state in State}
            assert figures.published == sum(by_state.values()), "I15"
            assert figures.dead == len(dead)
            check_chain(page.receipts)
            if page.receipts and page.receipts[0].number == 1:
                check_story([decode_entry(receipt.entry) for receipt in page.receipts], by_state)
            parked |= {(queue, one.ordering_key) for one in dead if one.parked}
        if places:
            self.one_of_a_key_is_on_its_way(places, answers[-len(places) :], parked)

    def one_of_a_key_is_on_its_way(self, places, records, parked):
        """I11, as far as states tell: and none is held for nothing."""
        found: dict[Any, Any] = {}
        for place, record in zip(places, records, strict=True):
            deliveries = record.deliveries if record is not None else []
            states = [one.state for one in deliveries if one.queue == place.queue]
            if not states or states[0] in ENDED:
                del self.ordered[place]
                continue
            lane = (place.queue, self.ordered[place].ordering_key)
            found.setdefault(lane, Counter())[states[0]] += 1
        for lane, states in found.items():
            on_its_way = sum(states[state] for state in ON_ITS_WAY)
            assert on_its_way <= 1, (lane, states)
            if states[State.HELD]:
                assert on_its_way or lane in parked, (lane, states)


async def _ask(store, queries):
    return await asyncio.gather(*(store.browse(query) for query in queries))


def _all_receipts(queue):
    return Receipts(queue, limit=10_000)


async def _answer(store, verb, arguments):
    try:
        return await getattr(store, verb)(*arguments)
    except RestanteError as error:
        return error


def _plain(answer):
    """What can be compared: errors by what they say."""
    if isinstance(answer, list):
        return [_plain(one) for one in answer]
    return (type(answer), str(answer)) if isinstance(answer, RestanteError) else answer


TestTwoStores = TwoStores.TestCase
TestTwoStores.settings = settings(
    max_examples=160,
    stateful_step_count=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
