"""``restante publish``: one file or many, to a queue or a topic."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from restante.cli import files, output
from restante.cli.failures import complain
from restante.cli.remote import Client, remote
from restante.errors import ConfigurationError, InvalidInput, RestanteError
from restante.model import Publication

if TYPE_CHECKING:
    from restante.client.answers import PublishResult

_BATCH: Final = 200
_BATCH_BYTES: Final = 4 * 1024 * 1024


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
    json: output.Json = False,
) -> None:
    """Publish files. Each is durable once its line is printed.

    Order is kept. A lost answer is asked for again and publishes nothing twice: each has an idempotency key.

    Examples:

      restante publish acme order.xml

      restante publish --topic orders.new orders/ --idempotency-key '{sha256}'

      xmllint --format order.xml | restante publish acme - --content-type application/xml
    """
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
    listed = []
    with output.progress("publishing", len(chosen)) as bar:
        for batch in files.batches(chosen, _BATCH, _BATCH_BYTES):
            results = await _publish(client, [publication(*file) for file in batch])
            for (path, content), result in zip(batch, results, strict=True):
                if isinstance(result, RestanteError):
                    failed += 1
                    complain(f"{path}: {result.detail}")
                    continue
                places = ", ".join(f"{place.queue} {place.seq}" for place in result.deliveries)
                entry = {
                    "file": str(path),
                    "id": result.id,
                    "deliveries": result.deliveries,
                    "replayed": result.replayed,
                }
                if json:
                    listed.append(entry)
                else:
                    again = " (published before)" if result.replayed else ""
                    where = places or "no queue is subscribed"
                    output.line(bar, f"{result.id}  {where}  {len(content):,} B  {path}{again}")
            bar.advance(bar.task_ids[0], len(batch))
    if json:
        output.emit(listed)
    if failed:
        complain(f"{failed} of {len(chosen)} were not published")
        raise typer.Exit(1)


async def _publish(client: Client, publications: Sequence[Publication]) -> list[PublishResult]:
    if len(publications) > 1:
        return await client.publish_batch(publications)
    try:
        return [await client.publish_one(publications[0])]
    except InvalidInput as error:
        # This one cannot be taken; the others may.
        return [error]


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
