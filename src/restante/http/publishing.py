"""Publishing as it stands in messages, for every way of publishing that speaks JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from restante.errors import Malformed, RestanteError
from restante.model import Appended, Publication
from restante.tracecontext import with_context
from restante.wire.messages import PlaceOut, PublicationItem, PublishedItem

_NONE: Final[Mapping[str, str]] = {}


def to_publication(
    item: PublicationItem, body: bytes | None, context: Mapping[str, str] = _NONE
) -> Publication:
    """What the engine is asked. ``Malformed`` where there is no body.

    ``context`` is the trace context of the request, for what has none of its own.
    """
    if body is None:
        raise Malformed("a notification has a body or a body_base64")
    return Publication(
        body=body,
        queue=item.queue,
        topic=item.topic,
        content_type=item.content_type,
        attributes=with_context(item.attributes, context),
        idempotency_key=item.idempotency_key,
        ordering_key=item.ordering_key,
        collapse_key=item.collapse_key,
        deliver_after_seconds=item.deliver_after_seconds,
        expires_after_seconds=item.expires_after_seconds,
    )


def to_places(appended: Appended) -> list[PlaceOut]:
    """Where it went."""
    return [PlaceOut(queue=place.queue, seq=place.seq) for place in appended.deliveries]


def to_result(result: Appended | RestanteError) -> PublishedItem:
    """One result as it is answered."""
    if isinstance(result, RestanteError):
        return PublishedItem(ok=False, status=result.status, code=result.code, detail=result.detail)
    return PublishedItem(
        ok=True, id=result.id, deliveries=to_places(result), replayed=result.replayed
    )
