"""``restante check``, ``bench``, ``demo`` and ``version``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from restante import __version__
from restante.cli import output
from restante.cli.failures import complain
from restante.cli.remote import DEFAULT_DATA
from restante.errors import ConfigurationError, StoreRefused


def check(
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help=f"The data folder; else RESTANTE_DATA, else {DEFAULT_DATA}."
        ),
    ] = None,
    json: output.Json = False,
) -> None:
    """Check a store's file from end to end, and whether it adds up, while no server has it open.

    Exit code 0: all is well; 4: a server has it open; 5: it is damaged.
    """
    from restante.stores.sqlite import check_file

    folder = data or Path(os.environ.get("RESTANTE_DATA") or DEFAULT_DATA)
    shown = output.console(stderr=True)
    with shown.status(f"checking {folder}"):
        problems = check_file(folder)
    if json:
        output.emit({"data": str(folder), "problems": problems})
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(StoreRefused.exit_code)
    if not json:
        print(f"{folder}: all is well")


def bench(  # noqa: PLR0913, PLR0917  # one parameter for each flag
    workloads: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORKLOAD", help="W1 to W7, or transports; else all of them."),
    ] = None,
    way: Annotated[
        list[str] | None,
        typer.Option(help="Over this transport (longpoll, websocket, ...); else over all."),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(help="Run W1 against this system too; else against all that are installed."),
    ] = None,
    no_peers: Annotated[bool, typer.Option("--no-peers", help="Against no other.")] = False,
    seconds: Annotated[float, typer.Option(help="How long W1 is measured in each round.")] = 10.0,
    warmup_seconds: Annotated[float, typer.Option(help="How long it runs before.")] = 2.0,
    rounds: Annotated[int, typer.Option(help="How often W1 is measured.")] = 3,
    scale: Annotated[float, typer.Option(help="Sizes of W2 to W7; 0.01 is a quick look.")] = 1.0,
    store: Annotated[
        str, typer.Option(help="sqlite: one server; postgresql: several on one database.")
    ] = "sqlite",
    nodes: Annotated[int, typer.Option(help="How many servers share the database.")] = 2,
    waker: Annotated[
        str, typer.Option(help="What wakes them: notify (PostgreSQL itself), redis, or nats.")
    ] = "notify",
    folder: Annotated[
        Path,
        typer.Option(
            "--output", metavar="DIR", help="For the report; the servers keep their data there too."
        ),
    ] = Path("bench-results"),
) -> None:
    """Run the standard workloads on a server of its own, and write a report.

    Examples:

      restante bench

      restante bench W1 --way websocket --peer redis --rounds 5

      restante bench W1 W2 --store postgresql --waker redis --way websocket --peer sqlqueue
    """
    from restante.bench.options import BenchOptions
    from restante.bench.runner import run

    try:
        options = BenchOptions(
            **({"workloads": tuple(workloads)} if workloads else {}),
            **({"ways": tuple(way)} if way else {}),
            peers=() if no_peers else tuple(peer) if peer else None,
            seconds=seconds,
            warmup_seconds=warmup_seconds,
            rounds=rounds,
            scale=scale,
            store=store,
            nodes=nodes,
            waker=waker,
            output=folder,
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    raise typer.Exit(run(options))


def demo(
    documents: Annotated[int, typer.Option(min=3, help="How many to publish.")] = 1_000,
    rate: Annotated[float, typer.Option(min=1, help="How many to publish a second.")] = 100.0,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="An empty or new folder to keep; else a passing one."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the passing folder.")] = False,
    stay: Annotated[
        bool, typer.Option("--stay", help="Leave the server running until Ctrl-C.")
    ] = False,
) -> None:
    """See it work: a real server, 1,000 documents, three clients of different temper, and the books in the end.

    Exit code 0: every document is accounted for.
    """
    from restante.cli.demo import Plan, run

    plan = Plan(documents=documents, rate=rate, data=data, keep=keep or stay, stay=stay)
    raise typer.Exit(run(plan))


def version(json: output.Json = False) -> None:
    """The version, and those of what matters to a store's safety."""
    import platform

    import apsw

    versions = {
        "restante": __version__,
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
    }
    if json:
        output.emit(versions)
    else:
        print(" ".join(f"{name} {number}" for name, number in versions.items()))
