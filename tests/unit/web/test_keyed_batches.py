"""Batches of publications with an idempotency key: what the store could not do is done by the repeat, and no more."""

import asyncio

import httpx
import pytest
from tests.unit.engine.house import failing, figures

import restante
from restante import idempotency
from restante.app import build_api
from restante.errors import OutcomeUnknown, StoreFull, StoreUnavailable

KEY = "the-administrators-key"
PATH = "/v1/notifications"
BATCH = {"notifications": [{"queue": "acme", "body": f"<n>{number}</n>"} for number in range(4)]}
REPLAYED = "idempotency-replayed"
DAY = 86_400


@pytest.fixture
async def http(broker):
    async with caller(build_api(broker, KEY)) as client:
        yield client


def caller(api):
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(api),
        base_url="http://service.test",
        headers={"authorization": f"Bearer {KEY}"},
    )


async def post(http, batch=BATCH, key="b1"):
    return await http.post(PATH, headers={"idempotency-key": key}, json=batch)


async def state(http, key="b1"):
    answer = await http.get(f"/v1/requests/{key}")
    return answer.json()["state"] if answer.status_code == 200 else answer.status_code


def replayed(results):
    return [one.get("replayed", False) for one in results]


def refusing(monkeypatch, store, error, *indexes):
    """Have the store refuse the drafts at these places of the next batch."""
    append = store.append
    left = [indexes]

    def some(drafts):
        refused = left.pop() if left else ()
        done = append([draft for index, draft in enumerate(drafts) if index not in refused])
        results = iter(done.result())
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(
            [error if index in refused else next(results) for index in range(len(drafts))]
        )
        return answer

    monkeypatch.setattr(store, "append", some)


@pytest.mark.parametrize("error", [StoreFull(), StoreUnavailable()])
async def test_a_repeat_publishes_what_is_missing_and_tells_what_was_there(
    http, broker, monkeypatch, error
):
    refusing(monkeypatch, broker.store, error, 1, 3)
    first = (await post(http)).json()["results"]
    assert [one["ok"] for one in first] == [True, False, True, False]
    assert first[1]["status"] == error.status
    assert await state(http) == "incomplete"
    answer = await post(http)
    again = answer.json()["results"]
    assert (answer.status_code, answer.headers.get(REPLAYED)) == (200, None)
    assert [one["ok"] for one in again] == [True] * 4
    assert replayed(again) == [True, False, True, False]
    assert [again[index]["id"] for index in (0, 2)] == [first[index]["id"] for index in (0, 2)]
    assert (await figures(broker)).published == 4
    last = await post(http)
    assert (last.json()["results"], last.headers[REPLAYED]) == (again, "true")
    assert await state(http) == "done"


async def test_another_batch_under_the_key_is_refused_while_some_of_the_first_is_missing(
    http, broker, monkeypatch
):
    refusing(monkeypatch, broker.store, StoreFull(), 1)
    await post(http)
    other = {"notifications": BATCH["notifications"][:2]}
    refused = await post(http, other)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert (await figures(broker)).published == 3


async def test_a_batch_of_which_nothing_was_stored_frees_its_key(http, broker, monkeypatch):
    refusing(monkeypatch, broker.store, StoreFull(), 0, 1, 2, 3)
    assert (await post(http)).status_code == 200
    assert await state(http) == 404
    other = {"notifications": BATCH["notifications"][:2]}
    assert [one["ok"] for one in (await post(http, other)).json()["results"]] == [True, True]


async def test_a_batch_that_the_store_refused_as_a_whole_frees_its_key(http, broker, monkeypatch):
    failing(monkeypatch, broker.store, "append", StoreUnavailable())
    assert (await post(http)).status_code == 503
    assert await state(http) == 404
    assert (await post(http)).status_code == 200
    assert (await figures(broker)).published == 4


