"""A body as people read it: XML and JSON indented and coloured, text as it is, anything else in hex. Pure.

Nothing of a body is trusted. What is shown is cut from its front, split into words by patterns that take time in
proportion to their length, and escaped word by word. XML is checked, never built: a document type, and so every entity
of its own, makes it plain text, and so does whatever is not well-formed. What cannot be seen, or would change how its
surroundings are seen (control characters, marks of direction), is shown by its number.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator
from typing import Final, NamedTuple
from xml.parsers import expat

import msgspec
from markupsafe import Markup, escape

SHOWN_BYTES: Final = 128 * 1024
SHOWN_PIECES: Final = 15_000
"""A browser holds so many coloured words without becoming slow."""
HEX_BYTES: Final = 8 * 1024
INDENTED: Final = 24
"""Levels beyond this are not indented further: else a deep document would grow with the square of its depth."""
ODD_SHARE: Final = 0.1
"""With more characters that cannot be seen than this it is no text."""
_SNIFFED: Final = 4_096
_ROW: Final = 16
_ENCODINGS: Final = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "iso-8859-1": "iso-8859-1",
    "latin1": "iso-8859-1",
    "iso-8859-15": "iso-8859-15",
    "windows-1250": "cp1250",
    "windows-1252": "cp1252",
    # Without a mark at its front (RFC 2781, section 4.3).
    "utf-16": "utf-16-be",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
}
"""Those that are understood. Others of Python's codecs do far more than decode."""
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0?\0", "utf-16-le"),
    (b"\0<\0?", "utf-16-be"),
)
"""XML 1.0, appendix F.1."""
_CHARSET: Final = re.compile(r"""charset\s*=\s*"?([A-Za-z0-9._-]{1,20})""", re.IGNORECASE)
_DECLARED: Final = re.compile(
    rb"""<\?xml[^>]{0,100}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,20})["']"""
)
_XML: Final = re.compile(
    r"(?P<comment><!--.*?-->)|(?P<cdata><!\[CDATA\[.*?\]\]>)|(?P<pi><\?.*?\?>)|(?P<end></[^<>]*+>)"
    r"""|(?P<start><[^!?/<>"'][^<>"']*+(?:(?:"[^"]*+"|'[^']*+')[^<>"']*+)*+>)|(?P<text>[^<]++)""",
    re.DOTALL,
)
_IN_TAG: Final = re.compile(
    r"""(?P<tag></?[^\s=/>"']++|/?>)|(?P<value>"[^"]*+"|'[^']*+')|(?P<attribute>[^\s=/>"']++)|(?P<rest>.)""",
    re.DOTALL,
)
_IN_TEXT: Final = re.compile(r"(?P<entity>&[^;&\s]{1,40};)|(?P<text>[^&]++|&)")
_JSON: Final = re.compile(
    r'(?P<space>[ \t\r\n]++)|(?P<string>"(?:[^"\\]|\\.)*+")|(?P<open>[{\[])|(?P<close>[}\]])|(?P<comma>,)'
    r"|(?P<colon>:)|(?P<number>[-+.0-9eE]++)|(?P<word>true|false|null)",
    re.DOTALL,
)
_KEY: Final = re.compile(r"[ \t\r\n]*+:")
_RUNS: Final = re.compile(r"[ -~\t\n]++|.", re.DOTALL)


class Piece(NamedTuple):
    """Some text of one colour. ``kind`` is ``indent`` for what was put in for reading, ``odd`` for what stands for a
    character that cannot be shown, and empty for text without a colour.
    """

    kind: str
    text: str


class Shown(NamedTuple):
    """``form`` is xml, json, text or hex; ``markup`` shows the first ``shown_bytes`` of ``total_bytes``."""

    form: str
    markup: Markup
    shown_bytes: int
    total_bytes: int
    remark: str = ""


