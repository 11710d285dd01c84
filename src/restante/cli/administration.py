"""``restante client``, ``restante keys`` and ``restante subscriptions``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from restante.cli import output
from restante.cli.remote import Client, remote
from restante.errors import ConfigurationError
from restante.model import Role
from restante.wire.messages import ClientOut, KeyOut

clients = typer.Typer(help="Clients: the systems that collect.")
keys = typer.Typer(help="Keys: who may do what.")
subscriptions = typer.Typer(help="Subscriptions: which topics go to which queue.")


@clients.command("add")
@remote
async def add_client(
    client: Client,
    name: Annotated[str, typer.Argument(help="Its name, and its queue's.", show_default=False)],
    json: output.Json = False,
) -> None:
    """Make a client and its queue, and print its key: this once, and alone on stdout.

    Example: restante client add acme > acme.key
    """
    made = await client.add_client(name)
    if json:
        output.emit(made)
        return
    output.note(f"Client {made.name} has queue {made.queue}. Its key, which is not shown again:")
    print(made.key)
    if sys.stdout.isatty():
        output.note(f"It collects with: restante receive {made.queue} --ack --key KEY")


@clients.command("link")
@remote
async def make_link(
    client: Client,
    name: Annotated[str, typer.Argument(help="Whose page.", show_default=False)],
    life: Annotated[int, typer.Option(metavar="SECONDS", help="It is good for so long.")] = 86_400,
    json: output.Json = False,
) -> None:
    """Print a link that opens the client's page once: for its people, who need no key then.

    Example: restante client link acme
    """
    made = await client.make_link(name, life_seconds=life)
    if json:
        output.emit(made)
        return
    output.note(f"It opens the page of {made.client} once, until {output.clock(made.expires_at)}:")
    print(client.address_of(made.path))


@clients.command("list")
@remote
async def list_clients(client: Client, json: output.Json = False) -> None:
    """All clients."""
    found: list[ClientOut] = []
    after: str | None = None
    while True:
        page = await client.clients(limit=1_000, after=after)
        found += page.clients
        after = page.next
        if after is None:
            break
    if json:
        output.emit(found)
        return
    output.table(
        ["client", "since"],
        [(one.name, output.clock(one.created_at)) for one in found],
        empty="There is no client yet: `restante client add NAME` makes one.",
    )


@keys.command("add")
@remote
async def add_key(
    client: Client,
    role: Annotated[Role, typer.Argument(help="admin, publisher or client.", show_default=False)],
    name: Annotated[str, typer.Argument(help="Whose; for a client its name.", show_default=False)],
    expires_after: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="It ends by itself after so long.")
    ] = None,
    label: Annotated[str, typer.Option(help="To tell it from others.")] = "",
    certificate_san: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="No key but a client's certificate: its dns:, uri: or email: name.",
        ),
    ] = None,
    json: output.Json = False,
) -> None:
    """Make a key and print it: this once, and alone on stdout. Everyone has at most two, and two certificates.

    Examples:

      restante keys add publisher orders > orders.key

      restante keys add client acme --label 'rotated in spring'

      restante keys add client acme --certificate-san dns:backend.acme.example
    """
    if certificate_san is not None:
        await _add_certificate(client, role, name, certificate_san, expires_after, label, json=json)
        return
    made = await client.add_key(role, name, expires_after_seconds=expires_after, label=label)
    if json:
        output.emit(made)
        return
    output.note(f"Key {made.id} of {made.role.value} {made.name}, which is not shown again:")
    print(made.key)


async def _add_certificate(
    client: Client,
    role: Role,
    name: str,
    san: str,
    expires_after: float | None,
    label: str,
    *,
    json: bool,
) -> None:
    made = await client.add_certificate(
        role, name, san, expires_after_seconds=expires_after, label=label
    )
    if json:
        output.emit(made)
        return
    print(f"{made.certificate_san} stands for {made.role.value} {made.name} (key {made.id}).")


@keys.command("list")
@remote
async def list_keys(
    client: Client,
    everything: Annotated[bool, typer.Option("--all", help="Those that have ended too.")] = False,
    json: output.Json = False,
) -> None:
    """The keys there are, without their secrets."""
    found: list[KeyOut] = []
    after: str | None = None
    while True:
        page = await client.keys(limit=1_000, after=after)
        found += (key for key in page.keys if everything or key.revoked_at is None)
        after = page.next
        if after is None:
            break
    if json:
        output.emit(found)
        return
    output.table(
        ["key", "role", "name", "certificate", "label", "since", "expires", "revoked"],
        [
            (
                key.id,
                key.role.value,
                key.name,
                key.certificate_san or "-",
                key.label,
                output.clock(key.created_at),
                output.clock(key.expires_at or "-"),
                output.clock(key.revoked_at or "-"),
            )
            for key in found
        ],
        empty="There is no key; the administrator's own comes from RESTANTE_ADMIN_KEY.",
    )


@keys.command("revoke")
@remote
async def revoke_key(
    client: Client,
    id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, from `keys list`.")],
) -> None:
    """End a key at once."""
    if id.startswith("rst_"):
        raise ConfigurationError("that is a key, not its id: `restante keys list` shows the ids")
    await client.revoke_key(id)
    print(f"Key {id} is revoked.")


@subscriptions.command("add")
@remote
async def subscribe(
    client: Client,
    pattern: Annotated[
        str, typer.Argument(help="Words and dots; * is one word, # any rest.", show_default=False)
    ],
    queue: Annotated[str, typer.Argument(help="Where to.", show_default=False)],
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Only with this attribute; a name given twice takes either value.",
        ),
    ] = None,
    json: output.Json = False,
) -> None:
    """Route topics to a queue.

    Example: restante subscriptions add 'orders.*' acme --where region=north --where region=south
    """
    made = await client.subscribe(pattern, queue, conditions(where or []))
    if json:
        output.emit(made)
    else:
        print(f"{made.id}: {made.pattern} goes to {made.queue}")


def conditions(pairs: Sequence[str]) -> dict[str, str | list[str]]:
    """A subscription's filter of ``NAME=VALUE`` words."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigurationError(f"--where takes NAME=VALUE, not {pair!r}")
        found.setdefault(name, []).append(value)
    return dict(found)


@subscriptions.command("list")
@remote
async def list_subscriptions(client: Client, json: output.Json = False) -> None:
    """All subscriptions."""
    found = await client.subscriptions()
    if json:
        output.emit(found)
        return
    output.table(
        ["subscription", "pattern", "queue", "where"],
        [
            (
                one.id,
                one.pattern,
                one.queue,
                ", ".join(f"{name}={'|'.join(values)}" for name, values in one.filter.items()),
            )
            for one in found
        ],
        empty="There is none: `restante subscriptions add PATTERN QUEUE` makes one.",
    )


@subscriptions.command("remove")
@remote
async def unsubscribe(
    client: Client,
    id: Annotated[str, typer.Argument(metavar="ID", help="From `subscriptions list`.")],
) -> None:
    """End a subscription. What it has routed stays."""
    await client.unsubscribe(id)
    print(f"Subscription {id} is removed.")
