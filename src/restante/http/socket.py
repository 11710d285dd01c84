"""One WebSocket, from its handshake on (RFC 6455)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from restante.errors import RestanteError
from restante.http.answers import problem
from restante.http.head import Head, Scope
from restante.http.request import ReceiveMessage, SendMessage

NORMAL: Final = 1000
POLICY: Final = 1008
INTERNAL: Final = 1011
_KEY: Final = "restante.key."
"""A browser cannot set headers on a WebSocket: there the key stands among the subprotocols."""


class SocketClosed(Exception):
    """The other side has left, or was told to: nothing can be sent any more."""


class Socket(Head):
    """``accept`` or ``refuse`` first. One task receives; any may send, and messages go out whole."""

    __slots__ = ("_open", "_receive", "_send", "subprotocols")

    def __init__(self, scope: Scope, receive: ReceiveMessage, send: SendMessage) -> None:
        super().__init__(scope)
        offered: list[str] = scope.get("subprotocols") or []
        self.subprotocols = [name for name in offered if not name.startswith(_KEY)]
        self._receive = receive
        self._send = send
        self._open = False

    @property
    def key(self) -> str | None:
        """The key given among the subprotocols, if there is one."""
        for name in self.scope.get("subprotocols") or []:
            if name.startswith(_KEY):
                return str(name.removeprefix(_KEY))
        return None

    async def accept(self, subprotocol: str, *, max_message_bytes: int) -> None:
        """Complete the handshake. From now on a message of more bytes closes the connection (1009)."""
        await self._receive()
        limit: Callable[[int], None] | None = self._hook("restante.max_message_bytes")
        if limit is not None:
            limit(max_message_bytes)
        await self._put({"type": "websocket.accept", "subprotocol": subprotocol})
        self._open = True
        # Nobody asks for them any more, and an idle connection is kept small.
        self.headers = []

    async def refuse(self, error: RestanteError) -> None:
        """Answer the handshake with a problem in place of an upgrade."""
        await self._receive()
        if "websocket.http.response" not in (self.scope.get("extensions") or {}):
            await self._put({"type": "websocket.close", "code": POLICY, "reason": error.code})
            return
        answer = problem(error, as_xml=False)
        await self._put(
            {
                "type": "websocket.http.response.start",
                "status": answer.status,
                "headers": answer.headers,
            }
        )
        await self._put({"type": "websocket.http.response.body", "body": answer.body})

    async def receive(self) -> str | bytes:
        """The next message, text or binary. Raises ``SocketClosed``."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            self._open = False
            raise SocketClosed
        text: str | None = message.get("text")
        if text is not None:
            return text
        data: bytes = message["bytes"]
        return data

    async def send(self, message: str | bytes) -> None:
        """Hand over a message, waiting while too much is on its way already. Raises ``SocketClosed``.

        When it raises, or is cancelled, nothing of the message has been sent.
        """
        if not self._open:
            raise SocketClosed
        kind = "text" if isinstance(message, str) else "bytes"
        await self._put({"type": "websocket.send", kind: message})

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Say good-bye; nothing happens when the other side has left already."""
        if not self._open:
            return
        self._open = False
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except OSError:
            return

    async def _put(self, message: dict[str, Any]) -> None:
        try:
            await self._send(message)
        except OSError as error:
            # As ASGI has it, for sending to who has left.
            self._open = False
            raise SocketClosed from error

    def _hook(self, name: str) -> Any:
        return (self.scope.get("extensions") or {}).get(name)
