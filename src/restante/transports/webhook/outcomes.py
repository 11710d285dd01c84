"""What an answer means for the delivery and for the endpoint: a table, and nothing else."""

from __future__ import annotations

import enum
import math
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from restante.errors import InvalidInput
from restante.model import REASON_CHARACTERS, Signature, Verb
from restante.transports.webhook.calls import Answered, Failed
from restante.wire.client_signatures import HEADER, from_header

TRANSCRIPT_BODY_BYTES: Final = 4_096
TRANSCRIPT_HEAD_BYTES: Final = 8_192
TRANSCRIPT_TYPE: Final = "message/http"
_THROTTLING: Final = frozenset({429, 502, 503, 504})
_SIGNATURE: Final = HEADER.lower().encode()
_GONE: Final = 410
_CONTENT_TYPE_CHARACTERS: Final = 255
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")


class Endpoint(enum.Enum):
    """How the endpoint fares."""

    WELL = "it answers as it should"
    FAILS = "it does not"
    THROTTLES = "it takes no more for now"
    GONE = "it is to be called no more"


class Verdict(NamedTuple):
    """``retry_after_seconds`` is what the endpoint asked for, 0 where it asked for nothing."""

    verb: Verb
    endpoint: Endpoint
    reason: str = ""
    retry_after_seconds: float = 0.0
    reply: bytes | None = None
    reply_content_type: str = ""
    signature: Signature | None = None


def judge(answer: Answered | Failed, now_ms: int) -> Verdict:
    """What becomes of the delivery, and how the endpoint fares."""
    if isinstance(answer, Failed):
        if not answer.sent:
            # The attempt does not count, and for a moment no other is begun.
            return Verdict(Verb.RELEASE, Endpoint.THROTTLES, answer.reason)
        return Verdict(Verb.NACK, Endpoint.FAILS, answer.reason)
    try:
        signature = _signature(answer)
    except InvalidInput as error:
        return Verdict(Verb.NACK, Endpoint.FAILS, f"HTTP {answer.status}, {error.detail}")
    if 200 <= answer.status < 300:
        content_type = answer.header(b"content-type")[:_CONTENT_TYPE_CHARACTERS]
        reply = answer.body or None
        return Verdict(
            Verb.ACK,
            Endpoint.WELL,
            reply=reply,
            reply_content_type=content_type if reply else "",
            signature=signature,
        )
    reason = f"HTTP {answer.status}"
    if answer.header(b"restante-outcome").lower() == "reject":
        said = _said(answer.body) or reason
        return Verdict(Verb.REJECT, Endpoint.WELL, said, signature=signature)
    if answer.status == _GONE:
        return Verdict(Verb.RELEASE, Endpoint.GONE, reason)
    throttles = answer.status in _THROTTLING
    return Verdict(
        Verb.NACK,
        Endpoint.THROTTLES if throttles else Endpoint.FAILS,
        reason,
        retry_after(answer.header(b"retry-after"), now_ms) if throttles else 0.0,
        transcript(answer),
        TRANSCRIPT_TYPE,
    )


def _signature(answer: Answered) -> Signature | None:
    """The client's own, over an ack or a reject. Raises ``InvalidInput`` for what cannot be one."""
    text = answer.header(_SIGNATURE)
    return from_header(text) if text else None


def retry_after(value: str, now_ms: int) -> float:
    """Seconds from now of a ``Retry-After`` (RFC 9110, section 10.2.3); 0 for what is none, or past."""
    if value.isascii() and value.isdigit():
        # Whoever writes a number of a thousand digits means for ever.
        return float(value) if len(value) < 10 else math.inf
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now_ms / 1_000)


def transcript(answer: Answered) -> bytes:
    """The answer as it was on the wire (RFC 9112, section 10.1), its body's beginning only."""
    head = f"HTTP/{answer.version} {answer.status} {answer.phrase}".encode("latin-1", "replace")
    lines, size = [head], len(head)
    for name, value in answer.headers:
        size += len(name) + len(value)
        if size > TRANSCRIPT_HEAD_BYTES:
            break
        lines.append(name + b": " + value)
    return b"\r\n".join((*lines, b"", cut(answer.body, TRANSCRIPT_BODY_BYTES)))


def cut(data: bytes, most: int) -> bytes:
    """The beginning, up to so many bytes, and not in the middle of a character."""
    if len(data) > most:
        end = most
        while most - end < 4 and data[end] & 0xC0 == 0x80:
            end -= 1
        data = data[: end if most - end < 4 else most]
    return data


def _said(body: bytes) -> str:
    """A body's beginning as a reason for people: one line."""
    text = body[: 4 * REASON_CHARACTERS].decode(errors="replace")
    return _CONTROL.sub(" ", text).strip()[:REASON_CHARACTERS]
