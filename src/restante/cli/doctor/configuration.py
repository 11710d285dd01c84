"""The settings: those that cannot be read, that nobody reads, and that contradict one another."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from restante.cli.doctor.findings import Case, Finding, failure, ok, warning
from restante.config import SETTINGS, Config, load
from restante.errors import ConfigurationError

SUBJECT: Final = "settings"
_PREFIX: Final = "RESTANTE_"
_OTHERS: Final = frozenset({"CONFIG", "URL", "KEY"})
"""What else this program reads of the environment."""
_ALIKE: Final = 0.8


def settings(
    file: Path | None, environment: Mapping[str, str], flags: Mapping[str, object | None]
) -> tuple[Config | None, Finding]:
    """The settings as ``serve`` would have them, and whether they can be read."""
    try:
        config = load(file, environment, flags)
    except ConfigurationError as error:
        return None, failure(SUBJECT, error.detail, "correct it: `restante serve` would not start")
    where = "no file" if file is None else str(file)
    count = sum(f"{_PREFIX}{name.upper()}" in environment for name in SETTINGS)
    return config, ok(SUBJECT, f"{where}, and {count} from the environment")


def variables(case: Case) -> Finding | None:
    """Variables that were most likely meant for a setting: those of other programs are let be."""
    known = {name.upper() for name in SETTINGS} | _OTHERS
    for variable in sorted(case.environment):
        name = variable.removeprefix(_PREFIX)
        if not variable.startswith(_PREFIX) or name in known:
            continue
        if near := difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE):
            return warning(
                SUBJECT,
                f"{variable} is in the environment, and there is no such setting",
                f"if {_PREFIX}{near[0]} is meant, rename it; else take it away",
            )
    return None


def waker_without_nodes(case: Case) -> Finding | None:
    if case.config.waker is None or not case.on_sqlite:
        return None
    return warning(
        SUBJECT,
        "waker is set, and the store is a file that one process owns: there is nobody to wake",
        "take waker away, or set store to the PostgreSQL that the nodes share",
    )


def keys_of_many_nodes(case: Case) -> Finding | None:
    if case.on_sqlite:
        return None
    for name, why in (
        ("secrets_key_file", "webhooks take the same on all"),
        ("ledger_key_file", "whoever checks the log of receipts would have to hold them all"),
    ):
        if getattr(case.config, name) is None:
            return warning(
                SUBJECT,
                f"{name} is not set: each node makes a key of its own, and {why}",
                f"put one file with the key on every node, and name it with {name}",
            )
    return None


def admin_listener(case: Case) -> Finding | None:
    address = case.config.admin_listen
    try:
        host = ipaddress.ip_address(address.host)
    except ValueError:
        return None
    if not (host.is_unspecified or host.is_global):
        return None
    return warning(
        SUBJECT,
        f"the admin listener is at {address}, where others than operators may reach it; it speaks no TLS",
        "set admin_listen to 127.0.0.1:7071, or to an address of a network of your own",
    )


def plain_listener(case: Case) -> Finding | None:
    config = case.config
    try:
        host = ipaddress.ip_address(config.listen.host)
    except ValueError:
        return None
    if config.tls_certificate is not None or config.trusted_proxies or host.is_loopback:
        return None
    return warning(
        SUBJECT,
        f"{config.listen} takes keys without TLS, and no proxy is trusted",
        "set tls_certificate and tls_key, or listen on 127.0.0.1 behind a proxy (docs/proxies.md)",
    )


CHECKS: Final = (
    variables,
    waker_without_nodes,
    keys_of_many_nodes,
    admin_listener,
    plain_listener,
)
