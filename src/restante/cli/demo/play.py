"""The play: set the scene, let everyone act, wait until all is settled, close the books."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from restante.cli import output
from restante.cli.demo import actors
from restante.cli.demo.actors import QUEUES, SETTINGS, STEADY, Tally
from restante.cli.demo.books import at_rest, close_books
from restante.cli.demo.documents import documents
from restante.cli.demo.screen import Screen, tell_books, tell_next_steps, tell_stopped
from restante.cli.demo.server import Server, ServerEnded, serving
from restante.client import Client, Receipt
from restante.errors import ConfigurationError
from restante.model import Role

_LOOK_SECONDS: Final = 0.25
_PATIENCE_SECONDS: Final = 45.0
"""How long after the last publish everything may take to settle."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``rate`` is documents published a second; ``data`` None is a passing folder."""

    documents: int = 1_000
    rate: float = 100.0
    data: Path | None = None
    keep: bool = False
    stay: bool = False


def run(plan: Plan) -> int:
    """Run the demo: 0 when every document is accounted for, else 1. Ctrl-C or SIGTERM stops it and its server."""
    with _folder(plan) as data:
        kept = data if plan.data is not None or plan.keep else None
        try:
            return asyncio.run(_play(plan, data, kept))
        except (KeyboardInterrupt, asyncio.CancelledError) as stop:
            output.note("Stopped, and the server with it.")
            signalled = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM
            return 128 + signalled


@contextlib.contextmanager
def _folder(plan: Plan) -> Iterator[Path]:
    if plan.data is not None:
        plan.data.mkdir(parents=True, exist_ok=True)
        if any(plan.data.iterdir()):
            raise ConfigurationError(
                f"{plan.data} is not empty: the demo wants a folder of its own"
            )
        yield plan.data.resolve()
        return
    if plan.keep:
        yield Path(tempfile.mkdtemp(prefix="restante-demo-"))
        return
    with tempfile.TemporaryDirectory(prefix="restante-demo-") as folder:
        yield Path(folder)


async def _play(plan: Plan, data: Path, kept: Path | None) -> int:
    stopped = asyncio.Event()
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is not None:
        # As Ctrl-C, so that the server is not left behind.
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    async with serving(data) as server:
        print(f"A server runs at {server.url} (process {server.pid}, data in {data})", flush=True)
        if server.page_url:
            key_file = data / "admin.key"
            print(f"Its operators' page is at {server.page_url}: the key is in {key_file}")
        print(flush=True)
        async with Client(server.url, server.admin_key) as admin:
            keys = await _set_scene(admin)
            code = await _act(plan, server, admin, keys)
        if plan.stay:
            tell_next_steps(server.url, str(data), server.admin_key, keys[STEADY])
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stopped.set)
            waiting = asyncio.ensure_future(stopped.wait())
            either: list[asyncio.Future[Any]] = [waiting, server.ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
    tell_stopped(None if kept is None else str(kept))
    return code


async def _set_scene(admin: Client) -> dict[str, str]:
    """Make the three clients and the publisher: their keys by name."""
    keys = {name: (await admin.add_client(name)).key for name in QUEUES}
    for name, settings in SETTINGS.items():
        await admin.put_queue(name, settings=settings)
    keys["publisher"] = (await admin.add_key(Role.PUBLISHER, "supplier-1")).key
    return keys


async def _act(plan: Plan, server: Server, admin: Client, keys: dict[str, str]) -> int:
    tallies = {name: Tally() for name in QUEUES}
    loop = asyncio.get_running_loop()
    started = loop.time()
    clients = [
        asyncio.ensure_future(part(server.url, keys[name], tallies[name]))
        for name, part in zip(QUEUES, (actors.steady, actors.shaky, actors.picky), strict=True)
    ]
    publisher = asyncio.ensure_future(_publish(plan, server, keys["publisher"], tallies))
    try:
        with Screen(plan.documents) as screen:
            while True:
                queues = [await admin.queue(name) for name in QUEUES]
                screen.show(loop.time() - started, queues, tallies)
                settled = publisher.done() and all(at_rest(queue.figures) for queue in queues)
                late = loop.time() - started > plan.documents / plan.rate + _PATIENCE_SECONDS
                if settled or late:
                    break
                await _look_again(server, publisher, clients)
    finally:
        for task in (publisher, *clients):
            task.cancel()
        await asyncio.gather(publisher, *clients, return_exceptions=True)
    accounts = await close_books(admin, tallies)
    tell_books(accounts, tallies, await _last_signed(admin), loop.time() - started)
    return 1 if any(account.faults for account in accounts) else 0


async def _publish(plan: Plan, server: Server, key: str, tallies: dict[str, Tally]) -> None:
    made = documents(plan.documents, QUEUES, actors.PICKY)
    async with Client(server.url, key) as client:
        await actors.publish(client, made, plan.rate, tallies)


async def _look_again(
    server: Server, publisher: asyncio.Future[None], clients: Sequence[asyncio.Future[None]]
) -> None:
    """Wait a moment; raise what made anyone leave the stage."""
    anyone: list[asyncio.Future[Any]] = [server.ended, *clients]
    await asyncio.wait(anyone, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if server.ended.done():
        raise ServerEnded(f"the server ended by itself, with exit code {server.ended.result()}")
    for task in (publisher, *clients):
        if task.done():
            task.result()


async def _last_signed(admin: Client) -> list[Receipt]:
    """The steady client's first few acks."""
    page = await admin.receipts(STEADY, outcome="acked", limit=4)
    return page.receipts