def show(content_type: str, body: bytes) -> Shown:
    """The body for a page: at most 128 KiB of it, whatever it is; it raises nothing."""
    media = content_type.partition(";")[0].strip().lower()
    encoding = _encoding(content_type, body)
    text = _text(body[:SHOWN_BYTES], encoding, whole=len(body) <= SHOWN_BYTES)
    declared = media.startswith("text/") or media.endswith(("xml", "json"))
    if text is None or not _is_readable(text, declared):
        part = body[:HEX_BYTES]
        return Shown("hex", escape(_hex(part)), len(part), len(body))
    whole = len(body) <= SHOWN_BYTES
    text = text.replace("\r\n", "\n")
    form, remark, pieces = _pieces(media, text, whole)
    kept: list[Piece] = []
    used = 0
    for piece in pieces:
        if len(kept) >= SHOWN_PIECES:
            break
        kept.append(piece)
        if piece.kind != "indent":
            used += len(piece.text)
    shown = min(len(body), SHOWN_BYTES)
    if len(kept) >= SHOWN_PIECES:
        shown = min(shown, len(text[:used].encode(encoding, "replace")))
    return Shown(form, markup_of(kept), shown, len(body), remark)


def markup_of(pieces: list[Piece]) -> Markup:
    """The pieces as spans with classes, every character of them escaped; odd characters by their numbers."""
    out: list[str] = []
    for kind, text in pieces:
        inner = "".join(_visible(run) for run in _RUNS.findall(text))
        out.append(f'<span class="b-{kind}">{inner}</span>' if kind else inner)
    return Markup("".join(out))  # noqa: S704  # all text in it went through escape


def _pieces(media: str, text: str, whole: bool) -> tuple[str, str, Iterator[Piece]]:
    start = text.lstrip()[:1]
    if media.endswith("xml") or start == "<":
        wrong = _xml_error(text, whole)
        if not wrong:
            return "xml", "", _xml(text)
        if media.endswith("xml"):
            return "text", f"It is shown as plain text: {wrong}.", iter((Piece("", text),))
    elif (media.endswith("json") or start in ("{", "[")) and _is_json(text, whole):
        return "json", "", _json(text)
    return "text", "", iter((Piece("", text),))


# -- bytes ----------------------------------------------------------------------------------------


def _encoding(content_type: str, body: bytes) -> str:
    for mark, encoding in _MARKS:
        if body.startswith(mark):
            return encoding
    if found := _CHARSET.search(content_type):
        return _ENCODINGS.get(found[1].lower(), "utf-8")
    if declared := _DECLARED.match(body):
        named = _ENCODINGS.get(declared[1].decode("ascii").lower(), "utf-8")
        # It was read as ASCII just now.
        return "utf-8" if named.startswith("utf-16") else named
    return "utf-8"


def _text(part: bytes, encoding: str, *, whole: bool) -> str | None:
    """Bytes that are none of the encoding's become lone surrogates; None where that cannot be."""
    try:
        return codecs.getincrementaldecoder(encoding)("surrogateescape").decode(part, whole)
    except UnicodeError:
        return None


def _is_readable(text: str, declared: bool) -> bool:
    first = text[:_SNIFFED]
    if not declared and any("\ud800" <= one <= "\udfff" for one in text):
        return False
    return sum(map(_is_odd, first)) <= ODD_SHARE * len(first)


def _hex(part: bytes) -> str:
    """As ``hexdump -C`` has it."""
    rows = []
    for at in range(0, len(part), _ROW):
        row = part[at : at + _ROW]
        words = " ".join(f"{one:02x}" for one in row)
        letters = "".join(chr(one) if 32 <= one < 127 else "." for one in row)
        rows.append(f"{at:08x}  {words:<{3 * _ROW}} {letters}")
    return "\n".join(rows)


# -- characters -----------------------------------------------------------------------------------


def _is_odd(one: str) -> bool:
    return one not in "\t\n" and unicodedata.category(one) in (
        "Cc",
        "Cf",
        "Cs",
        "Co",
        "Cn",
        "Zl",
        "Zp",
    )


