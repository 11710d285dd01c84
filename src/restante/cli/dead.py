"""``restante dead``: look through dead letters, and give them new attempts, another body, a way past, or an end."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from restante.cli import files, output
from restante.cli.jobs import exit_unless_done, until_ended
from restante.cli.queues import Name
from restante.cli.remote import Client, remote
from restante.errors import ConfigurationError, DeadLetterNotFound
from restante.wire.job_messages import Task
from restante.wire.messages import BulkDone

app = typer.Typer(help="Dead letters: rejected, or out of attempts.")

Seqs = Annotated[
    list[int] | None, typer.Option("--seq", help="This one, by its number; can be given often.")
]
Why = Annotated[str | None, typer.Option("--reason", help="Those that died for this reason.")]
Topic = Annotated[str | None, typer.Option(help="Those published to this topic.")]
All = Annotated[bool, typer.Option("--all", help="All of the queue's.")]
Preview = Annotated[bool, typer.Option("--preview", help="Only say how many it would be.")]
Rate = Annotated[
    float | None,
    typer.Option(metavar="N", help="At most so many a second (1 to 100000); not with --seq."),
]
Seq = Annotated[int, typer.Argument(metavar="SEQ", help="The dead letter's number.", min=1)]


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
async def reasons(client: Client, queue: Name, json: output.Json = False) -> None:
    """What the dead letters of a queue died of, the commonest first; the first 10,000 are looked at."""
    found = await client.dead_reasons(queue)
    if json:
        output.emit(found)
        return
    output.table(
        ["dead>", "last", "reason"],
        [
            (one.count, output.clock(one.last_dead_at), one.reason or "(none given)")
            for one in found.reasons
        ],
        empty=f"Queue {queue} has no dead letters.",
    )
    if found.scanned < found.dead:
        output.note(f"{found.scanned:,} of {found.dead:,} were looked at.")


@app.command()
@remote
async def show(client: Client, queue: Name, seq: Seq, json: output.Json = False) -> None:
    """One dead letter, with its history. Its body: restante body NOTIFICATION."""
    page = await client.dead(queue, after=seq - 1, limit=1)
    if not page.dead or page.dead[0].seq != seq:
        raise DeadLetterNotFound(f"queue {queue} has no dead letter {seq}")
    (letter,) = page.dead
    if json:
        output.emit(letter)
        return
    output.details(
        [
            ("notification", letter.id),
            ("queue", f"{queue} {letter.seq}"),
            ("topic", letter.topic),
            ("content", letter.content_type),
            ("ordering key", letter.ordering_key),
            ("parked", "what waits behind it is held up" if letter.parked else ""),
            ("published", output.clock(letter.published_at)),
            ("died", output.clock(letter.dead_at)),
            ("attempts", letter.attempt),
            ("reason", letter.reason or "(none given)"),
        ]
    )
    print()
    output.table(
        ["at", "what", "attempt>", "by", "over", "reason"],
        [
            (
                output.clock(one.at),
                one.outcome,
                one.attempt or "",
                one.principal,
                one.transport,
                one.reason,
            )
            for one in letter.history
        ],
        empty="Its receipts are past their retention.",
    )


@app.command()
@remote
async def replace(
    client: Client,
    queue: Name,
    seq: Seq,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The other body; - is stdin.")],
    content_type: Annotated[
        str | None, typer.Option(help="What it is; else by the file's name or beginning.")
    ] = None,
    json: output.Json = False,
) -> None:
    """Publish another body in the place of a dead letter, which is discarded. May be repeated.

    Example: restante dead replace acme 17 mended.xml
    """
    content = files.read(file)
    media = content_type or files.content_type_of(file, content)
    published = await client.replace(queue, seq, content, media)
    if json:
        output.emit(published)
        return
    (place,) = published.deliveries
    print(f"{published.id}  {place.queue} {place.seq} replaces {seq}")


@app.command("open")
@remote
async def open_(client: Client, queue: Name, seq: Seq, json: output.Json = False) -> None:
    """Let go what waits behind a dead letter in its ordering key. The dead letter stays dead.

    Example: restante dead open acme 17
    """
    key = await client.open_ordering_key(queue, seq)
    if json:
        output.emit({"ordering_key": key})
    else:
        print(f"{output.safe(key)} goes on; {seq} stays dead")


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
    rate: Rate = None,
    preview: Preview = False,
    json: output.Json = False,
) -> None:
    """Give dead letters a new set of attempts. All but single ones is a job, which goes on if you leave.

    Examples:

      restante dead redrive acme --seq 17 --seq 21

      restante dead redrive acme --reason 'stock system is down' --preview

      restante dead redrive acme --all --rate 50
    """
    chosen = _selection(everything, reason, topic, since, until, seq, rate)
    if not preview:
        _told("redriven", await _do(client, Task.REDRIVE, queue, seq, chosen, rate=rate), json)
    elif seq:
        _told("would be redriven", await client.redrive(queue, seqs=seq, preview=True), json)
    else:
        counted = await client.count_job(Task.REDRIVE, [queue], filter=chosen)
        _told(
            "would be redriven", BulkDone(matched=counted.matched, done=0), json, counted.at_least
        )


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
    rate: Rate = None,
    preview: Preview = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: output.Json = False,
) -> None:
    """Discard dead letters for good. Their receipts stay.

    Example: restante dead discard acme --topic prices --until 30d --because 'out of date'
    """
    chosen = _selection(everything, reason, topic, since, until, seq, rate)
    at_least = False
    if seq:
        matched = (await client.discard(queue, seqs=seq, preview=True)).matched
    else:
        counted = await client.count_job(Task.DISCARD, [queue], filter=chosen)
        matched, at_least = counted.matched, counted.at_least
    if preview:
        _told("would be discarded", BulkDone(matched=matched, done=0), json, at_least)
        return
    if matched and not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError(
                "discarding cannot be undone: say --yes where nobody can be asked"
            )
        typer.confirm(f"Discard {_letters(matched, at_least)} of {queue}?", abort=True, err=True)
    done = await _do(client, Task.DISCARD, queue, seq, chosen, reason=because, rate=rate)
    _told("discarded", done, json)


def _selection(
    everything: bool,
    reason: str | None,
    topic: str | None,
    since: str | None,
    until: str | None,
    seqs: Sequence[int] | None,
    rate: float | None,
) -> Mapping[str, str]:
    """The filter, empty for all and for single ones; ``ConfigurationError`` unless exactly one is asked for."""
    given = {
        "reason": reason,
        "topic": topic,
        "since": output.moment(since),
        "until": output.moment(until),
    }
    conditions = {name: value for name, value in given.items() if value}
    if [bool(seqs), everything, bool(conditions)].count(True) != 1:
        raise ConfigurationError(
            "say which: --seq N, or a filter (--reason, --topic, --since, --until), or --all"
        )
    if seqs and rate is not None:
        raise ConfigurationError("--rate is for a filter or --all, not for --seq")
    return conditions


async def _do(
    client: Client,
    task: Task,
    queue: str,
    seqs: Sequence[int] | None,
    chosen: Mapping[str, str],
    *,
    reason: str = "",
    rate: float | None = None,
) -> BulkDone:
    """Single ones by a call, others by a job that is followed to its end."""
    if not seqs:
        job = await client.ask_job(
            task, [queue], filter=chosen, reason=reason, rate_per_second=rate
        )
        job = await until_ended(client, job)
        exit_unless_done(job)
        if job.skipped or job.unsure:
            output.note(
                f"{job.skipped:,} were dead no more, {job.unsure:,} are unsure:"
                f" `restante jobs show {job.id}`"
            )
        return BulkDone(matched=job.total, done=job.done)
    if task is Task.REDRIVE:
        return await client.redrive(queue, seqs=seqs)
    return await client.discard(queue, seqs=seqs, reason=reason)


def _told(what: str, done: BulkDone, json: bool, at_least: bool = False) -> None:
    if json:
        output.emit(done)
    else:
        count = done.matched if what.startswith("would") else done.done
        print(f"{_letters(count, at_least)} {what}")


def _letters(count: int, at_least: bool = False) -> str:
    more = "at least " if at_least else ""
    return f"{more}{count:,} dead letter{'' if count == 1 else 's'}"
