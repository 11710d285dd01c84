"""The middleware around applications of all kinds, in this process, over a store that outlives it."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import anyio
import httpx
import pytest
from starlette.middleware.base import BaseHTTPMiddleware
from tests.unit.engine.house import turns

import restante
from restante.errors import (
    ConfigurationError,
    PaperChanged,
    RequestNotFound,
    StoreUnavailable,
    Unauthenticated,
)
from restante.idempotency import ANSWER_BYTES, State

WHO = "Bearer a"


class App:
    """Counts its calls and answers with their number, in the way the test says."""

    def __init__(self):
        self.calls = 0
        self.bodies = []
        self.status = 201
        self.chunks = None
        self.error = None
        self.late_error = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
            return
        assert not any(name.startswith("http.response.") for name in scope.get("extensions") or {})
        self.calls += 1
        message = await receive()
        self.bodies.append(message.get("body", b""))
        self.entered.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        headers = [(b"content-type", b"text/plain"), (b"x-call", b"%d" % self.calls)]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        for chunk in self.chunks or []:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if self.late_error is not None:
            raise self.late_error
        await send({"type": "http.response.body", "body": b"call %d" % self.calls})


def caller(middleware):
    transport = httpx.ASGITransport(middleware, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://service")


@pytest.fixture
def app():
    return App()


async def post(middleware, key="k1", content=b"<order/>", **headers):
    named = {"content-type": "application/xml", "authorization": WHO} | headers
    if key is not None:
        named["idempotency-key"] = key
    async with caller(middleware) as http:
        return await http.post("/orders", content=content, headers=named)


ORDER = {
    "type": "http",
    "method": "POST",
    "path": "/orders",
    "query_string": b"",
    "headers": [(b"idempotency-key", b"k1"), (b"authorization", WHO.encode())],
}


async def receive():
    return {"type": "http.request", "body": b"<order/>"}


def seen(answer):
    return answer.status_code, answer.text, answer.headers.get("idempotency-replayed")


async def test_a_repeat_is_given_the_first_answer_also_after_a_restart(app, tmp_path):
    url = f"sqlite:///{tmp_path}/requests"
    async with restante.IdempotencyMiddleware(app, url) as middleware:
        assert seen(await post(middleware)) == (201, "call 1", None)
        again = await post(middleware, '"k1"')
        assert seen(again) == (201, "call 1", "true")
        assert again.headers["x-call"] == "1"
        assert (await middleware.find(WHO, "k1")).status == 201
        with pytest.raises(RequestNotFound):
            await middleware.find(WHO, "k2")
    async with restante.IdempotencyMiddleware(app, url) as middleware:
        assert seen(await post(middleware)) == (201, "call 1", "true")
        other = await post(middleware, content=b"<other/>")
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (app.calls, app.bodies) == (1, [b"<order/>"])


async def ask(middleware, path, **headers):
    async with caller(middleware) as http:
        return await http.get(path, headers={"authorization": WHO} | headers)


async def test_a_caller_is_told_what_came_of_its_request(app, tmp_path):
    url = f"sqlite:///{tmp_path}/requests"
    async with restante.IdempotencyMiddleware(
        app, url, requests_path="/v1/requests/"
    ) as middleware:
        await post(middleware, "a/key ?")
        answer = await ask(middleware, "/v1/requests/a%2Fkey%20%3F")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.headers["cache-control"] == "no-store"
        told = answer.json()
        assert (told["key"], told["state"], told["status"]) == ("a/key ?", "done", 201)
        assert told["since"] < told["expires_at"]
        assert (told["method"], told["path"], told["body"]) == ("POST", "/orders", "call 1")
        app.gate.clear()
        app.entered.clear()
        first = asyncio.create_task(post(middleware, "k2"))
        await app.entered.wait()
        assert (await ask(middleware, "/v1/requests/k2")).json()["state"] == "in_progress"
        app.gate.set()
        app.error = RuntimeError("it broke")
        await first
        told = (await ask(middleware, "/v1/requests/k2")).json()
        assert (told["state"], "status" in told) == ("unknown", False)
        for path, headers, status, code in (
            ("/v1/requests/k3", {}, 404, "request_not_found"),
            ("/v1/requests/k2", {"authorization": "Bearer b"}, 404, "request_not_found"),
            ("/v1/requests/" + "x" * 256, {}, 400, "malformed"),
        ):
            refused = await ask(middleware, path, **headers)
            assert (refused.status_code, refused.json()["code"]) == (status, code)
            assert refused.headers["content-type"] == "application/problem+json"
        async with caller(middleware) as http:
            refused = await http.get("/v1/requests/k2")
            assert (refused.status_code, refused.json()["code"]) == (400, "principal_required")
    assert app.calls == 2
    app.error = None
    async with restante.IdempotencyMiddleware(app, url) as middleware:
        assert (await ask(middleware, "/v1/requests/k2")).text == "call 3"


async def test_what_has_no_key_goes_through_unless_it_must_have_one(app):
    async with restante.IdempotencyMiddleware(app, "memory://") as middleware:
        for _ in range(2):
            assert (await post(middleware, None)).headers.get("idempotency-replayed") is None
        async with caller(middleware) as http:
            for _ in range(2):
                assert (await http.get("/", headers={"idempotency-key": "k"})).status_code == 201
    assert app.calls == 4
    async with restante.IdempotencyMiddleware(app, "memory://", required=True) as middleware:
        for key in (None, "", "x" * 256):
            refused = await post(middleware, key)
            assert (refused.status_code, refused.json()["code"]) == (400, "malformed")
    assert app.calls == 4


async def test_principals_do_not_share_keys(app):
    async with restante.IdempotencyMiddleware(app, "memory://") as middleware:
        first = await post(middleware, authorization="Bearer a")
        second = await post(middleware, authorization="Bearer b")
        assert (first.text, second.text) == ("call 1", "call 2")
    async with restante.IdempotencyMiddleware(
        app,
        "memory://",
        principal=lambda scope: str(dict(scope["headers"])[b"x-tenant"].decode()),
    ) as middleware:
        first = await post(middleware, authorization="Bearer a", **{"x-tenant": "acme"})
        second = await post(middleware, authorization="Bearer b", **{"x-tenant": "acme"})
        assert (first.text, second.text) == ("call 3", "call 3")


async def test_one_at_the_same_time_is_refused_or_waits(app):
    for wait_seconds in (0, 60):
        app.gate.clear()
        app.entered.clear()
        async with restante.IdempotencyMiddleware(
            app, "memory://", wait_seconds=wait_seconds
        ) as middleware:
            first = asyncio.create_task(post(middleware))
            await app.entered.wait()
            second = asyncio.create_task(post(middleware))
            if not wait_seconds:
                refused = await second
                assert (refused.status_code, refused.headers["retry-after"]) == (409, "1")
                assert refused.json()["code"] == "request_in_progress"
            app.gate.set()
            assert seen(await first)[2] is None
            if wait_seconds:
                assert seen(await second) == (201, (await first).text, "true")
    assert app.calls == 2


async def test_what_failed_inside_is_unknown_and_a_refusal_frees_the_key(app):
    async with restante.IdempotencyMiddleware(app, "memory://") as middleware:
        app.status = 503
        assert seen(await post(middleware))[::2] == (503, None)
        app.status = 200
        assert seen(await post(middleware))[::2] == (200, None)
        app.error = ValueError("inside")
        assert (await post(middleware, "k2")).status_code == 500
        app.error = None
        refused = await post(middleware, "k2")
        assert (refused.status_code, refused.json()["code"]) == (409, "request_unknown")
        assert (await middleware.find(WHO, "k2")).state is State.UNKNOWN
    assert app.calls == 3
    async with restante.IdempotencyMiddleware(app, "memory://", policy="run_again") as middleware:
        app.status = 500
        assert (await post(middleware)).status_code == 500
        app.status = 201
        assert seen(await post(middleware))[::2] == (201, None)
        assert seen(await post(middleware))[::2] == (201, "true")


@pytest.mark.parametrize("policy", ["refuse", "run_again"])
@pytest.mark.parametrize("made", [StoreUnavailable, Unauthenticated, PaperChanged])
async def test_what_the_application_raises_comes_out_as_it_is(app, made, policy):
    """Also what is of Restante's own kind: it uses a client of Restante, say."""
    app.error = made("of another's")
    app.error.__cause__ = OSError("beneath")
    async with restante.IdempotencyMiddleware(app, "memory://", policy=policy) as middleware:
        transport = httpx.ASGITransport(middleware)
        headers = {"idempotency-key": "k1", "authorization": WHO}
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
            with pytest.raises(made) as raised:
                await http.post("/orders", headers=headers)
        assert raised.value is app.error
        assert isinstance(raised.value.__cause__, OSError)
        assert raised.traceback[-1].name == "__call__"
        assert (await middleware.find(WHO, "k1")).state is State.UNKNOWN
    assert app.calls == 1


