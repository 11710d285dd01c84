"""``restante alerts``: what needs somebody, and what did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from restante.cli import output
from restante.cli.remote import Client, remote
from restante.wire.alert_messages import AlertOut

app = typer.Typer(help="Alerts: what needs somebody, and what did.")


@app.command("list")
@remote
async def list_(client: Client, json: output.Json = False) -> None:
    """What needs somebody now."""
    found = await client.alerts()
    if json:
        output.emit(found)
        return
    _table(found, "Nothing needs anybody.")


@app.command()
@remote
async def history(
    client: Client,
    queue: Annotated[str | None, typer.Option(help="Only those of this queue.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many (1 to 1000).")] = 100,
    after: Annotated[str | None, typer.Option(help="Only those older than this one.")] = None,
    json: output.Json = False,
) -> None:
    """What needed somebody within 90 days, the newest first.

    Example: restante alerts history --queue acme
    """
    page = await client.alert_history(queue=queue, limit=limit, after=after)
    if json:
        output.emit(page)
        return
    _table(page.alerts, "Nothing has needed anybody.")
    if page.next is not None:
        output.note(f"There are more: --after {page.next}")


def _table(alerts: Sequence[AlertOut], empty: str) -> None:
    output.table(
        ["queue", "rule", "severity", "raised", "cleared", "what"],
        [
            (
                alert.queue,
                alert.rule,
                alert.severity,
                output.clock(alert.raised_at),
                "-" if alert.cleared_at is None else output.clock(alert.cleared_at),
                alert.words if alert.cleared_at is None else alert.cleared_words,
            )
            for alert in alerts
        ],
        empty=empty,
    )
