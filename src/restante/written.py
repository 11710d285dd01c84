"""What waits in an outbox: notifications written in their publishers' own transactions, and what becomes of them."""

from __future__ import annotations

import hashlib
import math
import re
from typing import Final

import msgspec

from restante.admission import admit
from restante.errors import InvalidName, Malformed, RestanteError
from restante.model import (
    DELAY_SECONDS_MAXIMUM,
    Actor,
    Draft,
    Publication,
    Role,
    check_bounds,
    check_name,
)
from restante.tracecontext import carried

OUTBOX_TRANSPORT: Final = "outbox"
"""What the receipt names as the transport by which such a notification came."""
OUTBOX_PUBLISHER: Final = "outbox"
"""Who published what does not say by whom it is."""
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_SOONEST_EXPIRY_SECONDS: Final = 0.001


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """One row of an outbox. ``attributes`` is a JSON object of strings, as text.

    It may hold anything until it is checked, of whatever types: not every database keeps to its columns'.
    ``waited_seconds`` is for how long it has been there, by the clock of the database it is in, NaN where it does not
    say when it was written. The two durations count from then.
    """

    id: str
    publisher: str
    content_type: str
    body: bytes
    queue: str = ""
    topic: str = ""
    attributes: str = "{}"
    ordering_key: str = ""
    collapse_key: str = ""
    deliver_after_seconds: float = 0.0
    expires_after_seconds: float | None = None
    waited_seconds: float = 0.0


class Refused(msgspec.Struct, frozen=True):
    """A row that cannot be taken in, and why. It stays in the outbox, marked, until somebody sees to it."""

    written: Written
    error: RestanteError


class Moved(msgspec.Struct, frozen=True):
    """What one transaction moved out of the outbox. ``ready`` says whom to wake: how many became ready, by queue.

    ``more`` says that another look may find something at once: that the limit ended it, or rows were left over.
    """

    count: int = 0
    ready: dict[str, int] = {}
    refused: list[Refused] = []
    more: bool = False


def check_written(written: Written) -> Publication:
    """The row as a publisher would have asked for it now, what it has waited taken off its durations.

    One whose expiry has passed meanwhile expires at once, for its receipts to tell of it. Raises ``Malformed``,
    ``InvalidName``, ``InvalidHeader`` or ``OutOfBounds`` for what no queue could take.
    """
    try:
        written = msgspec.convert(msgspec.structs.asdict(written), Written)
    except msgspec.ValidationError as error:
        raise Malformed(f"a column holds what it should not ({error})") from error
    if math.isnan(written.waited_seconds):
        raise Malformed("written_at must be a time")
    if not _UUID.fullmatch(written.id):
        raise InvalidName("the id must be a UUID in lower case")
    check_name("publisher", written.publisher)
    if bool(written.queue) == bool(written.topic):
        raise Malformed("a notification names either a queue or a topic")
    if written.queue:
        check_name("queue", written.queue)
    after, expires = written.deliver_after_seconds, written.expires_after_seconds
    check_bounds("deliver_after_seconds", after, 0, DELAY_SECONDS_MAXIMUM)
    if expires is not None:
        check_bounds(
            "expires_after_seconds", expires, _SOONEST_EXPIRY_SECONDS, DELAY_SECONDS_MAXIMUM
        )
        expires = max(expires - written.waited_seconds, _SOONEST_EXPIRY_SECONDS)
    publication = Publication(
        queue=written.queue,
        topic=written.topic,
        body=written.body,
        content_type=written.content_type,
        attributes=carried(_attributes(written.attributes)),
        ordering_key=written.ordering_key,
        collapse_key=written.collapse_key,
        deliver_after_seconds=max(after - written.waited_seconds, 0.0),
        expires_after_seconds=expires,
    )
    admit(publication)
    return publication


def draft_of(written: Written, publication: Publication, queues: tuple[str, ...]) -> Draft:
    """The row, checked, as it is appended to these queues: the notification has the row's id."""
    return Draft(
        id=written.id,
        queues=queues,
        body=publication.body,
        body_sha256=hashlib.sha256(publication.body).digest(),
        content_type=publication.content_type,
        actor=Actor(written.publisher, Role.PUBLISHER, transport=OUTBOX_TRANSPORT),
        topic=publication.topic,
        attributes=publication.attributes,
        ordering_key=publication.ordering_key,
        collapse_key=publication.collapse_key,
        deliver_after_seconds=publication.deliver_after_seconds,
        expires_after_seconds=publication.expires_after_seconds,
    )


def _attributes(text: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.MsgspecError as error:
        raise Malformed(f"attributes must be a JSON object of strings ({error})") from error
