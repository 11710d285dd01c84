"""Restante inside another program: its broker, and its interface in a Starlette or FastAPI application."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import fastapi
import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

import restante
from restante.errors import ConfigurationError, LeaseLost, QueueNotFound, StoreInUse

ADMIN_KEY = "admin-key-of-the-embedding-tests"


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
async def test_the_whole_way_in_one_process(tmp_path: Path, kind: str) -> None:
    url = f"sqlite:///{tmp_path}/mail" if kind == "sqlite" else "memory://"
    async with restante.open(url) as office:
        key = await office.add_client("acme")
        assert key.startswith("rst_")
        await office.put_queue("acme", backoff_base_seconds=0)
        await office.subscribe("orders.#", "acme")
        direct = await office.publish(queue="acme", body=b"<a/>", content_type="application/xml")
        await office.publish(topic="orders.eu", body=b"<b/>", content_type="application/xml")
        session = await office.session("acme")
        first, second = await session.receive()
        assert (first.id, first.body, second.topic) == (direct.id, b"<a/>", "orders.eu")
        await session.extend(first, 60)
        await session.ack(first, b"<booked/>", "application/xml")
        await session.nack(second, "not yet")
        (again,) = await session.receive(wait_seconds=20)
        assert again.attempt == 2
        await session.release(again)
        (again,) = await session.receive()
        await session.reject(again, "poison")
        with pytest.raises(LeaseLost):
            await session.ack(again)
        with pytest.raises(QueueNotFound):
            await office.session("nobody")
        outcomes = [receipt.outcome async for receipt in office.receipts("acme")]
        assert outcomes == [
            "published",
            "published",
            "acked",
            "nacked",
            "released",
            "rejected",
            "late_ack",
        ]


async def test_a_store_has_one_owner_and_outlives_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mail"
    async with restante.open(url) as office:
        await office.add_client("acme")
        await office.publish(queue="acme", body=b"kept")
        with pytest.raises(StoreInUse):
            async with restante.open(url):
                pass
    async with restante.open(url) as office:
        (delivery,) = await (await office.session("acme")).receive()
        assert delivery.body == b"kept"


@pytest.mark.parametrize("url", ["sqlite://mail", "sqlite:///", "postgres://x", "", "memory"])
async def test_an_unknown_store_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        async with restante.open(url):
            pass


async def add_header(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """As the middleware of applications does, to every answer."""
    answer = await call_next(request)
    answer.headers["x-added"] = "yes"
    return answer


@pytest.mark.parametrize("framework", ["starlette", "fastapi", "alone"])
async def test_the_interface_in_an_application(tmp_path: Path, framework: str) -> None:
    mail = restante.asgi(f"sqlite:///{tmp_path}/mail", admin_key=ADMIN_KEY)

    @contextlib.asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        async with mail:
            yield

    application: Starlette | restante.embedding.Mounted
    around = Middleware(BaseHTTPMiddleware, dispatch=add_header)
    if framework == "starlette":
        routes = [Mount("/mail", mail)]
        application = Starlette(routes=routes, middleware=[around], lifespan=lifespan)
    elif framework == "fastapi":
        application = fastapi.FastAPI(middleware=[around], lifespan=lifespan)
        application.mount("/mail", mail)
    else:
        application = mail
    prefix = "" if framework == "alone" else "/mail"
    async with lifespan(None):
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(
            transport=transport,
            base_url=f"http://service{prefix}",
            headers={"authorization": f"Bearer {ADMIN_KEY}"},
        ) as caller:
            assert (await caller.post("/v1/clients", json={"name": "acme"})).status_code == 201
            await caller.post("/v1/queues/acme/notifications", content=b"<a/>")
            answer = await caller.post("/v1/queues/acme/receive", json={"wait": 0})
            assert [n["body"] for n in answer.json()["notifications"]] == ["<a/>"]
            # What the service does itself is seen through the interface, and the other way round.
            await mail.office.publish(queue="acme", body=b"<b/>")
            answer = await caller.post("/v1/queues/acme/next?wait=5")
            assert answer.content == b"<b/>"
            refused = await caller.get("/v1/nothing")
            assert refused.status_code == 404
            if framework != "alone":
                assert answer.headers["x-added"] == refused.headers["x-added"] == "yes"


async def test_alone_it_is_open_as_long_as_its_server(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mail"
    asked: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    told: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    mail = restante.asgi(url, admin_key=ADMIN_KEY)
    life = asyncio.create_task(mail({"type": "lifespan"}, asked.get, told.put))
    await asked.put({"type": "lifespan.startup"})
    assert (await told.get())["type"] == "lifespan.startup.complete"
    await mail.office.add_client("acme")
    await asked.put({"type": "lifespan.startup"})
    with pytest.raises(StoreInUse):
        await restante.asgi(url)({"type": "lifespan"}, asked.get, told.put)
    refused = await told.get()
    assert refused["type"] == "lifespan.startup.failed"
    assert "in use" in refused["message"]
    await asked.put({"type": "lifespan.shutdown"})
    assert (await told.get())["type"] == "lifespan.shutdown.complete"
    async with restante.open(url) as office:
        await office.session("acme")
    await life


PROGRAM = """
import asyncio, restante, structlog, logging, sys
{configure}
async def main():
    async with restante.open("sqlite:///mail") as office:
        await office.add_client("acme")
        await office.session("acme")
    restante.logs.get_logger("restante.engine").warning("something.odd", place="x")
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("configure", "shown"),
    [
        ("", ["something.odd place=x"]),
        (
            "logging.basicConfig(level='DEBUG')",
            ["DEBUG:restante.", "WARNING:restante.engine:something.odd place=x"],
        ),
        ("logging.getLogger('restante').setLevel('ERROR')", []),
        (
            "structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))",
            ["debug", "something.odd"],
        ),
    ],
)
def test_it_logs_where_the_program_says_and_else_says_little(
    tmp_path: Path, configure: str, shown: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(configure=configure)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    assert bool(done.stderr) == bool(shown)
    for words in shown:
        assert words in done.stderr
    if "DEBUG" not in configure and "Print" not in configure:
        assert len(done.stderr.splitlines()) == len(shown)
