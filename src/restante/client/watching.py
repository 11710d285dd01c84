"""Watching: how all queues fare, and one queue's view, history and consumers."""

from __future__ import annotations

from urllib.parse import quote

from restante.attention import Order, Sort
from restante.client.http import Wire
from restante.watching import Span
from restante.wire.alert_messages import AlertList, AlertOut, AlertPage
from restante.wire.watching import ConsumerList, ConsumerOut, HistoryOut, OverviewOut, QueueSeen


class WatchOperations:
    """Figures are as a node last saw them: a few seconds old at most."""

    _wire: Wire

    async def overview(
        self,
        *,
        search: str | None = None,
        sort: Sort | None = None,
        order: Order | None = None,
        offset: int | None = None,
        limit: int | None = None,
    ) -> OverviewOut:
        """Totals, what needs somebody first, and a page of the queues, by ``sort``; for administrators."""
        return await self._wire.call(
            OverviewOut,
            "GET",
            "/v1/overview",
            params={
                "search": search,
                "sort": sort,
                "order": order,
                "offset": offset,
                "limit": limit,
            },
        )

    async def queue_view(self, queue: str) -> QueueSeen:
        """How a queue fares, and whether it needs somebody."""
        return await self._wire.call(QueueSeen, "GET", _path(queue, "view"))

    async def queue_history(self, queue: str, span: Span = Span.HOUR) -> HistoryOut:
        """What happened in a queue over the last hour, day or week, oldest first."""
        return await self._wire.call(
            HistoryOut, "GET", _path(queue, "history"), params={"span": span}
        )

    async def queue_consumers(self, queue: str) -> list[ConsumerOut]:
        """Who collects from a queue, or lately did."""
        answer = await self._wire.call(ConsumerList, "GET", _path(queue, "consumers"))
        return answer.consumers

    async def alerts(self) -> list[AlertOut]:
        """What needs somebody now, of the queues that the key may see."""
        return (await self._wire.call(AlertList, "GET", "/v1/alerts")).alerts

    async def alert_history(
        self, *, queue: str | None = None, limit: int | None = None, after: str | None = None
    ) -> AlertPage:
        """What needed somebody within 90 days, the newest first."""
        params = {"queue": queue, "limit": limit, "after": after}
        return await self._wire.call(AlertPage, "GET", "/v1/alerts/history", params=params)


def _path(queue: str, what: str) -> str:
    return f"/v1/queues/{quote(queue, safe='')}/{what}"
