"""Alerts as notifications in a queue of Restante itself: kept until an operator's system has signed for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from restante.alerting import Message
from restante.errors import RestanteError
from restante.model import SYSTEM, Actor, Appended, Publication
from restante.wire import alert_messages

Publish = Callable[[Publication, Actor], Awaitable[Appended]]


class QueueSender:
    """``publish`` is the broker's."""

    def __init__(self, queue: str, publish: Publish) -> None:
        self._queue = queue
        self._publish = publish

    async def send(self, message: Message) -> str | None:
        if {notice.alert.queue for notice in message.notices} == {
            self._queue
        } and not message.left_out:
            # Of this queue itself alone: what is published here of it could raise the next one, without end.
            return None
        publication = Publication(
            queue=self._queue,
            body=alert_messages.to_json(message),
            content_type="application/json",
            attributes={"type": alert_messages.TYPE},
            # However often it has to be sent it is there once.
            idempotency_key=message.id,
        )
        try:
            await self._publish(publication, SYSTEM)
        except RestanteError as error:
            return f"{error.code}: {error.detail}"
        return None