def _visible(run: str) -> str:
    if len(run) > 1 or not _is_odd(run):
        return escape(run)
    return f'<span class="b-odd">{odd_name(run)}</span>'


def odd_name(one: str) -> str:
    """What stands for a character that cannot be shown."""
    number = ord(one)
    if number < 0x20:
        return chr(0x2400 + number)
    if 0xDC80 <= number <= 0xDCFF:
        return f"⟨byte {number - 0xDC00:02X}⟩"
    return f"⟨U+{number:04X}⟩"


# -- XML ------------------------------------------------------------------------------------------


def _xml_error(text: str, whole: bool) -> str:
    """Why it is no well-formed XML as far as it is shown, in words; empty where it is."""

    def refuse(*_: object) -> None:
        raise ValueError

    parser = expat.ParserCreate("utf-8")
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text.encode(), whole)
    except UnicodeEncodeError:
        return "it is not in the encoding that it says"
    except ValueError:
        return "it has a document type, which is not looked into"
    except expat.ExpatError as error:
        return f"it is not well-formed ({expat.ErrorString(error.code)}, line {error.lineno:,})"
    return ""


def _xml(text: str) -> Iterator[Piece]:
    """Elements one below the other, except in those that have text of their own: there white space counts."""
    mixed = [False]
    before = ""
    blank = ""
    position = 0
    for found in _XML.finditer(text):
        if found.start() != position:
            break
        position = found.end()
        kind, token = str(found.lastgroup), found[0]
        if kind == "text" and not token.strip(" \t\r\n"):
            blank = token
            continue
        if kind in ("text", "cdata"):
            mixed[-1] = True
            if blank:
                yield Piece("", blank)
        elif kind == "end":
            inline = mixed.pop() if len(mixed) > 1 else False
            if blank and (inline or before == "start"):
                yield Piece("", blank)
            elif not inline and before != "start":
                yield _indent(len(mixed) - 1)
        elif mixed[-1]:
            yield Piece("", blank)
        elif before:
            yield _indent(len(mixed) - 1)
        blank = ""
        yield from _coloured(kind, token)
        before = kind
        if kind == "start":
            if token.endswith("/>"):
                before = "empty"
            else:
                mixed.append(False)
    yield Piece("", blank + text[position:])


def _coloured(kind: str, token: str) -> Iterator[Piece]:
    if kind in ("start", "end"):
        for found in _IN_TAG.finditer(token):
            part = str(found.lastgroup)
            yield Piece("" if part == "rest" else part, found[0])
    elif kind == "text":
        for found in _IN_TEXT.finditer(token):
            yield Piece("entity" if found.lastgroup == "entity" else "", found[0])
    else:
        yield Piece(kind, token)


def _indent(level: int) -> Piece:
    return Piece("indent", "\n" + "  " * min(level, INDENTED))


# -- JSON -----------------------------------------------------------------------------------------


def _is_json(text: str, whole: bool) -> bool:
    if not whole:
        return True
    try:
        msgspec.json.decode(text.encode("utf-8", "replace"), type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    except RecursionError:
        # Nested too deeply for the check, not for the indenting.
        return True
    return True


def _json(text: str) -> Iterator[Piece]:
    level = 0
    position = 0
    opened = False
    for found in _JSON.finditer(text):
        if found.start() != position:
            break
        position = found.end()
        kind, token = str(found.lastgroup), found[0]
        if kind == "space":
            continue
        if kind == "close":
            level = max(0, level - 1)
            if not opened:
                yield _indent(level)
        elif opened:
            yield _indent(level)
        opened = kind == "open"
        level += opened
        if kind == "string":
            kind = "attribute" if _KEY.match(text, position) else "value"
        yield Piece("" if kind in ("open", "close", "comma", "colon") else kind, token)
        if kind == "comma":
            yield _indent(level)
        elif kind == "colon":
            yield Piece("indent", " ")
    yield Piece("", text[position:])
