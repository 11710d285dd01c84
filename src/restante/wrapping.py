"""What an ASGI application around another one sees to: the lifespan of both, and how the other one may answer.

Servers end their process as soon as they are told how a lifespan has ended: what is closed after that is never closed.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from restante.errors import RestanteError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_RESPONSE: Final = "http.response."
_STARTED: Final = "lifespan.startup.complete"
_NOT_STARTED: Final = "lifespan.startup.failed"
_SHUTDOWN: Final = "lifespan.shutdown"
_ENDED: Final = "lifespan.shutdown.complete"
_ENDED_BADLY: Final = "lifespan.shutdown.failed"


async def live(
    own: contextlib.AbstractAsyncContextManager[Any],
    within: Application,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Have ``own`` open from before ``within`` starts to before it shuts down, which it may only do after that.

    What is under way in ``own`` can so still use what ``within`` has open. An application that knows no lifespan
    (Django raises, as ASGI lets it), or does not wait for its end, is served until the shutdown too. The server is told
    what could not be opened or closed, and what ``within`` raised without having told it; then that is raised.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(own)
        except Exception as error:
            await receive()
            reason = error.detail if isinstance(error, RestanteError) else traceback.format_exc()
            await send({"type": _NOT_STARTED, "message": reason})
            raise
        life = _Life(stack, receive, send)
        try:
            await within(scope, life.hear, life.tell)
        except Exception as error:
            if life.has_ended:
                raise
            if life.has_started:
                life.failures.append(error)
        await life.end()
        for failure in life.failures:
            raise failure


class _Life:
    """What goes between a server and the application within; ``stack`` is closed before either knows of the end."""

    def __init__(self, stack: contextlib.AsyncExitStack, receive: Receive, send: Send) -> None:
        self.failures: list[Exception] = []
        self.has_started = False
        self.has_ended = False
        self._stack = stack
        self._receive = receive
        self._send = send
        self._asked = False
        self._stopping = False

    async def hear(self) -> Message:
        """What the server says."""
        message = await self._receive()
        self._asked = True
        if message["type"] == _SHUTDOWN:
            self._stopping = True
            await self._close()
        return message

    async def tell(self, message: Message) -> None:
        """What the application within says. Of its end, not before the server has asked for it."""
        kind = message["type"]
        if kind == _STARTED:
            self.has_started = True
            await self._send(message)
            return
        if kind == _NOT_STARTED:
            await self._close()
        elif not self._stopping:
            await self.hear()
        self.has_ended = True
        if self.failures:
            kind = _ENDED_BADLY if kind == _ENDED else kind
            traces = ["".join(traceback.format_exception(failure)) for failure in self.failures]
            text = "\n".join([*filter(None, [message.get("message")]), *traces])
            message = {"type": kind, "message": text}
        await self._send(message)

    async def end(self) -> None:
        """Say for the application within what it has not said."""
        if self.has_ended:
            return
        if not self._asked:
            await self.hear()
        if not self.has_started:
            await self.tell({"type": _STARTED})
        await self.tell({"type": _ENDED})

    async def _close(self) -> None:
        try:
            await self._stack.aclose()
        except Exception as error:  # noqa: BLE001 (told to the server)
            self.failures.append(error)


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An application within that knows no lifespan, for what stands alone."""


def plain(scope: Scope) -> Scope:
    """The scope without the ways to answer that cannot be kept: files by their paths, trailers and the like."""
    extensions = scope.get("extensions") or {}
    kept = {name: value for name, value in extensions.items() if not name.startswith(_RESPONSE)}
    return {**scope, "extensions": kept}
