"""``restante webhook``: where a queue's notifications are sent."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from restante.cli import output
from restante.cli.remote import Client, remote
from restante.errors import ConfigurationError
from restante.wire.webhook_messages import WebhookOut

app = typer.Typer(help="Webhooks: have a queue's notifications sent to a URL.")

Queue = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue.", show_default=False)]


@app.command("set")
@remote
async def set_(  # noqa: PLR0913, PLR0917  # one parameter for each option
    client: Client,
    queue: Queue,
    endpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="URL", help="Where to; left out, it stays as it is.", show_default=False
        ),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="To send along; they take the place of all before."
        ),
    ] = None,
    no_headers: Annotated[
        bool, typer.Option("--no-headers", help="Send none of your own.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="For each call: 1 to 15.  [default: 10]")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="Calls at once: 1 to 100.  [default: 4]")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="N", help="Calls a second, or off.  [default: off]")
    ] = None,
    payload: Annotated[
        str | None,
        typer.Option(help="body (the notification itself) or json (an envelope).  [default: body]"),
    ] = None,
    json: output.Json = False,
) -> None:
    """Make or change a queue's webhook. A new one's secret is printed: this once, and alone on stdout.

    Examples:

      restante webhook set acme https://acme.example/inbox > acme.secret

      restante webhook set acme --concurrency 16 --header 'Authorization=Bearer abc'
    """
    settings: dict[str, Any] = {
        name: value
        for name, value in (
            ("timeout_seconds", timeout),
            ("concurrency", concurrency),
            ("payload", payload),
        )
        if value is not None
    }
    if rate is not None:
        settings["rate_per_second"] = _rate(rate)
    headers = {} if no_headers else _headers(header) if header else None
    if endpoint is None:
        endpoint = (await client.webhook(queue)).url
    webhook = await client.put_webhook(queue, endpoint, headers=headers, settings=settings)
    if json:
        output.emit(webhook)
    elif webhook.secret is None:
        _show(webhook)
    else:
        output.note(
            f"Queue {queue} is sent to {webhook.url}. The secret, which is not shown again:"
        )
        print(webhook.secret)
        if sys.stdout.isatty():
            output.note(f"Try it with: restante webhook ping {queue}")


def _headers(pairs: Sequence[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigurationError(f"--header takes NAME=VALUE, not {pair!r}")
        headers[name] = value
    return headers


def _rate(text: str) -> float | None:
    if text == "off":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise ConfigurationError(f"--rate takes a number or off, not {text!r}") from error


@app.command()
@remote
async def show(client: Client, queue: Queue, json: output.Json = False) -> None:
    """A queue's webhook, and how it fares."""
    webhook = await client.webhook(queue)
    if json:
        output.emit(webhook)
    else:
        _show(webhook)


def _show(webhook: WebhookOut) -> None:
    rate = "off" if webhook.rate_per_second is None else f"{webhook.rate_per_second:g}"
    output.details(
        [
            ("queue", webhook.queue),
            ("url", webhook.url),
            ("state", f"{webhook.state} since {output.clock(webhook.since)}"),
            ("reason", webhook.reason),
            ("problem", webhook.problem),
            ("circuit", webhook.circuit),
            ("failures in a row", webhook.consecutive_failures),
            ("last success", output.clock(webhook.last_success_at)),
            ("last error", _last_error(webhook)),
            ("headers", ", ".join(webhook.header_names)),
            ("timeout_seconds", f"{webhook.timeout_seconds:g}"),
            ("concurrency", webhook.concurrency),
            ("rate_per_second", rate),
            ("payload", webhook.payload),
            *(
                (
                    f"secret {secret.id}",
                    f"since {output.clock(secret.created_at)}"
                    + (f", ends {output.clock(secret.ends_at)}" if secret.ends_at else ""),
                )
                for secret in webhook.secrets
            ),
        ]
    )


def _last_error(webhook: WebhookOut) -> str:
    if not webhook.last_error_at:
        return ""
    return f"{output.clock(webhook.last_error_at)}  {webhook.last_error}"


@app.command()
@remote
async def ping(client: Client, queue: Queue, json: output.Json = False) -> None:
    """Have the webhook called now, with a test. Fails when it does not answer with 2xx."""
    pinged = await client.ping_webhook(queue)
    if json:
        output.emit(pinged)
    elif pinged.ok:
        print(f"HTTP {pinged.status} after {pinged.duration_ms} ms")
    else:
        print(f"{pinged.reason} after {pinged.duration_ms} ms")
    if not pinged.ok:
        raise typer.Exit(1)


@app.command()
@remote
async def rotate(
    client: Client,
    queue: Queue,
    end_old: Annotated[
        bool, typer.Option("--end-old", help="Make no new one: end the one that was replaced.")
    ] = False,
    json: output.Json = False,
) -> None:
    """Make a new secret and print it: this once, and alone on stdout. The old one signs too for a day.

    Examples:

      restante webhook rotate acme > acme.secret

      restante webhook rotate acme --end-old
    """
    if end_old:
        webhook = await client.webhook(queue)
        for old in [secret.id for secret in webhook.secrets if secret.ends_at]:
            await client.end_webhook_secret(queue, old)
            output.note(f"Secret {old} is ended.")
        return
    made = await client.rotate_webhook_secret(queue)
    if json:
        output.emit(made)
        return
    output.note(f"Secret {made.id} of queue {queue}, which is not shown again:")
    print(made.secret)


@app.command()
@remote
async def enable(client: Client, queue: Queue) -> None:
    """Call the webhook again, and send what has waited."""
    await client.enable_webhook(queue)
    print(f"The webhook of {queue} is enabled.")


@app.command()
@remote
async def disable(
    client: Client,
    queue: Queue,
    reason: Annotated[str, typer.Option(help="For people.")] = "",
) -> None:
    """Call the webhook no more until it is enabled. Nothing is lost meanwhile."""
    await client.disable_webhook(queue, reason)
    print(f"The webhook of {queue} is disabled.")


@app.command()
@remote
async def remove(client: Client, queue: Queue) -> None:
    """Forget the webhook. What waits in the queue stays."""
    await client.remove_webhook(queue)
    print(f"The webhook of {queue} is removed.")
