"""Long poll: the ack of one notification rides along with the request for the next."""

from __future__ import annotations

from collections.abc import Callable

from restante.bench.http import HttpConnection
from restante.bench.restante_wire import (
    ReceiveRequests,
    UnexpectedAnswer,
    all_settled,
    first_lease,
    publish_request,
)
from restante.bench.specs import Target
from restante.bench.ways.base import Collecting, OnError, Way, publisher_key

# The interface's bound: an idle poll comes back, empty, after this long.
LONGEST_POLL_SECONDS = 60


class LongPoll(Way):
    name = "longpoll"
    title = "long poll"
    requests = "1"
    settings = "as it comes; the ack of one notification rides along with the request for the next"

    async def connect_publisher(
        self,
        target: Target,
        queue: str,
        body: bytes,
        on_confirm: Callable[[], None],
        on_error: OnError,
    ) -> Callable[[], None]:
        return await connect_http_publisher(target, queue, body, on_confirm, on_error)

    async def connect_consumer(self, target: Target, queue: str, collecting: Collecting) -> None:
        requests = ReceiveRequests(
            queue, key=target.client_key, max=1, wait_seconds=LONGEST_POLL_SECONDS
        )
        connection: HttpConnection
        acking = 0

        def received(status: int, answer: bytes) -> None:
            nonlocal acking
            if status != 200:
                collecting.failed(f"a receive was answered {status}: {answer[:300]!r}")
                return
            if not all_settled(answer, acking):
                collecting.failed(f"an ack did not go well: {answer[-300:]!r}")
                return
            if acking:
                collecting.settled()
            try:
                lease = first_lease(answer)
            except UnexpectedAnswer as error:
                collecting.failed(str(error))
                return
            if lease is not None:
                collecting.came()
            if not collecting.running:
                return
            acking = 0 if lease is None else 1
            connection.send(requests.plain if lease is None else requests.acking(lease))

        connection = await HttpConnection.open(target.port, received, collecting.failed)
        connection.send(requests.plain)


async def connect_http_publisher(
    target: Target, queue: str, body: bytes, on_confirm: Callable[[], None], on_error: OnError
) -> Callable[[], None]:
    """Publish by HTTP calls on one connection that stays open."""

    def confirmed(status: int, answer: bytes) -> None:
        if status == 201:
            on_confirm()
        else:
            on_error(f"a publish was answered {status}: {answer[:300]!r}")

    connection = await HttpConnection.open(target.port, confirmed, on_error)
    request = publish_request(queue, body, key=publisher_key(target))
    return lambda: connection.send(request)
