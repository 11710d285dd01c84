"""``restante relay``: carrying an outbox in another database over to a server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from restante.cli.failures import EXIT_FAILED, complain
from restante.cli.logs import configure
from restante.cli.remote import DEFAULT_URL, Access, find_access
from restante.errors import ConfigurationError

if TYPE_CHECKING:
    from restante.outbox.relay import Carried
    from restante.outbox.table import OutboxTable

_TABLE = "restante_outbox"


def relay(  # noqa: PLR0913, PLR0917  # one parameter for each flag
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="URL",
            help="The database, as SQLAlchemy names it: sqlite:///shop.db, postgresql://..., mysql+pymysql://...",
        ),
    ],
    to: Annotated[
        str | None,
        typer.Option(metavar="URL", help=f"The server; else RESTANTE_URL, else {DEFAULT_URL}."),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="A publisher's key; better in RESTANTE_KEY.")
    ] = None,
    table: Annotated[
        str, typer.Option(metavar="NAME", help="The table, with its schema if need be.")
    ] = _TABLE,
    once: Annotated[
        bool, typer.Option("--once", help="End when nothing waits any longer.")
    ] = False,
    look_seconds: Annotated[
        float,
        typer.Option(min=0.01, help="How long to wait before looking again in an empty table."),
    ] = 1.0,
    create_table: Annotated[
        bool, typer.Option("--create-table", help="Make the table, and end.")
    ] = False,
    print_table: Annotated[
        bool, typer.Option("--print-table", help="Print the statement that makes it, and end.")
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    log_format: Annotated[str, typer.Option(help="text or json.")] = "text",
) -> None:
    """Publish what programs wrote into an outbox table, each row once, until SIGTERM.

    A row is deleted after the server has it. Killed in between, the next run publishes it again under the same
    idempotency key, and the server makes no second notification of it. Rows that the server refuses stay in the
    table, marked with the reason. A server or a database that is away is waited for.

    Exit code 1 with --once: some were refused. 6: the key is not valid, or may not publish.

    Examples:

      restante relay --from sqlite:///shop.db --create-table

      RESTANTE_KEY=... restante relay --from sqlite:///shop.db --to https://restante.example.com
    """
    try:
        from restante.outbox.table import OutboxTable, ddl
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the relay needs a package that is not installed ({error.name}): pip install 'restante[relay]'"
        ) from error
    if print_table:
        print(f"{ddl(source, table)};")
        return
    rows = OutboxTable(source, table)
    try:
        if create_table:
            made = rows.create()
            print(f"{table} is made" if made else f"{table} is there already")
            return
        access = find_access(to, key, None, os.environ)
        rows.require()
        configure(log_level, log_format)
        carried = asyncio.run(_relay(rows, access, look_seconds, once=once))
    finally:
        rows.close()
    print(f"published {carried.published}, refused {carried.refused}", file=sys.stderr)
    if carried.refused and once:
        complain(
            f"{carried.refused} were refused",
            f"They are in {table}, with the reason in the column refused; set that to NULL to try again.",
        )
        raise typer.Exit(EXIT_FAILED)


async def _relay(rows: OutboxTable, access: Access, look_seconds: float, *, once: bool) -> Carried:
    from restante.client import Client
    from restante.outbox.relay import Relay

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Client(access.url, access.key) as client:
        return await Relay(rows, client, look_seconds=look_seconds, stop=stop).run(once=once)
