"""Where what Restante logs goes: wherever the program has configured structlog to, else to the standard library.

The program's own loggers stay as they are.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from typing import Any, Final, cast

import structlog
from structlog.typing import BindableLogger, Context, FilteringBoundLogger, Processor

_PROCESSORS: Final[list[Processor]] = [
    structlog.stdlib.filter_by_level,
    structlog.contextvars.merge_contextvars,
    structlog.dev.ConsoleRenderer(
        colors=False,
        pad_event_to=0,
        # The default shows the local variables of every frame: keys and bodies among them.
        exception_formatter=structlog.dev.plain_traceback,
    ),
]
_everything: Final[Any] = structlog.make_filtering_bound_logger(logging.NOTSET)


def get_logger(name: str) -> FilteringBoundLogger:
    """The logger of a module: each line goes where structlog is configured to by then.

    Where it is not, the line goes to ``logging.getLogger(name)``, which by default shows warnings and worse, on stderr;
    structlog by itself would print all there is, on stdout.
    """
    bound = cast("type[BindableLogger]", _bound)
    return cast("FilteringBoundLogger", structlog.wrap_logger(name, wrapper_class=bound))


def _bound(name: str, *, processors: Iterable[Processor], context: Context) -> Any:
    """What logs a line; the lines that follow too, where structlog is configured to cache it."""
    if not structlog.is_configured():
        return _handed_over(name)
    configured = structlog.get_config()
    logger = configured["logger_factory"](name)
    return configured["wrapper_class"](logger, processors=processors, context=context)


@functools.cache
def _handed_over(name: str) -> FilteringBoundLogger:
    return cast("FilteringBoundLogger", _everything(logging.getLogger(name), _PROCESSORS, {}))
