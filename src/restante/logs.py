"""Where logs go in somebody else's program, as long as it does not say."""

from __future__ import annotations

import structlog


def hand_over() -> None:
    """Have what is logged go to the standard library's ``logging``, unless the program has configured structlog.

    Where it has configured neither, that is warnings and worse, on stderr. structlog by itself would print all there
    is, on stdout.
    """
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.dev.ConsoleRenderer(
                colors=False,
                pad_event_to=0,
                # The default shows the local variables of every frame: keys and bodies among them.
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
