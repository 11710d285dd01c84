"""What a client's people see beside the pages that they share with operators: their queues, samples, a test."""

from __future__ import annotations

import importlib.resources
from typing import Any, Final, NamedTuple

from restante.attention import assess
from restante.bucket import Bucket
from restante.desk import dead, dead_acts
from restante.desk.site import Call, MenuItem, Site
from restante.engine.acts import What
from restante.errors import Forbidden, TooManyRequests
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.model import Actor, Publication, Role
from restante.operators import Level
from restante.portal.visitors import TRANSPORT
from restante.queries import Queues
from restante.watching import QueueView

QUEUES: Final = 100
TESTS_PER_SECOND: Final = 0.2
TESTS_AT_ONCE: Final = 5.0
_REMEMBERED: Final = 10_000
TEST_BODY: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<test>This is a test, and no order.</test>\n'
)
SAMPLES: Final = (
    ("long_poll.sh", "Long poll, with curl"),
    ("events.sh", "Server-sent events, with curl"),
    ("client.py", "Long poll, with the SDK for Python"),
    ("websocket.py", "WebSocket, with the Python library websockets"),
    ("grpc.py", "gRPC, in Python"),
    ("webhook.py", "Webhook: a receiver in Python that checks the signature"),
)


class Sample(NamedTuple):
    """A program as it can be copied."""

    name: str
    title: str
    text: str


def add_routes(routes: Routes, site: Site) -> None:
    """Attach the pages."""
    pages = Pages(site)
    site.menu.append(MenuItem("Queues", "/"))
    site.page(routes, "/", pages.overview)
    site.page(routes, "/queues/{queue}/samples", pages.samples)
    site.act(
        routes, "/queues/{queue}/try", pages.publish_test, Level.OPERATOR, back="/queues/{queue}"
    )
    place = "/dead-letters/{queue}"
    site.page(routes, place, pages.dead_letters)
    site.act(routes, f"{place}/redrive", pages.redrive, Level.OPERATOR, back=place)


class Pages:
    """Each looks first whether the queue is the visitor's own."""

    def __init__(self, site: Site) -> None:
        self._broker = site.broker
        self._tests: dict[str, Bucket] = {}

    async def overview(self, call: Call) -> Answer:
        owned = await self._broker.store.browse(Queues(limit=QUEUES, owner=call.visitor.name))
        now_ms = self._broker.clock.wall_ms()
        rows = []
        for queue in owned:
            view = await self._view(queue.name)
            if view is not None:
                rows.append((view, assess(view, now_ms, self._broker.alerts.limits)))
        return call.render("overview.html", rows=rows, now_ms=now_ms)

    async def samples(self, call: Call) -> Answer:
        queue = await call.queue()
        return call.render("samples.html", queue=queue, samples=samples(_url(call), queue.name))

    async def publish_test(self, call: Call) -> Answer:
        """Publish a notification that says that it is a test."""
        queue = await call.queue()
        self._admit(queue.name)
        visitor = call.visitor
        publisher = Actor(
            visitor.name, Role.PUBLISHER, visitor.visit.key_id, TRANSPORT, visitor.remote_address
        )
        letter = Publication(
            queue=queue.name,
            body=TEST_BODY,
            content_type="application/xml",
            attributes={"ce-type": "restante.test", "restante-test": "true"},
        )
        appended = await self._broker.publish(letter, publisher)
        await self._broker.acts.record(
            visitor.actor, What.TEST_PUBLISHED, queue=queue.name, subject=appended.id
        )
        return call.go(f"/notifications/{appended.id}")

    async def dead_letters(self, call: Call) -> Answer:
        queue = await call.queue()
        may = frozenset({"redrive"}) if queue.settings.client_may_redrive else frozenset()
        return call.render("dead_queue.html", **await dead.told(call) | {"may": may})

    async def redrive(self, call: Call) -> Answer:
        queue = await call.queue()
        if not queue.settings.client_may_redrive:
            raise Forbidden(f"the operators of this service redrive what is dead in {queue.name}")
        return await dead_acts.redrive(call)

    async def _view(self, queue: str) -> QueueView | None:
        monitor = self._broker.monitor
        return monitor.view(queue) or await monitor.refresh(queue)

    def _admit(self, queue: str) -> None:
        now = self._broker.clock.monotonic()
        bucket = self._tests.get(queue)
        if bucket is None:
            if len(self._tests) >= _REMEMBERED:
                self._tests.clear()
            bucket = self._tests[queue] = Bucket(
                TESTS_PER_SECOND, now, TESTS_AT_ONCE / TESTS_PER_SECOND
            )
        if not bucket.available(now):
            raise TooManyRequests("you", TESTS_PER_SECOND, bucket.wait_seconds(now))
        bucket.take(1, now)


def samples(url: str, queue: str) -> list[Sample]:
    """Each sample, for that server (without a slash at its end) and that queue. A key is none of its words."""
    folder = importlib.resources.files("restante.portal") / "samples"
    found = []
    for name, title in SAMPLES:
        text = (folder / f"{name}.txt").read_text()
        found.append(Sample(name, title, text.replace("@URL@", url).replace("@QUEUE@", queue)))
    return found


def _url(call: Call) -> str:
    scheme: Any = call.request.scope.get("scheme", "http")
    host = call.request.header(b"host") or "localhost"
    return f"{scheme}://{host}"
