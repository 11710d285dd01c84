"""Endpoints that never do well, to be measured beside webhooks that do."""

from __future__ import annotations

from typing import Final

from restante.bench.restante_load import ask_all, make_queues, open_clients
from restante.bench.restante_wire import batch_request
from restante.bench.specs import Target
from restante.bench.ways.base import publisher_key
from restante.bench.ways.webhook import webhook_request
from restante.model import BATCH

CONCURRENCY: Final = 4
_SETUP_CONNECTIONS: Final = 16


async def open_dead_ends(target: Target, count: int, per_queue: int, port: int) -> None:
    """Queues with a webhook at a port where nobody does well, and so many notifications in each."""
    await make_queues(target, "dead-", count)
    names = [f"dead-{number}" for number in range(count)]
    requests = (
        batch_request(names[start : start + BATCH], b"<order/>", key=publisher_key(target))
        for start in range(0, count, BATCH)
        for _ in range(per_queue)
    )
    clients = await open_clients(target.port, 1)
    await ask_all(clients, requests, expect=200)
    clients[0].close()
    await set_webhooks(target, "dead-", count, port)


async def set_webhooks(target: Target, prefix: str, count: int, port: int) -> None:
    """Have each of the queues sent to a path of its own number."""
    clients = await open_clients(target.port, _SETUP_CONNECTIONS)
    requests = (
        webhook_request(target, f"{prefix}{number}", f"/{number}", port, CONCURRENCY)
        for number in range(count)
    )
    await ask_all(clients, requests, expect=201)
    for client in clients:
        client.close()
