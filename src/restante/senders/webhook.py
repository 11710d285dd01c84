"""Alerts and heads of the log by a POST to an address of the operator's; alerts signed as Standard Webhooks 1.0 has it.

The operator may call what the operator likes, so the address is not checked as clients' are; but nothing is followed
that an answer says.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Final, Self

import aiohttp

from restante.alerting import Message
from restante.ports import Clock
from restante.wire import alert_messages, signatures
from restante.wire.checkpoints import CONTENT_TYPE

TIMEOUT_SECONDS: Final = 15.0
_CONNECTIONS: Final = 2


class WebhookSender:
    """To be entered. ``secret`` (``whsec_...``) signs; without one the calls are not signed."""

    def __init__(self, url: str, secret: str | None, agent: str, clock: Clock) -> None:
        self._url = url
        self._secrets = [] if secret is None else [signatures.of_text(secret)]
        self._agent = agent
        self._clock = clock

    async def __aenter__(self) -> Self:
        self._session = _session(self._agent)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def send(self, message: Message) -> str | None:
        body = alert_messages.to_json(message)
        timestamp = self._clock.wall_ms() // 1_000
        headers = {
            "content-type": "application/json",
            "webhook-id": message.id,
            "webhook-timestamp": str(timestamp),
        }
        if self._secrets:
            headers["webhook-signature"] = signatures.sign(
                self._secrets, message.id, timestamp, body
            )
        try:
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                # What it says beyond that is not read: it may have no end.
                return None if 200 <= response.status < 300 else f"HTTP {response.status}"
        except TimeoutError:
            return f"timed out after {TIMEOUT_SECONDS:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return _cause(error)


@contextlib.asynccontextmanager
async def posting_heads(url: str, agent: str) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """What posts a head, as the text it is; it signs itself. Raises ``OSError`` where it was not taken."""
    async with _session(agent) as session:

        async def tell(checkpoint: str) -> None:
            try:
                async with session.post(
                    url,
                    data=checkpoint.encode(),
                    headers={"content-type": CONTENT_TYPE},
                    allow_redirects=False,
                ) as response:
                    # What it says beyond that is not read: it may have no end.
                    if not 200 <= response.status < 300:
                        raise OSError(f"HTTP {response.status}")
            except TimeoutError:
                raise OSError(f"timed out after {TIMEOUT_SECONDS:g} s") from None
            except aiohttp.ClientError as error:
                raise OSError(_cause(error)) from None

        yield tell


def _cause(error: aiohttp.ClientError | OSError) -> str:
    """What kind of error it is, and what the system or TLS says of it.

    Not all of its text, which may hold the URL, which may hold a token.
    """
    why: object = None
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = error.certificate_error
    elif isinstance(error, OSError):
        why = error.strerror
    return f"{type(error).__name__}: {why}" if why else type(error).__name__


def _session(agent: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=_CONNECTIONS, force_close=True),
        headers={"user-agent": agent},
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )
