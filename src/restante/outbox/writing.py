"""``publish_in``: a notification that exists if, and only if, the publisher's own transaction is committed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Final, Protocol, TypedDict, Unpack, overload

import msgspec

from restante.errors import BodyTooLarge, InvalidHeader, Malformed, QueueNotFound
from restante.ids import CHANCE_BITS, uuid7
from restante.model import SETTING_BOUNDS
from restante.outbox.connections import way_of
from restante.outbox.statements import (
    COLUMNS,
    WRITTEN,
    Placeholder,
    to_queue,
    to_table,
    to_topic,
)
from restante.written import OUTBOX_PUBLISHER, Written, check_written

BODY_BYTES: Final = int(SETTING_BOUNDS["max_body_bytes"].high)
"""No queue takes more."""


class Awaited(Protocol):
    """A connection whose statements are awaited: asyncpg's, psycopg's and SQLAlchemy's asynchronous ones."""

    def execute(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Run a statement."""


class Options(TypedDict, total=False):
    """What may be said of a notification beside its body. One of ``queue`` and ``topic`` must be."""

    queue: str
    topic: str
    content_type: str
    attributes: Mapping[str, str]
    ordering_key: str
    collapse_key: str
    deliver_after_seconds: float
    expires_after_seconds: float | None
    publisher: str
    table: str | None
    notify: bool


@overload
def publish_in(  # type: ignore[overload-overlap]  # a synchronous one answers at once, and is none of those
    connection: Awaited, body: bytes, **options: Unpack[Options]
) -> Coroutine[Any, Any, str]: ...


@overload
def publish_in(connection: object, body: bytes, **options: Unpack[Options]) -> str: ...


def publish_in(  # noqa: PLR0913  # one parameter for each thing there is to say
    connection: Any,
    body: bytes,
    *,
    queue: str = "",
    topic: str = "",
    content_type: str = "application/octet-stream",
    attributes: Mapping[str, str] = {},
    ordering_key: str = "",
    collapse_key: str = "",
    deliver_after_seconds: float = 0.0,
    expires_after_seconds: float | None = None,
    publisher: str = OUTBOX_PUBLISHER,
    table: str | None = None,
    notify: bool = False,
) -> Any:
    """Publish in the transaction that is open on ``connection``: with its commit or not at all. The notification's id.

    Over an asynchronous connection it is to be awaited. ``connection`` is of psycopg, psycopg2, asyncpg, SQLAlchemy
    (Connection, Session, and their asynchronous kin) or Django, to the PostgreSQL that Restante keeps its store in;
    one that is in no transaction and commits each statement by itself commits this one, too. ``publisher`` is whom
    the receipt names. The durations, in seconds, count from now. A node takes the row over within a fifth of a second
    of the commit, or at once with ``notify=True``; but commits that notify wait for one another in PostgreSQL.

    With ``table`` the row goes into a table of that name (``restante relay --create-table`` makes it) in whatever
    database the connection is to, SQLite by ``sqlite3`` among them, for ``restante relay`` to carry over.

    Raises what publishing over HTTP does, before the statement is run: ``InvalidName``, ``InvalidHeader``,
    ``OutOfBounds``, ``Malformed``; and after it, with nothing written and the transaction whole: ``QueueNotFound``,
    ``BodyTooLarge``. These two a table cannot know, nor the second a topic: the row is refused later, and kept.
    Errors of the database are the library's own. ``TypeError`` for a connection of no known kind.
    """
    way = way_of(connection)
    written = Written(
        id=uuid7(time.time_ns() // 1_000_000, secrets.randbits(CHANCE_BITS)),
        publisher=publisher,
        queue=queue,
        topic=topic,
        content_type=content_type,
        attributes=_json(attributes),
        body=_bytes(body),
        ordering_key=ordering_key,
        collapse_key=collapse_key,
        deliver_after_seconds=float(deliver_after_seconds),
        expires_after_seconds=None
        if expires_after_seconds is None
        else float(expires_after_seconds),
    )
    _check(written)
    values = {name: getattr(written, name) for name in COLUMNS}
    if table is None and queue:
        values["body_bytes"] = len(written.body)

    def statement(place: Placeholder) -> str:
        if table is not None:
            return to_table(place, table)
        return to_queue(place, notify) if queue else to_topic(place, notify)

    answer = way.run(connection, statement, values, table is None)
    if way.waits:
        return _awaited(answer, written, table)
    return _told(answer, written, table)


async def _awaited(answer: Coroutine[Any, Any, Any], written: Written, table: str | None) -> str:
    return _told(await answer, written, table)


def _told(answer: str | None, written: Written, table: str | None) -> str:
    if table is None and answer != WRITTEN:
        if answer is None:
            raise QueueNotFound(f"there is no queue {written.queue} here")
        raise BodyTooLarge(f"queue {written.queue} takes bodies of at most {answer} bytes")
    return written.id


def _check(written: Written) -> None:
    if len(written.body) > BODY_BYTES:
        raise BodyTooLarge(f"no queue takes bodies of more than {BODY_BYTES} bytes")
    check_written(written)
    for text in (written.ordering_key, written.collapse_key):
        _encodable(text)


def _json(attributes: Mapping[str, str]) -> str:
    for text in attributes.values():
        _encodable(text)
    return msgspec.json.encode(dict(attributes)).decode()


def _encodable(text: str) -> None:
    if not isinstance(text, str):
        raise Malformed("attributes and keys are text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidHeader("attributes and keys must be text that UTF-8 can express") from error


def _bytes(body: bytes) -> bytes:
    if not isinstance(body, bytes | bytearray | memoryview):
        raise TypeError(f"a body is bytes, not {type(body).__name__}: encode text yourself")
    return bytes(body)
