"""Checks a recorded history against the invariants of a delivery system. Pure: a history in,
violations out.

    verdict = examine(History.load(path))
    assert not verdict.violations and verdict.judged["I4"]

What is judged from outside, and by what. Unknown outcomes are taken either way: a violation is
reported only where no reading of them explains what was seen. "The ledger" is the last complete
reading of a queue's receipts; what was still going on when that reading began is not held against
it.

  I1  every delivery of an acknowledged publish is in the ledger as published, under one number and
      one id, with its body; its record, when read, is there; once a queue is drained without a
      ledger, it was seen
  I2  every lease and every published receipt belongs to a publish that was sent and not refused,
      with the same body, content type and queue, and no more notifications appear than were sent
  I3  one notification for each (publisher, key), whatever was repeated; one body for each key; no
      key is refused as used for another body when there was none
  I4  no lease by a call that began after an ack of the delivery was answered
  I5  no lease before the earlier one of the delivery can have ended; no lease token twice
  I6  nothing is settled by a lease after a newer one was seen; a lease that runs is not refused as
      lost; in the ledger a delivery's fence rises with each lease
  I7  one ack answered for each delivery, one end for each lease; nothing follows a final state in
      the ledger
  I8  as many leases seen as the ledger has reasons for
  I9  attempts rise by one per lease, after a release by none, up to the queue's limit, where it is
      dead exactly
  I10 no lease, settled lease or record of somebody else's queue
  I11 with an ordering key, no lease before all earlier ones can have ended, and their ends stand
      earlier in the ledger
  I12 no lease before its publish's or its nack's delay was over (full jitter gives other delays no
      lower bound)
  I13 after ``healed``, no empty answer once something was ready for lease + poll + 10 s; nothing
      ready after a drain
  I14 receipt numbers dense from 1; the chain's digests; for each accepted publish and settle
      exactly one receipt, for each refused one none, and no receipt without a call that may have
      caused it
  I15 published = the sum of the states in every reading of the figures, and what clients and ledger
      counted
  I16 numbers that can only grow did; readings of a ledger agree; whatever was leased or acked stays
      so in later readings
  I17 an item of a batch did what its own result says, and each item got a result
  I18 heads of the log of receipts of one size have one root, and no later one is smaller; the log has
      every receipt of the ledgers and every one that a settle was answered with, each once, one at
      each place; every head that was ever read is RFC 9162's over the receipts it begins with now

Who signed a head is not judged: that takes a key that one trusts (``restante ledger verify``).

``judged`` counts the facts looked at for each invariant, so that a test can tell silence from
agreement.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from restante.testing import invariants, ledger_invariants, log_invariants
from restante.testing.facts import Facts, Findings, Violation
from restante.testing.history import History
from restante.wire.receipts import receipt_digest

__all__ = ["Verdict", "Violation", "check", "examine"]

POLL_SECONDS = 15.0


class Verdict(msgspec.Struct, frozen=True):
    """What is wrong, and how many facts were judged for each invariant."""

    violations: list[Violation]
    judged: Mapping[str, int]

    def __str__(self) -> str:
        if not self.violations:
            return "0 violations"
        shown = "\n".join(str(violation) for violation in self.violations[:20])
        return f"{len(self.violations)} violations; the first of them:\n{shown}"


def examine(
    history: History,
    *,
    chain_digest: Callable[[bytes, Mapping[str, Any]], bytes] = receipt_digest,
    poll_seconds: float = POLL_SECONDS,
) -> Verdict:
    """Judge every invariant that the history has facts for.

    ``chain_digest`` gives a receipt's digest from the one before and its JSON object.
    ``poll_seconds`` is the longest time after which the server looks for work without having been
    woken.
    """
    facts = Facts(history)
    findings = Findings()
    invariants.judge(facts, findings, poll_seconds=poll_seconds)
    ledger_invariants.judge(facts, findings, chain_digest)
    log_invariants.judge(facts, findings)
    return Verdict(findings.violations, findings.judged)


def check(history: History) -> list[Violation]:
    """The violations in a history; none is what a test wants."""
    return examine(history).violations


def main(paths: list[str]) -> int:
    """``python -m restante.testing.checker FILE...``: one history in one or more files. 1 when it
    is violated.
    """
    verdict = examine(History.load(*map(Path, paths)))
    print(verdict)
    print("judged: " + ", ".join(f"{name} {count}" for name, count in verdict.judged.items()))
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
