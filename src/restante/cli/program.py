"""The program: its commands put together, and the one place where errors become exit codes.

0  done               1  failed              2  wrong usage or settings   3  port in use
4  store in use       5  store damaged or newer      6  no valid key, or not allowed
7  storage failed while running
"""

from __future__ import annotations

from typing import Annotated

import typer
from typer.core import TyperGroup

from restante import __version__
from restante.cli import (
    acts,
    administration,
    alerts,
    collecting,
    dead,
    groups,
    jobs,
    ledger,
    long_operations,
    maintenance,
    moving,
    nodes,
    operators,
    publishing,
    queues,
    receipts,
    relaying,
    requests,
    serving,
    signing_keys,
    top,
    tracing,
    webhooks,
)
from restante.cli.doctor.command import doctor
from restante.cli.failures import exit_code, report
from restante.errors import RestanteError


class Program(TyperGroup):
    """Commands whose errors are told in a line or two on stderr, and never as a traceback."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer vendors click's Context
        try:
            return super().invoke(ctx)
        except RestanteError as error:
            report(error)
            raise typer.Exit(exit_code(error)) from error


app = typer.Typer(
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Keep notifications until the clients they are for have collected them and signed.",
    epilog="Start with [bold]restante demo[/bold], or [bold]restante serve[/bold] and then"
    " [bold]restante client add NAME[/bold].",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"restante {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Options of the program itself."""


_SERVER = "The server"
_CLIENTS = "Publish and collect"
_OPERATORS = "Look and administer"

app.command(rich_help_panel=_SERVER)(serving.serve)
app.command(rich_help_panel=_SERVER)(maintenance.demo)
app.command(rich_help_panel=_SERVER)(maintenance.check)
app.command(rich_help_panel=_SERVER)(doctor)
app.command(rich_help_panel=_SERVER)(moving.backup)
app.command(rich_help_panel=_SERVER)(moving.restore)
app.command(rich_help_panel=_SERVER)(moving.copy)
app.command(rich_help_panel=_SERVER)(maintenance.bench)
app.command(rich_help_panel=_SERVER)(maintenance.version)

app.command(rich_help_panel=_CLIENTS)(publishing.publish)
app.command(rich_help_panel=_CLIENTS)(relaying.relay)
app.command(rich_help_panel=_CLIENTS)(collecting.receive)
for command in (
    collecting.ack,
    collecting.nack,
    collecting.reject,
    collecting.extend,
    collecting.release,
):
    # A lease token may begin with a hyphen, even with "-h": what is no long option is one.
    app.command(
        rich_help_panel=_CLIENTS,
        context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
    )(command)
app.command(rich_help_panel=_OPERATORS)(top.top)
app.command(rich_help_panel=_OPERATORS)(receipts.status)
app.command(rich_help_panel=_OPERATORS)(tracing.trace)
app.command(rich_help_panel=_OPERATORS)(requests.request)
app.command(rich_help_panel=_OPERATORS)(acts.body)
app.command(rich_help_panel=_OPERATORS)(acts.acts)
app.command(rich_help_panel=_OPERATORS)(nodes.nodes)

for group, name in (
    (queues.app, "queue"),
    (dead.app, "dead"),
    (jobs.app, "jobs"),
    (groups.app, "group"),
    (long_operations.app, "operations"),
    (receipts.app, "receipts"),
    (ledger.app, "ledger"),
    (administration.clients, "client"),
    (administration.keys, "keys"),
    (signing_keys.app, "signing-keys"),
    (administration.subscriptions, "subscriptions"),
    (webhooks.app, "webhook"),
    (operators.app, "operator"),
    (alerts.app, "alerts"),
):
    app.add_typer(group, name=name, rich_help_panel=_OPERATORS, no_args_is_help=True)
