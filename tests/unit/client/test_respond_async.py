"""An endpoint of a service goes on in the background, and its caller finds the answer, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from tests.unit.engine.house import turns

import restante
from restante.client import Client
from restante.client.respond_async import RespondAsync
from restante.model import Role
from restante.operation import OperationState

NO_SUCH_OPERATION = {"detail": "there is no such operation here"}
ASYNC = {"prefer": "respond-async"}


class Slow:
    """An application whose answers come when the test says so."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.started = asyncio.Event()
        self.has_begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.may_mail = asyncio.Event()
        self.mailed = False
        self.pieces = 0
        routes = [Route("/reports/{what}", self.report, methods=["POST"])]
        self._starlette = Starlette(routes=[*routes, Route("/fast", self.fast)])

    async def application(self, *request: Any) -> None:
        try:
            await self._starlette(*request)
        finally:
            self.ended.set()

    async def report(self, request: Request) -> Response:
        body = await request.body()
        self.started.set()
        await self.go.wait()
        match request.path_params["what"]:
            case "broken":
                raise RuntimeError("out of paper")
            case "large":
                return Response(bytes(80_000))
            case "endless":
                return StreamingResponse(self.endless())
            case "mailed":
                return Response(b"report", background=BackgroundTask(self.mail))
        return Response(b"report on " + body, 201, {"x-pages": "7"}, "text/plain")

    async def mail(self) -> None:
        await self.may_mail.wait()
        self.mailed = True
        raise RuntimeError("no postman")

    async def endless(self) -> AsyncIterator[bytes]:
        while True:
            self.pieces += 1
            if self.pieces == 5:
                self.has_begun.set()
            yield self.pieces.to_bytes(4) * 2_500
            await asyncio.sleep(0)

    async def fast(self, _: Request) -> Response:
        return Response(b"fast")


@pytest.fixture
async def slow() -> Slow:
    return Slow()


@pytest.fixture
async def office() -> AsyncIterator[restante.embedding.Office]:
    async with restante.open("memory://") as office:
        await office.add_client("acme")
        yield office


@pytest.fixture
async def restante_client(office: restante.embedding.Office) -> AsyncIterator[Client]:
    key = await office.add_key(Role.PUBLISHER, "shop")
    transport = httpx.ASGITransport(app=office.asgi())
    async with Client(
        "http://restante", key, transport=transport, retry_delays_seconds=()
    ) as client:
        yield client


