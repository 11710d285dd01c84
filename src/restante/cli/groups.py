"""``restante group``: what was published together, and whether it was signed for, or undone."""

from __future__ import annotations

from typing import Annotated

import typer

from restante.cli import output
from restante.cli.failures import EXIT_FAILED, complain
from restante.cli.remote import Client, remote
from restante.cli.waiting import wait_for
from restante.wire.group_messages import GroupOut

app = typer.Typer(help="Groups: what is published together, all or compensate.")


@app.command("list")
@remote
async def list_(
    client: Client,
    limit: Annotated[int, typer.Option(help="At most so many (1 to 1000).")] = 20,
    after: Annotated[str | None, typer.Option(help="Only those behind this place.")] = None,
    json: output.Json = False,
) -> None:
    """Groups that are open, then those that ended; the newest first. They are kept for 30 days."""
    page = await client.groups(limit=limit, after=after)
    if json:
        output.emit(page)
        return
    output.table(
        ["group", "state", "queues", "asked", "by", "until", "reason"],
        [
            (
                group.id,
                group.state,
                ", ".join(member.queue for member in group.members),
                output.clock(group.asked_at),
                group.asked_by,
                output.clock(group.until),
                group.reason,
            )
            for group in page.groups
        ],
        empty="There are no groups.",
    )
    if page.next is not None:
        output.note(f"There are more: --after {page.next}")


@app.command()
@remote
async def show(
    client: Client,
    id: Annotated[str, typer.Argument(metavar="GROUP", help="The group's id.", show_default=False)],
    wait: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Wait until it is no longer pending, and fail unless it is complete.",
        ),
    ] = None,
    json: output.Json = False,
) -> None:
    """One group: how it stands, and each of its members.

    Example: restante group show 019c1a2b-3c4d-7e5f-8a6b-7c8d9e0f1a2b --wait 30
    """

    async def look(seconds: float) -> GroupOut:
        return await client.group(id, wait_seconds=seconds)

    group = await wait_for(look, lambda found: found.state != "pending", wait or 0.0)
    if json:
        output.emit(group)
    else:
        _show(group)
    if wait is not None and group.state != "complete":
        complain(f"group {id} is {group.state}" + (f": {group.reason}" if group.reason else ""))
        raise typer.Exit(EXIT_FAILED)


def _show(group: GroupOut) -> None:
    output.details(
        [
            ("group", group.id),
            ("state", group.state),
            ("reason", group.reason),
            ("asked", f"{output.clock(group.asked_at)} by {group.asked_by}"),
            ("until", output.clock(group.until)),
            ("ended", output.clock(group.ended_at or "")),
        ]
    )
    print()
    output.table(
        ["queue", "required", "state", "notification", "compensation", "reason"],
        [
            (
                member.queue,
                "yes" if member.required else "no",
                member.state,
                member.notification or "-",
                member.compensation or "-",
                member.reason,
            )
            for member in group.members
        ],
        empty="It has no members.",
    )
