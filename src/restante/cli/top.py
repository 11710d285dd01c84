"""``restante top``: how all queues fare, live in a terminal."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from restante.attention import Order, Sort
from restante.cli import output
from restante.cli.remote import Client, remote
from restante.errors import ConfigurationError, RestanteError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rich.console import RenderableType
    from rich.text import Text

    from restante.wire.watching import AttentionOut, OverviewOut, QueueSeen, TotalsOut

    Look = Callable[[int], Awaitable[OverviewOut]]

_INTERVAL_SECONDS: Final = (0.2, 3_600.0)
_QUEUES: Final = 20
"""Where there is no terminal whose height says how many."""
_QUEUES_MAXIMUM: Final = 500
_ATTENTION: Final = 5
_RISING: Final = frozenset({Sort.NAME, Sort.LAST_CONTACT})
"""What is worst when it is least: who came last longest ago. All else is worst when it is most."""
_STYLES: Final = {"bad": "bold red", "warning": "yellow"}
_COLUMNS: Final = (
    *("queue", "waiting>", "leased>", "oldest>", "dead>"),
    *("in/s>", "signed/s>", "failed>", "seen>"),
)


@remote
async def top(
    client: Client,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", help="How often to look: 0.2 to 3600.")
    ] = 2.0,
    sort: Annotated[Sort, typer.Option(help="What the queues are in order by.")] = Sort.DEPTH,
    search: Annotated[
        str, typer.Option(help="Only queues in whose name, or owner's name, this stands.")
    ] = "",
    once: Annotated[bool, typer.Option("--once", help="Look once, print, and end.")] = False,
    json: output.Json = False,
) -> None:
    """How all queues fare, live: totals, what needs somebody first, and the queues. Ctrl-C ends it.

    Where the output is no terminal it looks once.

    Example: restante top --sort oldest_age --search eu-
    """
    low, high = _INTERVAL_SECONDS
    if not low <= interval <= high:
        raise ConfigurationError(f"--interval takes {low:g} to {high:,g} seconds")

    async def look(limit: int) -> OverviewOut:
        order = Order.ASCENDING if sort in _RISING else Order.DESCENDING
        return await client.overview(search=search, sort=sort, order=order, limit=limit)

    if json:
        output.emit(await look(_QUEUES))
    elif once or not sys.stdout.isatty():
        output.console().print(drawn(await look(_QUEUES)))
    else:
        await _live(look, interval)


async def _live(look: Look, interval: float) -> None:
    from rich.live import Live

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    shown = output.console()
    # The first look is made before the screen is taken: what is wrong then is told like any command's error.
    overview = await look(_room(shown.height))
    lost = ""
    with Live(console=shown, screen=True, auto_refresh=False) as live:
        while not stop.is_set():
            live.update(drawn(overview, lost=lost, height=shown.height), refresh=True)
            try:
                await asyncio.wait_for(stop.wait(), interval)
            except TimeoutError:
                try:
                    overview, lost = await look(_room(shown.height)), ""
                except RestanteError as error:
                    lost = error.detail


def drawn(overview: OverviewOut, *, lost: str = "", height: int | None = None) -> RenderableType:
    """An overview as it is shown, in so many lines; None: in as many as it takes.

    ``lost`` says why it is an old one.
    """
    from rich.console import Group
    from rich.text import Text

    lines = [_headline(overview, lost), *_totals(overview.totals)]
    if overview.attention:
        first = overview.attention[:_ATTENTION]
        lines.append(Text("needs somebody:", style="bold"))
        lines += [_attention(one) for one in first]
    lines.append(Text())
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    room = _QUEUES_MAXIMUM if height is None else max(0, height - len(lines) - 1)
    return Group(*lines, _queues(overview.queues[:room]))


def _room(height: int) -> int:
    return max(1, min(height, _QUEUES_MAXIMUM))


def _headline(overview: OverviewOut, lost: str) -> Text:
    from rich.text import Text

    total = overview.totals.queues
    found = "" if overview.found == total else f", {overview.found:,} of them asked for"
    text = Text(f"{output.clock(overview.at)}  {total:,} queues{found}", style="bold")
    if lost:
        text.append(f"  not seen since: {output.safe(lost)}", style="bold red")
    return text


def _totals(totals: TotalsOut) -> list[Text]:
    from rich.text import Text

    pace, figures = totals.pace, totals.figures
    consumers = ", ".join(f"{one.count:,} {one.transport}" for one in totals.consumers)
    oldest = output.age(figures.oldest_age_seconds)
    p50, p99 = output.age(pace.ack_p50_seconds), output.age(pace.ack_p99_seconds)
    return [
        Text(
            f"waiting {totals.depth:,} (leased {figures.leased:,}, oldest {oldest})"
            f"  dead {figures.dead:,}  failed {_share(pace.error_rate)}"
        ),
        Text(
            f"per second: in {pace.rates.published:,.1f}, signed {pace.rates.acked:,.1f},"
            f" failed {pace.rates.failed:,.1f}  to ack: half {p50}, 99 % {p99}"
        ),
        Text(f"attached: {consumers or 'nobody'}"),
    ]


def _attention(one: AttentionOut) -> Text:
    from rich.text import Text

    words = output.safe(" ".join(one.problem.split()))
    return Text(f"  {one.queue} {words}", style=_STYLES.get(one.health, ""))


def _queues(queues: list[QueueSeen]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for column in _COLUMNS:
        right = column.endswith(">")
        table.add_column(
            column.rstrip(">"),
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=None if right else 1,
        )
    for queue in queues:
        pace, figures = queue.pace, queue.figures
        cells = (
            queue.name,
            f"{queue.depth:,}",
            f"{figures.leased:,}",
            output.age(figures.oldest_age_seconds),
            f"{figures.dead:,}",
            f"{pace.rates.published:,.1f}",
            f"{pace.rates.acked:,.1f}",
            _share(pace.error_rate),
            "now"
            if any(one.count for one in queue.consumers)
            else output.age(queue.silent_seconds),
        )
        table.add_row(*map(Text, cells), style=_STYLES.get(queue.health, ""))
    return table


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
