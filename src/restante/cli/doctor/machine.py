"""The machine: how many files may be open, and which packages are there."""

from __future__ import annotations

import importlib.util
import resource
from typing import Final

from restante.cli.doctor.findings import Case, Finding, failure, ok, warning

COMFORTABLE_FILES: Final = 4_096
OWN_FILES: Final = 64
"""What a server has open beside its connections, and some."""


def open_files(case: Case) -> Finding | None:
    # A server raises its own limit as far as it may: the hard one counts.
    return judge_open_files(
        resource.getrlimit(resource.RLIMIT_NOFILE)[1], case.config.connections_per_principal
    )


def judge_open_files(limit: int, connections_per_principal: int) -> Finding:
    """Whether so many open files are enough: each connection is one."""
    subject = "open files"
    if limit == resource.RLIM_INFINITY:
        return ok(subject, "as many as there may be")
    advice = "raise LimitNOFILE of the service (or ulimit -Hn) to 20000 or more"
    if limit < connections_per_principal + OWN_FILES:
        return warning(
            subject,
            f"at most {limit:,}, and one client alone may keep {connections_per_principal:,} connections open",
            f"{advice}, or lower connections_per_principal",
        )
    if limit < COMFORTABLE_FILES:
        return warning(subject, f"at most {limit:,}: so many clients can be connected", advice)
    return ok(subject, f"at most {limit:,}; each client that is connected takes one")


def extras(case: Case) -> Finding | None:
    """Packages that the settings ask for and that are not installed."""
    config = case.config
    asked = {
        "asyncpg": not case.on_sqlite,
        "redis": _speaks(config.waker, "redis", "rediss"),
        "nats": _speaks(config.waker, "nats", "tls"),
        "grpc": config.grpc_listen is not None or config.grpc_admin_listen is not None,
    }
    named = {"asyncpg": "postgres"}
    missing = [
        named.get(module, module)
        for module, wanted in asked.items()
        if wanted and not installed(module)
    ]
    if missing:
        return failure(
            "packages",
            "the settings ask for packages that are not installed",
            f"pip install 'restante[{','.join(missing)}]'",
        )
    return None


def installed(module: str) -> bool:
    """Whether that package is there."""
    return importlib.util.find_spec(module) is not None


def _speaks(url: str | None, *schemes: str) -> bool:
    return url is not None and url.partition("://")[0] in schemes


CHECKS: Final = (open_files, extras)
