"""The books: whether every document is accounted for, from both sides of the counter."""

from __future__ import annotations

import msgspec

from restante.cli.demo.actors import QUEUES, Tally
from restante.client import Client, DeadLetter
from restante.client.ledger import LedgerBroken, verify_ledger
from restante.wire.messages import FiguresOut

STATES = (
    *("ready", "scheduled", "held", "leased"),
    *("acked", "dead", "superseded", "expired", "discarded"),
)


class Account(msgspec.Struct):
    """One queue's account in the end. ``faults`` says in words what does not add up."""

    queue: str
    figures: FiguresOut
    dead: list[DeadLetter]
    receipts: int
    faults: list[str]


def at_rest(figures: FiguresOut) -> bool:
    """Whether nothing waits and nothing is leased."""
    return not (figures.ready or figures.scheduled or figures.held or figures.leased)


async def close_books(client: Client, tallies: dict[str, Tally]) -> list[Account]:
    """Ask the server, and compare with what the publisher and the clients saw."""
    return [await _account(client, name, tallies[name]) for name in QUEUES]


async def _account(client: Client, name: str, tally: Tally) -> Account:
    figures = (await client.queue(name)).figures
    dead = await _dead(client, name)
    faults: list[str] = []
    total = sum(getattr(figures, state) for state in STATES)
    if figures.published != total:
        faults.append(f"{figures.published} published, but the states add up to {total}")
    if figures.published != len(tally.published):
        faults.append(f"{len(tally.published)} confirmed, but {figures.published} in the queue")
    if not at_rest(figures):
        faults.append("not all were collected in time")
    died = {letter.id for letter in dead}
    lost = tally.published.keys() - tally.signed - died
    if lost:
        faults.append(f"{len(lost)} neither signed for nor dead, such as {min(lost)}")
    if tally.signed & died:
        faults.append(f"{len(tally.signed & died)} both signed for and dead")
    if unknown := (tally.signed | died) - tally.published.keys():
        faults.append(f"{len(unknown)} came that were never published, such as {min(unknown)}")
    if tally.altered:
        faults.append(f"{len(tally.altered)} came with other bytes, such as {tally.altered[0]}")
    receipts = 0
    try:
        receipts = (await verify_ledger(client, name)).count
    except LedgerBroken as error:
        faults.append(str(error))
    return Account(name, figures, dead, receipts, faults)


async def _dead(client: Client, name: str) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    after: int | None = None
    while True:
        page = await client.dead(name, limit=1_000, after=after)
        found += page.dead
        after = page.next
        if after is None:
            return found
