"""``restante receipts`` and ``restante status``: what the ledger says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from restante.cli import output
from restante.cli.failures import EXIT_FAILED, complain
from restante.cli.queues import Name
from restante.cli.remote import Client, remote
from restante.cli.signing_keys import read_pem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from restante.client import DeliveryStatus, Receipt

app = typer.Typer(help="Receipts: the ledger of each queue.")

_PAGE: Final = 1_000


@app.command("list")
@remote
async def list_(
    client: Client,
    queue: Name,
    limit: Annotated[int, typer.Option(help="At most so many (1 to 1000).")] = 100,
    after: Annotated[int | None, typer.Option(help="Only those with a higher number.")] = None,
    outcome: Annotated[
        str | None,
        typer.Option(help="acked, nacked, rejected, released, lease_expired, published, ..."),
    ] = None,
    since: output.Since = None,
    until: output.Until = None,
    json: output.Json = False,
) -> None:
    """A queue's receipts, oldest first.

    Example: restante receipts list acme --outcome acked --since 2h
    """
    page = await client.receipts(
        queue,
        limit=limit,
        after=after,
        outcome=outcome,
        since=output.moment(since),
        until=output.moment(until),
    )
    if json:
        output.emit(page)
        return
    output.table(
        ["receipt", "at", "outcome", "seq>", "attempt>", "by", "over", "signed", "reason or reply"],
        [
            (
                receipt.id,
                output.clock(receipt.at),
                receipt.outcome,
                receipt.seq,
                receipt.attempt or "",
                receipt.principal,
                receipt.transport,
                "yes" if receipt.signature else "",
                receipt.reason or _short(receipt.reply or ""),
            )
            for receipt in page.receipts
        ],
        empty=f"Queue {queue} has no such receipts.",
    )
    if page.next is not None:
        output.note(f"There are more: --after {page.next}")


@app.command()
@remote
async def show(
    client: Client,
    receipt: Annotated[str, typer.Argument(metavar="RECEIPT", help="As in acme~12.")],
    json: output.Json = False,
) -> None:
    """One receipt, with the client's reply."""
    found = await client.receipt(receipt)
    if json:
        output.emit(found)
        return
    output.details(
        [
            ("receipt", found.id),
            ("outcome", found.outcome),
            ("state", found.state),
            ("at", output.clock(found.at)),
            ("by", found.principal),
            ("key", found.key_id),
            ("over", " ".join((found.transport, found.remote_address)).strip()),
            ("notification", found.notification),
            ("queue", f"{found.queue} {found.seq}"),
            ("attempt", found.attempt or ""),
            ("published", output.clock(found.published_at)),
            ("leased", output.clock(found.leased_at)),
            ("body", f"{found.body_bytes:,} B, SHA-256 {found.body_sha256}"),
            ("reason", found.reason),
            ("reply", output.content(found.reply, found.reply_base64, found.reply_content_type)),
            *_signature(found),
            ("digest", found.digest),
        ]
    )


@app.command("verify-signature")
@remote
async def verify_signature(
    client: Client,
    receipt: Annotated[str, typer.Argument(metavar="RECEIPT", help="As in acme~12.")],
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="The client's public key or certificate, in PEM.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ],
) -> None:
    """Check the client's own signature in a receipt by a key that you have from the client."""
    from restante.wire.client_signatures import verify_signature

    found = await client.receipt(receipt)
    if not found.signature:
        complain(f"receipt {receipt} bears no signature of the client's own")
        raise typer.Exit(EXIT_FAILED)
    if not verify_signature(found, read_pem(file)):
        complain(f"the signature in receipt {receipt} is none by that key")
        raise typer.Exit(EXIT_FAILED)
    print(f"{found.principal} signed {found.outcome} with that key at {found.signed_at}.")


@app.command()
@remote
async def verify(client: Client, queue: Name, json: output.Json = False) -> None:
    """Check that a queue's ledger has no gap and that its chain of digests holds.

    Receipts past their retention are gone from the front; the first that is left is then taken as it is. How far that
    is, the server says: what is gone before its time `restante ledger verify` finds.
    """
    from restante.client.ledger import LedgerBroken, verify_ledger

    with output.progress("receipts", None) as bar:
        try:
            checked = await verify_ledger(
                client, queue, _PAGE, lambda done: bar.update(bar.task_ids[0], completed=done)
            )
        except LedgerBroken as error:
            complain(str(error))
            raise typer.Exit(EXIT_FAILED) from error
    if json:
        output.emit(checked)
    elif not checked.count:
        print(f"Queue {queue} has no receipts.")
    else:
        print(
            f"{checked.count:,} receipts, {checked.first} to {checked.last}: no gap, and the chain holds."
        )
        if checked.first > 1:
            output.note(f"Receipts before {checked.first} are past their retention.")


@remote
async def status(
    client: Client,
    id: Annotated[str, typer.Argument(metavar="NOTIFICATION", help="The notification's id.")],
    json: output.Json = False,
) -> None:
    """Where a notification is: who has it, who signed, and when."""
    found = await client.notification(id)
    if json:
        output.emit(found)
        return
    output.details(
        [
            ("notification", found.id),
            ("topic", found.topic),
            ("published", f"{output.clock(found.published_at)} by {found.publisher}"),
            ("content", f"{found.content_type}, {found.body_bytes:,} B"),
            ("SHA-256", found.body_sha256),
            *sorted(found.attributes.items()),
        ]
    )
    print()
    tell_deliveries(found.deliveries)


def tell_deliveries(deliveries: Iterable[DeliveryStatus]) -> None:
    """What has become of a notification in each of its queues."""
    columns = ["queue", "seq>", "state", "attempt>", "outcome", "settled", "by", "receipt"]
    output.table(
        [*columns, "reason or reply"],
        [
            (
                one.queue,
                one.seq,
                one.state,
                one.attempt,
                one.outcome or "-",
                output.clock(one.settled_at or "-"),
                one.client or "-",
                one.receipt or "-",
                one.reason
                or _short(output.content(one.reply, one.reply_base64, one.reply_content_type)),
            )
            for one in deliveries
        ],
        empty="It went to no queue.",
    )


def _signature(receipt: Receipt) -> list[tuple[str, str]]:
    if not receipt.signature:
        return []
    return [
        ("signed", f"{output.clock(receipt.signed_at)} with {receipt.signature_algorithm}"),
        ("signing key", receipt.signature_key),
        ("signature", receipt.signature),
    ]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"
