"""Looking at what others have written: whoever it is for or from may, and administrators, whose looks are recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from restante.engine.acts import What
from restante.errors import BodyGone, NotificationNotFound
from restante.model import Actor, Role
from restante.operation import Result
from restante.queries import BodyOf, NotificationById, NotificationRecord

if TYPE_CHECKING:
    from restante.engine.broker import Broker


async def find_notification(broker: Broker, id: str, actor: Actor) -> NotificationRecord:
    """The notification with its deliveries, as far as they are the actor's to see; else ``NotificationNotFound``.

    A client sees what is in its own queues, a publisher what it published, an administrator everything.
    """
    owner = actor.name if actor.role is Role.CLIENT else None
    found = await broker.store.browse(NotificationById(id, owner))
    if (
        found is None
        or (owner is not None and not found.deliveries)
        or (actor.role is Role.PUBLISHER and found.publisher != actor.name)
    ):
        raise NotificationNotFound(f"there is no notification {id[:100]} here")
    return found


async def look_into(broker: Broker, id: str, actor: Actor) -> tuple[str, bytes]:
    """``(content type, body)`` as it was published; ``NotificationNotFound``, or ``BodyGone`` when no longer kept.

    An administrator's look is recorded before the body is handed out: nobody sees it unrecorded.
    """
    found = await find_notification(broker, id, actor)
    body = await broker.store.browse(BodyOf(id, actor.name if actor.role is Role.CLIENT else None))
    if body is None or body.content is None:
        raise BodyGone(f"the body of notification {id[:100]} is no longer kept")
    if actor.role is Role.ADMIN:
        queues = ", ".join(sorted({delivery.queue for delivery in found.deliveries}))
        queue = found.deliveries[0].queue if len(found.deliveries) == 1 else ""
        await broker.acts.record(
            actor, What.BODY_VIEWED, queue=queue, subject=id, details={"queues": queues}
        )
    return body.content_type, body.content


async def look_into_result(broker: Broker, id: str, actor: Actor) -> Result | None:
    """What an operator sees of an operation's result; None where it has none. ``OperationNotFound``.

    The look is recorded before, like one at a body.
    """
    operation = (await broker.operations.find(id, actor)).operation
    if operation.result is not None:
        await broker.acts.record(
            actor, What.RESULT_VIEWED, queue=operation.asked.queue, subject=operation.id
        )
    return operation.result
