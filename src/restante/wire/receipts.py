"""A ledger entry as canonical bytes, and the digest that chains a queue's entries.

The canonical form is the receipt's JSON object with its keys in alphabetical order, no white space, UTF-8, fields at
their default left out, without the two members the service adds on top: ``id`` and ``digest``. Numbers are integers,
so this agrees with RFC 8785. The chain starts from 32 zero bytes: ``digest = SHA-256(previous digest || entry)``.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from restante.errors import ReceiptNotFound
from restante.model import NAME, Actor, Outcome, Receipt, Signature, State
from restante.queries import StoredReceipt
from restante.wire import times

GENESIS: Final = bytes(32)
LABELS: Final = tuple(state.label for state in State)

encode_entry = msgspec.json.Encoder().encode
_decode_entry = msgspec.json.Decoder(Receipt).decode


class Subject(msgspec.Struct, frozen=True, gc=False):
    """What a receipt says of the notification it is about. ``n`` is the store's own number for it."""

    n: int
    id: str
    published_at_ms: int
    body_sha256: bytes
    body_bytes: int


def entry_of(  # noqa: PLR0913 (a receipt has that many facets)
    queue: str,
    number: int,
    subject: Subject,
    seq: int,
    outcome: Outcome,
    state: State,
    *,
    actor: Actor,
    at_ms: int,
    attempt: int = 0,
    fence: int = 0,
    leased_at_ms: int | None = None,
    reason: str = "",
    reply: bytes | None = None,
    reply_content_type: str = "",
    signature: Signature | None = None,
) -> bytes:
    """The canonical bytes of a new receipt."""
    text, base64_text = (None, None) if reply is None else reply_fields(reply)
    signed = {} if signature is None else _signed(signature)
    return encode_entry(
        Receipt(
            at=times.to_text(at_ms),
            attempt=attempt,
            body_bytes=subject.body_bytes,
            body_sha256=subject.body_sha256.hex(),
            fence=fence,
            key_id=actor.key_id,
            leased_at=times.to_text(leased_at_ms) if leased_at_ms is not None else "",
            notification=subject.id,
            number=number,
            outcome=outcome.value,
            principal=actor.name,
            published_at=times.to_text(subject.published_at_ms),
            queue=queue,
            reason=reason,
            remote_address=actor.remote_address,
            reply=text,
            reply_base64=base64_text,
            reply_content_type=reply_content_type,
            seq=seq,
            state=LABELS[state],
            transport=actor.transport,
            **signed,
        )
    )


def _signed(signature: Signature) -> dict[str, str]:
    return {
        "signature": base64.b64encode(signature.value).decode(),
        "signature_algorithm": signature.algorithm,
        "signature_key": signature.key,
        "signed_at": signature.at,
    }


def chain(previous: bytes, entry: bytes) -> bytes:
    """The digest of an entry that follows ``previous``."""
    return hashlib.sha256(previous + entry).digest()


def decode_entry(entry: bytes) -> Receipt:
    """The receipt of its canonical bytes."""
    return _decode_entry(entry)


def reply_fields(reply: bytes) -> tuple[str | None, str | None]:
    """``(reply, reply_base64)``: text where the bytes are UTF-8, else base64."""
    try:
        return reply.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(reply).decode()


def receipt_id(queue: str, number: int) -> str:
    """The public name of a receipt: ``acme~12`` is the twelfth of queue acme's ledger."""
    return f"{queue}~{number}"


def parse_receipt_id(text: str) -> tuple[str, int]:
    """``(queue, number)``; ``ReceiptNotFound`` when the text names none."""
    queue, _, number = text.rpartition("~")
    if (
        not NAME.fullmatch(queue)
        or not number.isascii()
        or not number.isdigit()
        or len(number) > 18
    ):
        raise ReceiptNotFound(f"there is no receipt {text[:160]}")
    return queue, int(number)


def to_json(receipt: StoredReceipt) -> bytes:
    """The receipt as it is served: its canonical entry with ``id`` and ``digest`` put in front."""
    head = (
        f'{{"id":"{receipt_id(receipt.queue, receipt.number)}","digest":"{receipt.digest.hex()}",'
    )
    return head.encode() + receipt.entry[1:]


def receipt_digest(previous: bytes, receipt: Mapping[str, Any]) -> bytes:
    """Recompute a served receipt's digest from its JSON object: what an auditor does.

    >>> receipt_digest(GENESIS, {"id": "a~1", "digest": "...", "number": 1}) == chain(GENESIS, b'{"number":1}')
    True
    """
    return chain(previous, canonical(receipt))


def canonical(receipt: Mapping[str, Any]) -> bytes:
    """The canonical bytes of a served receipt, of its JSON object."""
    members = {name: value for name, value in receipt.items() if name not in ("id", "digest")}
    entry = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return entry.encode()
