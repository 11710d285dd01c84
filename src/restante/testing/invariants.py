"""Invariants judged from what clients saw: leases, answers, times; ``checker.py`` lists them."""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Iterator

from restante.testing.facts import ENDS, NEVER, SECOND, SLACK, Facts, Findings, Seen, ended
from restante.testing.history import NotificationRead, Place, Publish, Settle

MISSING_RESULT = "missing_result"
"""The code of a batch's item, with outcome ``unknown``, when the answer had no result for it."""

_LOST = frozenset({"lease_lost", "lease_not_found"})


def judge(facts: Facts, findings: Findings, *, poll_seconds: float) -> None:
    """Run every check of this module."""
    _no_loss_without_ledger(facts, findings)
    _no_phantom_lease(facts, findings)
    _idempotence(facts, findings)
    _nothing_after_ack(facts, findings)
    _no_overlap(facts, findings)
    _only_the_current_settles(facts, findings)
    _one_end(facts, findings)
    _attempts_rise(facts, findings)
    _only_its_own(facts, findings)
    _ordering(facts, findings)
    _not_before_its_time(facts, findings)
    _delivered_once_healed(facts, findings, poll_seconds)
    _nothing_observed_undone(facts, findings)
    _every_item_has_a_result(facts, findings)


def _no_loss_without_ledger(facts: Facts, findings: Findings) -> None:
    """I1: one notification for each place; a drained queue's were seen; the record is there."""
    holder: dict[Place, str | None] = {}
    for place, publish in facts.placed():
        findings.judged["I1"] += 1
        other = holder.setdefault(place, publish.notification)
        if other != publish.notification:
            findings.add("I1", f"two notifications were given {place}", publish, other)
        drained = facts.drained.get(place.queue)
        if drained is None or place.queue in facts.ledgers or ended(publish) > drained:
            continue
        may_vanish = publish.collapse_key or publish.expires_after_seconds is not None
        if place not in facts.seen and not may_vanish and not publish.deliver_after_seconds:
            findings.add("I1", f"{place} was acknowledged and never seen again", publish)
    for publish in facts.publishes:
        if publish.outcome == "ok" and publish.queue is not None and not publish.replayed:
            wanted = [publish.queue]
            if [place.queue for place in publish.deliveries] != wanted:
                findings.add("I1", f"a publish to {publish.queue} is not there once", publish)
    for read in facts.history.of(NotificationRead):
        publishes = facts.by_notification.get(read.notification, [])
        before = [publish for publish in publishes if ended(publish) <= read.start]
        if not before or read.outcome == "unknown" or read.role == "client":
            continue
        findings.judged["I1"] += 1
        if read.outcome == "refused":
            if read.code == "notification_not_found":
                findings.add("I1", "an acknowledged notification has no record", read, before[0])
            continue
        stated = sorted((queue, seq) for queue, seq, _ in read.states)
        if stated != sorted((place.queue, place.seq) for place in before[0].deliveries):
            findings.add("I1", "a delivery is not in exactly one state", read, before[0])


def _no_phantom_lease(facts: Facts, findings: Findings) -> None:
    """I2: what is delivered was published, byte for byte, to that queue, and before."""
    for place, sightings in facts.seen.items():
        for one in sightings:
            findings.judged["I2"] += 1
            sent = source(facts, one.lease.notification, one.lease.body_sha256, place.queue)
            if not sent:
                findings.add("I2", f"{place} was never published like this", one.lease)
            elif all(publish.content_type != one.lease.content_type for publish in sent):
                findings.add("I2", f"{place} has another content type", one.lease, sent[0])
            elif _first_sent(facts, one.lease.body_sha256) > ended(one.call):
                findings.add("I2", f"{place} was delivered before it was published", one.lease)
        if len({one.lease.notification for one in sightings}) > 1:
            findings.add("I16", f"{place} changed its notification", *(s.lease for s in sightings))


def _first_sent(facts: Facts, body_sha256: str) -> int:
    # An unanswered publish may have made what a repeat of it, with the same key, was answered with.
    sent = facts.by_digest[body_sha256]
    return min(publish.start for publish in sent if publish.outcome != "refused")


