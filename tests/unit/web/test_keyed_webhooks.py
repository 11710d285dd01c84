"""Webhooks enabled and disabled with an idempotency key."""

from types import SimpleNamespace

import httpx
import pytest
from tests.unit.engine.house import OPERATOR, acts

from restante.app import build_api
from restante.errors import StoreUnavailable
from restante.queries import Receipts, WebhookOf

KEY = "the-administrators-key"
URL = "https://hooks.example/in"


@pytest.mark.parametrize("call", ["enable", "disable"])
async def test_what_was_done_is_answered_although_the_ledger_cannot_be_read_then(
    broker, monkeypatch, call
):
    """Answered "nothing was done" it would be done again by a repeat, whatever others did meanwhile."""
    webhooks = broker.webhooks
    webhooks.courier = SimpleNamespace(refresh=lambda _: None, circuit=lambda _: None)
    await webhooks.put("acme", URL, None, {})
    if call == "enable":
        await webhooks.disable("acme", "for the test", OPERATOR)
    browse = broker.store.browse

    def away_once_it_is_done(query):
        if isinstance(query, Receipts) and done():
            raise StoreUnavailable
        return browse(query)

    def done():
        return browse(WebhookOf("acme")).result().enabled is (call == "enable")

    monkeypatch.setattr(broker.store, "browse", away_once_it_is_done)
    headers = {"authorization": f"Bearer {KEY}", "idempotency-key": "w1"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(build_api(broker, KEY)),
        base_url="http://service.test",
        headers=headers,
    ) as http:
        first = await http.post(f"/v1/queues/acme/webhook/{call}")
        again = await http.post(f"/v1/queues/acme/webhook/{call}")
    assert (first.status_code, first.json()["state"]) == (200, f"{call}d")
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    (act,) = await acts(broker, what=f"webhook.{call}d", who="admin")
    assert act.queue == "acme"


async def test_the_secret_of_a_new_one_is_shown_although_the_ledger_cannot_be_read(
    broker, monkeypatch
):
    broker.webhooks.courier = SimpleNamespace(refresh=lambda _: None, circuit=lambda _: None)
    browse = broker.store.browse

    def away(query):
        if isinstance(query, Receipts):
            raise StoreUnavailable
        return browse(query)

    monkeypatch.setattr(broker.store, "browse", away)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(build_api(broker, KEY)),
        base_url="http://service.test",
        headers={"authorization": f"Bearer {KEY}"},
    ) as http:
        made = await http.put("/v1/queues/acme/webhook", json={"url": URL})
    assert (made.status_code, made.json()["secret"][:6]) == (201, "whsec_")
