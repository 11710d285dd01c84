"""Calls over HTTP/1.1, with aiohttp: no redirects, no proxies, no cookies, to checked addresses only."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from yarl import URL

from restante.addresses import Network
from restante.logs import get_logger
from restante.transports.webhook.calls import ANSWER_BYTES, Answered, Call, Failed
from restante.transports.webhook.outcomes import cut
from restante.transports.webhook.resolving import (
    AddressRefused,
    CheckedResolver,
    Lookup,
    NoRoom,
    Rule,
    SystemLookup,
)

_log = get_logger(__name__)

KEEP_ALIVE_SECONDS: Final = 4.0
"""Shorter than the five seconds after which several servers close: a call may not cross with their closing."""
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=None)
_NOT_ALLOWED: Final = "address not allowed"


class HttpCaller:
    """The ``Caller`` of a running program, to be entered.

    ``agent`` is what it calls itself. ``lookup`` stands for the system's resolver, ``tls`` for the certificates that it
    trusts.
    """

    def __init__(
        self,
        allowed: Sequence[Network],
        agent: str,
        *,
        lookup: Lookup | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._rules = {"https": Rule(allowed, tls=True), "http": Rule(allowed, tls=False)}
        self._agent = agent
        self._lookup = lookup
        self._tls = tls
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        lookup = self._lookup or SystemLookup()
        self._sessions = {
            scheme: self._session(lookup, rule) for scheme, rule in self._rules.items()
        }
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for session in self._sessions.values():
            await session.close()

    async def call(self, call: Call) -> Answered | Failed:
        try:
            async with asyncio.timeout(call.timeout_seconds):
                return await self._call(call)
        except TimeoutError:
            return Failed(f"timed out after {call.timeout_seconds:g} s")
        except AddressRefused:
            return Failed(_NOT_ALLOWED)
        except NoRoom:
            return Failed("too many names are being looked up", sent=False)
        except (aiohttp.ClientError, OSError) as error:
            return Failed(reason_of(error))
        except Exception:  # noqa: BLE001 (logged; whatever it was, the delivery is to be settled)
            _log.exception("webhook.call_failed")
            return Failed("the call could not be made")

    async def _call(self, call: Call) -> Answered:
        # It is in its canonical form: the host that was checked is the host that is called.
        url = URL(call.url, encoded=True)
        async with self._sessions[url.scheme].post(
            url, data=call.body, headers=call.headers, allow_redirects=False
        ) as response:
            body = await _read(response)
            version = response.version
            return Answered(
                status=response.status,
                phrase=response.reason or "",
                headers=response.raw_headers,
                body=body,
                version="1.1" if version is None else f"{version.major}.{version.minor}",
            )

    def _session(self, lookup: Lookup, rule: Rule) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=CheckedResolver(lookup, rule),
                use_dns_cache=False,
                ssl=self._tls or True,
                socket_factory=_sockets(rule),
                # A worker never has more calls under way than its concurrency. A limit for all, or for all that go to
                # one host, would let the dead ones, which take their time to fail, keep the living from being called.
                limit=0,
                limit_per_host=0,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
            ),
            headers={"user-agent": self._agent},
            timeout=_NO_TIMEOUT,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, or its beginning: then nothing more is read, and the connection is not used again."""
    first = await response.content.readany()
    if response.content.at_eof():
        return cut(first, ANSWER_BYTES)
    chunks, size = [first], len(first)
    while chunk := await response.content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > ANSWER_BYTES:
            response.close()
            break
    return cut(b"".join(chunks), ANSWER_BYTES)


def _sockets(rule: Rule) -> Callable[[Any], socket.socket]:
    """The last gate: no socket is made for an address that is refused, whichever way it came here.

    An address that stands in the URL itself never passes the resolver.
    """

    def make(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        rule.check(address[0])
        return socket.socket(family, kind, protocol)

    return make


def reason_of(error: aiohttp.ClientError | OSError) -> str:
    """Why there is no answer, in words that are the same for the same cause."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "name not resolved"
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            return "certificate not trusted"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return "TLS failed"
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return "connection refused"
        case aiohttp.ClientConnectorError():
            return "connection failed"
        case aiohttp.ClientResponseError():
            return "not an answer in HTTP"
        case _:
            return "connection closed"
