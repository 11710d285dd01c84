"""``restante jobs``: bulk work on dead letters, and how it is followed."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from restante.cli import output
from restante.cli.failures import EXIT_FAILED, complain
from restante.cli.remote import Client, remote
from restante.errors import RestanteError
from restante.wire.job_messages import JobOut

app = typer.Typer(help="Jobs: bulk work on dead letters, which goes on by itself.")

Id = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", show_default=False)]
_LOOK_SECONDS: Final = 0.5
_FIRST_LOOK_SECONDS: Final = 0.05
_ENDED: Final = frozenset({"done", "failed", "cancelled"})


@app.command("list")
@remote
async def list_(
    client: Client,
    limit: Annotated[int, typer.Option(help="At most so many that ended (1 to 1000).")] = 20,
    after: Annotated[str | None, typer.Option(help="Only those older than this one.")] = None,
    json: output.Json = False,
) -> None:
    """Jobs under way or paused, then those that ended; the newest first. They are kept for 90 days."""
    page = await client.jobs(limit=limit, after=after)
    if json:
        output.emit(page)
        return
    output.table(
        ["job", "task", "queues", "state", "done", "asked", "by", "error"],
        [
            (
                job.id,
                job.task.value,
                _queues(job),
                job.state,
                _progress(job),
                output.clock(job.asked_at),
                job.asked_by,
                job.error,
            )
            for job in page.jobs
        ],
        empty="There are no jobs.",
    )
    if page.next is not None:
        output.note(f"There are more: --after {page.next}")


@app.command()
@remote
async def show(
    client: Client,
    id: Id,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show how far it is until it has ended.")
    ] = False,
    json: output.Json = False,
) -> None:
    """One job: over what, and how far it is. With --follow it fails where the job does not end as done."""
    job = await client.job(id)
    if follow:
        job = await until_ended(client, job)
    if json:
        output.emit(job)
    else:
        output.details(
            [
                ("job", job.id),
                ("task", job.task.value),
                ("queues", ", ".join(job.queues)),
                ("reason", job.filter.reason),
                ("topic", job.filter.topic),
                ("since", output.clock(job.filter.since or "")),
                ("until", output.clock(job.filter.until or "")),
                ("rate", f"{job.rate_per_second:g} a second" if job.rate_per_second else ""),
                ("because", job.reason),
                ("asked", f"{output.clock(job.asked_at)} by {job.asked_by}"),
                ("state", job.state),
                ("done", _progress(job)),
                ("skipped", f"{job.skipped:,}, which were dead no more" if job.skipped else ""),
                ("unsure", f"{job.unsure:,}: see the ledger" if job.unsure else ""),
                ("error", job.error),
                ("node", job.node),
                ("ended", output.clock(job.ended_at or "")),
            ]
        )
    if follow:
        exit_unless_done(job)


@app.command()
@remote
async def pause(client: Client, id: Id, json: output.Json = False) -> None:
    """Do no more of a job until it is resumed."""
    _told(await client.pause_job(id), json)


@app.command()
@remote
async def resume(client: Client, id: Id, json: output.Json = False) -> None:
    """Go on with a paused job."""
    _told(await client.resume_job(id), json)


@app.command()
@remote
async def cancel(client: Client, id: Id, json: output.Json = False) -> None:
    """Do no more of a job, for good. What it has done stays done."""
    _told(await client.cancel_job(id), json)


async def until_ended(client: Client, job: JobOut) -> JobOut:
    """Show a job's progress until it has ended. Whoever leaves before is told that it goes on, and how to follow it."""
    delay, paused = _FIRST_LOOK_SECONDS, False
    try:
        with output.progress(job.task.value, None if job.at_least else job.total) as bar:
            while job.state not in _ENDED:
                if job.state == "paused" and not paused:
                    output.note(f"It is paused: `restante jobs resume {job.id}` lets it go on.")
                paused = job.state == "paused"
                await asyncio.sleep(delay)
                delay = min(2 * delay, _LOOK_SECONDS)
                job = await client.job(job.id)
                bar.update(bar.task_ids[0], completed=job.done + job.skipped + job.unsure)
    except (asyncio.CancelledError, RestanteError):
        output.note(
            f"The job goes on without you: `restante jobs show {job.id} --follow`,"
            f" or end it with `restante jobs cancel {job.id}`."
        )
        raise
    return job


def exit_unless_done(job: JobOut) -> None:
    """Say what became of a job that has ended some other way, and end the program with a failure."""
    if job.state != "done":
        complain(f"job {job.id} is {job.state}" + (f": {job.error}" if job.error else ""))
        raise typer.Exit(EXIT_FAILED)


def _told(job: JobOut, json: bool) -> None:
    if json:
        output.emit(job)
    else:
        print(f"{job.id} {job.state}, {_progress(job)}")


def _progress(job: JobOut) -> str:
    return f"{job.done:,} of {'at least ' if job.at_least else ''}{job.total:,}"


def _queues(job: JobOut) -> str:
    first, *others = job.queues
    return f"{first} and {len(others)} more" if others else first
