"""What a message cannot be read for, in words that name the values which are allowed where it is one of several."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import msgspec.inspect as shapes

_ONE_OF_SEVERAL: Final = ("Invalid enum value ", "Invalid value ")
"""A value, and the name of a kind of message."""
_STEP: Final = re.compile(r"\.(\w+)|\[[^\]]*\]")


def explained(error: msgspec.ValidationError, expected: Any) -> str:
    """The error of a message that is not of the ``expected`` type."""
    what, at, path = str(error).rpartition(" - at ")
    if not at:
        what, path = path, "$"
    if not what.startswith(_ONE_OF_SEVERAL):
        return str(error)
    found = [shapes.type_info(expected)]
    for step in _STEP.finditer(path):
        found = [inner for one in found for inner in _inside(one, step.group(1))]
    values = dict.fromkeys(str(value) for one in found for value in _values(one))
    return f"{what} (it is one of: {', '.join(values)}){at}{path if at else ''}"


def _inside(shape: shapes.Type, name: str | None) -> Iterator[shapes.Type]:
    """What is under that field; of a list or an object of any names where there is none."""
    match shape:
        case shapes.UnionType(types=types):
            for one in types:
                yield from _inside(one, name)
        case shapes.StructType(tag_field=str(field), tag=tag) if name == field:
            yield shapes.LiteralType((tag,))
        case shapes.StructType(fields=fields):
            yield from (field.type for field in fields if field.encode_name == name)
        case shapes.ListType(item_type=inner) | shapes.VarTupleType(item_type=inner):
            yield inner
        case shapes.DictType(value_type=inner):
            yield inner


def _values(shape: shapes.Type) -> Iterator[object]:
    match shape:
        case shapes.UnionType(types=types):
            for one in types:
                yield from _values(one)
        case shapes.LiteralType(values=values):
            yield from values
        case shapes.EnumType(cls=kind):
            yield from (member.value for member in kind)
