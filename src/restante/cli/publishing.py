"""``restante publish``: one file or many, to a queue or a topic."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from restante.cli import files, output
from restante.cli.failures import EXIT_FAILED, complain
from restante.cli.receipts import tell_deliveries
from restante.cli.remote import Client, remote
from restante.cli.waiting import wait_for
from restante.errors import ConfigurationError, InvalidInput, RestanteError
from restante.model import Publication
from restante.outcomes import Requirement, Result

if TYPE_CHECKING:
    from restante.client.answers import NotificationStatus, Published, PublishResult

_BATCH: Final = 200
_BATCH_BYTES: Final = 4 * 1024 * 1024
_UNMET: Final = {
    Result.PENDING: "the time is up, and not as many have signed as are required",
    Result.FAILED: "not as many can sign any more as are required",
}


@remote
async def publish(  # noqa: PLR0913, PLR0917  # one parameter for each flag
    client: Client,
    target: Annotated[
        str, typer.Argument(metavar="QUEUE", help="The queue (with --topic: topic).")
    ],
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Files, folders of files, or - for stdin.", show_default=False
        ),
    ],
    topic: Annotated[
        bool, typer.Option("--topic", help="Publish to a topic: to all queues subscribed to it.")
    ] = False,
    content_type: Annotated[
        str | None, typer.Option(help="Else by the file's name and first bytes.")
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Can be given many times.")
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            help="Publish at most once under this key. For many files put {name} or {sha256} into it."
            " Without it each file gets a random one."
        ),
    ] = None,
    ordering_key: Annotated[
        str | None, typer.Option(help="Deliver those of one key one after the other.")
    ] = None,
    collapse_key: Annotated[
        str | None, typer.Option(help="Supersede earlier ones of this key that still wait.")
    ] = None,
    deliver_after: Annotated[
        float, typer.Option(metavar="SECONDS", help="Not before so many seconds.")
    ] = 0.0,
    expires_after: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Expire if still waiting by then.")
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Wait until they are signed for, tell each queue's outcome and reply, and fail unless they are.",
        ),
    ] = None,
    require: Annotated[
        str | None,
        typer.Option(
            metavar="all|any|N",
            help="With --wait: how many queues have to sign for each.  [default: all]",
            show_default=False,
        ),
    ] = None,
    json: output.Json = False,
) -> None:
    """Publish files. Each is durable once its line is printed.

    Order is kept. A lost answer is asked for again and publishes nothing twice: each has an idempotency key.

    Examples:

      restante publish acme order.xml

      restante publish --topic orders.new orders/ --idempotency-key '{sha256}'

      xmllint --format order.xml | restante publish acme - --content-type application/xml

      restante publish --topic prices.ask question.xml --wait 30 --require any
    """
    required = _requirement(require, wait, topic=topic)
    chosen = files.listed(paths)
    if not chosen:
        raise ConfigurationError("there is no file in these folders")
    if idempotency_key and len(chosen) > 1 and "{" not in idempotency_key:
        raise ConfigurationError(
            "one idempotency key cannot stand for many files: put {name} or {sha256} into it"
        )
    attributes = _attributes(attribute or [])

    def publication(path: Path, content: bytes) -> Publication:
        return Publication(
            queue="" if topic else target,
            topic=target if topic else "",
            body=content,
            content_type=content_type or files.content_type_of(path, content),
            attributes=attributes,
            idempotency_key=_key(idempotency_key, path, content),
            ordering_key=ordering_key or "",
            collapse_key=collapse_key or "",
            deliver_after_seconds=deliver_after,
            expires_after_seconds=expires_after,
        )

    failed = 0
    published: list[tuple[Path, Published]] = []
    with output.progress("publishing", len(chosen)) as bar:
        for batch in files.batches(chosen, _BATCH, _BATCH_BYTES):
            results = await _publish(client, [publication(*file) for file in batch])
            for (path, content), result in zip(batch, results, strict=True):
                if isinstance(result, RestanteError):
                    failed += 1
                    complain(f"{path}: {result.detail}")
                    continue
                published.append((path, result))
                if not json:
                    places = ", ".join(f"{place.queue} {place.seq}" for place in result.deliveries)
                    again = " (published before)" if result.replayed else ""
                    where = places or "no queue is subscribed"
                    output.line(bar, f"{result.id}  {where}  {len(content):,} B  {path}{again}")
            bar.advance(bar.task_ids[0], len(batch))
    awaited = {} if wait is None else await _wait(client, published, wait, required)
    if json:
        output.emit([_entry(path, result, awaited.get(result.id)) for path, result in published])
    if failed:
        complain(f"{failed} of {len(chosen)} were not published")
    unmet = [path for path, result in published if not _tell(path, awaited.get(result.id), json)]
    if failed or unmet:
        raise typer.Exit(EXIT_FAILED)


async def _publish(client: Client, publications: Sequence[Publication]) -> list[PublishResult]:
    if len(publications) > 1:
        return await client.publish_batch(publications)
    try:
        return [await client.publish_one(publications[0])]
    except InvalidInput as error:
        # This one cannot be taken; the others may.
        return [error]


async def _wait(
    client: Client, published: Sequence[tuple[Path, Published]], seconds: float, required: str
) -> dict[str, NotificationStatus]:
    """What each has come to, by its id, once all of them have, or when the time is up."""
    now = asyncio.get_running_loop().time
    until = now() + seconds
    found: dict[str, NotificationStatus] = {}
    with output.progress("waiting", len(published)) as bar:
        for _, one in published:

            async def look(held: float, id: str = one.id) -> NotificationStatus:
                return await client.notification(id, wait_seconds=held, require=required)

            try:
                found[one.id] = await wait_for(
                    look, lambda status: status.result is not Result.PENDING, max(until - now(), 0)
                )
            except (asyncio.CancelledError, RestanteError):
                output.note(f"It stays published: see `restante status {one.id}`.")
                raise
            bar.advance(bar.task_ids[0])
    return found


def _tell(path: Path, status: NotificationStatus | None, json: bool) -> bool:
    """What one that was waited for has come to; whether as many have signed as are required."""
    if status is None:
        return True
    if not json:
        print(f"\n{output.safe(str(path))}: {status.result.value}")
        tell_deliveries(status.deliveries)
    if status.result is Result.MET:
        return True
    complain(f"{path}: {_UNMET[status.result]}")
    return False


def _entry(path: Path, result: Published, status: NotificationStatus | None) -> dict[str, object]:
    entry = {
        "file": str(path),
        "id": result.id,
        "deliveries": result.deliveries,
        "replayed": result.replayed,
    }
    if status is not None:
        entry |= {"result": status.result, "deliveries": status.deliveries}
    return entry


def _requirement(require: str | None, wait: float | None, *, topic: bool) -> str:
    if require is None:
        return "all"
    if wait is None:
        raise ConfigurationError("--require takes --wait SECONDS")
    try:
        required = Requirement.parse(require)
        if not topic:
            required.check_one_queue()
    except InvalidInput as error:
        raise ConfigurationError(f"--require: {error}") from error
    return require


def _key(pattern: str | None, path: Path, content: bytes) -> str:
    if pattern is None:
        return str(uuid.uuid4())
    digest = hashlib.sha256(content).hexdigest()
    return pattern.replace("{name}", path.name).replace("{sha256}", digest)


def _attributes(pairs: Sequence[str]) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigurationError(f"--attribute takes NAME=VALUE, not {pair!r}")
        attributes[name.lower()] = value
    return attributes
