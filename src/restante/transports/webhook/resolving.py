"""From a name to addresses that may be called: looked up for each connection, every one checked.

What is handed on is what was checked, so that a name which answers otherwise the next time (DNS rebinding) changes
nothing. No answer is remembered.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from restante.addresses import Network, denial, is_allowed

Lookup = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host, for a port; ``OSError`` where it has none."""
LOOKUPS: Final = 256
"""Names that are looked up at a time."""


class AddressRefused(Exception):
    """One of a name's addresses is none that may be called."""


class NoRoom(Exception):
    """As many names are being looked up as may be at a time."""


class Rule:
    """Which addresses may be called: over TLS the Internet's and what the operator allows, else only the latter."""

    def __init__(self, allowed: Sequence[Network], *, tls: bool) -> None:
        self._allowed = allowed
        self._tls = tls

    def check(self, text: str) -> None:
        """Raise ``AddressRefused``."""
        address = ipaddress.ip_address(text)
        if self._tls:
            denied = denial(address, self._allowed)
        else:
            denied = None if is_allowed(address, self._allowed) else "not the operator's"
        if denied is not None:
            raise AddressRefused(f"{text} is {denied}")


class CheckedResolver(AbstractResolver):
    """Looks up, and refuses a name of which even one address is refused."""

    def __init__(self, lookup: Lookup, rule: Rule) -> None:
        self._lookup = lookup
        self._rule = rule

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await self._lookup(host, port)
        for address in addresses:
            self._rule.check(address)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


class SystemLookup:
    """Asks the system, in threads that nobody waits for at the end: a name server may take its time.

    A thread is a look-up's own, since the event loop has but a few to share. One name is looked up once at a time,
    whoever asks; more than ``LOOKUPS`` names at a time are refused with ``NoRoom``, so that nobody waits for others'.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        answer = self._under_way.get(host)
        if answer is None:
            answer = self._begin(host, port)
        # Whoever gives up leaves it to the others, and to its thread, which cannot be stopped.
        return await asyncio.shield(answer)

    def _begin(self, host: str, port: int) -> asyncio.Future[list[str]]:
        if len(self._under_way) >= LOOKUPS:
            raise NoRoom
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def answered(addresses: list[str], error: OSError | None) -> None:
            del self._under_way[host]
            if error is None:
                answer.set_result(addresses)
            else:
                answer.set_exception(error)
                # Looked at here, in case that everybody has given up.
                answer.exception()

        def ask() -> None:
            addresses: list[str] = []
            failed: OSError | None = None
            try:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
            except OSError as error:
                failed = error
            except UnicodeError as error:
                failed = socket.gaierror(socket.EAI_NONAME, str(error))
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
                loop.call_soon_threadsafe(answered, addresses, failed)

        try:
            threading.Thread(target=ask, name="restante-lookup", daemon=True).start()
        except RuntimeError as error:
            # The system gives no more threads.
            raise NoRoom from error
        self._under_way[host] = answer
        return answer
