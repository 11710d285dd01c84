"""``restante backup``, ``restore`` and ``copy``: a store saved, made again, and moved to another kind."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from restante.cli import output
from restante.cli.failures import complain
from restante.errors import ConfigurationError
from restante.keyfiles import SECRETS_KEY_FILE
from restante.moving import Part
from restante.urls import folder_of, open_copy_source, open_copy_target

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from restante.engine.copying import Copied


def backup(
    store: Annotated[
        str, typer.Argument(metavar="FOLDER|URL", help="The data folder, or sqlite:///FOLDER.")
    ],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The file to write.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file if it is there.")
    ] = False,
    json: output.Json = False,
) -> None:
    """Save a store into one file, while it is served or not: the state after some commit, whole and checked.

    The keys that seal webhooks' secrets (FOLDER/secrets.key) are not in it: keep them too, and elsewhere.

    Example:

      restante backup restante-data --to backups/monday.db
    """
    from restante.stores.sqlite.backup import backup as save

    folder = _folder(store)
    with output.progress(f"saving {folder}", None) as bar:
        contents = save(folder, to, lambda done, total: _pages(bar, done, total), force=force)
    if json:
        output.emit({"file": str(to), **msgspec.to_builtins(contents)})
        return
    print(
        f"{to}: {contents.queues:,} queues, {contents.notifications:,} notifications,"
        f" {contents.receipts:,} receipts, {contents.bytes / 1e6:,.1f} MB"
    )
    if contents.webhooks:
        output.note(
            f"Keep {folder / SECRETS_KEY_FILE} too: the webhooks' secrets open with nothing else."
        )


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What restante backup wrote.")],
    data: Annotated[
        Path, typer.Option("--data", metavar="FOLDER", help="A folder without a store.")
    ],
    json: output.Json = False,
) -> None:
    """Make a store of a backup. What was acknowledged after the backup is handed out again.

    Leases that were open then run out, and lease tokens given out before are no longer valid. See docs/moving.md.

    Example:

      restante restore backups/monday.db --data restante-data
    """
    from restante.stores.sqlite.backup import restore as make

    with output.progress(f"restoring {file}", None) as bar:
        contents = make(file, data, lambda done, total: _pages(bar, done, total))
    if json:
        output.emit({"data": str(data), **msgspec.to_builtins(contents)})
        return
    print(
        f"{data}: {contents.queues:,} queues, {contents.notifications:,} notifications,"
        f" {contents.receipts:,} receipts"
    )
    if contents.webhooks and not (data / SECRETS_KEY_FILE).exists():
        output.note(
            f"Put the {SECRETS_KEY_FILE} that was beside the store into {data} before it is served:"
            " the webhooks' secrets open with nothing else."
        )


def copy(
    source: Annotated[
        str, typer.Option("--from", metavar="URL", help="sqlite:///FOLDER or postgresql://...")
    ],
    target: Annotated[
        str, typer.Option("--to", metavar="URL", help="The same, for a store that is yet to be.")
    ],
    json: output.Json = False,
) -> None:
    """Move a store with its ledger into another, while nobody serves either: every row, verified in the end.

    Stopped at any point, the same command goes on from there; until it has ended well the target refuses to be served.
    The source is left as it is: do not serve it again once the copy is.

    Example:

      restante copy --from sqlite:///restante-data --to postgresql://restante@db/restante
    """
    began = time.monotonic()
    copied = asyncio.run(_copy(source, target))
    seconds = time.monotonic() - began
    for fault in copied.faults:
        complain(f"so it is in the source, too: {fault}")
    if json:
        output.emit({**msgspec.to_builtins(copied), "seconds": round(seconds, 3)})
        return
    if copied.before:
        print("The copy was finished by an earlier run: nothing is left to do.")
        return
    moved = copied.moved.get(Part.NOTIFICATIONS, 0)
    print(
        f"copied and verified in {seconds:.1f} s: "
        + ", ".join(f"{copied.parts.get(part, 0):,} {part.value}" for part in Part)
        + (f" ({moved / seconds:,.0f} notifications/s)" if moved else "")
    )
    folder = folder_of(source)
    if copied.parts.get(Part.WEBHOOKS):
        keys = "the secrets_key_file of the source" if folder is None else folder / SECRETS_KEY_FILE
        output.note(
            f"Give {keys} to every server of the copy: the webhooks' secrets open with nothing else."
        )


async def _copy(source: str, target: str) -> Copied:
    from restante.clock import SystemClock
    from restante.engine.copying import copy as move

    clock = SystemClock()
    if source == target:
        raise ConfigurationError("--from and --to name the same store")
    async with open_copy_source(source, clock) as old, open_copy_target(target, clock) as new:
        total = sum((await old.counts()).values())
        progress = await new.progress()
        done = sum(progress.done.values()) if progress is not None else 0
        with output.progress("copying", 2 * total) as bar:
            bar.update(bar.task_ids[0], completed=done)

            def watch(what: str, rows: int) -> None:
                bar.update(bar.task_ids[0], description=what, advance=rows)

            return await move(old, new, watch)


def _folder(store: str) -> Path:
    """The folder that is meant; ``ConfigurationError`` for the URL of another store."""
    if "://" not in store:
        return Path(store)
    folder = folder_of(store)
    if folder is None:
        raise ConfigurationError(
            f"{store.partition('://')[0]}:// has its own means for backups (pg_basebackup): see docs/moving.md"
        )
    return folder


def _pages(bar: Bar, done: int, total: int) -> None:
    bar.update(bar.task_ids[0], completed=done, total=total)
