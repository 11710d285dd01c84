"""The lifespan of what stands around an application: opened first, closed before anybody is told of the end."""

import asyncio
import contextlib
from typing import Any

import pytest

from restante.errors import StoreUnavailable
from restante.wrapping import live, nothing, plain

STARTED = ["open", "startup.complete"]


class Own:
    """What is opened and closed, and fails where the test says so."""

    def __init__(self, log):
        self.log = log
        self.fails_to_open = self.fails_to_close = None

    async def __aenter__(self):
        if self.fails_to_open:
            raise self.fails_to_open
        self.log.append("open")

    async def __aexit__(self, *_):
        self.log.append("close")
        if self.fails_to_close:
            raise self.fails_to_close


class Server:
    """One that says what servers say, and keeps what it is told in the same log as what is opened and closed."""

    def __init__(self):
        self.log: list[str] = []
        self.own = Own(self.log)
        self.started = asyncio.Event()
        self.stop = asyncio.Event()
        self.messages: list[Any] = []
        self.raised: BaseException | None = None
        self._said = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive(self):
        said = next(self._said)
        if said == "lifespan.shutdown":
            await self.stop.wait()
        return {"type": said}

    async def send(self, message):
        self.messages.append(message)
        self.log.append(message["type"].removeprefix("lifespan."))
        self.started.set()

    async def live(self, within):
        """From the start to a stop that is asked for once it has started."""
        life = asyncio.create_task(
            live(self.own, within, {"type": "lifespan"}, self.receive, self.send)
        )
        await self.started.wait()
        self.log.append("serving")
        self.stop.set()
        (self.raised,) = await asyncio.gather(life, return_exceptions=True)
        return self.log


@pytest.fixture
def server():
    return Server()


def within(log, start="startup.complete", stop="shutdown.complete"):
    """An application that says both; None: that raises in its place."""

    async def application(scope, receive, send):
        await receive()
        if start is None:
            raise ValueError("cannot start")
        await send({"type": f"lifespan.{start}"})
        if start == "startup.failed":
            return
        await receive()
        log.append("stopping")
        if stop is None:
            raise ValueError("cannot stop")
        await send({"type": f"lifespan.{stop}"})

    return application


async def test_it_is_closed_before_the_application_stops_and_the_server_learns_of_it(server):
    log = await server.live(within(server.log))
    assert log == [*STARTED, "serving", "close", "stopping", "shutdown.complete"]


async def test_a_start_that_failed_is_told_after_the_close(server):
    log = await server.live(within(server.log, start="startup.failed"))
    assert log == ["open", "close", "startup.failed", "serving"]


async def test_a_stop_that_failed_is_told_as_it_is(server):
    log = await server.live(within(server.log, stop="shutdown.failed"))
    assert log == [*STARTED, "serving", "close", "stopping", "shutdown.failed"]
    assert server.messages[-1].get("message") is None


async def test_what_the_application_raises_at_its_stop_is_told(server):
    log = await server.live(within(server.log, stop=None))
    assert log == [*STARTED, "serving", "close", "stopping", "shutdown.failed"]
    assert "cannot stop" in server.messages[-1]["message"]
    assert isinstance(server.raised, ValueError)


async def raises(scope, receive, send):
    raise ValueError("what is lifespan?")


async def says_no_more_than_that_it_has_started(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})


async def says_all_at_once(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


@pytest.mark.parametrize(
    "application",
    [
        nothing,
        raises,
        within([], start=None),
        says_no_more_than_that_it_has_started,
        says_all_at_once,
    ],
)
async def test_whoever_knows_no_whole_lifespan_is_served_to_the_stop(server, application):
    log = await server.live(application)
    assert log == [*STARTED, "serving", "close", "shutdown.complete"]
    assert server.raised is None


async def test_who_breaks_while_it_is_served_is_served_on_and_it_is_told_at_the_stop(server):
    async def application(scope, receive, send):
        await says_no_more_than_that_it_has_started(scope, receive, send)
        raise ValueError("broken")

    log = await server.live(application)
    assert log == [*STARTED, "serving", "close", "shutdown.failed"]
    assert "broken" in server.messages[-1]["message"]
    assert isinstance(server.raised, ValueError)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), PermissionError("no way in")])
async def test_what_cannot_be_opened_is_told(server, error):
    server.own.fails_to_open = error
    log = await server.live(within(server.log))
    assert log == ["startup.failed", "serving"]
    assert server.raised is error
    assert str(error) in server.messages[0]["message"]
    assert ("Traceback" in server.messages[0]["message"]) is isinstance(error, PermissionError)


async def test_what_cannot_be_closed_is_told_and_the_application_stops_all_the_same(server):
    server.own.fails_to_close = OSError("still open")
    log = await server.live(within(server.log))
    assert log == [*STARTED, "serving", "close", "stopping", "shutdown.failed"]
    assert "still open" in server.messages[-1]["message"]
    assert server.raised is server.own.fails_to_close


async def test_around_one_another_the_inner_is_closed_last(server):
    inner = Own(server.log)

    async def around(scope, receive, send):
        await live(inner, within(server.log), scope, receive, send)

    log = await server.live(around)
    expected = ["open", *STARTED, "serving", "close", "close", "stopping", "shutdown.complete"]
    assert log == expected


async def test_a_server_that_gives_up_has_it_closed(server):
    life = asyncio.create_task(
        live(server.own, within(server.log), {"type": "lifespan"}, server.receive, server.send)
    )
    await server.started.wait()
    life.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await life
    assert server.log == [*STARTED, "close"]


def test_only_what_can_be_kept_is_offered():
    scope = {"type": "http", "extensions": {"http.response.pathsend": {}, "tls": {"a": 1}}}
    assert plain(scope) == {"type": "http", "extensions": {"tls": {"a": 1}}}
    assert plain({"type": "http"}) == {"type": "http", "extensions": {}}
