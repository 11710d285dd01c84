"""Business documents as real senders make them: many sizes, three encodings, DOCTYPE, CDATA, and some that are broken.

All names are made up. The same seed makes the same documents.
"""

from __future__ import annotations

import codecs
import hashlib
import random
from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import escape

import msgspec

_KINDS: Final = ("order", "invoice", "stock")
_NOTES: Final = (
    "deliver to gate 3",
    "Bitte an die Straßenseite liefern",
    "à l'attention du dépôt",
    "handle with care, 5 < 6 & that is all",
    "ring twice",
)
_GOODS: Final = ("Bolt", "Washer", "Lamp", "Käfig", "Crème", "Cable", "Pallet", "Gasket")
LARGEST_BYTES: Final = 60 * 1024
UNKNOWN_ARTICLE: Final = "A-0000"
"""No client knows it: it is refused again and again until its attempts are used up."""


class Document(msgspec.Struct, frozen=True):
    """One document for one client's queue."""

    number: int
    kind: str
    queue: str
    content: bytes
    content_type: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class Flawed(Exception):
    """A document that cannot be processed: now (``passing``) or ever."""

    def __init__(self, reason: str, *, passing: bool) -> None:
        super().__init__(reason)
        self.passing = passing


def documents(
    count: int, queues: tuple[str, ...], poisoned: str, seed: int = 17
) -> Iterator[Document]:
    """``count`` documents, taking turns among ``queues``; about one in fifteen for ``poisoned`` is broken."""
    chance = random.Random(seed)  # noqa: S311  # documents, not secrets
    for number in range(1, count + 1):
        queue = queues[number % len(queues)]
        kind = chance.choice(_KINDS)
        # Broken ones are spread evenly, so that a short demo has some too.
        flaw = (number // len(queues)) % 15 if queue == poisoned else -1
        yield _document(chance, number, kind, queue, cut=flaw == 4, unknown=flaw == 9)


def _document(
    chance: random.Random, number: int, kind: str, queue: str, *, cut: bool, unknown: bool
) -> Document:
    encoding, label = chance.choice(
        (("utf-8", "UTF-8"), ("utf-8", "UTF-8"), ("utf-16", "UTF-16"), ("latin-1", "ISO-8859-1"))
    )
    head = f'<?xml version="1.0" encoding="{label}"?>\n'
    if chance.random() < 0.2:
        head += f'<!DOCTYPE {kind} SYSTEM "{kind}.dtd">\n'
    # Most are small and a few are large, as it is in life.
    lines = int(10 ** chance.uniform(0, 2.6))
    body = _body(chance, number, kind, lines, unknown=unknown)
    content = _encode(head + body, encoding)
    while len(content) > LARGEST_BYTES:
        lines //= 2
        content = _encode(head + _body(chance, number, kind, lines, unknown=unknown), encoding)
    if cut:
        # Half a transfer: an even length, so that UTF-16 stays whole characters.
        content = content[: len(content) // 4 * 2]
    content_type = (
        "application/xml" if encoding != "latin-1" else f"application/xml; charset={label}"
    )
    return Document(number, kind, queue, content, content_type)


def _body(chance: random.Random, number: int, kind: str, lines: int, *, unknown: bool) -> str:
    buyer = f"Buyer {chance.randint(1, 99)}"
    rows = []
    for line in range(1, lines + 1):
        article = f"A-{chance.randint(1_000, 9_999)}"
        if unknown and line == 1:
            article = UNKNOWN_ARTICLE
        goods = chance.choice(_GOODS)
        amount = chance.randint(1, 500)
        rows.append(
            f'  <line number="{line}"><article>{article}</article><name>{goods}</name>'
            f"<quantity>{amount}</quantity></line>\n"
        )
    note = chance.choice(_NOTES)
    note = f"<![CDATA[{note}]]>" if chance.random() < 0.5 else escape(note)
    return (
        f'<{kind} number="{kind[0].upper()}-{number:06}" currency="EUR">\n'
        f"  <from>Supplier {chance.randint(1, 9)}</from>\n  <to>{buyer}</to>\n"
        f"  <note>{note}</note>\n{''.join(rows)}</{kind}>\n"
    )


def _encode(text: str, encoding: str) -> bytes:
    if encoding == "utf-16":
        # With a byte order mark, whatever the machine's own order.
        return codecs.BOM_UTF16_LE + text.encode("utf-16-le")
    return text.encode(encoding)


def process(content: bytes, content_type: str, attempt: int | None = None) -> str:
    """What a client's own system does with a document: its reply. Raises ``Flawed``.

    A system that is down for a moment at the first ``attempt`` (None: this one is always up).
    """
    text = _decode(content, content_type)
    number = text.partition('number="')[2].partition('"')[0] or "?"
    if not text.rstrip().endswith(">") or text.count("<line ") != text.count("</line>"):
        raise Flawed("the document breaks off", passing=False)
    kind = {"O": "order", "I": "invoice", "S": "stock"}.get(number[:1], "")
    if not text.rstrip().endswith(f"</{kind}>"):
        raise Flawed("the document breaks off", passing=False)
    if UNKNOWN_ARTICLE in text:
        raise Flawed(f"article {UNKNOWN_ARTICLE} is not known here", passing=True)
    if number.endswith("7") and attempt == 1:
        raise Flawed("the stock system is down for a moment", passing=True)
    return f'<accepted number="{number}"/>'


def _decode(content: bytes, content_type: str) -> str:
    if content.startswith(codecs.BOM_UTF16_LE):
        return content[2:].decode("utf-16-le", "replace")
    charset = content_type.partition("charset=")[2] or "utf-8"
    return content.decode(charset, "replace")
