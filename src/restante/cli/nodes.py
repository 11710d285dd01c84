"""``restante nodes``: which nodes share the store, and how they are."""

from __future__ import annotations

from restante.cli import output
from restante.cli.remote import Client, remote


@remote
async def nodes(client: Client, json: output.Json = False) -> None:
    """The nodes that share the store: all that were heard of within the hour."""
    found = await client.nodes()
    if json:
        output.emit(found)
        return
    output.table(
        ["node", "version", "url", "started", "state", "connections>", "webhooks>", "silent>"],
        [
            (
                node.name,
                node.version,
                node.url,
                output.clock(node.started_at),
                "drains" if node.draining else "serves",
                node.connections,
                node.webhooks,
                output.age(node.silent_seconds),
            )
            for node in found
        ],
        empty="No node has been heard of yet.",
    )