def source(facts: Facts, notification: str, body_sha256: str, queue: str) -> list[Publish]:
    """The publishes that can have made this notification in this queue; empty for a phantom."""
    known = facts.by_notification.get(notification)
    if known:
        return [
            publish
            for publish in known
            if publish.body_sha256 == body_sha256
            and any(place.queue == queue for place in publish.deliveries)
        ]
    return [
        publish
        for publish in facts.by_digest.get(body_sha256, ())
        if publish.outcome == "unknown" and (publish.queue == queue or publish.topic is not None)
    ]


def _idempotence(facts: Facts, findings: Findings) -> None:
    """I3: one notification and one body for each (publisher, key); no more notifications than were
    sent.
    """
    keyed: dict[tuple[str, str], list[Publish]] = defaultdict(list)
    for publish in facts.publishes:
        if publish.key is not None:
            keyed[publish.who, publish.key].append(publish)
    for (who, key), calls in keyed.items():
        accepted = [call for call in calls if call.outcome == "ok"]
        findings.judged["I3"] += 1
        if len({call.notification for call in accepted}) > 1:
            findings.add("I3", f"key {key} of {who} made several notifications", *accepted)
        if len({call.body_sha256 for call in accepted}) > 1:
            findings.add("I3", f"key {key} of {who} was accepted with several bodies", *accepted)
        if len({tuple(sorted(call.deliveries, key=repr)) for call in accepted}) > 1:
            findings.add("I3", f"key {key} of {who} was answered differently", *accepted)
        for call in calls:
            if call.code == "idempotency_key_reused" and not any(
                _asks(other) != _asks(call) and other.start < ended(call) for other in calls
            ):
                findings.add("I3", f"key {key} of {who} was refused for no other request", call)
    appeared: dict[str, set[str]] = defaultdict(set)
    for sightings in facts.seen.values():
        appeared[sightings[0].lease.body_sha256].add(sightings[0].lease.notification)
    for ledger in facts.ledgers.values():
        for entry in ledger.entries:
            if entry.outcome == "published":
                appeared[entry.body_sha256].add(entry.notification)
    for body_sha256, notifications in appeared.items():
        calls = [call for call in facts.by_digest[body_sha256] if call.outcome != "refused"]
        sent = len({(call.who, call.key) if call.key else call.op for call in calls})
        if calls and len(notifications) > sent:
            name = "I3" if all(call.key for call in calls) else "I2"
            findings.add(name, f"{sent} sent, {len(notifications)} there", calls, notifications)


def _asks(publish: Publish) -> tuple[object, ...]:
    return (
        publish.queue,
        publish.topic,
        publish.body_sha256,
        publish.content_type,
        publish.ordering_key,
        publish.collapse_key,
        publish.deliver_after_seconds,
        publish.expires_after_seconds,
    )


def _nothing_after_ack(facts: Facts, findings: Findings) -> None:
    """I4: no call that began after an ack was answered hands the delivery out again."""
    for place, sightings in facts.seen.items():
        answered = [
            (ended(settle), settle)
            for one in sightings
            for settle in facts.settles.get(one.lease.lease, ())
            if settle.action == "ack" and settle.outcome == "ok"
        ]
        if not answered:
            continue
        findings.judged["I4"] += 1
        at, ack = min(answered, key=lambda pair: pair[0])
        for one in sightings:
            if one.call.start >= at:
                findings.add("I4", f"{place} was leased after its ack was answered", ack, one)


def _no_overlap(facts: Facts, findings: Findings) -> None:
    """I5: of two leases in a row, one can have ended before the other was handed out."""
    for place, sightings in facts.seen.items():
        for one, other in itertools.pairwise(sightings):
            findings.judged["I5"] += 1
            if one.lease.lease == other.lease.lease:
                findings.add("I5", f"one lease of {place} was handed out twice", one, other)
            elif (
                facts.earliest_end(one) > ended(other.call) + SLACK
                and facts.earliest_end(other) > ended(one.call) + SLACK
            ):
                findings.add("I5", f"two leases of {place} overlap", one, other)


