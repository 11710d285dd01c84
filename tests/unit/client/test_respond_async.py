"""An endpoint of a service goes on in the background, and its caller finds the answer, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.client.house import ASYNC, Slow, begun, served

import restante
from restante.client import Client

NO_SUCH_OPERATION = {"detail": "there is no such operation here"}


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


@pytest.mark.parametrize(
    ("what", "expected"), [("mailed", (200, b"report")), ("refused", (503, b"no ink"))]
)
async def test_what_it_does_after_its_answer_is_its_own(
    slow: Slow,
    restante_client: Client,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    expected: tuple[int, bytes],
) -> None:
    """Neither has it to be waited for, nor does its failure change the answer; at a stop it has time to end."""
    monkeypatch.setattr("restante.client.respond_async._RAISE_SECONDS", 0)
    async with served(slow, restante_client) as caller:
        place = await begun(caller, what)
        slow.go.set()
        answer = await caller.get(f"{place}?wait=30")
        assert (answer.status_code, answer.content) == expected
        assert not slow.mailed
        asyncio.get_running_loop().call_soon(slow.may_mail.set)
    assert slow.mailed
    async with served(slow, restante_client) as caller:
        answer = await caller.get(place)
        assert (answer.status_code, answer.content) == expected


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


async def test_so_many_go_on_in_the_background(slow: Slow, restante_client: Client) -> None:
    async with served(slow, restante_client, under_way=2) as caller:
        places = [await begun(caller) for _ in range(2)]
        third = asyncio.create_task(caller.post("/reports/sales", content=b"June", headers=ASYNC))
        slow.go.set()
        assert (await third).status_code == 201
        for place in places:
            assert (await caller.get(f"{place}?wait=30")).content == b"report on May"


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
