"""``restante queue``: settings and figures."""

from __future__ import annotations

import asyncio
import typing
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final

import msgspec
import typer

from restante.cli import output
from restante.cli.queue_view import show_queue, shown
from restante.cli.remote import Client, remote
from restante.errors import ConfigurationError, QueueNotFound
from restante.model import SETTING_BOUNDS, Settings
from restante.wire.choices import explained
from restante.wire.messages import QueueWithFigures

app = typer.Typer(help="Queues: their settings and figures.")

Name = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue.", show_default=False)]
_AT_ONCE: Final = 8
_PAGE: Final = 100
_SETTINGS: Final = {field.name: field for field in msgspec.structs.fields(Settings)}


def _settings_help() -> str:
    lines = []
    for name, field in _SETTINGS.items():
        bound = SETTING_BOUNDS.get(name)
        default = f"{field.default:,}" if bound and field.default is not None else field.default
        if bound:
            allowed = f"{bound.low:,} to {bound.high:,}"
        elif field.type is bool:
            default, allowed = str(default).lower(), "true or false"
        else:
            allowed = " or ".join(typing.get_args(field.type))
        if field.default is None:
            default, allowed = "the server's", f"{allowed}, off, or default"
        lines.append(f"  {name} ({default}): {allowed}")
    return "\n\n".join(lines)


@app.command("list")
@remote
async def list_(client: Client, json: output.Json = False) -> None:
    """All queues that the key may see, with their figures."""
    found = [queue async for queue in _all(client)]
    if json:
        output.emit(found)
        return
    output.table(
        ["queue", "owner", "waiting>", "leased>", "acked>", "dead>", "oldest>", "acked/s>"],
        [
            (
                queue.name,
                queue.owner,
                waiting(queue),
                queue.figures.leased,
                queue.figures.acked,
                queue.figures.dead,
                output.age(queue.figures.oldest_age_seconds),
                f"{queue.figures.rates.acked:.1f}",
            )
            for queue in found
        ],
        empty="There is no queue yet: `restante client add NAME` makes one.",
    )


def waiting(queue: QueueWithFigures) -> int:
    """How many are still to be handed out: ready, scheduled, and held by their ordering key."""
    return queue.figures.ready + queue.figures.scheduled + queue.figures.held


async def _all(client: Client) -> AsyncIterator[QueueWithFigures]:
    after: str | None = None
    while True:
        page = await client.queues(limit=_PAGE, after=after)
        for start in range(0, len(page.queues), _AT_ONCE):
            names = [queue.name for queue in page.queues[start : start + _AT_ONCE]]
            for queue in await asyncio.gather(*(client.queue(name) for name in names)):
                yield queue
        after = page.next
        if after is None:
            return


@app.command()
@remote
async def show(client: Client, name: Name, json: output.Json = False) -> None:
    """How a queue fares: figures, rates, who collects, what went wrong, the last hour; and its settings."""
    queue, view, history, consumers = await asyncio.gather(
        client.queue(name),
        client.queue_view(name),
        client.queue_history(name),
        client.queue_consumers(name),
    )
    if json:
        output.emit(
            {
                **msgspec.to_builtins(queue),
                "view": view,
                "history": history,
                "consumers": consumers,
            }
        )
    else:
        show_queue(queue.settings, view, history, consumers)


@app.command(
    "set",
    epilog=f"Settings, their defaults and what they take:\n\n{_settings_help()}",
)
@remote
async def set_(
    client: Client,
    name: Name,
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="SETTING=VALUE", help="See below.", show_default=False),
    ] = None,
    owner: Annotated[str | None, typer.Option(help="The client that may collect from it.")] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make the queue if there is none.")
    ] = False,
    json: output.Json = False,
) -> None:
    """Change a queue's settings. What is not named keeps its value.

    Examples:

      restante queue set acme lease_seconds=120 max_attempts=5

      restante queue set acme.returns --create --owner acme after_dead=park
    """
    settings = parse_settings(pairs or [])
    if not settings and owner is None and not create:
        raise ConfigurationError("nothing to set: give SETTING=VALUE or --owner")
    if not create:
        try:
            await client.queue(name)
        except QueueNotFound as error:
            raise QueueNotFound(f"{error.detail} (--create would make it)") from error
    await client.put_queue(name, owner=owner, settings=settings)
    queue = await client.queue(name)
    if json:
        output.emit(queue)
    else:
        output.details(
            [("queue", queue.name), ("owner", queue.owner)]
            + [(setting, shown(setting, getattr(queue.settings, setting))) for setting in settings]
        )


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Settings of ``NAME=VALUE`` words; hyphens do for underscores.

    A limit may be ``off``, or ``default`` for the server's own.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.replace("-", "_")
        field = _SETTINGS.get(name)
        if not equals or field is None:
            known = ", ".join(_SETTINGS)
            raise ConfigurationError(f"{pair!r} is not SETTING=VALUE with one of {known}")
        try:
            value: object = text
            if field.default is None:
                value = {"off": 0, "default": None}.get(text, text)
            settings[name] = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                f"{name} cannot be {text!r}: {explained(error, field.type)}"
            ) from error
    return settings
