"""``restante dead``: look through dead letters, give them new attempts, or discard them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Mapping, Sequence
from typing import Annotated, Any, Final

import typer

from restante.cli import output
from restante.cli.queues import Name
from restante.cli.remote import Client, remote
from restante.errors import ConfigurationError
from restante.wire.messages import BulkDone

app = typer.Typer(help="Dead letters: rejected, or out of attempts.")

Seqs = Annotated[
    list[int] | None, typer.Option("--seq", help="This one, by its number; can be given often.")
]
Why = Annotated[str | None, typer.Option("--reason", help="Those that died for this reason.")]
Topic = Annotated[str | None, typer.Option(help="Those published to this topic.")]
All = Annotated[bool, typer.Option("--all", help="All of the queue's.")]
Preview = Annotated[bool, typer.Option("--preview", help="Only say how many it would be.")]
_LOOK_SECONDS: Final = 0.5


@app.command("list")
@remote
async def list_(  # noqa: PLR0913, PLR0917  # one parameter for each flag
    client: Client,
    queue: Name,
    limit: Annotated[int, typer.Option(help="At most so many (1 to 1000).")] = 100,
    after: Annotated[int | None, typer.Option(help="Only those with a higher number.")] = None,
    reason: Why = None,
    topic: Topic = None,
    since: output.Since = None,
    until: output.Until = None,
    json: output.Json = False,
) -> None:
    """Dead letters of a queue; --json has the whole history of each.

    Example: restante dead list acme --reason 'no such article' --since 2d
    """
    page = await client.dead(
        queue,
        limit=limit,
        after=after,
        reason=reason,
        topic=topic,
        since=output.moment(since),
        until=output.moment(until),
    )
    if json:
        output.emit(page)
        return
    output.table(
        ["seq>", "notification", "topic", "attempts>", "died", "parked", "reason"],
        [
            (
                letter.seq,
                letter.id,
                letter.topic or "-",
                letter.attempt,
                output.clock(letter.dead_at),
                "yes" if letter.parked else "",
                letter.reason or "(none given)",
            )
            for letter in page.dead
        ],
        empty=f"Queue {queue} has no such dead letters.",
    )
    if page.next is not None:
        output.note(f"There are more: --after {page.next}")


@app.command()
@remote
async def redrive(  # noqa: PLR0913, PLR0917  # one parameter for each flag
    client: Client,
    queue: Name,
    seq: Seqs = None,
    everything: All = False,
    reason: Why = None,
    topic: Topic = None,
    since: output.Since = None,
    until: output.Until = None,
    preview: Preview = False,
    json: output.Json = False,
) -> None:
    """Give dead letters a new set of attempts.

    Examples:

      restante dead redrive acme --seq 17 --seq 21

      restante dead redrive acme --reason 'stock system is down' --preview
    """
    chosen = _selection(seq, everything, reason, topic, since, until)
    matched = await client.redrive(queue, **chosen, preview=True)
    if preview:
        _told("would be redriven", matched, json)
        return
    done = await _watched(client, queue, "redriving", matched, client.redrive(queue, **chosen))
    _told("redriven", done, json)


@app.command()
@remote
async def discard(  # noqa: PLR0913, PLR0917  # one parameter for each flag
    client: Client,
    queue: Name,
    seq: Seqs = None,
    everything: All = False,
    reason: Why = None,
    topic: Topic = None,
    since: output.Since = None,
    until: output.Until = None,
    because: Annotated[str, typer.Option(help="Why they are discarded; the ledger keeps it.")] = "",
    preview: Preview = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: output.Json = False,
) -> None:
    """Discard dead letters for good. Their receipts stay.

    Example: restante dead discard acme --topic prices --until 30d --because 'out of date'
    """
    chosen = _selection(seq, everything, reason, topic, since, until)
    matched = await client.discard(queue, **chosen, preview=True)
    if preview:
        _told("would be discarded", matched, json)
        return
    if matched.matched and not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError(
                "discarding cannot be undone: say --yes where nobody can be asked"
            )
        typer.confirm(f"Discard {_letters(matched.matched)} of {queue}?", abort=True, err=True)
    work = client.discard(queue, **chosen, reason=because)
    _told("discarded", await _watched(client, queue, "discarding", matched, work), json)


def _selection(
    seqs: Sequence[int] | None,
    everything: bool,
    reason: str | None,
    topic: str | None,
    since: str | None,
    until: str | None,
) -> dict[str, Any]:
    given = {
        "reason": reason,
        "topic": topic,
        "since": output.moment(since),
        "until": output.moment(until),
    }
    conditions: Mapping[str, str] = {name: value for name, value in given.items() if value}
    if [bool(seqs), everything, bool(conditions)].count(True) != 1:
        raise ConfigurationError(
            "say which: --seq N, or a filter (--reason, --topic, --since, --until), or --all"
        )
    if seqs:
        return {"seqs": seqs}
    return {"filter": conditions} if conditions else {}


async def _watched(
    client: Client, queue: str, what: str, matched: BulkDone, work: Awaitable[BulkDone]
) -> BulkDone:
    """Wait for a bulk call, and show meanwhile how many dead letters the queue still has."""
    task = asyncio.ensure_future(work)
    with output.progress(what, matched.matched) as bar:
        if bar.disable:
            return await task
        before = (await client.queue(queue)).figures.dead
        while not (await asyncio.wait([task], timeout=_LOOK_SECONDS))[0]:
            left = (await client.queue(queue)).figures.dead
            bar.update(bar.task_ids[0], completed=max(0, min(before - left, matched.matched)))
    return task.result()


def _told(what: str, done: BulkDone, json: bool) -> None:
    if json:
        output.emit(done)
    else:
        count = done.matched if what.startswith("would") else done.done
        print(f"{_letters(count)} {what}")


def _letters(count: int) -> str:
    return f"{count:,} dead letter{'' if count == 1 else 's'}"
