"""How errors are told: what is wrong, what to do about it, and the exit code."""

from __future__ import annotations

import sys
from typing import Final

from restante.errors import Forbidden, RestanteError, StartupError, Unauthenticated

EXIT_FAILED: Final = 1
EXIT_UNAUTHORISED: Final = 6

_HINTS: Final = {
    "unreachable": (
        "Is the server running? Start it with `restante serve`,"
        " or say where it is with --url or RESTANTE_URL."
    ),
    "unexpected_answer": "Is --url (or RESTANTE_URL) the address of a Restante server?",
    "unauthenticated": (
        "Give a key with --key or RESTANTE_KEY. On the server's own machine --data DIR finds"
        " the first administrator's key in DIR/admin.key."
    ),
    "forbidden": "Use a key of another role: `restante keys add` makes one.",
    "outcome_unknown": "Look before you try again, or repeat it with the same --idempotency-key.",
    "port_in_use": "Choose other ports with --listen, --admin-listen and --grpc-listen, or stop that process.",
    "store_in_use": "Stop that process, or choose another folder with --data.",
    "store_full": "Free some space on the server's disk. Collecting goes on meanwhile.",
    "lease_lost": "It was settled, or its lease ran out; it may have been handed out again.",
    "too_many_secrets": "`restante webhook rotate QUEUE --end-old` ends the one that was replaced.",
    "too_many_keys": "See them with `restante keys list`; `restante keys revoke ID` ends one.",
}


def exit_code(error: RestanteError) -> int:
    """The exit code that stands for an error (the list is in ``program``)."""
    if isinstance(error, StartupError):
        return error.exit_code
    if isinstance(error, Unauthenticated | Forbidden):
        return EXIT_UNAUTHORISED
    return EXIT_FAILED


def report(error: RestanteError) -> None:
    """Tell an error on stderr, with what to do about it where that is known."""
    complain(error.detail, _HINTS.get(error.code, ""))


def complain(message: str, hint: str = "") -> None:
    """One line that says what is wrong and, where there is one, a line that says what to do."""
    colour, plain = ("\x1b[1;31m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    print(f"{colour}error:{plain} {message}", file=sys.stderr)
    if hint:
        print(f"       {hint}", file=sys.stderr)
