"""What commands print: tables and pages for people, JSON for scripts, progress on stderr."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from restante.errors import ConfigurationError
from restante.wire import times
from restante.wire.messages import bytes_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="From this time on: RFC 3339, or ago as in 90s, 15m, 2h, 3d."
    ),
]
Until = Annotated[
    str | None, typer.Option(metavar="TIME", help="Before this time, written the same way.")
]

_WIDE: Final = 400
"""Columns where the output is no terminal: a table in a file or a pipe is never folded."""
_AGO: Final = re.compile(r"(\d+)([smhd])", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# Controls, and what turns the direction of text: names, reasons and bodies come from others.
_UNSAFE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def safe(text: str) -> str:
    """Text that cannot steer a terminal; tabs and line ends stay."""
    return _UNSAFE.sub(lambda found: f"\\x{ord(found[0]):02x}", text.replace("\r\n", "\n"))


def moment(text: str | None) -> str | None:
    """A time of an option as RFC 3339: as given, or so long ago; ``ConfigurationError`` when it is neither."""
    if text is None:
        return None
    if ago := _AGO.fullmatch(text):
        past = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return times.to_text(int(past.timestamp() * 1_000))
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{text!r} is no time: write 2026-01-31T12:00:00Z, or so long ago as 90s, 15m, 2h, 3d"
        ) from error
    return text


def age(seconds: float | None) -> str:
    """A duration for people, to two digits or so."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def clock(text: str) -> str:
    """A time of the wire for people."""
    return text.replace("T", " ").removesuffix("Z")[:19]


def count(number: int, one: str, more: str = "") -> str:
    """So many of something; ``more`` where more than one is not ``one`` with an s."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def content(text: str | None, base64_text: str | None, content_type: str | None) -> str:
    """What somebody sent along, for people: the text, else what it is and how long; empty where there is nothing."""
    data = bytes_of("content", text, base64_text)
    if data is None:
        return ""
    return f"{content_type}, {len(data):,} B, not text (see --json)" if text is None else text


def console(*, stderr: bool = False) -> Console:
    """A console over the stream as it is now."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _WIDE
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def emit(value: Any) -> None:
    """Print one JSON document, indented."""
    encoded = msgspec.json.format(msgspec.json.encode(value), indent=2)
    print(encoded.decode())


def emit_line(value: Any) -> None:
    """Print one JSON document on a line of its own, at once."""
    print(msgspec.json.encode(value).decode(), flush=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print a table. A column's name ending in ``>`` is set to the right. ``empty`` is said of no rows, on stderr."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column.endswith(">")
        drawn.add_column(column.rstrip(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(safe(str(cell))) for cell in row))
    if drawn.row_count:
        console().print(drawn)
    else:
        note(empty)


def details(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair a line. Empty values are left out."""
    shown = [(name, str(value)) for name, value in pairs if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{name:<{width}}  {safe(value)}")


def note(text: str) -> None:
    """Say something on stderr that is not part of what was asked for."""
    print(text, file=sys.stderr)


@contextlib.contextmanager
def progress(what: str, total: int | None) -> Iterator[Progress]:
    """A progress bar on stderr, for its task 0; unseen where stderr is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    shown = console(stderr=True)
    with Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=shown,
        transient=True,
        redirect_stdout=False,
        disable=not sys.stderr.isatty(),
    ) as bar:
        bar.add_task(what, total=total)
        yield bar


def line(bar: Progress, text: str) -> None:
    """Print a line on stdout while a progress bar is shown."""
    if sys.stdout.isatty() and sys.stderr.isatty():
        # One terminal: the bar has to make room.
        bar.console.print(safe(text), soft_wrap=True)
    else:
        print(safe(text))
