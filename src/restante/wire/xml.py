"""The envelope in XML: the same members as in JSON, for those whose tools speak XML.

    {"max": 10, "settle": [{"lease": "Ab", "outcome": "ack"}]}

    <receive xmlns="urn:restante:v1">
      <max>10</max><settle><item><lease>Ab</lease><outcome>ack</outcome></item></settle>
    </receive>

- A member is a child element of its name, a list's entries are ``<item>`` elements, and what has free names
  (``attributes``, ``details``, ``filter``, ``headers``) has ``<entry name="region">eu</entry>`` elements;
  ``<region>eu</region>`` is understood.
- A member that is null is left out. Booleans are ``true`` and ``false``.
- Text is kept exactly, white space and all. Between elements white space means nothing; around numbers, booleans and
  fixed words neither.
- Text that XML 1.0 cannot carry (most control characters) goes as base64 of its UTF-8 bytes, and its element says so:
  ``<reply encoding="base64">AAE=</reply>``. Both directions understand it, for any text.
- The name of the outermost element is for people: it is written, and not checked. The namespace may be left out.

Nothing here can be made to fetch, expand or grow: a document type, an entity declaration or a processing instruction
ends the parse at once, and so do too many elements or too deep a nesting.
"""

from __future__ import annotations

import base64
import binascii
import functools
import math
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn, TypeVar
from xml.parsers import expat

import msgspec
from msgspec import inspect

from restante.errors import Malformed
from restante.wire.choices import explained

T = TypeVar("T")

NAMESPACE: Final = "urn:restante:v1"
PROBLEM_NAMESPACE: Final = "urn:ietf:rfc:7807"
"""Problem details keep the namespace of the first RFC that had them (RFC 9457, appendix B)."""
DEPTH: Final = 32
ELEMENTS: Final = 200_000

_FREE_NAMED: Final = frozenset({"attributes", "details", "filter", "headers"})
_ENCODINGS: Final = frozenset({"utf-8", "utf-16", "us-ascii", "iso-8859-1"})
_SPACE: Final = " \t\r\n"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*", re.ASCII)
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPECIAL: Final = re.compile('[&<>"\r\n\t]')
# A bare CR would be read as LF (XML 1.0, section 2.11), and in an attribute LF and tab as a space (section 3.3.3).
_IN_TEXT: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_IN_ATTRIBUTE: Final = {**_IN_TEXT, '"': "&quot;", "\n": "&#10;", "\t": "&#9;"}


def is_xml_text(text: str) -> bool:
    """Whether XML 1.0 can carry the text as it is."""
    return _NOT_XML.search(text) is None


def encode(value: object, root: str, namespace: str = NAMESPACE) -> bytes:
    """A JSON-like value (dict, list, str, int, float, bool, None) as a document whose outermost element is ``root``.

    ``ValueError`` for what has no form in XML: a member name that is no XML name, a null within a list, a lone
    surrogate, a number that is not finite.
    """
    out = ['<?xml version="1.0" encoding="UTF-8"?>\n']
    _write(out, _checked_name(root), f' xmlns="{namespace}"', value)
    return "".join(out).encode()


def _write(out: list[str], name: str, attributes: str, value: object) -> None:
    if isinstance(value, str):
        if not is_xml_text(value):
            attributes += ' encoding="base64"'
            value = base64.b64encode(value.encode()).decode()
        out.append(f"<{name}{attributes}>{_escape(value, _IN_TEXT)}</{name}>")
    elif isinstance(value, dict | list):
        out.append(f"<{name}{attributes}>")
        if isinstance(value, list):
            _write_items(out, value)
        elif name in _FREE_NAMED:
            _write_entries(out, value)
        else:
            _write_members(out, value)
        out.append(f"</{name}>")
    elif value is None:
        out.append(f"<{name}{attributes}/>")
    else:
        out.append(f"<{name}{attributes}>{_scalar(value)}</{name}>")


def _write_members(out: list[str], value: Mapping[str, object]) -> None:
    for name, member in value.items():
        if member is not None:
            _write(out, _checked_name(name), "", member)


def _write_entries(out: list[str], value: Mapping[str, object]) -> None:
    for name, member in value.items():
        if not is_xml_text(name):
            raise ValueError(f"XML cannot carry the name {name!r}")
        if member is not None:
            _write(out, "entry", f' name="{_escape(name, _IN_ATTRIBUTE)}"', member)


