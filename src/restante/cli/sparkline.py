"""A small chart of a few numbers, in characters of a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_BARS: Final = "▁▂▃▄▅▆▇█"
_NOTHING: Final = "·"


def sparkline(values: Sequence[float]) -> str:
    """One character a number, as high as it is of the highest; a dot for none."""
    top = max(values, default=0)
    return "".join(
        _BARS[min(len(_BARS) - 1, int(value / top * len(_BARS)))] if value > 0 else _NOTHING
        for value in values
    )
