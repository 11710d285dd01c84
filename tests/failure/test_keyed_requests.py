"""kill -9 at each sync of a request with an idempotency key: its repeat is told the truth, nothing is made twice."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.failure.server import ADMIN_KEY, DidNotStart, Server, serving
from tests.failure.strace import SYNCS, faults, traced

Run = Callable[[Coroutine[Any, Any, None]], None]
Ask = Callable[[httpx.AsyncClient, int], Coroutine[Any, Any, httpx.Response]]
ITEMS = 3


def caller(server: Server) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{server.port}",
        headers={"authorization": f"Bearer {ADMIN_KEY}"},
        timeout=60,
    )


async def ask(http: httpx.AsyncClient, number: int) -> httpx.Response:
    """Have a client made, under a key of its own."""
    key = {"idempotency-key": f"key-{number}"}
    return await http.post("/v1/clients", json={"name": f"client-{number}"}, headers=key)


async def publish(http: httpx.AsyncClient, number: int) -> httpx.Response:
    """Publish a batch, under a key of its own."""
    key = {"idempotency-key": f"batch-{number}"}
    batch = [{"queue": "acme", "body": f"{number}-{index}"} for index in range(ITEMS)]
    return await http.post("/v1/notifications", json={"notifications": batch}, headers=key)


async def killed_at(data: Path, position: int, ask: Ask) -> bool:
    """Whether the server was killed at that sync; else it has answered."""
    try:
        async with traced(data, *faults(SYNCS, "signal=SIGKILL", position)) as (server, _):
            async with caller(server) as http:
                try:
                    answer = await ask(http, position)
                except httpx.TransportError:
                    assert await server.ended(60) == -signal.SIGKILL
                    return True
            assert answer.is_success
            return False
    except DidNotStart as error:
        if error.code != -signal.SIGKILL:
            raise
        return True


@pytest.mark.timeout(180)
def test_a_kill_at_any_sync_of_a_request(tmp_path: Path, run: Run) -> None:
    run(kills(tmp_path / "data"))


async def kills(data: Path) -> None:
    async with serving(data):
        pass
    last = 1
    while await killed_at(data, last, ask):
        last += 1
    async with serving(data) as server, caller(server) as http:
        seen = [await repeated(http, number) for number in range(1, last + 1)]
    # The first had not begun, and the last was answered.
    assert (seen[0], seen[-1]) == ("run", "replayed")
    assert "unknown" in seen
    # By the operator's word they are run again: what had been done says so.
    again = ("--unknown-requests", "run_again")
    async with serving(data, arguments=again) as server, caller(server) as http:
        for number in (number for number, one in enumerate(seen, 1) if one == "unknown"):
            before = await made(http, number)
            answer = await ask(http, number)
            assert answer.status_code == (201 if before == (0, 0) else 409)
            assert "idempotency-replayed" not in answer.headers
            assert await made(http, number) == (1, 1)
    print(f"\n{seen}")


async def repeated(http: httpx.AsyncClient, number: int) -> str:
    """What the repeats are told: the same each time, and the truth."""
    before = await made(http, number)
    told = await http.get(f"/v1/requests/key-{number}")
    first, again = [await ask(http, number) for _ in range(2)]
    if first.status_code == 409:
        assert first.json()["code"] == again.json()["code"] == "request_unknown"
        assert told.json()["state"] == "unknown"
        assert await made(http, number) == before
        return "unknown"
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    key = {"authorization": f"Bearer {first.json()['key']}"}
    queue = await http.get(f"/v1/queues/client-{number}", headers=key)
    assert queue.status_code == 200, "the key that was handed out is good"
    assert await made(http, number) == (1, 1)
    if "idempotency-replayed" in first.headers:
        assert told.json()["state"] == "done"
        assert before == (1, 1)
        return "replayed"
    assert told.status_code == 404
    assert before == (0, 0)
    return "run"


async def made(http: httpx.AsyncClient, number: int) -> tuple[int, int]:
    """How many clients of that name there are, and how many keys of theirs."""
    clients = (await http.get("/v1/clients", params={"limit": "1000"})).json()["clients"]
    keys = (await http.get("/v1/keys", params={"limit": "1000"})).json()["keys"]
    name = f"client-{number}"
    return (
        sum(client["name"] == name for client in clients),
        sum(key["name"] == name for key in keys),
    )


@pytest.mark.timeout(180)
def test_a_kill_at_any_sync_of_a_batch(tmp_path: Path, run: Run) -> None:
    run(kills_of_batches(tmp_path / "data"))


async def kills_of_batches(data: Path) -> None:
    """Nothing is left unknown: the repeat publishes what is missing, and no more."""
    async with serving(data) as server, caller(server) as http:
        assert (await http.post("/v1/clients", json={"name": "acme"})).status_code == 201
    last = 1
    while await killed_at(data, last, publish):
        last += 1
    seen = []
    async with serving(data) as server, caller(server) as http:
        for number in range(1, last + 1):
            told = await http.get(f"/v1/requests/batch-{number}")
            seen.append(told.json().get("state"))
            first, again = [await publish(http, number) for _ in range(2)]
            assert first.status_code == 200, first.text
            results = first.json()["results"]
            assert [one["ok"] for one in results] == [True] * ITEMS
            assert again.json() == first.json()
            assert again.headers["idempotency-replayed"] == "true"
            assert (await http.get(f"/v1/requests/batch-{number}")).json()["state"] == "done"
        figures = (await http.get("/v1/queues/acme")).json()["figures"]
        assert figures["published"] == ITEMS * last
    # The first had not begun, and the last was answered.
    assert (seen[0], seen[-1]) == (None, "done")
    assert "incomplete" in seen
    print(f"\n{seen}")
