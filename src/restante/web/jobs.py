"""Bulk work on dead letters: asked for, watched, paused, resumed, cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from restante import auth
from restante.engine.broker import Broker
from restante.engine.job import Job
from restante.errors import Malformed
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.request import Request
from restante.model import Role, check_name
from restante.web.dead_letters import filtered
from restante.wire import times
from restante.wire.job_messages import (
    JobCounted,
    JobOut,
    JobPage,
    JobRequest,
    SelectionOut,
)
from restante.wire.messages import Nothing

PAGE: Final = 100
PAGE_MAXIMUM: Final = 1_000
_JOB: Final = msgspec.json.Decoder(JobRequest)
_NOTHING: Final = msgspec.json.Decoder(Nothing)


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the calls."""
    web = JobCalls(broker)
    routes.add("POST", "/v1/jobs", web.ask)
    routes.add("GET", "/v1/jobs", web.list)
    routes.add("GET", "/v1/jobs/{id}", web.get)
    routes.add("DELETE", "/v1/jobs/{id}", web.cancel)
    routes.add("POST", "/v1/jobs/{id}/pause", web.pause)
    routes.add("POST", "/v1/jobs/{id}/resume", web.resume)


class JobCalls:
    """Every call takes an administrator's key."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._jobs = broker.jobs

    async def ask(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        asked = await request.read(_JOB)
        queues = await self._queues(asked)
        selection = filtered(asked.filter, asked.all)
        if asked.preview:
            counted = await self._jobs.count(queues, selection)
            out = JobCounted(matched=counted.matched, at_least=counted.at_least)
            return envelope(request, out, "counted")
        job = await self._jobs.ask(
            asked.task,
            queues,
            selection,
            request.actor,
            reason=asked.reason,
            rate_per_second=asked.rate_per_second,
        )
        return envelope(request, _job(job), "job", 202)

    async def _queues(self, asked: JobRequest) -> Sequence[str]:
        if (asked.queues is None) is (asked.client is None):
            raise Malformed("give either queues or a client")
        if asked.client is not None:
            return await self._jobs.queues_of(check_name("client", asked.client))
        names = asked.queues or []
        return tuple(dict.fromkeys(check_name("queue name", name) for name in names))

    async def list(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        limit = request.integer("limit", PAGE, 1, PAGE_MAXIMUM)
        page = await self._jobs.page(request.cursor("after"), limit)
        out = JobPage(jobs=[_job(job) for job in page.jobs], next=page.next)
        return envelope(request, out, "jobs")

    async def get(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        return envelope(request, _job(await self._jobs.job(request.parameters["id"])), "job")

    async def cancel(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        job = await self._jobs.cancel(request.parameters["id"], request.actor)
        return envelope(request, _job(job), "job")

    async def pause(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        await request.read(_NOTHING, Nothing())
        job = await self._jobs.pause(request.parameters["id"], request.actor)
        return envelope(request, _job(job), "job")

    async def resume(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        await request.read(_NOTHING, Nothing())
        job = await self._jobs.resume(request.parameters["id"], request.actor)
        return envelope(request, _job(job), "job")


def _job(job: Job) -> JobOut:
    chosen = job.selection
    return JobOut(
        id=job.id,
        task=job.task,
        queues=list(job.queues),
        filter=SelectionOut(
            reason=chosen.reason,
            topic=chosen.topic,
            since=None if chosen.since_ms is None else times.to_text(chosen.since_ms),
            until=None if chosen.until_ms is None else times.to_text(chosen.until_ms),
        ),
        reason=job.reason,
        rate_per_second=job.rate_per_second,
        asked_by=job.asked_by.name,
        asked_at=times.to_text(job.asked_at_ms),
        state=job.state.value,
        total=job.total,
        at_least=job.at_least,
        done=job.done,
        skipped=job.skipped,
        unsure=job.unsure + (len(job.hand) if job.state.ended else 0),
        error=job.error,
        node=job.node,
        ended_at=None if job.ended_at_ms is None else times.to_text(job.ended_at_ms),
    )
