"""What a form sends (``application/x-www-form-urlencoded``), within bounds."""

from __future__ import annotations

import urllib.parse
from typing import Final

from restante.errors import Malformed, UnsupportedMedia
from restante.http.request import Request

FORM_BYTES: Final = 2 * 1024 * 1024
"""An edited body may be in it."""
FIELDS: Final = 2_000


class Form:
    """Its fields, each with every value it was given."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self._fields = fields

    def text(self, name: str, most: int = 1_024) -> str:
        """A field's text without the space around it; empty where it was not given. ``Malformed`` when too long."""
        return self.verbatim(name, most).strip()

    def verbatim(self, name: str, most: int) -> str:
        """A field's text as it is."""
        text = self._fields.get(name, [""])[-1]
        if len(text) > most:
            raise Malformed(f"{name} is longer than {most:,} characters")
        return text

    def texts(self, name: str) -> list[str]:
        """All that was given, as of boxes that were ticked."""
        return self._fields.get(name, [])


async def read_form(request: Request) -> Form:
    """The request's form. Raises ``UnsupportedMedia``, ``BodyTooLarge`` and ``Malformed``."""
    media = (request.header(b"content-type") or "").partition(";")[0].strip().lower()
    if media != "application/x-www-form-urlencoded":
        raise UnsupportedMedia("this page takes its own forms")
    body = await request.body(FORM_BYTES)
    try:
        fields = urllib.parse.parse_qs(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=FIELDS
        )
    except ValueError as error:
        raise Malformed("the form cannot be read") from error
    return Form(fields)
