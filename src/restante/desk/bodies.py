"""A body as people read it: XML and JSON indented and coloured, other text as it is, bytes in hexadecimal.

What is shown was written by somebody else, perhaps to do harm. Nothing is parsed that could be made to load, expand or
nest without end: the text is cut into tokens, each of which is escaped, and what does not fit together is shown as it
came. All of it is linear in what is shown, which is bounded.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
from markupsafe import Markup, escape

SHOWN_BYTES: Final = 128 * 1024
"""Of a text."""
SHOWN_RAW_BYTES: Final = 4 * 1024
"""Of what is no text."""
DEEPEST: Final = 12
"""What is nested deeper is not indented further."""
COLOURED: Final = 15_000
"""What comes after so many parts is not coloured: each is an element to the browser."""
_ROW: Final = 16
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED: Final = re.compile(
    rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})"""
)
_CHARSET: Final = re.compile(r"""charset\s*=\s*"?([A-Za-z0-9._-]{1,40})""", re.IGNORECASE)
_KNOWN: Final = re.compile(
    r"utf-?8|utf-?16(?:-?[lb]e)?|us-ascii|ascii|iso-?8859-?\d{1,2}|latin-?1|windows-?125\d|cp125\d"
    r"|koi8-[ru]|shift_jis|euc-jp|euc-kr|gb2312|gbk|gb18030|big5",
    re.IGNORECASE,
)
"""Encodings of text. Python knows others that are none, or can be made to take long."""
_ODD: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
    "|\r(?!\n)"
)
"""What is not seen, or turns the reading order of what is."""
_TAG: Final = re.compile(
    r"""<(?:/[A-Za-z_:\x80-\U0010ffff][^<>\s"']*\s*"""
    r"""|[A-Za-z_:\x80-\U0010ffff](?:[^<>"']|"[^<"]*"|'[^<']*')*)>"""
)
_NAME: Final = re.compile(r"</?([^\s/>]+)")
# A word without a value is taken too, so that none is looked at again from each of its letters.
_ATTRIBUTE: Final = re.compile(r"""([^\s=<>"'/]++)(?:(\s*+=\s*+)("[^<"]*+"|'[^<']*+'))?+""")
_JSON: Final = re.compile(r'\s+|"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_SPANS: Final = (("<!--", "-->", "note"), ("<![CDATA[", "]]>", "text"), ("<?", "?>", "note"))


class Piece(NamedTuple):
    """``kind`` is how it is coloured: a class of the style sheet, or empty."""

    kind: str
    text: str


class Shown(NamedTuple):
    """``form`` is ``xml``, ``json``, ``text``, ``hex`` or ``empty``; ``markup`` has the first ``shown_bytes`` of it."""

    form: str
    markup: Markup
    shown_bytes: int
    total_bytes: int


def show(content_type: str, body: bytes) -> Shown:
    """The body, of whatever it is said to be, as it can be read."""
    if not body:
        return Shown("empty", Markup(), 0, 0)
    some = body[:SHOWN_BYTES]
    text = _decode(content_type, some, whole=len(some) == len(body))
    if text is None:
        some = body[:SHOWN_RAW_BYTES]
        return Shown("hex", escape("".join(_dump(some))), len(some), len(body))
    form, pieces = _read(text, cut=len(some) < len(body))
    return Shown(form, _markup(pieces), len(some), len(body))


def _read(text: str, *, cut: bool) -> tuple[str, list[Piece]]:
    start = text.lstrip()[:1]
    if start == "<":
        pieces = xml(text, cut=cut)
        if pieces is not None:
            return "xml", pieces
    elif start in ("{", "[") and not cut:
        pieces = json(text)
        if pieces is not None:
            return "json", pieces
    return "text", [Piece("", text)]


def _decode(content_type: str, body: bytes, *, whole: bool) -> str | None:
    """The text it is; None where it is none. At the end of a part, half a character is left out."""
    mark, encoding = next((one for one in _BOMS if body.startswith(one[0])), (b"", ""))
    if not mark:
        declared = _DECLARED.match(body)
        told = _CHARSET.search(content_type)
        name = declared[1].decode() if declared else told[1] if told else ""
        encoding = name if _KNOWN.fullmatch(name) else "utf-8"
    body = body[len(mark) :]
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(body, whole)
    except (LookupError, UnicodeDecodeError):
        return None
    # A text may have a stray control character; what has many is none.
    controls = sum(text.count(chr(code)) for code in range(32) if code not in (9, 10, 12, 13))
    return None if controls > len(text) // 50 + 4 else text


# -- XML -----------------------------------------------------------------------------------------


def xml(text: str, *, cut: bool = False) -> list[Piece] | None:
    """An XML text, indented; None where its tags do not fit together. ``cut``: it may break off."""
    tokens = _tokens(text, cut=cut)
    if tokens is None:
        return None
    pieces: list[Piece] = []
    mixed = [False]
    """For each element that is open: whether it has text in it, which is left as it is."""
    before = ""
    for index, (kind, token) in enumerate(tokens):
        if kind == "space":
            if mixed[-1]:
                pieces.append(Piece("", token))
            continue
        if kind == "text":
            pieces.append(Piece("text" if token.startswith("<![CDATA[") else "", token))
        else:
            depth = len(mixed) - 1 - (kind == "end")
            if pieces and not mixed[-1] and not (kind == "end" and before == "start"):
                pieces.append(Piece("", "\n" + "  " * min(depth, DEEPEST)))
            pieces += _tag(token) if kind != "note" else [Piece("note", token)]
            if kind == "start":
                mixed.append(_has_text(tokens, index + 1))
            elif kind == "end":
                mixed.pop()
        before = kind
    return pieces


def _has_text(tokens: list[tuple[str, str]], at: int) -> bool:
    """Whether what an element begins with is text, so that white space in it may be meant."""
    for kind, _ in tokens[at : at + 2]:
        if kind != "space":
            return kind == "text"
    return False


def _tokens(text: str, *, cut: bool) -> list[tuple[str, str]] | None:
    found: list[tuple[str, str]] = []
    open_elements: list[str] = []
    at = 0
    while at < len(text):
        token = _token(text, at)
        if token is None:
            if not cut:
                return None
            found.append(("text", text[at:]))
            return found
        kind, end = token
        part = text[at:end]
        if kind in ("start", "end"):
            name = _NAME.match(part)
            if name is None:
                return None
            if kind == "start":
                open_elements.append(name[1])
            elif not open_elements or open_elements.pop() != name[1]:
                return None
        elif kind == "text" and not open_elements:
            return None
        found.append((kind, part))
        at = end
    return found if cut or not open_elements else None


def _token(text: str, at: int) -> tuple[str, int] | None:
    """``(kind, where it ends)`` of what begins there; None where it does not end."""
    if text[at] != "<":
        end = text.find("<", at)
        end = len(text) if end < 0 else end
        return ("space" if text[at:end].isspace() else "text"), end
    for begin, until, kind in _SPANS:
        if text.startswith(begin, at):
            end = text.find(until, at + len(begin))
            return None if end < 0 else (kind, end + len(until))
    if text.startswith("<!DOCTYPE", at):
        end, subset = text.find(">", at), text.find("[", at)
        if 0 <= subset < end:
            end = text.find(">", text.find("]", subset))
        return None if end < 0 else ("note", end + 1)
    tag = _TAG.match(text, at)
    if tag is None:
        return None
    if text[at + 1] == "/":
        return "end", tag.end()
    return ("empty" if text[tag.end() - 2] == "/" else "start"), tag.end()


def _tag(token: str) -> Iterator[Piece]:
    at = 0
    for attribute in _ATTRIBUTE.finditer(token):
        if attribute[3] is None:
            continue
        yield Piece("tag", token[at : attribute.start()])
        yield Piece("name", attribute[1])
        yield Piece("tag", attribute[2])
        yield Piece("value", attribute[3])
        at = attribute.end()
    yield Piece("tag", token[at:])


# -- JSON ----------------------------------------------------------------------------------------


def json(text: str) -> list[Piece] | None:
    """A JSON text, indented; its numbers, its escapes and what is given twice as they came. None where it is none."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None
    parts = [part for part in _JSON.findall(text) if not part.isspace()]
    pieces: list[Piece] = []
    depth = 0
    for before, part, after in zip(["", *parts], parts, [*parts[1:], ""], strict=False):
        match part:
            case "]" | "}":
                depth -= 1
                pieces += (
                    [Piece("tag", part)]
                    if before in ("[", "{")
                    else [_line(depth), Piece("tag", part)]
                )
            case "[" | "{":
                depth += 1
                pieces += (
                    [Piece("tag", part)]
                    if after in ("]", "}")
                    else [Piece("tag", part), _line(depth)]
                )
            case ",":
                pieces += [Piece("tag", part), _line(depth)]
            case ":":
                pieces.append(Piece("tag", ": "))
            case _:
                pieces.append(Piece("name" if after == ":" else "value", part))
    return pieces


def _line(depth: int) -> Piece:
    return Piece("", "\n" + "  " * min(depth, DEEPEST))


# -- what a browser is given ---------------------------------------------------------------------


def _markup(pieces: list[Piece]) -> Markup:
    parts = []
    for number, (kind, text) in enumerate(pieces):
        escaped = _ODD.sub(_named, str(escape(text)))
        coloured = kind and number < COLOURED
        parts.append(f'<span class="c-{kind}">{escaped}</span>' if coloured else escaped)
    return Markup("".join(parts))  # noqa: S704  # each text of it is escaped just above


def _named(odd: re.Match[str]) -> str:
    return f'<span class="c-odd">U+{ord(odd[0]):04X}</span>'


def _dump(body: bytes) -> Iterator[str]:
    for at in range(0, len(body), _ROW):
        row = body[at : at + _ROW]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{at:06x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  {letters}\n"
