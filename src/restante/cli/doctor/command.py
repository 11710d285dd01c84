"""``restante doctor``: all checks, and what they found."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from restante.cli import output
from restante.cli.remote import DEFAULT_DATA, Key, find_access
from restante.cli.serving import settings_file
from restante.errors import ConfigurationError

if TYPE_CHECKING:
    from restante.cli.doctor.findings import Finding
    from restante.cli.doctor.proxy import Through

_WAIT_SECONDS: Final = (1.0, 60.0)
_STYLES: Final = {"ok": "green", "warning": "yellow", "failure": "bold red"}


def doctor(  # one parameter for each flag
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The server's settings, as for `restante serve`."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help=f"The data folder; else as the settings have it, else {DEFAULT_DATA}.",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="Ask the server there, too; else RESTANTE_URL."),
    ] = None,
    through: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Try a proxy: a long poll, events and a WebSocket through it."
        ),
    ] = None,
    queue: Annotated[
        str | None, typer.Option(help="The empty queue that is polled for --through.")
    ] = None,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long that poll waits: 1 to 60.")
    ] = 60.0,
    key: Key = None,
    json: output.Json = False,
) -> None:
    """Check what a server stands on, and say what to do: settings, folder, store, disk, clock, wakers, certificate.

    Run it as the user and with the settings (file, RESTANTE_*) of the server. Exit code 0: all is well; 1: there are
    warnings; 2: something does not work.

    Examples:

      restante doctor --config /etc/restante/restante.toml

      restante doctor --through https://restante.example --queue doctor
    """
    from restante.cli.doctor.findings import worst
    from restante.cli.doctor.proxy import Through
    from restante.cli.logs import configure

    tried = None
    if through is not None:
        low, high = _WAIT_SECONDS
        if queue is None or not low <= wait <= high:
            raise ConfigurationError(
                f"--through takes the name of an empty queue with --queue, and --wait of {low:g} to {high:g}"
            )
        access = find_access(through, key, data, os.environ)
        tried = Through(access.url.rstrip("/"), access.key, queue, wait)
    # What is wrong is among the findings: a log would say it again, in other words.
    configure("error", "console")
    asked = (url or os.environ.get("RESTANTE_URL") or "").rstrip("/") or None
    findings = asyncio.run(
        examine(settings_file(config), {"data": data}, os.environ, url=asked, through=tried)
    )
    level = worst(findings)
    if json:
        output.emit({"level": level, "findings": findings})
    else:
        show(findings)
    if level.exit_code:
        raise typer.Exit(level.exit_code)


async def examine(
    file: Path | None,
    flags: Mapping[str, object | None],
    environment: Mapping[str, str],
    *,
    url: str | None = None,
    through: Through | None = None,
) -> list[Finding]:
    """Everything that is found, the settings first: without them nothing else can be looked at."""
    from restante.cli.doctor import (
        clock,
        configuration,
        folder,
        machine,
        network,
        outward,
        proxy,
        server,
        sqlite,
        waker,
    )
    from restante.cli.doctor.findings import Case, carry_out

    began = clock.now()
    config, read = configuration.settings(file, environment, flags)
    findings = [read]
    if config is not None:
        case = Case(config=config, environment=environment, url=url)
        for subject in (configuration, machine, folder, sqlite, network, outward):
            findings += await carry_out(subject.CHECKS, case)
        if not case.on_sqlite and machine.installed("asyncpg"):
            from restante.cli.doctor import postgresql

            findings += await postgresql.examine(case)
        findings += await waker.examine(case)
        findings += await server.examine(case)
    if through is not None:
        findings += await proxy.examine(through)
    findings.append(clock.steadiness(began, clock.now()))
    return findings


def show(findings: list[Finding]) -> None:
    """Print a line for each, what to do below it, and how many there are of each level in the end."""
    from rich.text import Text

    from restante.cli.doctor.findings import Level

    shown = output.console()
    width = max(len(one.subject) for one in findings)
    for one in findings:
        line = Text(f"{one.level:<8} ", style=_STYLES[one.level])
        line.append(f"{one.subject:<{width}}  {output.safe(one.what)}", style="default")
        shown.print(line, soft_wrap=True)
        if one.advice:
            shown.print(Text(f"{'':<{9 + width}}  {output.safe(one.advice)}"), soft_wrap=True)
    failures, warnings = (
        sum(one.level is level for one in findings) for level in (Level.FAILURE, Level.WARNING)
    )
    if failures or warnings:
        shown.print(f"\n{failures} that do not work, {warnings} to look at")
    else:
        shown.print("\nall is well")