def _write_items(out: list[str], value: list[object]) -> None:
    for item in value:
        if item is None:
            raise ValueError("XML has no form for a null within a list")
        _write(out, "item", "", item)


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    raise ValueError(f"XML has no form for {value!r}")


def _escape(text: str, table: Mapping[str, str]) -> str:
    return _SPECIAL.sub(lambda match: table.get(match[0], match[0]), text)


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be an element's name")
    return name


def decode(data: bytes, type: type[T]) -> T:
    """The value of ``type`` (a ``msgspec.Struct``, or a list or dict of such) in the document.

    ``Malformed``, with line and column, for what is not well formed, not allowed here or not of the type.
    """
    root = _Reader().read(data)
    hashable: Any = type
    value = _value(root, _type_info(hashable))
    try:
        return msgspec.convert(value, type, strict=False)
    except msgspec.ValidationError as error:
        what, _, path = explained(error, type).partition(" - at ")
        root.locate(path.strip("`")).refuse(f"is not as expected: {what}")


class _Element:
    """One element, once it is parsed. ``line`` and ``column`` count from 1."""

    __slots__ = ("attributes", "children", "column", "line", "name", "text")

    def __init__(self, name: str, attributes: dict[str, str], line: int, column: int) -> None:
        self.name = name
        self.attributes = attributes
        self.line = line
        self.column = column
        self.children: list[_Element] = []
        self.text: list[str] = []

    @property
    def member(self) -> str:
        """The member it stands for in an object: an entry may be called anything."""
        return self.attributes.get("name", "") if self.name == "entry" else self.name

    def refuse(self, what: str) -> NoReturn:
        raise _malformed(self.line, self.column, f"<{self.name[:128]}> {what}")

    def locate(self, path: str) -> _Element:
        """The element at a path of msgspec's such as ``$.settle[3].lease``, as far down as it can be followed."""
        element = self
        for name, index in re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", path):
            found = [c for c in element.children if not name or c.member == name]
            place = int(index or 0)
            if place >= len(found):
                break
            element = found[place]
        return element

    def content(self) -> str:
        """Its text, exactly."""
        if self.children:
            self.children[0].refuse("is not expected here")
        text = "".join(self.text)
        encoding = self.attributes.get("encoding")
        if encoding is None:
            return text
        if encoding != "base64":
            self.refuse("can only be encoded as base64")
        try:
            return base64.b64decode(text.translate(_NO_SPACE), validate=True).decode()
        except (binascii.Error, ValueError):
            self.refuse("is not base64 of UTF-8")

    def elements(self) -> list[_Element]:
        """The elements in it, and nothing but white space between them."""
        if "".join(self.text).strip(_SPACE):
            self.refuse("has text between its elements")
        if "encoding" in self.attributes:
            self.refuse("is not text, so it has no encoding")
        return self.children


_NO_SPACE: Final = dict.fromkeys(map(ord, _SPACE))


def _malformed(line: int, column: int, what: str) -> Malformed:
    return Malformed(f"XML, line {line}, column {column}: {what}")


