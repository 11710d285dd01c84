"""What a notification must be to be taken in: checked once, here, whatever transport it came by."""

from __future__ import annotations

import re
from typing import Final

from restante.errors import BodyTooLarge, InvalidHeader
from restante.model import (
    ATTRIBUTES_BYTES,
    DELAY_SECONDS_MAXIMUM,
    KEY_CHARACTERS,
    Draft,
    Publication,
    Settings,
    check_bounds,
    check_name,
)

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ATTRIBUTE: Final = re.compile(r"[a-z0-9._-]{1,128}", re.ASCII)
_MEDIA_TYPE: Final = re.compile(r"[!-~]+/[!-~]+(?:\s*;[ -~]*)?", re.ASCII)


def admit(draft: Draft | Publication) -> None:
    """Raise ``InvalidHeader``, ``InvalidName`` or ``OutOfBounds`` for what no queue could take."""
    if draft.topic:
        check_name("topic", draft.topic)
    if draft.content_type != "application/xml":
        check_text("content type", draft.content_type)
        if not _MEDIA_TYPE.fullmatch(draft.content_type):
            raise InvalidHeader("the content type must be a media type such as application/xml")
    if draft.ordering_key:
        check_text("ordering key", draft.ordering_key)
    if draft.collapse_key:
        check_text("collapse key", draft.collapse_key)
    if isinstance(draft, Draft) and draft.idempotency is not None:
        check_text("idempotency key", draft.idempotency.key)
    if draft.deliver_after_seconds:
        check_bounds("deliver_after_seconds", draft.deliver_after_seconds, 0, DELAY_SECONDS_MAXIMUM)
    if draft.expires_after_seconds is not None:
        # A thousandth at least: what is born expired would be accepted and never delivered.
        check_bounds(
            "expires_after_seconds", draft.expires_after_seconds, 0.001, DELAY_SECONDS_MAXIMUM
        )
    if draft.attributes:
        _check_attributes(draft.attributes)


def check_body(body_bytes: int, queue: str, settings: Settings) -> None:
    """Raise ``BodyTooLarge`` where the queue takes no body of this size."""
    if body_bytes > settings.max_body_bytes:
        raise BodyTooLarge(f"queue {queue} takes bodies of at most {settings.max_body_bytes} bytes")


def check_text(what: str, value: str) -> str:
    """The value itself when it is 1 to 255 characters without control characters; else ``InvalidHeader``."""
    if not 1 <= len(value) <= KEY_CHARACTERS:
        raise InvalidHeader(f"{what} must be 1 to {KEY_CHARACTERS} characters long")
    if _CONTROL.search(value):
        raise InvalidHeader(f"{what} must not contain control characters")
    return value


def check_attribute_name(name: str) -> str:
    """The name itself when it is 1 to 128 of ``a-z 0-9 . _ -``; else ``InvalidHeader``."""
    if not _ATTRIBUTE.fullmatch(name):
        raise InvalidHeader("an attribute name is 1 to 128 characters of a-z 0-9 . _ -")
    return name


def _check_attributes(attributes: dict[str, str]) -> None:
    size = 0
    for name, value in attributes.items():
        check_attribute_name(name)
        if _CONTROL.search(value):
            raise InvalidHeader(f"attribute {name} must not contain control characters")
        size += len(name) + len(value.encode())
    if size > ATTRIBUTES_BYTES:
        raise InvalidHeader(f"attributes must be at most {ATTRIBUTES_BYTES} bytes together")