@contextlib.asynccontextmanager
async def served(slow: Slow, client: Client, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    options = {"runner": "shop-1", "paths": ("/reports",)} | options
    async with RespondAsync(slow.application, client, **options) as application:
        transport = httpx.ASGITransport(app=application, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as caller:
            yield caller


async def begun(caller: httpx.AsyncClient, what: str = "sales", **headers: str) -> str:
    answer = await caller.post(f"/reports/{what}", content=b"May", headers=ASYNC | headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["preference-applied"] == "respond-async"
    return answer.headers["location"]


async def test_the_answer_comes_later_and_is_the_endpoint_s_own(
    slow: Slow, restante_client: Client
) -> None:
    async with served(slow, restante_client) as caller:
        place = await begun(caller)
        early = await caller.get(place)
        assert (early.status_code, early.headers["location"]) == (202, place)
        waiting = asyncio.create_task(caller.get(f"{place}?wait=30"))
        await slow.started.wait()
        slow.go.set()
        for answer in (await waiting, await caller.get(place)):
            assert (answer.status_code, answer.content) == (201, b"report on May")
            assert answer.headers["x-pages"] == "7"


@pytest.mark.parametrize(
    ("what", "code"), [("broken", "endpoint_failed"), ("large", "answer_too_large")]
)
async def test_without_an_answer_there_is_a_reason(
    slow: Slow, restante_client: Client, what: str, code: str
) -> None:
    async with served(slow, restante_client) as caller:
        place = await begun(caller, what)
        slow.go.set()
        answer = await caller.get(f"{place}?wait=30")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, code)


async def test_no_more_is_gathered_than_can_be_kept(slow: Slow, restante_client: Client) -> None:
    """An endpoint that never ends is stopped."""
    async with served(slow, restante_client) as caller:
        place = await begun(caller, "endless")
        slow.go.set()
        answer = await caller.get(f"{place}?wait=30")
        assert answer.json()["error"]["code"] == "answer_too_large"
        await asyncio.wait_for(slow.ended.wait(), 20)
        assert slow.pieces == 5


async def test_what_it_does_after_its_answer_is_its_own(
    slow: Slow, restante_client: Client
) -> None:
    """Neither has it to be waited for, nor does its failure change the answer; at a stop it has time to end."""
    async with served(slow, restante_client) as caller:
        place = await begun(caller, "mailed")
        slow.go.set()
        answer = await caller.get(f"{place}?wait=30")
        assert (answer.status_code, answer.content) == (200, b"report")
        assert not slow.mailed
        asyncio.get_running_loop().call_soon(slow.may_mail.set)
    assert slow.mailed
    async with served(slow, restante_client) as caller:
        answer = await caller.get(place)
        assert (answer.status_code, answer.content) == (200, b"report")


async def test_half_an_answer_is_none(slow: Slow, restante_client: Client) -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ha", "more_body": True})
        await slow.go.wait()

    slow.application = half  # type: ignore[method-assign]
    async with served(slow, restante_client) as caller:
        place = await begun(caller)
        slow.go.set()
        answer = await caller.get(f"{place}?wait=30")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "endpoint_failed")


async def test_an_answer_that_is_ready_at_the_stop_is_kept(
    slow: Slow, restante_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = restante_client.move_operation
    moving = asyncio.Event()

    async def move_late(id: str, **asked: Any) -> Any:
        if asked["state"] is OperationState.SUCCEEDED:
            moving.set()
            await turns(50)
        return await move(id, **asked)

    monkeypatch.setattr(restante_client, "move_operation", move_late)
    async with served(slow, restante_client) as caller:
        place = await begun(caller)
        slow.go.set()
        await moving.wait()
    async with served(slow, restante_client) as caller:
        answer = await caller.get(place)
        assert (answer.status_code, answer.content) == (201, b"report on May")


async def test_what_does_not_end_is_not_waited_for_at_the_stop(
    slow: Slow, restante_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restante.client.respond_async._CLOSE_SECONDS", 0)
    async with served(slow, restante_client) as caller:
        place = await begun(caller, "mailed")
        slow.go.set()
        assert (await caller.get(f"{place}?wait=30")).status_code == 200
    assert slow.ended.is_set()
    assert not slow.mailed


async def test_no_way_to_answer_is_offered_that_cannot_be_kept(
    slow: Slow, restante_client: Client
) -> None:
    offered: list[Any] = []

    async def look(scope: Any, receive: Any, send: Any) -> None:
        offered.append(scope["extensions"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    exchange = Exchange("respond-async, wait=30", leaves_after=1)
    exchange.scope["extensions"] = {"http.response.pathsend": {}, "tls": {}}
    async with RespondAsync(
        look, restante_client, runner="shop-1", paths=("/reports",)
    ) as application:
        await application(exchange.scope, exchange.receive, exchange.send)
    assert offered == [{"tls": {}}]
    assert exchange.sent[0]["status"] == 200


class Exchange:
    """A request to an application as a server has it, whose caller leaves after so many bytes of the answer."""

    def __init__(self, prefer: str, leaves_after: int) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": "/reports/endless",
            "headers": [(b"prefer", prefer.encode())],
        }
        self.sent: list[Any] = []
        self._leaves_after = leaves_after
        self._left = asyncio.Event()
        self._asked: Iterator[Any] = iter([{"type": "http.request", "body": b"May"}])

    async def receive(self) -> Any:
        for message in self._asked:
            return message
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if len(self.body) >= self._leaves_after:
            self._left.set()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


@pytest.mark.parametrize("wait", [30, 0])
async def test_a_large_answer_is_passed_on_as_it_comes(
    slow: Slow, restante_client: Client, monkeypatch: pytest.MonkeyPatch, wait: int
) -> None:
    """Where the caller has no 202 yet: within its wait, and while the operation is being made."""
    make = restante_client.create_operation
    made = []

    async def make_late(**asked: Any) -> Any:
        await slow.has_begun.wait()
        made.append(await make(**asked))
        return made[-1]

    monkeypatch.setattr(restante_client, "create_operation", make_late)
    slow.go.set()
    exchange = Exchange(f"respond-async, wait={wait}", leaves_after=200_000)
    async with RespondAsync(
        slow.application, restante_client, runner="shop-1", paths=("/reports",)
    ) as application:
        async with asyncio.timeout(20):
            await application(exchange.scope, exchange.receive, exchange.send)
        assert slow.ended.is_set()
        assert exchange.sent[0]["status"] == 200
        pieces = len(exchange.body) // 10_000
        assert 20 <= pieces <= 30
        expected = [number.to_bytes(4) * 2_500 for number in range(1, pieces + 1)]
        assert exchange.body == b"".join(expected)
        assert len(made) == (wait == 0)
        for one in made:
            found = await restante_client.operation(one.id, wait=20)
            assert found.state is OperationState.CANCELLED


@pytest.mark.parametrize("leaves", [False, True])
async def test_what_is_ready_does_not_wait_for_a_service_that_is_silent(
    slow: Slow, restante_client: Client, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    """Nor is the operation left open that is made after all; so where the server gives the caller up meanwhile."""
    monkeypatch.setattr("restante.client.respond_async._MAKE_SECONDS", 0)
    make = restante_client.create_operation
    asked, heard = asyncio.Event(), asyncio.Event()
    made: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def make_late(**wanted: Any) -> Any:
        asked.set()
        await heard.wait()
        made.set_result(await make(**wanted))
        return made.result()

    monkeypatch.setattr(restante_client, "create_operation", make_late)
    async with served(slow, restante_client) as caller:
        answer = asyncio.create_task(caller.post("/reports/sales", content=b"May", headers=ASYNC))
        await asked.wait()
        if leaves:
            answer.cancel()
        else:
            slow.go.set()
            assert (await answer).content == b"report on May"
        await slow.ended.wait()
        heard.set()
        found = await restante_client.operation((await made).id, wait=20)
        assert found.state is OperationState.CANCELLED
    await asyncio.gather(answer, return_exceptions=True)


async def test_a_caller_who_left_before_stops_its_endpoint(
    slow: Slow, restante_client: Client
) -> None:
    async def broken(_: Any) -> None:
        raise ConnectionResetError

    slow.go.set()
    exchange = Exchange("respond-async, wait=30", leaves_after=0)
    async with RespondAsync(
        slow.application, restante_client, runner="shop-1", paths=("/reports",)
    ) as application:
        with pytest.raises(ConnectionResetError):
            await application(exchange.scope, exchange.receive, broken)
        await asyncio.wait_for(slow.ended.wait(), 20)


@pytest.mark.parametrize(
    "prefer",
    [
        *("respond-async, wait=30", 'WAIT="30", Respond-Async; x=1'),
        pytest.param("respond-async, wait=" + "9" * 400, id="longer than any"),
    ],
)
async def test_one_that_is_ready_in_time_is_answered_as_ever(
    slow: Slow, restante_client: Client, prefer: str
) -> None:
    async with served(slow, restante_client) as caller:
        headers = {"prefer": prefer}
        asking = asyncio.create_task(caller.post("/reports/sales", content=b"May", headers=headers))
        await slow.started.wait()
        slow.go.set()
        answer = await asking
        assert (answer.status_code, answer.content) == (201, b"report on May")
        assert (await restante_client.open_operations(runner="shop-1")).operations == []


@pytest.mark.parametrize("wait", ["wait", "wait=soon", "wait=1.5", "wait=-1"])
async def test_a_wait_that_cannot_be_read_is_none(
    slow: Slow, restante_client: Client, wait: str
) -> None:
    async with served(slow, restante_client) as caller:
        await begun(caller, prefer=f"respond-async, {wait}")


async def test_only_where_it_is_preferred_and_meant(slow: Slow, restante_client: Client) -> None:
    slow.go.set()
    async with served(slow, restante_client) as caller:
        for headers in ({}, {"prefer": "wait=0"}, {"prefer": 'foo="a, respond-async"'}):
            answer = await caller.post("/reports/sales", content=b"May", headers=headers)
            assert answer.status_code == 201
        assert (await caller.get("/fast", headers=ASYNC)).content == b"fast"
        large = await caller.post("/reports/sales", content=bytes(2_000_000), headers=ASYNC)
        assert (large.status_code, len(large.content)) == (201, 2_000_010)


async def test_without_room_or_without_restante_it_is_answered_as_ever(
    slow: Slow, restante_client: Client
) -> None:
    async def away(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody there")

    slow.go.set()
    async with Client(
        "http://nowhere", "k", transport=httpx.MockTransport(away), retry_delays_seconds=()
    ) as nobody:
        for client, options in ((nobody, {}), (restante_client, {"under_way": 0})):
            async with served(slow, client, **options) as caller:
                answer = await caller.post("/reports/sales", content=b"May", headers=ASYNC)
                assert answer.status_code == 201
        async with served(slow, nobody) as caller:
            assert (await caller.get("/operations/x")).status_code == 503


async def test_a_start_does_not_wait_for_a_service_that_is_silent(
    slow: Slow, restante_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed = await restante_client.create_operation(runner="shop-1")
    look = restante_client.open_operations
    heard = asyncio.Event()

    async def look_late(**asked: Any) -> Any:
        await heard.wait()
        return await look(**asked)

    monkeypatch.setattr(restante_client, "open_operations", look_late)
    monkeypatch.setattr("restante.client.respond_async._START_SECONDS", 0)
    async with served(slow, restante_client) as caller:
        assert (await caller.get("/fast")).content == b"fast"
        heard.set()
        await begun(caller)
        answer = await caller.get(f"/operations/{crashed.id}")
        assert answer.json()["error"]["code"] == "interrupted"


async def test_so_many_go_on_in_the_background(slow: Slow, restante_client: Client) -> None:
    async with served(slow, restante_client, under_way=2) as caller:
        places = [await begun(caller) for _ in range(2)]
        third = asyncio.create_task(caller.post("/reports/sales", content=b"June", headers=ASYNC))
        slow.go.set()
        assert (await third).status_code == 201
        for place in places:
            assert (await caller.get(f"{place}?wait=30")).content == b"report on May"


async def test_one_that_is_interrupted_says_so(slow: Slow, restante_client: Client) -> None:
    """Stopped in order, it is told at once; after a crash, when the process of that name is there again."""
    async with served(slow, restante_client) as caller:
        stopped = await begun(caller)
    crashed = await restante_client.create_operation(title="POST /reports/x", runner="shop-1")
    other = await restante_client.create_operation(title="POST /reports/x", runner="shop-2")
    async with served(slow, restante_client) as caller:
        for place in (stopped, f"/operations/{crashed.id}"):
            answer = await caller.get(place)
            assert answer.json()["error"]["code"] == "interrupted", place
        assert (await caller.get(f"/operations/{other.id}")).status_code == 202
        assert (await caller.get("/operations/unknown")).status_code == 404


async def test_nothing_else_of_restante_s_can_be_asked_for(
    slow: Slow, restante_client: Client
) -> None:
    """The events of an operation, for one, of which the answer has no end."""
    async with served(slow, restante_client) as caller:
        place = await begun(caller)
        for path in (f"{place}%2Fevents", f"{place}/events", "/operations/..%2Fqueues"):
            answer = await caller.get(path)
            assert (answer.status_code, answer.json()) == (404, NO_SUCH_OPERATION)


async def test_a_queue_is_told(
    slow: Slow, restante_client: Client, office: restante.embedding.Office
) -> None:
    async with served(slow, restante_client, queue_of=lambda _: "acme") as caller:
        place = await begun(caller)
        slow.go.set()
        session = await office.session("acme")
        (delivery,) = await session.receive(wait_seconds=30)
        assert delivery.attributes["operation"] == place.rpartition("/")[2]
        assert delivery.attributes["state"] == "succeeded"


async def test_by_the_server_s_lifespan(
    restante_client: Client, office: restante.embedding.Office
) -> None:
    """The client, too, may be opened and closed by the application's own, which comes within."""
    crashed = await restante_client.create_operation(runner="shop-1")
    key = await office.add_key(Role.PUBLISHER, "shop")
    client = Client("http://restante", key, transport=httpx.ASGITransport(app=office.asgi()))

    @contextlib.asynccontextmanager
    async def own(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    application = RespondAsync(
        Starlette(lifespan=own), client, runner="shop-1", paths=("/reports",)
    )
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    said: asyncio.Queue[Any] = asyncio.Queue()
    scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    lifespan = asyncio.create_task(application(scope, told.get, said.put))
    told.put_nowait({"type": "lifespan.startup"})
    assert (await said.get())["type"] == "lifespan.startup.complete"
    found = await restante_client.operation(crashed.id)
    assert found.error is not None
    assert found.error.code == "interrupted"
    told.put_nowait({"type": "lifespan.shutdown"})
    assert (await said.get())["type"] == "lifespan.shutdown.complete"
    await lifespan
