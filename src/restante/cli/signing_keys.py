"""``restante signing-keys``: the keys with which clients sign what they settle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restante.cli import output
from restante.cli.remote import Client, remote
from restante.errors import InvalidSigningKey
from restante.wire.client_signatures import PEM_CHARACTERS

app = typer.Typer(help="Signing keys: what clients' own signatures are verified with.")

Owner = Annotated[str, typer.Argument(metavar="CLIENT", help="Whose.", show_default=False)]


@app.command()
@remote
async def add(
    client: Client,
    name: Owner,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A public key or a certificate, in PEM.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ],
    label: Annotated[str, typer.Option(help="For people.")] = "",
    json: output.Json = False,
) -> None:
    """Register a client's public key or certificate: Ed25519, ECDSA on P-256, or RSA.

    Example: restante signing-keys add acme acme-public.pem --label "of the archive"
    """
    made = await client.add_signing_key(name, read_pem(file), label=label)
    if json:
        output.emit(made)
    else:
        print(f"{made.client} signs with {made.algorithm}, key {made.id}.")


@app.command("list")
@remote
async def list_(
    client: Client,
    name: Owner,
    everything: Annotated[bool, typer.Option("--all", help="Those that were revoked too.")] = False,
    json: output.Json = False,
) -> None:
    """A client's signing keys. Those that were revoked are kept: what they signed can be verified."""
    kept = await client.signing_keys(name)
    found = [one for one in kept if everything or one.revoked_at is None]
    if json:
        output.emit(found)
        return
    output.table(
        ["key", "algorithm", "certificate", "label", "since", "valid until", "revoked"],
        [
            (
                one.id,
                one.algorithm,
                one.subject or "-",
                one.label,
                output.clock(one.added_at),
                output.clock(one.not_after or "-"),
                output.clock(one.revoked_at or "-"),
            )
            for one in found
        ],
        empty=f"Client {name} has no {'active ' if kept else ''}signing key.",
    )
    if len(found) < len(kept):
        output.note(f"Without those that were revoked ({len(kept) - len(found)}): see --all.")


@app.command()
@remote
async def revoke(
    client: Client,
    name: Owner,
    id: Annotated[str, typer.Argument(metavar="KEY", help="The key's id, from `list`.")],
    json: output.Json = False,
) -> None:
    """End a signing key: nothing that it signs is accepted from now on."""
    revoked = await client.revoke_signing_key(name, id)
    if json:
        output.emit(revoked)
    else:
        print(f"Signing key {revoked.id} of {revoked.client} is revoked.")


def read_pem(file: Path) -> str:
    """The file's text, or its beginning: one that is longer is refused by the server for its length."""
    with file.open("rb") as opened:
        data = opened.read(PEM_CHARACTERS + 1)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidSigningKey(f"{file} is no PEM file") from error