def _only_the_current_settles(facts: Facts, findings: Findings) -> None:
    """I6: an old lease settles nothing, and a lease that runs is not refused."""
    for place, sightings in facts.seen.items():
        for one in sightings:
            calls = facts.settles.get(one.lease.lease, [])
            for settle in calls:
                findings.judged["I6"] += 1
                if settle.outcome == "ok":
                    newer = _newer_before(sightings, one, settle, calls)
                    if newer is not None:
                        findings.add("I6", f"an old lease of {place} settled it", settle, newer)
                elif settle.outcome == "refused" and settle.code in _LOST:
                    others = any(
                        other.start < ended(settle) for other in facts.endings(one.lease.lease)
                    )
                    given_up = one.lease.queue in facts.disconnected
                    running = ended(settle) + SLACK < facts.runs_out(one)
                    if running and not others and not given_up and settle.who == one.call.who:
                        findings.add("I6", f"the current lease of {place} was refused", settle, one)


def _newer_before(
    sightings: list[Seen], one: Seen, settle: Settle, calls: list[Settle]
) -> Seen | None:
    """A lease surely newer than ``one``, and surely given out before ``settle`` took effect."""
    for newer in sightings:
        if not ended(one.call) <= newer.call.start <= ended(newer.call) <= settle.start:
            continue
        # The repeat of an earlier call answers as that one did, and changes nothing.
        if not any(
            call.action == settle.action
            and call.outcome != "refused"
            and call.start < ended(newer.call)
            for call in calls
        ):
            return newer
    return None


def _one_end(facts: Facts, findings: Findings) -> None:
    """I7: one ack for each delivery, one end for each lease."""
    for place, sightings in facts.seen.items():
        acked: dict[str, Settle] = {}
        for token in {one.lease.lease for one in sightings}:
            accepted = [call for call in facts.endings(token) if call.outcome == "ok"]
            if not accepted:
                continue
            findings.judged["I7"] += 1
            if len({call.action for call in accepted}) > 1:
                findings.add("I7", f"a lease of {place} ended in two ways", *accepted)
            acked.update((token, call) for call in accepted if call.action == "ack")
        if len(acked) > 1:
            findings.add("I7", f"{place} was acked under two leases", *acked.values())


def _attempts_rise(facts: Facts, findings: Findings) -> None:
    """I9: attempts of leases seen one after the other."""
    for place, sightings in facts.seen.items():
        if place.queue in facts.redriven:
            continue
        limit = max(facts.settings(place.queue, "max_attempts"))
        unheard = [call.start for call in facts.unheard.get(place.queue, ())]
        for one in sightings:
            if not 1 <= one.lease.attempt <= limit:
                findings.add("I9", f"{place} has attempt {one.lease.attempt} of {limit}", one)
        for one, other in itertools.pairwise(sightings):
            if ended(one.call) > other.call.start:
                continue  # which came first cannot be told
            findings.judged["I9"] += 1
            given_back = one.lease.queue in facts.disconnected or any(
                call.action == "release" for call in facts.endings(one.lease.lease)
            )
            lowest = one.lease.attempt + (0 if given_back else 1)
            unseen = bisect.bisect_right(unheard, ended(other.call))
            if not lowest <= other.lease.attempt <= one.lease.attempt + 1 + unseen:
                findings.add("I9", f"attempts of {place} do not rise by one", one, other)