async def test_what_fails_after_its_beginning_went_out_has_no_other(app):
    app.chunks = [b"x" * 50_000] * 4
    app.late_error = Unauthenticated("of another's")
    sent = []

    async def send(message):
        sent.append(message)

    async with restante.IdempotencyMiddleware(app, "memory://") as middleware:
        with pytest.raises(Unauthenticated):
            await middleware(ORDER, receive, send)
        assert (await middleware.find(WHO, "k1")).state is State.UNKNOWN
    assert [message["type"] for message in sent].count("http.response.start") == 1
    assert sent[-1]["more_body"]


async def test_strangers_who_are_turned_away_fill_no_store(app):
    async with restante.IdempotencyMiddleware(app, "memory://") as middleware:
        for status in (401, 404, 405, 413):
            app.status = status
            stranger = f"Bearer made-up-{status}"
            assert (await post(middleware, authorization=stranger)).status_code == status
            with pytest.raises(RequestNotFound):
                await middleware.find(stranger, "k1")


async def test_a_long_answer_is_passed_on_and_remembered_by_its_status(app):
    app.chunks = [b"x" * 50_000] * 4
    async with restante.IdempotencyMiddleware(app, "memory://") as middleware:
        answer = await post(middleware)
        assert answer.content == b"x" * 200_000 + b"call 1"
        assert len(answer.content) > ANSWER_BYTES
        refused = await post(middleware)
        assert (refused.status_code, refused.json()["code"]) == (409, "answer_not_kept")
    assert app.calls == 1


