"""Commands that talk to a server: where it is, which key to show, and the client they are given."""

from __future__ import annotations

import asyncio
import functools
import inspect
import ipaddress
import os
import typing
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Final, NamedTuple, ParamSpec
from urllib.parse import urlsplit

import typer

from restante.errors import ConfigurationError, Unauthenticated

if TYPE_CHECKING:
    from restante.client import Client
else:
    # Commands name the client in their signatures, and typer reads those: this spares it httpx.
    Client = Any

__all__ = ["Access", "Client", "find_access", "remote"]

P = ParamSpec("P")
DEFAULT_URL: Final = "http://127.0.0.1:7070"
DEFAULT_DATA: Final = Path("restante-data")
_PANEL: Final = "Server and key"

Url = Annotated[
    str | None,
    typer.Option(
        help=f"The server; else RESTANTE_URL, else {DEFAULT_URL}.", rich_help_panel=_PANEL
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        help="The key; else RESTANTE_KEY, else that in the data folder's admin.key.",
        rich_help_panel=_PANEL,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help=f"The server's data folder, to find its admin.key; else RESTANTE_DATA, else {DEFAULT_DATA}.",
        rich_help_panel=_PANEL,
    ),
]


class Access(NamedTuple):
    """Where the server is, and the key to show it."""

    url: str
    key: str


def find_access(
    url: str | None, key: str | None, data: Path | None, environment: Mapping[str, str]
) -> Access:
    """Flags, then the environment, then the administrator's key in the data folder.

    That key is only ever shown to a server on this machine, unless ``--data`` asked for it. Raises
    ``ConfigurationError`` for a URL that is none, ``Unauthenticated`` when there is no key.
    """
    address = url or environment.get("RESTANTE_URL") or DEFAULT_URL
    if "://" not in address:
        address = f"http://{address}"
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"{address} is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"{address} is not a URL such as {DEFAULT_URL}")
    key = key or environment.get("RESTANTE_KEY")
    if not key and (data is not None or _is_this_machine(host)):
        folder = data or Path(environment.get("RESTANTE_DATA") or DEFAULT_DATA)
        key = _read_key(folder / "admin.key", asked_for=data is not None)
    if not key:
        raise Unauthenticated("no key was given")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise Unauthenticated("the key holds characters that no key has")
    return Access(address, key)


def remote(
    function: Callable[Concatenate[Client, P], Awaitable[None]],
) -> Callable[..., None]:
    """Make a command of a coroutine function: it gains --url, --key and --data, and is given a client for them."""
    hints = typing.get_type_hints(function, include_extras=True)
    own = list(inspect.signature(function).parameters.values())[1:]
    parameters = [parameter.replace(annotation=hints[parameter.name]) for parameter in own]
    for name, annotation in (("url", Url), ("key", Key), ("data", Data)):
        parameters.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
            )
        )

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        options: dict[str, Any] = dict(kwargs)
        access = find_access(
            options.pop("url"), options.pop("key"), options.pop("data"), os.environ
        )
        asyncio.run(_with_client(access, lambda client: function(client, *args, **options)))

    vars(command)["__signature__"] = inspect.Signature(parameters)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


async def _with_client(access: Access, work: Callable[[Client], Awaitable[None]]) -> None:
    from restante.client import Client as RealClient

    async with RealClient(access.url, access.key) as client:
        await work(client)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_key(path: Path, *, asked_for: bool) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        if asked_for:
            why = error.strerror if isinstance(error, OSError) else "not text"
            raise Unauthenticated(f"cannot read {path}: {why}") from error
        return ""
