"""The frames of the WebSocket subprotocol: JSON objects told apart by ``type``.

In ``restante.v1`` each frame is a text message, and a body stands in it as it does in HTTP: ``body`` where its bytes
are UTF-8, else ``body_base64``. In ``restante.v1.binary`` each frame is a binary message: the length of the JSON
object in four bytes (big-endian), the object, and then the bodies as they are, one behind the other in the order of
their items, each of which gives its length as ``body_bytes`` (of a reply: ``reply_bytes``).

``ref`` is the client's own mark for a frame; what answers that frame bears the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from restante.errors import Malformed, RestanteError
from restante.wire.choices import explained
from restante.wire.messages import (
    Answered,
    Asked,
    NotificationOut,
    PublicationItem,
    PublishedItem,
    SettledItem,
    SignatureIn,
    bytes_of,
)

TEXT: Final = "restante.v1"
BINARY: Final = "restante.v1.binary"
REF_CHARACTERS: Final = 128
_LENGTH_BYTES: Final = 4


# -- what a client sends ------------------------------------------------------------------------


class ClientFrame(Asked, tag_field="type", kw_only=True):
    ref: str = ""


class Credit(ClientFrame, tag="credit", kw_only=True):
    """Attaches the connection to a queue, and says how much may be unsettled from now on.

    ``queue`` may be left out where the address names one. ``lease_seconds`` is for what is leased from now on.
    """

    queue: str = ""
    messages: int
    bytes: int | None = None
    lease_seconds: float | None = None


class LeaseItem(Asked, kw_only=True):
    lease: str


class AckItem(LeaseItem, kw_only=True):
    reply: str | None = None
    reply_base64: str | None = None
    reply_bytes: int | None = None
    reply_content_type: str = ""
    signature: SignatureIn | None = None


class NackItem(LeaseItem, kw_only=True):
    reason: str = ""
    retry_after: float | None = None
    signature: SignatureIn | None = None


class RejectItem(LeaseItem, kw_only=True):
    reason: str = ""
    signature: SignatureIn | None = None


class ExtendItem(LeaseItem, kw_only=True):
    lease_seconds: float | None = None


class Ack(ClientFrame, tag="ack", kw_only=True):
    items: list[AckItem]


class Nack(ClientFrame, tag="nack", kw_only=True):
    items: list[NackItem]


class Reject(ClientFrame, tag="reject", kw_only=True):
    items: list[RejectItem]


class Extend(ClientFrame, tag="extend", kw_only=True):
    items: list[ExtendItem]


class Release(ClientFrame, tag="release", kw_only=True):
    items: list[LeaseItem]


class FramedPublication(PublicationItem, kw_only=True):
    body_bytes: int | None = None


class Publish(ClientFrame, tag="publish", kw_only=True):
    notifications: list[FramedPublication]


SettleFrame = Ack | Nack | Reject | Extend | Release
AnyClientFrame = Credit | Ack | Nack | Reject | Extend | Release | Publish


# -- what the service sends ---------------------------------------------------------------------


class ServerFrame(Answered, tag_field="type", kw_only=True):
    pass


class FramedNotification(NotificationOut, kw_only=True):
    body_bytes: int | None = None


class Notifications(ServerFrame, tag="notifications", kw_only=True):
    """What was leased to this connection, of one queue."""

    queue: str
    notifications: Sequence[NotificationOut]


class Settled(ServerFrame, tag="settled", kw_only=True):
    """What came of an ack, nack, reject, extend or release frame: a result for each item, in their order."""

    ref: str = ""
    items: list[SettledItem]


class Published(ServerFrame, tag="published", kw_only=True):
    """What came of a publish frame: a result for each notification, in their order."""

    ref: str = ""
    results: list[PublishedItem]


class Error(ServerFrame, tag="error", kw_only=True):
    """Nothing was done of the frame that it answers; codes and statuses are those of HTTP."""

    ref: str = ""
    code: str
    status: int
    detail: str
    bounds: dict[str, Any] | None = None


class Drain(ServerFrame, tag="drain", kw_only=True):
    """The service goes out of operation: settle what you hold, close, and come back after that time."""

    reconnect_after_seconds: float


AnyServerFrame = Notifications | Settled | Published | Error | Drain


# -- reading and writing ------------------------------------------------------------------------

_decode: Callable[[str | bytes], AnyClientFrame] = msgspec.json.Decoder(AnyClientFrame).decode
_encode = msgspec.json.Encoder().encode


class _Ref(msgspec.Struct):
    ref: str = ""


_decode_ref = msgspec.json.Decoder(_Ref).decode


class Unreadable(Exception):
    """A message that is no frame: why, and its mark where even so that could be found."""

    def __init__(self, detail: str, ref: str = "") -> None:
        super().__init__(detail)
        self.error = Malformed(detail)
        self.ref = ref


class Incoming(NamedTuple):
    """A client's frame, and for each of its items the raw body or reply (None: it has none)."""

    frame: AnyClientFrame
    parts: Sequence[bytes | None]


