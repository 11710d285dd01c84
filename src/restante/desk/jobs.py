"""Bulk work: what is under way and was, how far it has come, and the buttons that stop it and let it go on."""

from __future__ import annotations

from typing import Any, Final

from restante.desk.site import Call, Desk, MenuItem
from restante.engine.job import Job
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.operators import Level

PAGE: Final = 50


def add_routes(routes: Routes, desk: Desk) -> None:
    """Attach the pages, the part of one that is fetched anew while its job is under way, and the buttons."""
    desk.menu.append(MenuItem("Jobs", "/jobs"))
    desk.page(routes, "/jobs", page)
    desk.page(routes, "/jobs/{id}", one)
    desk.page(routes, "/jobs/{id}/now", now, by_itself=True)
    for path, act in (("pause", pause), ("resume", resume), ("cancel", cancel)):
        desk.act(routes, f"/jobs/{{id}}/{path}", act, Level.OPERATOR, back="/jobs/{id}")


async def page(call: Call) -> Answer:
    """The newest first."""
    found = await call.desk.broker.jobs.page(call.request.cursor("after"), PAGE)
    return call.render("jobs.html", jobs=[told(job) for job in found.jobs], next=found.next)


async def one(call: Call) -> Answer:
    """One job. ``JobNotFound``."""
    return call.render("job.html", **await _job(call))


async def now(call: Call) -> Answer:
    """How far it has come."""
    return call.render("job_now.html", **await _job(call))


async def pause(call: Call) -> Answer:
    """Do no more until it is resumed."""
    job = await call.desk.broker.jobs.pause(call.request.parameters["id"], call.visitor.actor)
    return call.go(f"/jobs/{job.id}")


async def resume(call: Call) -> Answer:
    """Go on."""
    job = await call.desk.broker.jobs.resume(call.request.parameters["id"], call.visitor.actor)
    return call.go(f"/jobs/{job.id}")


async def cancel(call: Call) -> Answer:
    """Do no more, for good."""
    job = await call.desk.broker.jobs.cancel(call.request.parameters["id"], call.visitor.actor)
    return call.go(f"/jobs/{job.id}")


async def _job(call: Call) -> dict[str, Any]:
    return told(await call.desk.broker.jobs.job(call.request.parameters["id"]))


def told(job: Job) -> dict[str, Any]:
    """A job, how many are behind it, and how many there were: never fewer than those."""
    over = job.done + job.skipped + job.unsure
    return {"job": job, "over": over, "total": max(job.total, over)}