async def test_a_body_has_its_bound(app):
    async with restante.IdempotencyMiddleware(app, "memory://", max_body_bytes=8) as middleware:
        assert (await post(middleware)).status_code == 201
        assert (await post(middleware, "k2", b"<order/>x")).status_code == 413
    assert app.calls == 1


async def test_a_body_is_the_application_s_own_however_it_is_encoded(app):
    async with restante.IdempotencyMiddleware(app, "memory://") as middleware:
        for replayed in (None, "true"):
            answer = await post(middleware, content=b"\x1f\x8b", **{"content-encoding": "gzip"})
            assert seen(answer) == (201, "call 1", replayed)
    assert app.bodies == [b"\x1f\x8b"]


@pytest.mark.parametrize("broken", ["no start", "two ends"])
async def test_what_is_no_answer_is_not_kept(broken):
    async def app(scope, receive, send):
        if broken == "two ends":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"one"})
        await send({"type": "http.response.body", "body": b"two"})

    async with restante.IdempotencyMiddleware(app, "memory://") as middleware:
        answer = await post(middleware)
        record = await middleware.find(WHO, "k1")
    if broken == "no start":
        assert (answer.status_code, record.state) == (500, State.UNKNOWN)
    else:
        assert (answer.text, record.state) == ("one", State.DONE)


async def test_methods_are_meant_however_they_are_written(app):
    async with restante.IdempotencyMiddleware(app, "memory://", methods=["post"]) as middleware:
        for replayed in (None, "true"):
            assert seen(await post(middleware)) == (201, "call 1", replayed)
    with pytest.raises(TypeError, match="methods"):
        restante.IdempotencyMiddleware(app, "memory://", methods="POST")


async def test_who_hangs_up_does_not_stop_it(app):
    app.gate.clear()
    async with restante.IdempotencyMiddleware(app, "memory://") as middleware:
        first = asyncio.create_task(post(middleware))
        await app.entered.wait()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        app.gate.set()
        await turns(50)
        assert seen(await post(middleware)) == (201, "call 1", "true")
    assert app.calls == 1


@pytest.mark.parametrize("answered", [True, False])
async def test_what_does_not_end_is_cancelled_at_the_close(monkeypatch, answered):
    monkeypatch.setattr("restante.middleware._CLOSE_SECONDS", 0)
    monkeypatch.setattr("restante.engine.requests._CLOSE_SECONDS", 0)
    entered = asyncio.Event()
    ended = []

    async def app(scope, receive, send):
        try:
            if answered:
                await send({"type": "http.response.start", "status": 201, "headers": []})
                await send({"type": "http.response.body", "body": b"done"})
            entered.set()
            await asyncio.Event().wait()
        finally:
            await turns(5)
            ended.append("ended")

    async with restante.IdempotencyMiddleware(app, "memory://") as middleware:
        asked = asyncio.create_task(post(middleware))
        await entered.wait()
        if answered:
            assert (await asked).status_code == 201
    assert ended == ["ended"]
    await asyncio.gather(asked, return_exceptions=True)


@pytest.mark.parametrize("error", [BrokenPipeError, anyio.ClosedResourceError])
async def test_who_hangs_up_in_the_middle_of_a_long_answer_does_not_fail_it(app, error):
    app.chunks = [b"x" * 50_000] * 4

    async def send(message):
        raise error

    async with restante.IdempotencyMiddleware(app, "memory://") as middleware:
        await middleware(ORDER, receive, send)
        assert (await middleware.find(WHO, "k1")).state is State.DONE
    assert app.calls == 1


