"""The waker: whether it connects, and how long a wake is under way."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Collection
from typing import Final

from restante.cli.doctor.findings import Case, Finding, failure, ok, warning
from restante.clock import SystemClock
from restante.engine.ids import new_id
from restante.errors import ConfigurationError
from restante.ports import Waker
from restante.redaction import shown
from restante.urls import open_waker

SUBJECT: Final = "waker"
CONNECT_SECONDS: Final = 5.0
WAKES: Final = 5
SLOW_SECONDS: Final = 0.25
_AGAIN_SECONDS: Final = 0.2


async def examine(case: Case) -> list[Finding]:
    """What is found of the waker that the settings name, if nodes need one."""
    clock = SystemClock()
    try:
        wakers = [open_waker(case.config.waker, case.store_url, clock) for _ in range(2)]
    except ConfigurationError as error:
        return [failure(SUBJECT, error.detail, "correct waker, or install what it needs")]
    sender, receiver = wakers
    if sender is None or receiver is None:
        return []
    place = shown(case.config.waker or case.store_url)
    try:
        return [judge(place, await round_trip(sender, receiver))]
    except ConfigurationError as error:
        return [failure(SUBJECT, error.detail, "correct waker")]
    except TimeoutError:
        return [
            failure(
                SUBJECT,
                f"no wake came through {place} within {CONNECT_SECONDS:.0f} s:"
                " other nodes' clients wait for their poll interval",
                "see whether it runs, whether this machine may connect to it, and, for PostgreSQL behind PgBouncer,"
                " name the server itself (NOTIFY does not pass in transaction mode)",
            )
        ]


async def round_trip(sender: Waker, receiver: Waker) -> float:
    """The median time, in seconds, from one node's wake to another's. Raises ``TimeoutError``."""
    queue = f"doctor-{new_id(time.time_ns() // 1_000_000)}"
    heard = asyncio.Event()

    def on_wake(queues: Collection[str] | None) -> None:
        if queues is not None and queue in queues:
            heard.set()

    async with sender.listening(lambda _: None), receiver.listening(on_wake):
        receiver.attend(queue)
        # Both connect, and subscribe, behind this: the first wakes may go nowhere.
        async with asyncio.timeout(CONNECT_SECONDS):
            while not heard.is_set():
                sender.wake((queue,))
                await _wait(heard, _AGAIN_SECONDS)
        taken = []
        for _ in range(WAKES):
            await asyncio.sleep(_AGAIN_SECONDS)
            heard.clear()
            began = time.perf_counter()
            sender.wake((queue,))
            async with asyncio.timeout(CONNECT_SECONDS):
                await heard.wait()
            taken.append(time.perf_counter() - began)
        receiver.leave(queue)
    return statistics.median(taken)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def judge(place: str, seconds: float) -> Finding:
    """What such a time means: a client of another node gets its notification so much later."""
    took = f"a wake through {place} takes {seconds * 1_000:.1f} ms"
    if seconds > SLOW_SECONDS:
        return warning(
            SUBJECT,
            f"{took}: clients of other nodes get what is for them so much later",
            "look at the network between, and at the load of that server",
        )
    return ok(SUBJECT, took)
