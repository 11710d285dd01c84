"""I18: the log of receipts, judged from heads that clients read and from where it says that receipts are. See
``checker.py``.

Its hashes are made anew of the receipts that clients read, by RFC 9162 (section 2.1.1) and no code of the service.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from restante.testing.facts import Facts, Findings, ended
from restante.testing.history import HeadRead, LogRead, Settle
from restante.wire.receipts import canonical, receipt_id

_EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


def judge(facts: Facts, findings: Findings) -> None:
    """Run every check of this module."""
    heads = [head for head in facts.history.of(HeadRead) if head.outcome == "ok"]
    _told_in_one_way(heads, findings)
    _never_set_back(heads, findings)
    logs = [head for head in heads if isinstance(head, LogRead)]
    if logs:
        at = _one_at_each_place(logs[-1], findings)
        sealed = frozenset(at.values())
        _what_was_answered(facts, logs[-1], sealed, findings)
        _what_was_read(facts, sealed, findings)
        _grown_from_each_head(facts, heads, at, findings)


def _told_in_one_way(heads: list[HeadRead], findings: Findings) -> None:
    """Heads of one size have one root."""
    first: dict[int, HeadRead] = {}
    for head in heads:
        findings.judged["I18"] += 1
        other = first.setdefault(head.size, head)
        if other.root != head.root:
            findings.add("I18", f"there are two logs of {head.size} receipts", other, head)


def _never_set_back(heads: list[HeadRead], findings: Findings) -> None:
    """No head is smaller than one that was read before it was asked for."""
    by_end = iter(sorted(heads, key=ended))
    upcoming = next(by_end, None)
    largest: HeadRead | None = None
    for head in heads:
        while upcoming is not None and ended(upcoming) <= head.start:
            if largest is None or upcoming.size > largest.size:
                largest = upcoming
            upcoming = next(by_end, None)
        if largest is not None and head.size < largest.size:
            message = f"the log was set back from {largest.size} receipts to {head.size}"
            findings.add("I18", message, largest, head)


def _one_at_each_place(log: LogRead, findings: Findings) -> dict[int, str]:
    """The receipt at each place: one at each up to the log's size, and each at one."""
    at: dict[int, str] = {}
    place_of: dict[str, int] = {}
    for run in log.runs:
        for within in range(run.count):
            findings.judged["I18"] += 1
            receipt, place = receipt_id(run.queue, run.first + within), run.place + within
            other, elsewhere = at.setdefault(place, receipt), place_of.setdefault(receipt, place)
            if other != receipt:
                findings.add("I18", f"both {other} and {receipt} are at place {place} of the log")
            if elsewhere != place:
                findings.add("I18", f"{receipt} is in the log twice, at {elsewhere} and {place}")
    if at.keys() != set(range(log.size)):
        wrong = min(at.keys() ^ set(range(log.size)))
        findings.add("I18", f"a log of {log.size} has {at.get(wrong, 'nothing')} at place {wrong}")
    return at


def _what_was_answered(
    facts: Facts, log: LogRead, sealed: Collection[str], findings: Findings
) -> None:
    """The receipt that an accepted settle was answered with is in the log."""
    for settle in facts.history.of(Settle):
        if settle.outcome == "ok" and settle.receipt is not None and ended(settle) <= log.start:
            findings.judged["I18"] += 1
            if settle.receipt not in sealed:
                message = f"{settle.receipt} was answered, and is not in the log"
                findings.add("I18", message, settle)


def _what_was_read(facts: Facts, sealed: Collection[str], findings: Findings) -> None:
    """The log has the receipts of the ledgers that were read, and no other of their queues."""
    for queue, ledger in facts.ledgers.items():
        read = {receipt_id(queue, number) for number in ledger.by_number}
        findings.judged["I18"] += len(read)
        in_log = {receipt for receipt in sealed if receipt.rpartition("~")[0] == queue}
        for receipt in sorted(read - in_log):
            findings.add("I18", f"{receipt} is in its ledger, and not in the log")
        for receipt in sorted(in_log - read):
            findings.add("I18", f"{receipt} is in the log, and not in its ledger")


def _grown_from_each_head(
    facts: Facts, heads: list[HeadRead], at: Mapping[int, str], findings: Findings
) -> None:
    """Every head that was read is over the receipts that the log begins with now."""
    found = dict(_roots(_entries(facts, at), {head.size for head in heads}))
    for head in heads:
        if head.size in found:
            findings.judged["I18"] += 1
            if found[head.size].hex() != head.root:
                message = f"the head of {head.size} is of other receipts than the log begins with"
                findings.add("I18", message, head)


def _entries(facts: Facts, at: Mapping[int, str]) -> Iterator[bytes]:
    """The receipts' entries in the order of the log, as far as they were read."""
    read: dict[str, msgspec.Raw] = {
        receipt_id(ledger.queue, entry.number): raw
        for ledger in facts.ledgers.values()
        for entry, raw in zip(ledger.entries, ledger.raw, strict=True)
    }
    for place in itertools.count():
        raw = read.get(at.get(place, ""))
        if raw is None:
            return
        yield canonical(json.loads(bytes(raw)))


def _roots(entries: Iterable[bytes], sizes: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """The root over the first so many entries, for each of these sizes that there are entries for."""
    if 0 in sizes:
        yield 0, _EMPTY_ROOT
    # Of complete subtrees, the largest first: as many as the size has ones in binary.
    subtrees: list[bytes] = []
    for size, entry in enumerate(entries, 1):
        node, pairs = hashlib.sha256(b"\x00" + entry).digest(), size
        while pairs % 2 == 0:
            node, pairs = _over(subtrees.pop(), node), pairs // 2
        subtrees.append(node)
        if size in sizes:
            root = node
            for subtree in reversed(subtrees[:-1]):
                root = _over(subtree, root)
            yield size, root


def _over(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
