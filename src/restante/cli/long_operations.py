"""``restante operations``: work of services that completes later, and how it is waited for."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from restante.cli import output
from restante.cli.failures import EXIT_FAILED, complain
from restante.cli.remote import Client, remote
from restante.cli.waiting import wait_for
from restante.operation import OperationState
from restante.wire.operation_messages import OperationOut, OperationPage

app = typer.Typer(help="Operations: work of services that completes later.")

_PAGE: Final = 100
Id = Annotated[
    str, typer.Argument(metavar="OPERATION", help="The operation's id.", show_default=False)
]


@app.command("list")
@remote
async def list_(
    client: Client,
    runner: Annotated[str, typer.Option(help="Those of this runner; else those of none.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    after: Annotated[str | None, typer.Option(help="Only those behind this one.")] = None,
    json: output.Json = False,
) -> None:
    """The operations that the key's own principal has made and that have not ended, by id."""
    found: list[OperationOut] = []
    while len(found) < limit:
        page = await client.open_operations(
            runner=runner, limit=min(limit - len(found), _PAGE), after=after
        )
        found += page.operations
        after = page.next
        if after is None:
            break
    if json:
        output.emit(OperationPage(operations=found, next=after))
        return
    output.table(
        ["operation", "title", "state", "done>", "note", "client", "made", "ends by"],
        [
            (
                one.id,
                one.title,
                one.state.value,
                f"{one.progress:.0%}",
                one.note,
                one.client or "-",
                output.clock(one.made_at),
                output.clock(one.ends_by),
            )
            for one in found
        ],
        empty="None is open.",
    )
    if after is not None:
        output.note(f"There may be more: --after {after}")


@app.command()
@remote
async def show(
    client: Client,
    id: Id,
    wait: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0, help="Wait for its end, and fail unless it has succeeded."
        ),
    ] = None,
    json: output.Json = False,
) -> None:
    """One operation: how far it is, and what came of it.

    Example: restante operations show 019c1a2b-3c4d-7e5f-8a6b-7c8d9e0f1a2b --wait 300
    """

    async def look(seconds: float) -> OperationOut:
        return await client.operation(id, wait=seconds)

    found = await wait_for(look, lambda one: one.state.ended, wait or 0.0)
    if json:
        output.emit(found)
    else:
        _show(found)
    if wait is not None and found.state is not OperationState.SUCCEEDED:
        complain(
            f"operation {id} is {found.state.value}" + (f": {_error(found)}" if found.error else "")
        )
        raise typer.Exit(EXIT_FAILED)


@app.command()
@remote
async def cancel(client: Client, id: Id, json: output.Json = False) -> None:
    """End an operation as cancelled. Whoever works on it is told when it moves it on the next time."""
    ended = await client.move_operation(id, state=OperationState.CANCELLED)
    if json:
        output.emit(ended)
    else:
        print(f"{ended.id} {ended.state.value}")


def _show(found: OperationOut) -> None:
    output.details(
        [
            ("operation", found.id),
            ("title", found.title),
            ("state", found.state.value),
            ("done", f"{found.progress:.0%}"),
            ("note", found.note),
            ("made", f"{output.clock(found.made_at)} by {found.made_by}"),
            ("changed", output.clock(found.changed_at)),
            ("ends by", "" if found.state.ended else output.clock(found.ends_by)),
            ("client", found.client),
            ("queue", found.queue),
            ("runner", found.runner),
            ("version", found.version),
            ("error", _error(found)),
            (
                "result",
                output.content(found.result, found.result_base64, found.result_content_type),
            ),
        ]
    )


def _error(found: OperationOut) -> str:
    if found.error is None:
        return ""
    return ": ".join(filter(None, (found.error.code, found.error.detail)))