def _only_its_own(facts: Facts, findings: Findings) -> None:
    """I10: a client gets, settles and reads only what is in its own queues."""
    for call in facts.receives:
        for lease in call.leases:
            findings.judged["I10"] += 1
            if lease.queue != call.queue:
                findings.add("I10", f"{call.queue} was asked for, {lease.queue} came", call)
            elif _foreign(facts, call.role, call.who, lease.queue):
                findings.add("I10", f"{call.who} was handed {lease.queue}", call)
    for token, calls in facts.settles.items():
        one = facts.by_token.get(token)
        for settle in calls:
            if one is not None and settle.outcome != "unknown":
                findings.judged["I10"] += 1
                foreign = _foreign(facts, settle.role, settle.who, one.lease.queue)
                if foreign and settle.outcome == "ok":
                    findings.add("I10", f"{settle.who} settled a lease of another's queue", settle)
    for read in facts.history.of(NotificationRead):
        for queue, _, _ in read.states:
            if _foreign(facts, read.role, read.who, queue):
                findings.add("I10", f"{read.who} read a record of {queue}", read)
    for readings in facts.readings.values():
        for ledger in readings:
            if _foreign(facts, ledger.role, ledger.who, ledger.queue):
                findings.add("I10", f"{ledger.who} read the ledger of {ledger.queue}")


def _foreign(facts: Facts, role: str, who: str, queue: str) -> bool:
    return role == "client" and facts.owner.get(queue, queue) != who


def _ordering(facts: Facts, findings: Findings) -> None:
    """I11: with an ordering key, every earlier delivery can have ended before a later one is
    leased.
    """
    lanes: dict[tuple[str, str], list[Place]] = defaultdict(list)
    for place, key in facts.ordering_key.items():
        lanes[place.queue, key].append(place)
    for lane in lanes.values():
        lane.sort(key=lambda place: place.seq)
        blocked_until, blocker = -NEVER, lane[0]
        for place in lane:
            for one in facts.seen.get(place, ()):
                findings.judged["I11"] += 1
                if ended(one.call) + SLACK < blocked_until:
                    findings.add("I11", f"{place} was leased before the end of {blocker}", one)
            until = _can_be_over(facts, place)
            if until > blocked_until:
                blocked_until, blocker = until, place


def _can_be_over(facts: Facts, place: Place) -> int:
    """The earliest instant at which a delivery of an ordering key can have stopped holding back the
    next.
    """
    limit = min(facts.settings(place.queue, "max_attempts"))
    instants = [NEVER]
    for one in facts.seen.get(place, ()):
        for settle in facts.endings(one.lease.lease):
            if settle.action in ("ack", "reject") or one.lease.attempt >= limit:
                instants.append(settle.start)
        if one.lease.attempt >= limit:
            instants.append(facts.runs_out(one))
    publish = facts.publish_at.get(place)
    if publish is None or publish.collapse_key or publish.expires_after_seconds is not None:
        instants.append(-NEVER)  # it may have gone without being seen
    ledger = facts.ledgers.get(place.queue)
    if ledger is not None and any(
        entry.outcome == "lease_expired" and entry.state in (ENDS | {"dead"})
        for entry in ledger.by_seq.get(place.seq, ())
    ):
        instants.append(-NEVER)  # it ran out unseen: the ledger's own order is judged elsewhere
    return min(instants)


def _not_before_its_time(facts: Facts, findings: Findings) -> None:
    """I12: neither before deliver-after nor before a nack's own delay is over."""
    for place, publish in facts.placed():
        if publish.deliver_after_seconds and place in facts.seen:
            findings.judged["I12"] += 1
            first = facts.seen[place][0]
            due = publish.start + round(publish.deliver_after_seconds * SECOND)
            if ended(first.call) + SLACK < due and not publish.replayed:
                findings.add("I12", f"{place} was leased before its time", publish, first)
    for place, sightings in facts.seen.items():
        if place.queue in facts.redriven:
            continue
        cap = min(facts.settings(place.queue, "backoff_cap_seconds"))
        for one in sightings:
            nacks = [call for call in facts.endings(one.lease.lease) if call.action == "nack"]
            delays = [call.retry_after_seconds for call in nacks]
            if not nacks or not any(call.outcome == "ok" for call in nacks):
                continue
            shortest = min(delay or 0.0 for delay in delays)
            nack = min(nacks, key=lambda call: call.start)
            due = nack.start + round(min(shortest, cap) * SECOND)
            findings.judged["I12"] += bool(shortest)
            for other in sightings:
                if other is not one and nack.start <= ended(other.call) < due - SLACK:
                    findings.add("I12", f"{place} came back before its delay", nack, other)


