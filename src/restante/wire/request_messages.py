"""What is told of a request with an idempotency key."""

from __future__ import annotations

from restante.idempotency import Record
from restante.wire import times
from restante.wire.messages import Answered, text_of


class RequestOut(Answered, kw_only=True):
    """``status`` and what follows are there once it is done; the body only where it was kept and shows no secret."""

    key: str
    state: str
    method: str
    path: str
    since: str
    ended_at: str | None = None
    status: int | None = None
    content_type: str | None = None
    body: str | None = None
    body_base64: str | None = None


def told(key: str, record: Record, *, for_xml: bool = False) -> RequestOut:
    """The message about a request."""
    body: str | None = None
    body_base64: str | None = None
    content_type: str | None = None
    if record.reply is not None and not record.sealed:
        body, body_base64 = text_of(record.reply.body, for_xml=for_xml)
        named = dict(record.reply.headers).get(b"content-type")
        content_type = None if named is None else named.decode("latin-1")
    return RequestOut(
        key=key,
        state=record.state.value,
        method=record.method,
        path=record.path,
        since=times.to_text(record.since_ms),
        ended_at=None if record.ended_at_ms is None else times.to_text(record.ended_at_ms),
        status=record.status or None,
        content_type=content_type,
        body=body,
        body_base64=body_base64,
    )