def error_of(error: RestanteError, ref: str) -> Error:
    """The frame that tells of an error."""
    return Error(
        ref=ref,
        code=error.code,
        status=error.status,
        detail=error.detail,
        bounds=getattr(error, "bounds", None),
    )


def read(message: str | bytes, subprotocol: str) -> Incoming:
    """A client's message as a frame. ``Unreadable`` when it is none."""
    if subprotocol == TEXT:
        if not isinstance(message, str):
            raise Unreadable(f"{TEXT} has text messages only; {BINARY} is the other way")
        frame = _frame(message)
        try:
            return Incoming(frame, [_written(item) for item in _items(frame)])
        except Malformed as error:
            raise Unreadable(error.detail, frame.ref) from error
    if isinstance(message, str):
        raise Unreadable(f"{BINARY} has binary messages only; {TEXT} is the other way")
    head, rest = _split(message)
    frame = _frame(head)
    parts: list[bytes | None] = []
    try:
        for item in _items(frame):
            part, rest = _cut(item, rest)
            parts.append(part)
    except Malformed as error:
        raise Unreadable(error.detail, frame.ref) from error
    if rest:
        raise Unreadable(f"{len(rest)} bytes are left over behind the bodies", frame.ref)
    return Incoming(frame, parts)


def write(frame: AnyServerFrame, subprotocol: str, bodies: Sequence[bytes] = ()) -> str | bytes:
    """A frame as a message. In ``restante.v1.binary`` the bodies follow, whose lengths its items give."""
    head = _encode(frame)
    if subprotocol == TEXT:
        return head.decode()
    return b"".join((len(head).to_bytes(_LENGTH_BYTES, "big"), head, *bodies))


def _frame(data: str | bytes) -> AnyClientFrame:
    try:
        frame = _decode(data)
    except msgspec.ValidationError as error:
        raise Unreadable(
            f"not a frame that is expected here: {explained(error, AnyClientFrame)}", _ref(data)
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(f"not JSON: {error}") from error
    except RecursionError as error:
        raise Unreadable("the JSON is nested too deeply") from error
    if len(frame.ref) > REF_CHARACTERS:
        raise Unreadable(f"a ref is at most {REF_CHARACTERS} characters long")
    return frame


def _ref(data: str | bytes) -> str:
    try:
        return _decode_ref(data).ref[:REF_CHARACTERS]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _items(frame: AnyClientFrame) -> Sequence[Any]:
    match frame:
        case Publish():
            return frame.notifications
        case Ack():
            return frame.items
        case _:
            return ()


def _written(item: AckItem | FramedPublication) -> bytes | None:
    if isinstance(item, AckItem):
        name, length = "reply", item.reply_bytes
        part = bytes_of(name, item.reply, item.reply_base64)
    else:
        name, length = "body", item.body_bytes
        part = bytes_of(name, item.body, item.body_base64)
    if length is not None:
        raise Malformed(f"{name}_bytes is for {BINARY}; here it is {name} or {name}_base64")
    return part


def _split(message: bytes) -> tuple[bytes, memoryview]:
    length = int.from_bytes(message[:_LENGTH_BYTES], "big")
    end = _LENGTH_BYTES + length
    if len(message) < _LENGTH_BYTES or len(message) < end:
        raise Unreadable("the message is shorter than its first four bytes say")
    return message[_LENGTH_BYTES:end], memoryview(message)[end:]


def _cut(item: AckItem | FramedPublication, rest: memoryview) -> tuple[bytes | None, memoryview]:
    if isinstance(item, AckItem):
        name, length, texts = "reply", item.reply_bytes, (item.reply, item.reply_base64)
    else:
        name, length, texts = "body", item.body_bytes, (item.body, item.body_base64)
    if texts != (None, None):
        raise Malformed(f"in {BINARY} a {name} stands behind the frame, with its {name}_bytes")
    if length is None:
        return None, rest
    if not 0 <= length <= len(rest):
        raise Malformed(f"{name}_bytes is {length}, and {len(rest)} bytes are left")
    return bytes(rest[:length]), rest[length:]
