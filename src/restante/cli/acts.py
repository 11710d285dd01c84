"""``restante acts`` and ``restante body``: who did what, and a look at a body, which is one of the things recorded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from restante.cli import output
from restante.cli.remote import Client, remote
from restante.errors import ConfigurationError


@remote
async def acts(  # one parameter for each flag
    client: Client,
    who: Annotated[str | None, typer.Option(help="Only what this one did.")] = None,
    what: Annotated[
        str | None, typer.Option(help="Only this, as job.asked, or all of a kind, as job.")
    ] = None,
    queue: Annotated[str | None, typer.Option(help="Only what was done to this queue.")] = None,
    subject: Annotated[
        str | None, typer.Option(help="Only what was done to this notification, key or job.")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many (1 to 1000).")] = 100,
    after: Annotated[str | None, typer.Option(help="Only those older than this one.")] = None,
    json: output.Json = False,
) -> None:
    """Who did what, the newest first.

    Example: restante acts --what dead --queue acme
    """
    page = await client.acts(
        who=who, what=what, queue=queue, subject=subject, limit=limit, after=after
    )
    if json:
        output.emit(page)
        return
    output.table(
        ["at", "who", "what", "queue", "subject", "details"],
        [
            (
                output.clock(act.at),
                act.who,
                act.what,
                act.queue,
                act.subject,
                "; ".join(f"{name}: {value}" for name, value in act.details.items() if value),
            )
            for act in page.acts
        ],
        empty="No such act is recorded." if page.next is None else "None among the newest.",
    )
    if page.next is not None:
        output.note(f"There are more: --after {page.next}")


@remote
async def body(
    client: Client,
    id: Annotated[str, typer.Argument(metavar="NOTIFICATION", help="The notification's id.")],
    file: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="Write it to this file, which must not be there yet."
        ),
    ] = None,
) -> None:
    """The body of a notification, as it was published. That an administrator has looked is recorded.

    Example: restante body 019abc... --output order.xml
    """
    if file is not None and file.exists():
        raise ConfigurationError(f"{file} is there already")
    content = await client.body(id)
    if file is not None:
        _write(file, content)
        output.note(f"{len(content):,} B in {file}")
    elif sys.stdout.isatty():
        print(_shown(content))
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def _write(file: Path, content: bytes) -> None:
    try:
        with file.open("xb") as opened:
            opened.write(content)
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}") from error


def _shown(content: bytes) -> str:
    try:
        return output.safe(content.decode())
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"it is not text ({len(content):,} B): write it to a file with --output"
        ) from error
