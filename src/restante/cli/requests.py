"""``restante request``: what came of a request with an idempotency key."""

from __future__ import annotations

from typing import Annotated

import typer

from restante.cli import output
from restante.cli.remote import Client, remote


@remote
async def request(
    client: Client,
    idempotency_key: Annotated[
        str, typer.Argument(metavar="KEY", help="The request's idempotency key.")
    ],
    principal: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE/NAME",
            help="Whose it is, as publisher/shop; else that of the key shown. For administrators.",
        ),
    ] = None,
    json: output.Json = False,
) -> None:
    """What came of a request with that idempotency key: whether it arrived, and what it was answered.

    Example: restante request order-4711 --principal publisher/shop
    """
    found = await client.request(idempotency_key, principal=principal)
    if json:
        output.emit(found)
        return
    output.details(
        [
            ("request", found.key),
            ("state", found.state),
            ("asked", " ".join(filter(None, (found.method, found.path)))),
            ("since", output.clock(found.since)),
            ("ended", output.clock(found.ended_at or "")),
            ("forgotten", output.clock(found.expires_at or "")),
            ("notification", found.notification),
            ("group", found.group),
            ("operation", found.operation),
            ("status", found.status),
            ("answer", output.content(found.body, found.body_base64, found.content_type)),
        ]
    )