async def test_a_batch_of_unknown_outcome_is_done_by_its_repeat(http, broker, monkeypatch):
    """It may be there or not: its items' keys tell, and nobody has to look."""
    append = broker.store.append

    def lost(drafts):
        append(drafts)
        answer = asyncio.get_running_loop().create_future()
        answer.set_exception(OutcomeUnknown())
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(broker.store, "append", lost)
        assert (await post(http)).json()["code"] == "outcome_unknown"
    assert await state(http) == "incomplete"
    again = (await post(http)).json()["results"]
    assert replayed(again) == [True] * 4
    assert (await figures(broker)).published == 4


async def test_refusals_are_an_answer_and_kept(http, broker):
    batch = {"notifications": [*BATCH["notifications"], {"queue": "none", "body": "x"}, {}]}
    first = await post(http, batch)
    assert [one["ok"] for one in first.json()["results"]] == [True] * 4 + [False] * 2
    again = await post(http, batch)
    assert (again.json(), again.headers[REPLAYED]) == (first.json(), "true")


async def test_alike_items_of_a_batch_and_of_another_are_different_notifications(http, broker):
    batch = {"notifications": [BATCH["notifications"][0]] * 3}
    await post(http, batch)
    await post(http, batch, key="b2")
    assert (await http.post(PATH, json=batch)).status_code == 200
    assert (await figures(broker)).published == 9


async def test_an_item_s_own_key_goes_before(http, broker):
    batch = {"notifications": [{"queue": "acme", "body": "x", "idempotency_key": "own"}] * 2}
    first, second = (await post(http, batch)).json()["results"]
    assert replayed([first, second]) == [False, True]
    (other,) = (await post(http, {"notifications": batch["notifications"][:1]}, key="b2")).json()[
        "results"
    ]
    assert (first["id"], other["id"]) == (second["id"], first["id"])


async def test_the_answer_about_many_is_made_again_of_its_items(http, broker, monkeypatch):
    """One that is too long is not kept."""
    monkeypatch.setattr(idempotency, "ANSWER_BYTES", 100)
    first = (await post(http)).json()["results"]
    assert await state(http) == "done"
    answer = await post(http)
    again = answer.json()["results"]
    assert (answer.status_code, [one["id"] for one in again]) == (200, [one["id"] for one in first])
    assert replayed(again) == [True] * 4
    assert (await figures(broker)).published == 4


@pytest.mark.parametrize("key", ['""', "x" * 256])
async def test_what_is_no_key_is_refused(http, broker, key):
    assert (await post(http, key=key)).json()["code"] == "invalid_header"
    assert (await figures(broker)).published == 0


async def prune(store):
    while await store.prune(1_000):
        pass


async def test_nobody_is_told_to_repeat_a_batch_whose_keys_are_gone(
    http, broker, clock, monkeypatch
):
    """The wall clock was set back: by it the batch would be remembered two days longer than its keys are."""
    refusing(monkeypatch, broker.store, StoreFull(), 1)
    await post(http)
    clock.jump_wall(-2 * DAY)
    clock.advance(7 * DAY - 1)
    await prune(broker.store)
    assert await state(http) == "incomplete"
    clock.advance(DAY)
    await prune(broker.store)
    assert await state(http) == 404
    # It is another batch by now, and so may be whatever comes with the key.
    other = {"notifications": BATCH["notifications"][:2]}
    assert replayed((await post(http, other)).json()["results"]) == [False] * 2


@pytest.mark.parametrize("days", [1, 30])
async def test_embedded_the_keys_of_a_batch_last_as_long_as_it_is_remembered(
    clock, monkeypatch, days
):
    monkeypatch.setattr("restante.app.SystemClock", lambda: clock)
    async with restante.open("memory://", request_retention_seconds=days * DAY) as office:
        store = office.broker.store
        await office.add_client("acme")
        async with caller(office.asgi(KEY)) as http:
            refusing(monkeypatch, store, StoreFull(), 1)
            await post(http)
            clock.advance(days * DAY - 1)
            await prune(store)
            assert await state(http) == "incomplete"
            again = (await post(http)).json()["results"]
            assert replayed(again) == [True, False, True, True]
            assert (await figures(office.broker)).published == 4
