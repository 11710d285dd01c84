"""What operators ask of dead letters beyond a call: jobs, replacing, passing by; and who did what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from restante.client.http import Wire
from restante.wire.job_messages import JobCounted, JobOut, JobPage, Task
from restante.wire.messages import ActPage, OpenedOut, OpenPage, Published, ReasonList


class JobOperations:
    """Pages hold at most ``limit`` entries; ``after`` is the ``next`` of the page before."""

    _wire: Wire

    async def body(self, id: str) -> bytes:
        """The body as it was published. ``BodyGone``."""
        path = f"/v1/notifications/{quote(id, safe='')}/body"
        return (await self._wire.send("GET", path, repeatable=True)).content

    async def deliveries(
        self, queue: str, *, state: str = "ready", limit: int = 100, after: int = 0
    ) -> OpenPage:
        """What stands in one state: ``ready``, ``leased``, ``scheduled``, ``held`` or ``dead``."""
        path = f"/v1/queues/{quote(queue, safe='')}/deliveries"
        params: dict[str, str | int | float | None] = {
            "state": state,
            "limit": limit,
            "after": after,
        }
        return await self._wire.call(OpenPage, "GET", path, params=params)

    async def dead_reasons(self, queue: str) -> ReasonList:
        """What its first dead letters died of."""
        return await self._wire.call(ReasonList, "GET", f"{_dead(queue)}/reasons")

    async def replace(
        self, queue: str, seq: int, body: bytes, content_type: str = "application/octet-stream"
    ) -> Published:
        """Publish another body in a dead letter's place; may be repeated."""
        headers = {"Content-Type": content_type}
        path = f"{_dead(queue)}/{seq}/replace"
        answer = await self._wire.send("POST", path, content=body, headers=headers, repeatable=True)
        return self._wire.read(Published, answer)

    async def open_ordering_key(self, queue: str, seq: int) -> str:
        """Let go what a dead letter holds up; the ordering key."""
        path = f"{_dead(queue)}/{seq}/open"
        opened = await self._wire.call(OpenedOut, "POST", path, ask={}, repeatable=True)
        return opened.ordering_key

    async def ask_job(
        self,
        task: Task,
        queues: Sequence[str] = (),
        *,
        client: str | None = None,
        filter: Mapping[str, str] | None = None,
        reason: str = "",
        rate_per_second: float | None = None,
        idempotency_key: str | None = None,
    ) -> JobOut:
        """Start bulk work over queues, or over all of a ``client``'s; it goes on by itself.

        ``filter`` has ``reason``, ``topic``, ``since`` and ``until``; without one it is over all dead letters.
        At most ``rate_per_second`` (1 to 100,000) are done a second. ``TooManyJobs``.
        """
        ask = _asked(task, queues, client, filter)
        ask |= {"reason": reason, "rate_per_second": rate_per_second}
        return await self._wire.call(
            JobOut,
            "POST",
            "/v1/jobs",
            ask=ask,
            repeatable=False,
            idempotency_key=idempotency_key,
        )

    async def count_job(
        self,
        task: Task,
        queues: Sequence[str] = (),
        *,
        client: str | None = None,
        filter: Mapping[str, str] | None = None,
    ) -> JobCounted:
        """How many it would be."""
        ask = _asked(task, queues, client, filter) | {"preview": True}
        return await self._wire.call(JobCounted, "POST", "/v1/jobs", ask=ask, repeatable=True)

    async def jobs(self, *, limit: int | None = None, after: str | None = None) -> JobPage:
        """Those that have not ended, then the newest."""
        params = {"limit": limit, "after": after}
        return await self._wire.call(JobPage, "GET", "/v1/jobs", params=params)

    async def job(self, id: str) -> JobOut:
        """How far it has come."""
        return await self._wire.call(JobOut, "GET", f"/v1/jobs/{quote(id, safe='')}")

    async def pause_job(self, id: str) -> JobOut:
        """Do no more of it until it is resumed; the step under way is finished. ``JobEnded``."""
        path = f"/v1/jobs/{quote(id, safe='')}/pause"
        return await self._wire.call(JobOut, "POST", path, ask={}, repeatable=True)

    async def resume_job(self, id: str) -> JobOut:
        """Go on with a paused job. ``JobEnded``."""
        path = f"/v1/jobs/{quote(id, safe='')}/resume"
        return await self._wire.call(JobOut, "POST", path, ask={}, repeatable=True)

    async def cancel_job(self, id: str) -> JobOut:
        """Do no more of it, for good; what is done stays done. ``JobEnded``."""
        path = f"/v1/jobs/{quote(id, safe='')}"
        answer = await self._wire.send("DELETE", path, repeatable=False)
        return self._wire.read(JobOut, answer)

    async def acts(
        self,
        *,
        who: str | None = None,
        what: str | None = None,
        queue: str | None = None,
        subject: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> ActPage:
        """Who did what, the newest first. ``what`` is a name as ``job.asked``, or what stands before its dot.

        A page may be short, even empty, before the end: go on while there is a ``next``.
        """
        params = {
            "who": who,
            "what": what,
            "queue": queue,
            "subject": subject,
            "limit": limit,
            "after": after,
        }
        return await self._wire.call(ActPage, "GET", "/v1/acts", params=params)


def _dead(queue: str) -> str:
    return f"/v1/queues/{quote(queue, safe='')}/dead"


def _asked(
    task: Task, queues: Sequence[str], client: str | None, filter: Mapping[str, str] | None
) -> dict[str, object]:
    chosen: dict[str, object] = {"filter": dict(filter)} if filter else {"all": True}
    over: dict[str, object] = {"queues": list(queues)} if client is None else {"client": client}
    return {"task": task.value, **over, **chosen}
