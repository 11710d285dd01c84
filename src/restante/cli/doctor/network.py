"""Where the server listens, and the certificate that it shows."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Final

from restante.app import tls_files
from restante.cli.doctor.findings import Case, Finding, failure, ok, warning
from restante.cli.doctor.sqlite import owner
from restante.config import Address
from restante.errors import ConfigurationError
from restante.http.server import bind
from restante.http.tls import read

EXPIRY_DAYS: Final = 14


def addresses(case: Case) -> Finding | None:
    """Whether the addresses can be listened on. While a server has the folder open they are its own."""
    config = case.config
    if case.url is not None or owner(config.data) is not None:
        return None
    named = (config.listen, config.admin_listen, config.grpc_listen, config.grpc_admin_listen)
    wanted = [address for address in named if address is not None]
    for address in wanted:
        if (problem := _problem(address)) is not None:
            return failure(
                "addresses",
                f"cannot listen on {address}: {problem}",
                "stop what listens there (`ss -ltnp` tells), or choose another address",
            )
    return ok("addresses", f"{', '.join(str(address) for address in wanted)} are free")


def _problem(address: Address) -> str | None:
    try:
        bind(address.host, address.port).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def certificate(case: Case) -> Finding | None:
    """Whether the certificate and its key belong together, and for how long the certificate is good."""
    files = tls_files(case.config)
    if files is None:
        return None
    try:
        valid_until = read(files).valid_until
    except ConfigurationError as error:
        return failure("certificate", error.detail, "name a certificate and its own key, in PEM")
    return judge_certificate(files.certificate, valid_until - datetime.datetime.now(datetime.UTC))


def judge_certificate(path: Path, left: datetime.timedelta) -> Finding:
    """Whether so much of its life is enough."""
    advice = "renew it, then send the server SIGHUP: it reads the files again"
    if left <= datetime.timedelta():
        return failure("certificate", f"{path} ended {-left.days:,} days ago or less", advice)
    if left < datetime.timedelta(days=EXPIRY_DAYS):
        return warning("certificate", f"{path} ends within {left.days + 1} days", advice)
    return ok("certificate", f"{path} is good for {left.days:,} days, and the key is its own")


CHECKS: Final = (addresses, certificate)
