"""One notification in hand: settled by hand, or on leaving an ``async with`` block."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol

from restante.client.answers import Notification
from restante.client.signing import Signer
from restante.errors import LeaseLost
from restante.model import REASON_CHARACTERS, Signature, Verb
from restante.wire.messages import SettledItem


class Signing(Protocol):
    """What settles a lease: a ``Client``."""

    async def ack(
        self,
        lease: str,
        reply: bytes | None = None,
        *,
        reply_content_type: str = ...,
        signature: Signature | None = None,
    ) -> SettledItem: ...

    async def nack(
        self,
        lease: str,
        *,
        reason: str = "",
        retry_after_seconds: float | None = None,
        signature: Signature | None = None,
    ) -> SettledItem: ...

    async def reject(
        self, lease: str, *, reason: str = "", signature: Signature | None = None
    ) -> SettledItem: ...

    async def release(self, lease: str) -> SettledItem: ...


class Lease:
    """A leased notification. ``async with lease as notification:`` acks on leaving.

    When the block raises, the notification is nacked with the error's name as the reason, and the error goes on; when
    it is cancelled, the notification is released. What the block settled itself is left alone. With a ``signer`` every
    ack, nack and reject bears a signature of the client's own.
    """

    def __init__(
        self, client: Signing, notification: Notification, signer: Signer | None = None
    ) -> None:
        self.notification = notification
        self.settled: SettledItem | None = None
        self._client = client
        self._signer = signer

    async def ack(
        self, reply: bytes | None = None, *, reply_content_type: str = "application/octet-stream"
    ) -> None:
        """Sign for it. ``reply`` (at most 64 KiB) is kept in the receipt."""
        token = self.notification.lease
        self.settled = await self._client.ack(
            token,
            reply,
            reply_content_type=reply_content_type,
            signature=self._signature(Verb.ACK, reply or b""),
        )

    async def nack(self, *, reason: str = "", retry_after_seconds: float | None = None) -> None:
        """Have it again later: after the queue's backoff, or ``retry_after_seconds``."""
        self.settled = await self._client.nack(
            self.notification.lease,
            reason=reason,
            retry_after_seconds=retry_after_seconds,
            signature=self._signature(Verb.NACK, reason.encode()),
        )

    async def reject(self, *, reason: str = "") -> None:
        """Send it to the dead letters at once."""
        self.settled = await self._client.reject(
            self.notification.lease,
            reason=reason,
            signature=self._signature(Verb.REJECT, reason.encode()),
        )

    def _signature(self, verb: Verb, said: bytes) -> Signature | None:
        if self._signer is None:
            return None
        return self._signer.sign(self.notification, verb, said=said)

    async def __aenter__(self) -> Notification:
        return self.notification

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.settled is not None:
            return
        if error is None:
            await self.ack()
            return
        try:
            if isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt):
                self.settled = await self._client.release(self.notification.lease)
            else:
                reason = f"{type(error).__name__}: {error}"[:REASON_CHARACTERS]
                await self.nack(reason=reason)
        except LeaseLost as lost:
            # Someone else has it by now. The block's own error is the one to tell.
            error.add_note(f"lease lost as well: {lost.detail}")
