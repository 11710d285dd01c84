"""What is told of a request with an idempotency key."""

from __future__ import annotations

from restante.idempotency import Record, State
from restante.wire import times
from restante.wire.messages import Answered, text_of


class RequestOut(Answered, kw_only=True):
    """``status`` and what follows are there once it is done; the body only where it was kept and shows no secret.

    Of a publication, a group or an operation, whose key was kept with it, one of ``notification``, ``group`` and
    ``operation`` says which it was, and ``method``, ``path`` and what follows those is left out: it may have come over
    any transport.
    """

    key: str
    state: str
    since: str
    method: str | None = None
    path: str | None = None
    ended_at: str | None = None
    expires_at: str | None = None
    notification: str | None = None
    group: str | None = None
    operation: str | None = None
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
        expires_at=None if record.expires_at_ms is None else times.to_text(record.expires_at_ms),
        status=record.status or None,
        content_type=content_type,
        body=body,
        body_base64=body_base64,
    )


def told_of_made(
    key: str,
    at_ms: int,
    *,
    notification: str | None = None,
    group: str | None = None,
    operation: str | None = None,
) -> RequestOut:
    """The message about a publication, a group or an operation: what was asked for was done in one transaction."""
    at = times.to_text(at_ms)
    return RequestOut(
        key=key,
        state=State.DONE.value,
        since=at,
        ended_at=at,
        notification=notification,
        group=group,
        operation=operation,
    )
