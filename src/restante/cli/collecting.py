"""``restante receive``, and what may be said of a lease: ack, nack, reject, extend, release."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from restante.cli import output
from restante.cli.failures import complain
from restante.cli.remote import Client, remote
from restante.errors import ConfigurationError, LeaseLost, LeaseNotFound, RestanteError
from restante.wire.messages import SettledItem

if TYPE_CHECKING:
    from restante.client import Notification

_ENDINGS: Final = {
    "application/xml": ".xml",
    "text/xml": ".xml",
    "application/json": ".json",
    "text/plain": ".txt",
    "text/csv": ".csv",
}
_SHOWN_BYTES: Final = 65_536

Leases = Annotated[
    list[str], typer.Argument(metavar="LEASE...", help="Lease tokens.", show_default=False)
]
Reason = Annotated[str, typer.Option(help="Why; the ledger keeps it.")]


@remote
async def receive(  # noqa: PLR0913, PLR0917  # one parameter for each flag
    client: Client,
    queue: Annotated[str, typer.Argument(help="The queue.", show_default=False)],
    max: Annotated[int, typer.Option(help="At most so many at once (1 to 1000).")] = 10,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", help="Wait so long for the first (0 to 60).")
    ] = 20.0,
    lease: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Hold them so long (1 to 43200); else as the queue has it."
        ),
    ] = None,
    ack: Annotated[
        bool, typer.Option("--ack", help="Sign for each once it is printed, or safe on disk.")
    ] = False,
    release: Annotated[
        bool, typer.Option("--release", help="Give each back: a look without taking.")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Write each body to a file in this folder."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print each as a line of JSON, for scripts.")
    ] = False,
) -> None:
    """Collect notifications. Without --ack or --release each is yours until its lease runs out.

    Examples:

      restante receive acme --ack --output inbox/ --follow

      restante receive acme --max 1 --wait 0 --release
    """
    if ack and release:
        raise ConfigurationError("say --ack or --release, not both")
    if follow and release:
        raise ConfigurationError("--follow with --release would show the same ones for ever")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    if follow and not ack:
        output.note(
            "Without --ack each comes back when its lease runs out, and ends as a dead letter."
        )
    found = 0
    while True:
        received = await client.receive(queue, max=max, wait=wait, lease=lease)
        for notification in received.notifications:
            found += 1
            path = None if folder is None else write(folder, notification)
            if json:
                output.emit_line(notification)
            else:
                show(notification, path)
            if ack:
                await _sign(client, notification.lease)
            elif release:
                await client.release(notification.lease)
        if not follow:
            break
    if not found:
        output.note(f"Nothing came to {queue} in {wait:g} s.")
    elif not (ack or release or json):
        output.note("Sign with `restante ack LEASE` before the lease runs out.")


async def _sign(client: Client, lease: str) -> None:
    try:
        await client.ack(lease)
    except LeaseLost as lost:
        # It will come again: the next may still be signed for.
        complain(f"not signed for: {lost.detail}")


def show(notification: Notification, path: Path | None) -> None:
    """Print a notification for people: what it is, the lease token, and the body or where it is."""
    content = notification.content
    output.details(
        [
            ("notification", notification.id),
            ("queue", f"{notification.queue} {notification.seq}"),
            ("topic", notification.topic),
            ("attempt", notification.attempt),
            ("published", output.clock(notification.published_at)),
            ("leased until", output.clock(notification.lease_until)),
            ("lease", notification.lease),
            ("content", f"{notification.content_type}, {len(content):,} B"),
            ("ordering key", notification.ordering_key),
            *sorted(notification.attributes.items()),
            ("file", path),
        ]
    )
    if path is None:
        print()
        _print_body(content)
    print(flush=True)


def _print_body(content: bytes) -> None:
    if b"\0" in content[:4] or content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = _decoded(content, "utf-16")
    else:
        text = _decoded(content, "utf-8")
    if text is None:
        output.note("(not text; --output DIR writes it to a file)")
        return
    shown = text[:_SHOWN_BYTES]
    print(output.safe(shown.removeprefix("\ufeff")))
    if len(shown) < len(text):
        output.note("(cut short; --output DIR writes all of it to a file)")


def _decoded(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None


def write(folder: Path, notification: Notification) -> Path:
    """Write the body to ``QUEUE-SEQ-ID.ending`` in the folder, durably: only then may it be signed for.

    A repeat of the same notification writes the same file again.
    """
    media_type = notification.content_type.partition(";")[0].strip().lower()
    ending = _ENDINGS.get(media_type, ".xml" if media_type.endswith("+xml") else ".bin")
    path = folder / f"{notification.queue}-{notification.seq:09}-{notification.id}{ending}"
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as file:
            file.write(notification.content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
    return path


@remote
async def ack(
    client: Client,
    leases: Leases,
    reply: Annotated[
        str | None, typer.Option(help="A reply (at most 64 KiB); the receipt keeps it.")
    ] = None,
    reply_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same, from a file.")
    ] = None,
    json: output.Json = False,
) -> None:
    """Sign for notifications: they are done.

    Example: restante ack LEASE --reply '<accepted order="1"/>'
    """
    from restante.cli import files

    body: bytes | None = None
    content_type = "text/plain; charset=utf-8"
    if reply_file is not None:
        body = files.read(reply_file)
        content_type = files.content_type_of(reply_file, body)
    elif reply is not None:
        body = reply.encode()
        content_type = "application/xml" if reply.startswith("<") else content_type
    await _each(
        leases, json, lambda lease: client.ack(lease, body, reply_content_type=content_type)
    )


@remote
async def nack(
    client: Client,
    leases: Leases,
    reason: Reason = "",
    retry_after: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Try again then; else after the queue's backoff."),
    ] = None,
    json: output.Json = False,
) -> None:
    """Have notifications again later. Out of attempts, they become dead letters.

    Example: restante nack LEASE --reason 'stock system is down' --retry-after 60
    """
    await _each(
        leases,
        json,
        lambda lease: client.nack(lease, reason=reason, retry_after_seconds=retry_after),
    )


@remote
async def reject(
    client: Client, leases: Leases, reason: Reason = "", json: output.Json = False
) -> None:
    """Refuse notifications for good: to the dead letters at once.

    Example: restante reject LEASE --reason 'no such article'
    """
    await _each(leases, json, lambda lease: client.reject(lease, reason=reason))


@remote
async def extend(
    client: Client,
    leases: Leases,
    seconds: Annotated[
        float | None,
        typer.Option("--lease", metavar="SECONDS", help="From now on; else as the queue has it."),
    ] = None,
    json: output.Json = False,
) -> None:
    """Hold notifications for longer.

    Example: restante extend LEASE --lease 300
    """
    await _each(leases, json, lambda lease: client.extend(lease, seconds))


@remote
async def release(client: Client, leases: Leases, json: output.Json = False) -> None:
    """Give notifications back: ready again at once, and the attempt does not count."""
    await _each(leases, json, client.release)


async def _each(
    leases: list[str], json: bool, settle: Callable[[str], Awaitable[SettledItem]]
) -> None:
    """Settle one after the other; one that is lost does not keep the others."""
    unknown = [lease for lease in leases if lease.startswith("--")]
    if unknown:
        raise ConfigurationError(f"there is no option {unknown[0]}")
    last: RestanteError | None = None
    for lease in leases:
        try:
            settled = await settle(lease)
        except (LeaseLost, LeaseNotFound) as error:
            if last is not None:
                complain(last.detail)
            last = error
            continue
        if json:
            output.emit_line(settled)
        else:
            tail = [f"receipt {settled.receipt}"] if settled.receipt else []
            if settled.lease_until:
                tail.append(f"until {output.clock(settled.lease_until)}")
            elif settled.state:
                tail.insert(0, f"now {settled.state}")
            print(f"{settled.outcome}: {', '.join(tail)}")
    if last is not None:
        raise last
    sys.stdout.flush()
