"""``restante operator``: who may sign in to the operators' page."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from restante.cli import output
from restante.cli.remote import Client, remote
from restante.operators import Level

app = typer.Typer(help="Operators: who may sign in to the operators' page.")

Name = Annotated[str, typer.Argument(help="The operator's name.", show_default=False)]
Role = Annotated[Level, typer.Option(help="viewer, operator or admin.")]


@app.command("add")
@remote
async def add(client: Client, name: Name, role: Role = Level.OPERATOR) -> None:
    """Make an account. The password is asked for; from a pipe it is one line of stdin.

    A viewer looks; an operator also redrives and changes settings; an admin also makes keys.

    Example: restante operator add ada --role admin
    """
    made = await client.add_operator(name, role, _password())
    print(f"Operator {made.name} may sign in, as {made.role.value}.")


@app.command("list")
@remote
async def show(client: Client, json: output.Json = False) -> None:
    """The accounts there are."""
    found = await client.operators()
    if json:
        output.emit(found)
        return
    output.table(
        ["operator", "role", "state", "since"],
        [
            (
                one.name,
                one.role.value,
                "disabled" if one.disabled else "active",
                output.clock(one.created_at),
            )
            for one in found
        ],
        empty="There is none yet: `restante operator add NAME` makes one.",
    )


@app.command("passwd")
@remote
async def passwd(client: Client, name: Name) -> None:
    """Give an operator a new password, and sign them out wherever they are."""
    await client.change_operator(name, password=_password())
    print(f"Operator {name} has a new password.")


@app.command("role")
@remote
async def role(
    client: Client,
    name: Name,
    role: Annotated[Level, typer.Argument(help="viewer, operator or admin.", show_default=False)],
) -> None:
    """Give an operator another role, at once."""
    changed = await client.change_operator(name, role=role)
    print(f"Operator {name} is {changed.role.value} now.")


@app.command("disable")
@remote
async def disable(client: Client, name: Name) -> None:
    """Let an operator in no more, and sign them out wherever they are."""
    await client.change_operator(name, disabled=True)
    print(f"Operator {name} is disabled.")


@app.command("enable")
@remote
async def enable(client: Client, name: Name) -> None:
    """Let a disabled operator in again."""
    await client.change_operator(name, disabled=False)
    print(f"Operator {name} is enabled.")


@app.command("sign-out")
@remote
async def sign_out(client: Client, name: Name) -> None:
    """End all visits of an operator: of a computer that was lost, say."""
    await client.change_operator(name, sign_out=True)
    print(f"Operator {name} is signed out everywhere.")


def _password() -> str:
    """Never an argument: other users of the machine can see these."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    text: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return text
