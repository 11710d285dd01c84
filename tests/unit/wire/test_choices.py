"""The values that are allowed are named, wherever in a message one of several is expected."""

import enum
from typing import Literal

import msgspec
import pytest

from restante.wire.choices import explained


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(msgspec.Struct):
    colour: Colour | None = None
    sizes: tuple[Literal[1, 2], ...] = ()


class Outer(msgspec.Struct):
    inner: Inner | None = None
    many: list[dict[str, Inner]] = []


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            b'{"inner": {"colour": "rot"}}',
            "Invalid enum value 'rot' (it is one of: red, blue) - at `$.inner.colour`",
        ),
        (
            b'{"inner": {"sizes": [1, 3]}}',
            "Invalid enum value 3 (it is one of: 1, 2) - at `$.inner.sizes[1]`",
        ),
        (
            b'{"many": [{"x": {"colour": "rot"}}]}',
            "Invalid enum value 'rot' (it is one of: red, blue) - at `$.many[0][...].colour`",
        ),
        (b'{"inner": 7}', "Expected `object | null`, got `int` - at `$.inner`"),
    ],
)
def test_of_a_message(message, told):
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(message, type=Outer)
    assert explained(caught.value, Outer) == told


class Open(msgspec.Struct, tag="open"):
    pass


class Close(msgspec.Struct, tag="close"):
    pass


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (b'{"type": "opn"}', "Invalid value 'opn' (it is one of: open, close) - at `$.type`"),
        (b'{"type": 7}', "Expected `str` - at `$.type`"),
    ],
)
def test_of_the_kinds_of_messages_there_are(message, told):
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(message, type=Open | Close)
    assert explained(caught.value, Open | Close) == told


def test_of_one_value():
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert("rot", Colour)
    assert explained(caught.value, Colour) == "Invalid enum value 'rot' (it is one of: red, blue)"
