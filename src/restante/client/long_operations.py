"""Operations that complete later: made and moved on by a service, waited for and followed by its callers."""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncIterator
from urllib.parse import quote

from restante.client.http import Wire
from restante.operation import KEEP_SECONDS, TIMEOUT_SECONDS, OperationState
from restante.wire.operation_messages import OperationOut, OperationPage


class LongOperations:
    """Each has a ``version`` that rises with every change."""

    _wire: Wire

    async def create_operation(
        self,
        *,
        title: str = "",
        client: str = "",
        queue: str = "",
        runner: str = "",
        timeout_seconds: float = TIMEOUT_SECONDS,
        keep_seconds: float = KEEP_SECONDS,
        idempotency_key: str | None = None,
    ) -> OperationOut:
        """A new operation, queued. The ``client`` may look at it, and the ``queue`` is told of its end.

        It has to end within ``timeout_seconds`` (1 to 604,800), or fails as ``timed_out``, and is kept for
        ``keep_seconds`` (60 to 2,592,000) after that. One of its own ``idempotency_key`` makes this safe to repeat.
        """
        ask = {
            "title": title,
            "client": client,
            "queue": queue,
            "runner": runner,
            "timeout_seconds": timeout_seconds,
            "keep_seconds": keep_seconds,
        }
        return await self._wire.call(
            OperationOut,
            "POST",
            "/v1/operations",
            ask=ask,
            headers={"Idempotency-Key": idempotency_key or secrets.token_urlsafe(24)},
            repeatable=True,
        )

    async def move_operation(
        self,
        id: str,
        *,
        state: OperationState | None = None,
        progress: float | None = None,
        note: str | None = None,
        result: bytes | None = None,
        result_content_type: str = "application/octet-stream",
        error: tuple[str, str] | None = None,
        version: int | None = None,
    ) -> OperationOut:
        """Move it on; what is left out stays. A ``result`` (64 KiB at most) is for one that succeeded.

        ``error`` is the code and the detail of one that failed. ``OperationEnded``, and ``OperationChanged`` where it
        is not at the ``version`` given.
        """
        ask: dict[str, object] = {"state": state, "progress": progress, "note": note}
        ask = {name: value for name, value in ask.items() if value is not None}
        if result is not None:
            ask |= {
                "result_base64": base64.b64encode(result).decode(),
                "result_content_type": result_content_type,
            }
        if error is not None:
            ask["error"] = {"code": error[0], "detail": error[1]}
        return await self._wire.call(
            OperationOut,
            "PATCH",
            _path(id),
            ask=ask,
            headers={} if version is None else {"If-Match": f'"{version}"'},
            # Of a move that was made already the second changes nothing; from a given version it would be refused.
            repeatable=version is None,
        )

    async def operation(
        self, id: str, *, wait: float = 0.0, after: int | None = None
    ) -> OperationOut:
        """How it stands: at once, or after up to ``wait`` (0 to 60) seconds for its end.

        With ``after`` it is waited for a version above that one.
        """
        return await self._wire.call(
            OperationOut,
            "GET",
            _path(id),
            params={"wait": wait, "after": after},
            wait_seconds=wait,
        )

    async def watch_operation(self, id: str, *, wait: float = 30.0) -> AsyncIterator[OperationOut]:
        """How it stands, and again with each change, to its end; by long polls of ``wait`` seconds.

        Of changes in quick succession the last is shown.
        """
        found = await self.operation(id)
        yield found
        while not found.state.ended:
            now = await self.operation(id, wait=wait, after=found.version)
            if now.version > found.version:
                found = now
                yield found

    async def open_operations(
        self, *, runner: str = "", limit: int | None = None, after: str | None = None
    ) -> OperationPage:
        """The caller's own that have not ended and have that runner, by id; ``next`` is None at the end."""
        params = {"runner": runner or None, "limit": limit, "after": after}
        return await self._wire.call(OperationPage, "GET", "/v1/operations", params=params)


def _path(id: str) -> str:
    return f"/v1/operations/{quote(id, safe='')}"
