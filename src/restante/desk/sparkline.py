"""A small chart of a few numbers as SVG, drawn on the server: for tables, and for browsers without scripts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

WIDTH: Final = 96
HEIGHT: Final = 20
_PAD: Final = 1.5


def sparkline(values: Sequence[int], label: str) -> Markup:
    """The numbers as a line over a filled area; ``label`` is what it says to those who do not see it."""
    top = max(values, default=0)
    if len(values) < 2 or top == 0:
        middle = HEIGHT - _PAD
        line = f"M0 {middle}H{WIDTH}"
        area = ""
    else:
        step = WIDTH / (len(values) - 1)
        scale = (HEIGHT - 2 * _PAD) / top
        points = [
            f"{index * step:.1f} {HEIGHT - _PAD - value * scale:.1f}"
            for index, value in enumerate(values)
        ]
        line = "M" + "L".join(points)
        area = f"{line}V{HEIGHT}H0Z"
    return Markup(  # numbers alone go in unescaped; the label is an argument
        '<svg class="sparkline" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<path class="area" d="{}"/><path class="line" d="{}"/></svg>'
    ).format(WIDTH, HEIGHT, label, area, line)