class _Reader:
    """A document as elements; ``Malformed`` as soon as it is not one of ours."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.XmlDeclHandler = self._declaration
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.EntityDeclHandler = self._entity
        self._parser.ProcessingInstructionHandler = self._instruction
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.buffer_text = True
        self._open: list[_Element] = []
        self._root: _Element | None = None
        self._elements = 0

    def read(self, data: bytes) -> _Element:
        try:
            self._parser.Parse(data, True)
        except expat.ExpatError as error:
            what = expat.ErrorString(error.code) or "not well formed"
            raise _malformed(error.lineno, error.offset + 1, what) from error
        if self._root is None:
            self._refuse("there is no element")
        return self._root

    def _refuse(self, what: str) -> NoReturn:
        parser = self._parser
        raise _malformed(parser.CurrentLineNumber, parser.CurrentColumnNumber + 1, what)

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        # Python would look for a codec of any other name, and import what it finds.
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            self._refuse("the encoding must be UTF-8, UTF-16, US-ASCII or ISO-8859-1")

    def _doctype(self, *_: object) -> None:
        self._refuse("a document type is not allowed")

    def _entity(self, *_: object) -> None:
        self._refuse("an entity declaration is not allowed")

    def _instruction(self, *_: object) -> None:
        self._refuse("a processing instruction is not allowed")

    def _start(self, qualified: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > ELEMENTS:
            self._refuse(f"more than {ELEMENTS} elements")
        if len(self._open) >= DEPTH:
            self._refuse(f"nested deeper than {DEPTH} elements")
        namespace, _, name = qualified.rpartition(" ")
        if namespace not in ("", NAMESPACE, PROBLEM_NAMESPACE):
            self._refuse(f"the namespace must be {NAMESPACE} or none")
        parser = self._parser
        # Attributes of other namespaces (xsi:schemaLocation, xml:space) are for other tools.
        own = {key: value for key, value in attributes.items() if " " not in key}
        for key in own:
            if key != "encoding" and (key != "name" or name != "entry"):
                self._refuse(f"attribute {key[:128]} is not expected in <{name[:128]}>")
        element = _Element(name, own, parser.CurrentLineNumber, parser.CurrentColumnNumber + 1)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self._root = element
        self._open.append(element)

    def _end(self, _: str) -> None:
        self._open.pop()

    def _text(self, text: str) -> None:
        self._open[-1].text.append(text)


@functools.lru_cache(maxsize=64)
def _type_info(type: Any) -> inspect.Type:
    return inspect.type_info(type)


def _value(element: _Element, type: inspect.Type) -> Any:
    """The element as the JSON-like value that ``type`` expects; ``msgspec.convert`` has the last word."""
    match type:
        case inspect.Metadata():
            return _value(element, type.type)
        case inspect.UnionType():
            return _value(element, _choose(element, type))
        case inspect.StructType():
            return _object(element, type)
        case inspect.DictType():
            return _entries(element, type.value_type)
        case inspect.ListType() | inspect.SetType() | inspect.VarTupleType():
            return _items(element, type.item_type)
        case inspect.StrType():
            return element.content()
        case inspect.AnyType():
            return _anything(element)
        case _:
            return element.content().strip(_SPACE)


def _choose(element: _Element, union: inspect.UnionType) -> inspect.Type:
    """The one of the types that the element can be: by what is in it, and text rather than anything when empty."""
    types = [t.type if isinstance(t, inspect.Metadata) else t for t in union.types]
    lists = (inspect.ListType, inspect.SetType, inspect.VarTupleType)
    objects = (inspect.StructType, inspect.DictType)
    if not element.children:
        preferred = sorted(types, key=lambda t: (isinstance(t, lists + objects), not _is_text(t)))
    elif element.children[0].name == "item":
        preferred = sorted(types, key=lambda t: not isinstance(t, lists))
    else:
        preferred = sorted(types, key=lambda t: not isinstance(t, objects))
    wanted = [t for t in preferred if not isinstance(t, inspect.NoneType)]
    return wanted[0]


def _is_text(type: inspect.Type) -> bool:
    return isinstance(type, inspect.StrType | inspect.AnyType)


def _object(element: _Element, type: inspect.StructType) -> dict[str, Any]:
    members = _members(element, {field.encode_name: field.type for field in type.fields})
    for field in type.fields:
        if field.required and field.encode_name not in members and _may_be_null(field.type):
            members[field.encode_name] = None
    return members


def _may_be_null(type: inspect.Type) -> bool:
    return isinstance(type, inspect.UnionType) and type.includes_none


def _members(element: _Element, types: Mapping[str, inspect.Type]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for child in element.elements():
        name = child.member
        if name in members:
            child.refuse("is given twice")
        members[name] = _value(child, types.get(name, _ANYTHING))
    return members


def _entries(element: _Element, type: inspect.Type) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for child in element.elements():
        if child.name == "entry" and "name" not in child.attributes:
            child.refuse('lacks its name: <entry name="...">')
        name = child.member
        if name in entries:
            child.refuse(f"has the name {name[:128]} a second time")
        entries[name] = _value(child, type)
    return entries


def _items(element: _Element, type: inspect.Type) -> list[Any]:
    items = []
    for child in element.elements():
        if child.name != "item":
            child.refuse("stands where <item> is expected")
        items.append(_value(child, type))
    return items


def _anything(element: _Element) -> Any:
    """Where the type does not say: by what is in the element."""
    if not element.children:
        return element.content()
    if element.children[0].name == "item":
        return _items(element, _ANYTHING)
    return _members(element, {})


_ANYTHING: Final = inspect.AnyType()