def _delivered_once_healed(facts: Facts, findings: Findings, poll_seconds: float) -> None:
    """I13: nobody who asks is told there is nothing while something has been ready for too long."""
    if facts.healed is None:
        return
    empty: dict[str, list[int]] = defaultdict(list)
    for call in facts.receives:
        if call.outcome == "ok" and not call.leases:
            empty[call.queue].append(ended(call))
    for instants in empty.values():
        instants.sort()
    unseen_until = {
        queue: max((ended(call) for call in calls if call.end is not None), default=0)
        for queue, calls in facts.unheard.items()
    }
    for place, publish in facts.placed():
        asked = empty.get(place.queue, [])
        if publish.ordering_key or publish.collapse_key or publish.expires_after_seconds:
            continue
        findings.judged["I13"] += 1
        for ready, until in _ready_spans(facts, publish, place, unseen_until):
            lease = max(facts.settings(place.queue, "lease_seconds"))
            late = max(ready, facts.healed) + round((lease + poll_seconds + 10) * SECOND)
            index = bisect.bisect_right(asked, late)
            if index < len(asked) and asked[index] < until:
                findings.add("I13", f"{place} was ready and wanted, and did not come", publish)
                break


def _ready_spans(
    facts: Facts, publish: Publish, place: Place, unseen_until: dict[str, int]
) -> Iterator[tuple[int, int]]:
    """Times at which the delivery was surely ready: from when at the latest, until when at the
    earliest.
    """
    sightings = facts.seen.get(place, [])
    lease_seconds = max(facts.settings(place.queue, "lease_seconds"))
    # A lease that nobody saw has run out by then.
    settled = unseen_until.get(place.queue, 0) + round(lease_seconds * SECOND)
    ready = max(ended(publish) + round(publish.deliver_after_seconds * SECOND), settled)
    cap = max(facts.settings(place.queue, "backoff_cap_seconds"))
    for one in sightings:
        yield ready, one.call.start
        if any(call.action in ("ack", "reject") for call in facts.endings(one.lease.lease)):
            return
        if one.lease.attempt >= min(facts.settings(place.queue, "max_attempts")):
            return
        longest = max(lease_seconds, one.lease.lease_seconds) + cap
        extended = [ended(call) for call in facts.settles.get(one.lease.lease, ())]
        if NEVER in extended:
            return
        ready = max(ended(one.call), settled, *extended, 0) + round(longest * SECOND)
    if place.queue not in facts.redriven and not facts.ledgers.get(place.queue):
        yield ready, NEVER
    elif (ledger := facts.ledgers.get(place.queue)) is not None:
        entries = ledger.by_seq.get(place.seq)
        if entries and entries[-1].state == "ready":
            yield ready, NEVER


def _nothing_observed_undone(facts: Facts, findings: Findings) -> None:
    """I16: what a record once said of an end, or a client was answered, later records say too."""
    acked: dict[Place, int] = {}
    for place, sightings in facts.seen.items():
        for one in sightings:
            for settle in facts.endings(one.lease.lease):
                if settle.action == "ack" and settle.outcome == "ok":
                    acked[place] = min(acked.get(place, NEVER), ended(settle))
    final: dict[Place, tuple[int, str]] = {place: (at, "acked") for place, at in acked.items()}
    for read in facts.history.of(NotificationRead):
        for queue, seq, state in read.states:
            place = Place(queue, seq)
            findings.judged["I16"] += 1
            at, was = final.get(place, (NEVER, ""))
            if at <= read.start and state != was:
                findings.add("I16", f"{place} was {was} and is {state}", read)
            if state in ENDS:
                final.setdefault(place, (ended(read), state))


def _every_item_has_a_result(facts: Facts, findings: Findings) -> None:
    """I17: a batch answers for each of its items."""
    for operation in facts.history.operations:
        if operation.batch is not None:
            findings.judged["I17"] += 1
            if operation.code == MISSING_RESULT:
                findings.add("I17", "an item of a batch got no result", operation)