@pytest.mark.parametrize("way", ["first", "repeat", "refused", "long"])
async def test_what_stands_around_it_may_add_a_header_to_every_answer(app, way):
    async def add(request, call_next):
        answer = await call_next(request)
        answer.headers["x-added"] = "yes"
        return answer

    if way == "long":
        app.chunks = [b"x" * 50_000] * 4
    async with restante.IdempotencyMiddleware(app, "memory://") as middleware:
        around = BaseHTTPMiddleware(middleware, add)
        if way in ("repeat", "refused"):
            await post(middleware)
        answer = await post(around, content=b"<other/>" if way == "refused" else b"<order/>")
        assert answer.status_code == (422 if way == "refused" else 201)
        assert answer.headers["x-added"] == "yes"


async def test_its_lifespan_opens_the_store_and_is_passed_on(app):
    middleware = restante.IdempotencyMiddleware(app, "memory://")
    with pytest.raises(RuntimeError, match="not open"):
        await middleware.find(WHO, "k1")
    told: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    asked: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    life = asyncio.create_task(middleware({"type": "lifespan"}, asked.get, told.put))
    await asked.put({"type": "lifespan.startup"})
    assert (await told.get())["type"] == "lifespan.startup.complete"
    assert (await post(middleware)).status_code == 201
    await asked.put({"type": "lifespan.shutdown"})
    assert (await told.get())["type"] == "lifespan.shutdown.complete"
    await life
    broken = restante.IdempotencyMiddleware(app, "nothing://")
    await asked.put({"type": "lifespan.startup"})
    with pytest.raises(ConfigurationError):
        await broken({"type": "lifespan"}, asked.get, told.put)
    assert (await told.get())["type"] == "lifespan.startup.failed"


async def test_who_does_not_say_who_they_are_is_refused_a_key(app):
    async with (
        restante.IdempotencyMiddleware(app, "memory://") as middleware,
        caller(middleware) as http,
    ):
        refused = await http.post("/orders", headers={"idempotency-key": "k1"})
        assert (refused.status_code, refused.json()["code"]) == (400, "principal_required")
        assert (await http.post("/orders")).status_code == 201
    async with (
        restante.IdempotencyMiddleware(app, "memory://", principal=lambda _: "") as middleware,
        caller(middleware) as http,
    ):
        assert (await http.post("/orders", headers={"idempotency-key": "k1"})).status_code == 201
    assert app.calls == 2


class Raising(App):
    """Knows no lifespan, and says so as ASGI has it."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            if self.after:
                await receive()
            raise ValueError("not lifespan")
        await super().__call__(scope, receive, send)


def of_django():
    # The real one's refusal, without the settings that its requests need.
    from django.core.handlers.asgi import ASGIHandler  # type: ignore[import-untyped]

    class Mixed(App):
        async def __call__(self, scope, receive, send):
            if scope["type"] == "lifespan":
                handler = ASGIHandler.__new__(ASGIHandler)
                await ASGIHandler.__call__(handler, scope, receive, send)
            await super().__call__(scope, receive, send)

    return Mixed()


@pytest.mark.parametrize("make", [of_django, lambda: Raising(False), lambda: Raising(True)])
async def test_an_application_without_a_lifespan_is_served_until_the_shutdown(make):
    middleware = restante.IdempotencyMiddleware(make(), "memory://")
    told: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    asked: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    life = asyncio.create_task(middleware({"type": "lifespan"}, asked.get, told.put))
    await asked.put({"type": "lifespan.startup"})
    assert (await told.get())["type"] == "lifespan.startup.complete"
    for replayed in (None, "true"):
        assert seen(await post(middleware)) == (201, "call 1", replayed)
    await asked.put({"type": "lifespan.shutdown"})
    assert (await told.get())["type"] == "lifespan.shutdown.complete"
    await life
    with pytest.raises(RuntimeError, match="not open"):
        await middleware.find(WHO, "k1")


async def test_of_a_principal_so_many_keys_are_remembered(app):
    async with restante.IdempotencyMiddleware(app, "memory://", keys_per_principal=1) as middleware:
        assert (await post(middleware)).status_code == 201
        refused = await post(middleware, "k2")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_kept_requests")
    assert app.calls == 1


@pytest.mark.parametrize("path", ["", "/", "//"])
def test_the_path_of_requests_is_one_of_its_own(app, path):
    with pytest.raises(ValueError, match="requests_path"):
        restante.IdempotencyMiddleware(app, "memory://", requests_path=path)
