"""Settling: the end of a lease, fenced, with its receipt; and its repetition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from restante.errors import LeaseLost, RestanteError
from restante.lifecycle import decide_settle
from restante.model import Outcome, Settled, Settlement, State, Verb
from restante.stores.postgresql.books import QueueBook
from restante.stores.postgresql.operations import Needs, Operation
from restante.stores.postgresql.rows import subject_of
from restante.stores.postgresql.unit import Unit
from restante.wire.client_signatures import check_subject

_VERB_OUTCOME: Final = {
    Verb.ACK: Outcome.ACKED,
    Verb.NACK: Outcome.NACKED,
    Verb.REJECT: Outcome.REJECTED,
    Verb.RELEASE: Outcome.RELEASED,
}


class Settle(Operation):
    def __init__(self, settlements: Sequence[Settlement]) -> None:
        self.settlements = settlements
        self.queues = tuple({asked.ref.queue for asked in settlements})

    def ask(self, unit: Unit, needs: Needs) -> None:
        needs.ends += len(self.settlements)
        for asked in self.settlements:
            if (book := unit.books.get(asked.ref.queue)) is not None:
                needs.places.append((book.id, asked.ref.seq))
                needs.refs.append(asked.ref)

    def run(self, unit: Unit) -> list[Settled | RestanteError]:
        results: list[Settled | RestanteError] = []
        for asked in self.settlements:
            try:
                results.append(self._settle(unit, asked))
            except RestanteError as error:
                results.append(error)
        return results

    def _settle(self, unit: Unit, asked: Settlement) -> Settled:
        book = unit.book(asked.ref.queue)
        row = unit.rows.row_of(book, asked.ref)
        try:
            if row is None:
                raise LeaseLost("the delivery has been settled")
            decision = decide_settle(
                row.standing,
                asked.ref.fence,
                asked.verb,
                book.settings,
                retry_after_seconds=asked.retry_after_seconds,
                jitter=unit.jitter(),
            )
        except LeaseLost:
            return self._repeat(unit, book, asked)
        if asked.signature is not None:
            check_subject(asked.signature, subject_of(row))
        return unit.rows.apply(
            row,
            decision,
            actor=asked.actor,
            reason=asked.reason,
            reply=asked.reply,
            reply_content_type=asked.reply_content_type,
            signature=asked.signature,
        )

    def _repeat(self, unit: Unit, book: QueueBook, asked: Settlement) -> Settled:
        """Answer a repeated settle as the first; else record a late ack as evidence, once, and raise ``LeaseLost``."""
        ref, wanted = asked.ref, _VERB_OUTCOME[asked.verb].value
        told = unit.told(book.id, ref.seq)
        of_lease = [written for written in told if written.fence == ref.fence]
        for written in of_lease:
            if written.outcome == wanted:
                unit.answers_earlier = True
                state = State[written.state.upper()]
                return Settled(wanted, state, written.number, repeated=True)
        recorded = any(written.outcome == Outcome.LATE_ACK for written in of_lease)
        subject = unit.subject(ref.notification)
        if asked.verb is Verb.ACK and not recorded and subject is not None:
            if asked.signature is not None:
                check_subject(asked.signature, subject)
            row = unit.rows.row_of(book, ref)
            events = [w.state for w in told if w.outcome != Outcome.LATE_ACK]
            # Where its receipts have been pruned, it was acked as far as anybody knows.
            state = row.standing.state if row else State[["ACKED", *events][-1].upper()]
            unit.pen.write(
                book,
                subject,
                ref.seq,
                Outcome.LATE_ACK,
                state,
                actor=asked.actor,
                at_ms=unit.reading.wall_ms,
                fence=ref.fence,
                reply=asked.reply,
                reply_content_type=asked.reply_content_type,
                signature=asked.signature,
            )
        raise LeaseLost("this lease is no longer the current one")
