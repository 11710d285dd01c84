"""Invariants judged from the ledgers and figures that clients read. See ``checker.py`` for the
list.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from restante.testing.facts import ENDS, LEASE_OUTCOMES, Entry, Facts, Findings, Ledger, ended
from restante.testing.history import FiguresRead, Operation, Place, Publish, Settle
from restante.testing.invariants import source

ChainDigest = Callable[[bytes, Mapping[str, Any]], bytes]

STATES: Final = (
    "ready",
    "scheduled",
    "held",
    "leased",
    "dead",
    "acked",
    "superseded",
    "expired",
    "discarded",
)
GROWING: Final = ("published", "acked", "superseded", "expired", "discarded")
_OUTCOME_OF: Final = {
    "ack": "acked",
    "nack": "nacked",
    "reject": "rejected",
    "release": "released",
}


def judge(facts: Facts, findings: Findings, chain_digest: ChainDigest) -> None:
    """Run every check of this module."""
    for ledger in facts.ledgers.values():
        _dense_and_chained(ledger, findings, chain_digest)
        for entries in ledger.by_seq.values():
            _one_life(facts, entries, findings)
        _published(facts, ledger, findings)
        _settled(facts, ledger, findings)
        _leases(facts, ledger, findings)
        _ordering(facts, ledger, findings)
        _drained(facts, ledger, findings)
    _readings_agree(facts, findings)
    _figures(facts, findings)


def _dense_and_chained(ledger: Ledger, findings: Findings, chain_digest: ChainDigest) -> None:
    """I14: numbers from 1 without a gap, each digest over the one before."""
    previous = bytes(32)
    for expected, (entry, raw) in enumerate(zip(ledger.entries, ledger.raw, strict=True), 1):
        findings.judged["I14"] += 1
        if entry.number != expected or entry.queue != ledger.queue:
            findings.add("I14", f"receipt {expected} of {ledger.queue} is missing", entry)
            return
        previous = chain_digest(previous, json.loads(bytes(raw)))
        if previous.hex() != entry.digest:
            findings.add("I14", f"receipt {expected} of {ledger.queue} breaks the chain", entry)
            return


def _one_life(facts: Facts, entries: list[Entry], findings: Findings) -> None:
    """I6, I7, I9 for one delivery: a life that starts once, ends once, and counts its leases."""
    place = entries[0].place
    limits = facts.settings(place.queue, "max_attempts")
    state, attempt, fence, last = "", 0, 0, ""
    for entry in entries:
        findings.judged["I7"] += 1
        if entry.outcome == "late_ack":
            if entry.fence > fence:
                findings.add("I6", f"a late ack of {place} with a fence never given", *entries)
            continue
        born = entry.outcome == "published"
        if born == bool(state):
            findings.add("I7", f"{place} was not published exactly once, first", *entries)
            return
        if state in ENDS:
            findings.add("I7", f"{place} went on after it was {state}", *entries)
            return
        if (state == "dead") != (entry.outcome in ("redriven", "discarded")):
            findings.add("I7", f"{place}: {entry.outcome} from {state or 'nothing'}", *entries)
            return
        if entry.outcome in LEASE_OUTCOMES:
            findings.judged["I9"] += 1
            findings.judged["I6"] += 1
            # An ack that came late, after its lease ran out, ends the same lease once more.
            late = last == "lease_expired" and entry.outcome == "acked" and entry.fence == fence
            if not late and entry.fence <= fence:
                findings.add("I6", f"the fence of {place} does not rise", *entries)
            if entry.attempt != attempt + (0 if late else 1):
                findings.add("I9", f"attempts of {place} do not rise by one", *entries)
            fence = entry.fence
            attempt = entry.attempt - (entry.outcome == "released")
            if len(limits) == 1 and entry.outcome in ("nacked", "lease_expired"):
                ended_alive = entry.state not in (ENDS | {"dead"})
                if entry.attempt > limits[0] or (entry.attempt == limits[0]) == ended_alive:
                    findings.add("I9", f"{place} is not dead at {limits[0]} attempts", *entries)
        elif entry.outcome == "redriven":
            attempt = 0
        state, last = entry.state, entry.outcome


def _published(facts: Facts, ledger: Ledger, findings: Findings) -> None:
    """I1, I2, I14, I17: acknowledged publishes are there, refused ones are not, and nothing else
    is.
    """
    born = {entry.place: entry for entry in ledger.entries if entry.outcome == "published"}
    for place, publish in facts.placed():
        if place.queue != ledger.queue or ended(publish) > ledger.start:
            continue
        findings.judged["I1"] += 1
        entry = born.get(place)
        if entry is None:
            findings.add("I1", f"{place} was acknowledged and is not in the ledger", publish)
            _also_batch(publish, findings)
        elif (entry.notification, entry.body_sha256) != (
            publish.notification,
            publish.body_sha256,
        ):
            findings.add("I1", f"{place} is not what was acknowledged", publish, entry)
            _also_batch(publish, findings)
    for place, entry in born.items():
        findings.judged["I2"] += 1
        if not source(facts, entry.notification, entry.body_sha256, place.queue):
            sent = facts.by_digest.get(entry.body_sha256, [])
            findings.add("I2", f"{place} is in the ledger and was not published", entry, *sent[:3])
            for publish in sent:
                if publish.outcome == "refused":
                    _also_batch(publish, findings)


_WEBHOOK: Final = "webhook"

Fact = tuple[int, str, int]
"""The end of a lease: seq, outcome, attempt."""


def _settled(facts: Facts, ledger: Ledger, findings: Findings) -> None:
    """I14, I17: exactly one receipt for what was accepted, none for what was refused."""
    accepted: dict[Fact, Settle] = {}
    refused: dict[Fact, Settle] = {}
    possible: set[Fact] = set()
    for fact, settle in _settle_calls(facts, ledger.queue):
        if settle.outcome == "refused":
            refused[fact] = settle
            continue
        possible.add(fact)
        if settle.outcome == "ok" and ended(settle) <= ledger.start:
            accepted[fact] = settle
            _answered_receipt(ledger, settle, fact, findings)
    counted: dict[Fact, list[Entry]] = defaultdict(list)
    for entry in ledger.entries:
        if entry.outcome in _OUTCOME_OF.values():
            counted[entry.seq, entry.outcome, entry.attempt].append(entry)
    for fact, settle in accepted.items():
        findings.judged["I14"] += 1
        entries = counted.get(fact, [])
        # A released attempt may be leased and released anew, and a redrive starts the numbers over.
        once = fact[1] != "released" and ledger.queue not in facts.redriven
        if not entries or (once and len(entries) > 1):
            message = f"{len(entries)} receipts for an accepted {settle.action}"
            findings.add("I14", message, settle, *entries)
            _also_batch(settle, findings)
    hung_up = bool(facts.disconnected[ledger.queue] or facts.unheard[ledger.queue])
    for fact in counted.keys() - possible:
        # What a hang-up gave back no call says. The client may have wanted to give it back itself, and been refused.
        if hung_up and fact[1] == "released":
            continue
        if fact in refused:
            findings.add("I14", "a refused call has a receipt", refused[fact], *counted[fact])
            _also_batch(refused[fact], findings)
        # What a webhook did not answer is settled by the service, and no call of the client says so.
        elif any(entry.transport != _WEBHOOK for entry in counted[fact]):
            findings.add("I14", "a receipt without a call", *counted[fact])


def _settle_calls(facts: Facts, queue: str) -> Iterator[tuple[Fact, Settle]]:
    for token, one in facts.by_token.items():
        if one.lease.queue == queue:
            for settle in facts.settles.get(token, ()):
                outcome = _OUTCOME_OF.get(settle.action)
                if outcome is not None:
                    yield (one.lease.seq, outcome, one.lease.attempt), settle


def _answered_receipt(ledger: Ledger, settle: Settle, fact: Fact, findings: Findings) -> None:
    """The receipt that an answer names is the one in the ledger."""
    if settle.receipt is None:
        return
    findings.judged["I14"] += 1
    _, _, number = settle.receipt.rpartition("~")
    entry = ledger.by_number.get(int(number)) if number.isdigit() else None
    if entry is None or (entry.seq, entry.outcome, entry.attempt) != fact:
        findings.add(
            "I14", f"receipt {settle.receipt} is not of this {settle.action}", settle, entry
        )
        _also_batch(settle, findings)


def _leases(facts: Facts, ledger: Ledger, findings: Findings) -> None:
    """I8, I16: each lease seen has its publish in the ledger, and a reason there for each further
    lease.
    """
    for place, sightings in facts.seen.items():
        if place.queue != ledger.queue:
            continue
        before = [one for one in sightings if ended(one.call) <= ledger.start]
        entries = ledger.by_seq.get(place.seq, [])
        findings.judged["I16"] += 1
        if before and not entries:
            findings.add("I16", f"{place} was leased and is not in the ledger", before[0])
            continue
        findings.judged["I8"] += 1
        again = ("nacked", "lease_expired", "released", "redriven")
        reasons = sum(entry.outcome in again for entry in entries)
        tokens = {one.lease.lease for one in before}
        if len(tokens) > 1 + reasons:
            findings.add("I8", f"{place}: {len(tokens)} leases, {reasons} reasons", *before)


def _ordering(facts: Facts, ledger: Ledger, findings: Findings) -> None:
    """I11: no lease of a key ended before every earlier delivery of the key had its end."""
    lanes: dict[str, list[int]] = defaultdict(list)
    for place, key in facts.ordering_key.items():
        if place.queue == ledger.queue:
            lanes[key].append(place.seq)
    for lane in lanes.values():
        held_until, holder = 0.0, 0
        for seq in sorted(lane):
            entries = ledger.by_seq.get(seq, [])
            ends = [entry.number for entry in entries if entry.outcome in LEASE_OUTCOMES]
            if ends:
                findings.judged["I11"] += 1
                if min(ends) < held_until:
                    message = f"{ledger.queue} {seq} was leased before the end of {holder}"
                    findings.add("I11", message, *entries)
            over = [entry.number for entry in entries if entry.state in (ENDS | {"dead"})]
            until = min(over, default=float("inf"))
            if entries and until > held_until:
                held_until, holder = until, seq


def _drained(facts: Facts, ledger: Ledger, findings: Findings) -> None:
    """I13: a queue that was drained holds nothing that is ready."""
    drained = facts.drained.get(ledger.queue)
    if drained is None or drained > ledger.start:
        return
    for entries in ledger.by_seq.values():
        findings.judged["I13"] += 1
        if entries[-1].state == "ready":
            findings.add("I13", f"{entries[0].place} is still ready after the drain", *entries)


def _readings_agree(facts: Facts, findings: Findings) -> None:
    """I16: every reading of a ledger says of a number what the last one says."""
    for queue, last in facts.ledgers.items():
        for reading in facts.readings[queue]:
            if reading is last or reading.start > last.start:
                continue
            findings.judged["I16"] += 1
            for entry in reading.entries:
                later = last.by_number.get(entry.number)
                if later != entry:
                    message = f"receipt {entry.number} of {queue} changed after it was read"
                    findings.add("I16", message, entry, later)
                    break


def _figures(facts: Facts, findings: Findings) -> None:
    """I15, I16: the sum; what clients counted as its bounds; and no total that falls."""
    published: dict[str, list[Publish]] = defaultdict(list)
    for publish in facts.publishes:
        if publish.outcome != "refused":
            for queue in {place.queue for place in publish.deliveries} | {publish.queue}:
                if queue is not None:
                    published[queue].append(publish)
    before: dict[str, FiguresRead] = {}
    for read in facts.history.of(FiguresRead):
        if read.outcome != "ok":
            continue
        findings.judged["I15"] += 1
        total = read.figures["published"]
        states = sum(read.figures[state] for state in STATES)
        if states != total:
            findings.add("I15", f"published {total}, in all states {states}", read)
        _figures_against_calls(published[read.queue], read, total, findings)
        _figures_against_ledger(facts.ledgers.get(read.queue), read, findings)
        earlier = before.get(read.queue)
        if earlier is not None and ended(earlier) <= read.start:
            findings.judged["I16"] += 1
            fallen = [name for name in GROWING if read.figures[name] < earlier.figures[name]]
            if fallen:
                findings.add("I16", f"figures fell: {', '.join(fallen)}", earlier, read)
        before[read.queue] = read


def _figures_against_calls(
    publishes: list[Publish], read: FiguresRead, total: int, findings: Findings
) -> None:
    places: set[Place] = set()
    for publish in publishes:
        if publish.outcome == "ok" and ended(publish) <= read.start:
            places.update(place for place in publish.deliveries if place.queue == read.queue)
    most = sum(publish.start <= ended(read) for publish in publishes)
    topics = any(publish.topic is not None for publish in publishes)
    if total < len(places) or (total > most and not topics):
        findings.add("I15", f"published {total}, but {len(places)} to {most} by clients", read)


def _figures_against_ledger(ledger: Ledger | None, read: FiguresRead, findings: Findings) -> None:
    """No more than in the ledger, where that was read after the figures."""
    if ledger is None or ledger.start < ended(read):
        return
    counts: dict[str, int] = defaultdict(int)
    for entries in ledger.by_seq.values():
        counts["published"] += 1
        counts[entries[-1].state] += entries[-1].state in ENDS
    for name in GROWING:
        if read.figures[name] > counts[name]:
            findings.add("I15", f"{name} {read.figures[name]}, in the ledger {counts[name]}", read)


def _also_batch(operation: Operation, findings: Findings) -> None:
    """What a batch's item did is not what its result says: the same finding, under the batch's own
    invariant.
    """
    if operation.batch is not None:
        findings.add("I17", "an item of a batch did not do what its result says", operation)
