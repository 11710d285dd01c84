"""Dead letters redriven and discarded with an idempotency key, by a store that fails in the middle."""

import asyncio

import httpx
import pytest
from tests.unit.engine.house import bury, failing, figures, slow, turns

from restante.app import build_api
from restante.engine.jobs import STEP
from restante.errors import StoreFull, StoreUnavailable

KEY = "the-administrators-key"
DEAD = "/v1/queues/acme/dead"
HEADERS = {"authorization": f"Bearer {KEY}", "idempotency-key": "d1"}


@pytest.fixture
async def http(broker):
    transport = httpx.ASGITransport(build_api(broker, KEY))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://service.test", headers=HEADERS
    ) as client:
        yield client


@pytest.mark.parametrize("error", [StoreFull(), StoreUnavailable()])
async def test_what_failed_half_done_is_not_run_again(http, broker, monkeypatch, error):
    await bury(broker, STEP + 50)
    asked = {"seqs": list(range(1, STEP + 51))}
    failing(monkeypatch, broker.store, "discard", None, error)
    first = await http.post(f"{DEAD}/discard", json=asked)
    assert (first.status_code, first.json()["code"]) == (503, "outcome_unknown")
    assert (await http.get("/v1/requests/d1")).json()["state"] == "unknown"
    again = await http.post(f"{DEAD}/discard", json=asked)
    assert (again.status_code, again.json()["code"]) == (409, "request_unknown")
    assert (await figures(broker)).dead == 50


async def test_what_failed_before_anything_was_done_is_run_again(http, broker, monkeypatch):
    await bury(broker, 2)
    failing(monkeypatch, broker.store, "discard", StoreFull())
    assert (await http.post(f"{DEAD}/discard", json={"seqs": [1, 2]})).status_code == 507
    assert (await http.get("/v1/requests/d1")).status_code == 404
    assert (await http.post(f"{DEAD}/discard", json={"seqs": [1, 2]})).json()["done"] == 2


async def test_a_job_that_goes_on_is_asked_for_once(http, broker, clock, monkeypatch):
    await bury(broker, 5)
    slow(monkeypatch, broker.store, "redrive")
    asked = asyncio.create_task(http.post(f"{DEAD}/redrive", json={"all": True}))
    while not (await broker.jobs.page()).jobs:
        await turns(1)
    failing(monkeypatch, broker.store, "browse", *[StoreUnavailable()] * 10)
    while not asked.done():
        await turns()
        clock.advance(2)
    first = await asked
    assert (first.status_code, first.json()) == (200, {"matched": 5, "done": 5})
    again = await http.post(f"{DEAD}/redrive", json={"all": True})
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    assert len((await broker.jobs.page()).jobs) == 1
