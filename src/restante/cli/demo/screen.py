"""What the demo shows: a live table on a terminal, else a line a second, and the books in the end."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Final, Self

from rich.live import Live
from rich.table import Table
from rich.text import Text

from restante.cli import output
from restante.cli.demo.actors import QUEUES, STEADY, TEMPERS, Tally
from restante.cli.demo.books import Account
from restante.client import Receipt
from restante.wire.messages import QueueWithFigures

_PLAIN_SECONDS: Final = 1.0
_DEAD_SHOWN: Final = 3


class Screen:
    """Shows the queues as they are; ``with`` keeps the table alive."""

    def __init__(self, documents: int) -> None:
        self._documents = documents
        self._live = (
            Live(console=output.console(), refresh_per_second=8, redirect_stdout=False)
            if sys.stdout.isatty()
            else None
        )
        self._acked: dict[str, tuple[float, int]] = {}
        self._rates: dict[str, float] = {}
        self._last_line = -_PLAIN_SECONDS

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def show(
        self, seconds: float, queues: list[QueueWithFigures], tallies: dict[str, Tally]
    ) -> None:
        """``seconds`` have passed since the start."""
        for queue in queues:
            self._rate(seconds, queue.name, queue.figures.acked)
        if self._live is not None:
            self._live.update(self._table(seconds, queues, tallies))
        elif seconds - self._last_line >= _PLAIN_SECONDS:
            self._last_line = seconds
            published = sum(queue.figures.published for queue in queues)
            parts = [
                f"{queue.name}: {_waiting(queue)} waiting, {queue.figures.leased} leased,"
                f" {queue.figures.acked} acked, {queue.figures.dead} dead"
                for queue in queues
            ]
            print(
                f"{seconds:3.0f} s  {published}/{self._documents} published | {' | '.join(parts)}",
                flush=True,
            )

    def _rate(self, seconds: float, name: str, acked: int) -> None:
        since, before = self._acked.setdefault(name, (seconds, acked))
        if seconds - since >= 1:
            self._rates[name] = (acked - before) / (seconds - since)
            self._acked[name] = (seconds, acked)

    def _table(
        self, seconds: float, queues: list[QueueWithFigures], tallies: dict[str, Tally]
    ) -> Table:
        published = sum(queue.figures.published for queue in queues)
        drawn = Table(
            title=f"{published:,} of {self._documents:,} documents published, {seconds:.0f} s",
            title_justify="left",
        )
        drawn.add_column("client")
        drawn.add_column("temper")
        for column in (
            "published",
            "waiting",
            "leased",
            "acked",
            "retried",
            "dead",
            "oldest",
            "acks/s",
        ):
            drawn.add_column(column, justify="right")
        for queue in queues:
            figures = queue.figures
            drawn.add_row(
                queue.name,
                TEMPERS[queue.name],
                f"{figures.published:,}",
                f"{_waiting(queue):,}",
                f"{figures.leased:,}",
                Text(f"{figures.acked:,}", "green"),
                Text(f"{tallies[queue.name].retried:,}", "yellow"),
                Text(f"{figures.dead:,}", "red" if figures.dead else ""),
                output.age(figures.oldest_age_seconds),
                f"{self._rates.get(queue.name, 0):.0f}",
            )
        return drawn


def _waiting(queue: QueueWithFigures) -> int:
    return queue.figures.ready + queue.figures.scheduled + queue.figures.held


def tell_books(
    accounts: list[Account], tallies: dict[str, Tally], receipts: list[Receipt], seconds: float
) -> None:
    """The end: what became of every document, some receipts, and the dead letters."""
    print(f"\nThe books, after {seconds:.0f} s\n")
    output.table(
        [
            "client",
            "published>",
            "=",
            "acked>",
            "dead>",
            "others>",
            "retried>",
            "crashes>",
            "receipts>",
            "",
        ],
        [
            (
                account.queue,
                account.figures.published,
                "=",
                account.figures.acked,
                account.figures.dead,
                account.figures.published - account.figures.acked - account.figures.dead,
                tallies[account.queue].retried,
                tallies[account.queue].crashes,
                account.receipts,
                "; ".join(account.faults) or "all accounted for, byte for byte; ledger verified",
            )
            for account in accounts
        ],
        empty="",
    )
    print(f"\nSome receipts of {STEADY}\n")
    output.table(
        ["receipt", "at", "outcome", "attempt>", "by", "reply"],
        [
            (r.id, output.clock(r.at), r.outcome, r.attempt, r.principal, r.reply or "")
            for r in receipts
        ],
        empty="None.",
    )
    print("\nDead letters: kept, with the reason, until an operator redrives or discards them\n")
    reasons: dict[tuple[str, str], list[int]] = {}
    for account in accounts:
        for letter in account.dead:
            reasons.setdefault((account.queue, letter.reason), []).append(letter.seq)
    output.table(
        ["client", "how many>", "reason", "seq"],
        [
            (
                queue,
                len(seqs),
                reason,
                ", ".join(map(str, seqs[:_DEAD_SHOWN])) + ", ..." * (len(seqs) > _DEAD_SHOWN),
            )
            for (queue, reason), seqs in reasons.items()
        ],
        empty="None.",
    )


def tell_next_steps(url: str, data: str, admin_key: str, client_key: str) -> None:
    """What to try on the server while it runs."""
    queue = QUEUES[0]
    print(
        f"""
The server runs at {url} (data in {data}). In another terminal:

  export URL={url} ADMIN={admin_key} KEY={client_key}

  # publish, collect, sign (put the Restante-Lease header's value into the last line)
  curl -s -H "Authorization: Bearer $ADMIN" -H "Content-Type: application/xml" \\
       -d '<order number="1"/>' $URL/v1/queues/{queue}/notifications
  curl -si -H "Authorization: Bearer $KEY" -X POST "$URL/v1/queues/{queue}/next?wait=5"
  curl -s -H "Authorization: Bearer $KEY" -d '<accepted/>' $URL/v1/leases/LEASE/ack

  # the same on the command line
  export RESTANTE_URL={url} RESTANTE_KEY={admin_key}
  restante queue list
  restante dead redrive {QUEUES[2]} --all
  restante receipts list {queue}

Ctrl-C stops it."""
    )


def tell_stopped(data: str | None) -> None:
    """What to do next when the server has stopped."""
    print(
        "\nThe server is stopped. Next: `restante demo --stay` leaves it running to try things on,"
    )
    if data is None:
        print("`restante demo --keep` keeps its data, and `restante serve` starts one of your own.")
    else:
        print(f"`restante serve --data {data}` serves what is left of this one.")
