"""What is published is answered as published, whatever becomes of the look at how it stands."""

import asyncio

import httpx
import pytest
from tests.unit.engine.house import OPERATOR, turns

from restante.app import build_api
from restante.engine import waiting
from restante.engine.administration import Administration
from restante.engine.settling import Settle
from restante.errors import ShuttingDown, StoreUnavailable
from restante.model import Role, Verb
from restante.papers import Kind
from restante.queries import FiguresOf, NotificationById, PaperOf

PATH = "/v1/queues/acme/notifications"
MEMBERS = {"timeout_seconds": 600, "members": [{"queue": "acme", "body": "<a/>"}]}


@pytest.fixture
async def shop(broker):
    _, key = await Administration(broker, OPERATOR).add_key(Role.PUBLISHER, "shop", None, "")
    async with httpx.AsyncClient(
        base_url="http://service.test",
        transport=httpx.ASGITransport(build_api(broker)),
        headers={"authorization": f"Bearer {key}"},
    ) as caller:
        yield caller


class Away:
    """A store that answers no look at how things stand, while it is away."""

    def __init__(self, store, monkeypatch):
        self.error = None
        self.looks = 0
        self._browse = store.browse
        monkeypatch.setattr(store, "browse", self._asked)

    def _asked(self, query):
        if not isinstance(query, NotificationById | PaperOf):
            return self._browse(query)
        if isinstance(query, PaperOf) and query.kind is not Kind.GROUP:
            return self._browse(query)
        self.looks += 1
        if self.error is None:
            return self._browse(query)
        answer = asyncio.get_running_loop().create_future()
        if self.error is not TimeoutError:
            answer.set_exception(self.error("gone"))
        return answer


@pytest.fixture
def away(store, monkeypatch):
    return Away(store, monkeypatch)


async def sign(broker, reply=b"<done/>"):
    session = await broker.session("acme", OPERATOR)
    (delivery,) = await session.receive(max=1)
    item = Settle(lease=session.token(delivery), verb=Verb.ACK, reply=reply)
    await (await session.settle([item])).results()
    await turns()


@pytest.mark.parametrize("error", [StoreUnavailable, ShuttingDown])
@pytest.mark.parametrize("as_xml", [False, True])
async def test_a_publication_is_pending_where_nobody_can_look(broker, shop, away, error, as_xml):
    away.error = error
    headers = {"prefer": "wait=0"} | ({"accept": "application/xml"} if as_xml else {})
    answer = await shop.post(PATH, content=b"<a/>", headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["preference-applied"] == "wait=0"
    place = answer.headers["location"]
    if as_xml:
        assert "<queue>acme</queue><seq>1</seq></item>" in answer.text
    else:
        id = place.rpartition("/")[2]
        assert answer.json() == {
            "id": id,
            "result": "pending",
            "deliveries": [{"queue": "acme", "seq": 1}],
        }
    assert (await broker.store.browse(FiguresOf("acme"))).ready == 1
    assert (await shop.get(place)).status_code == 503, "who only looks is told that it cannot be"
    away.error = None
    await sign(broker)
    assert (await shop.get(place)).json()["result"] == "met"


async def test_the_wait_goes_on_when_the_store_is_back(broker, shop, away, clock):
    away.error = StoreUnavailable
    asking = asyncio.create_task(shop.post(PATH, content=b"<a/>", headers={"prefer": "wait=30"}))
    await turns()
    assert away.looks == 1
    clock.advance(1)
    await turns()
    assert away.looks == 2
    away.error = None
    clock.advance(1)
    await turns()
    assert not asking.done()
    await sign(broker)
    answer = await asking
    assert (answer.status_code, answer.json()["result"]) == (200, "met")
    assert answer.json()["deliveries"][0]["reply"] == "<done/>"


async def test_what_was_seen_last_is_told_when_the_time_is_up(broker, shop, away, clock):
    asking = asyncio.create_task(shop.post(PATH, content=b"<a/>", headers={"prefer": "wait=30"}))
    await turns()
    away.error = StoreUnavailable
    clock.advance(30)
    answer = await asking
    assert (answer.status_code, answer.json()["result"]) == (202, "pending")
    (delivery,) = answer.json()["deliveries"]
    assert (delivery["state"], delivery["attempt"]) == ("ready", 0)
    assert len(broker.waiting) == 0


async def test_while_the_store_is_away_the_time_is_still_up_in_time(broker, shop, away, clock):
    away.error = StoreUnavailable
    asking = asyncio.create_task(shop.post(PATH, content=b"<a/>", headers={"prefer": "wait=2"}))
    for _ in range(2):
        await turns()
        assert not asking.done()
        clock.advance(1)
    assert (await asking).status_code == 202
    assert len(broker.waiting) == 0


async def test_a_stop_ends_the_wait_for_a_store_that_is_away(broker, shop, away):
    away.error = ShuttingDown
    asking = asyncio.create_task(shop.post(PATH, content=b"<a/>", headers={"prefer": "wait=30"}))
    await turns()
    broker.drain()
    assert (await asking).status_code == 202


async def test_a_store_that_does_not_answer_holds_nobody_up(shop, away, monkeypatch):
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0)
    away.error = TimeoutError
    answer = await shop.post(PATH, content=b"<a/>", headers={"prefer": "wait=0"})
    assert (answer.status_code, answer.json()["result"]) == (202, "pending")


async def test_a_repeat_with_its_key_waits_for_the_same_one(broker, shop, away):
    headers = {"prefer": "wait=0", "idempotency-key": "k1"}
    away.error = StoreUnavailable
    first, repeat = [await shop.post(PATH, content=b"<a/>", headers=headers) for _ in range(2)]
    assert (first.status_code, repeat.status_code) == (202, 202)
    assert "idempotency-replayed" not in first.headers
    assert repeat.headers["idempotency-replayed"] == "true"
    assert first.json() == repeat.json()
    away.error = None
    await sign(broker)
    last = await shop.post(PATH, content=b"<a/>", headers=headers)
    assert (last.status_code, last.json()["result"]) == (200, "met")
    assert last.json()["id"] == first.json()["id"]


async def test_who_goes_on_waiting_does_so_while_the_store_is_away(broker, shop, away, clock):
    answer = await shop.post(PATH, content=b"<a/>", headers={"prefer": "wait=0"})
    place = answer.headers["location"]
    asking = [asyncio.create_task(shop.get(place, params={"wait": wait})) for wait in (5, 30)]
    await turns()
    away.error = StoreUnavailable
    clock.advance(5)
    early = await asking[0]
    assert (early.status_code, early.json()["result"]) == (200, "pending")
    broker.waiting.tell(answer.json()["id"])
    await turns()
    away.error = None
    await sign(broker)
    assert (await asking[1]).json()["result"] == "met"


async def test_a_group_is_pending_where_nobody_can_look(broker, shop, away, clock):
    away.error = StoreUnavailable
    headers = {"prefer": "wait=30", "idempotency-key": "k1"}
    asking = asyncio.create_task(shop.post("/v1/groups", json=MEMBERS, headers=headers))
    await turns()
    clock.advance(30)
    answer = await asking
    assert (answer.status_code, answer.json()["state"]) == (202, "pending"), answer.text
    assert answer.headers["preference-applied"] == "wait=30"
    place = answer.headers["location"]
    assert place == f"/v1/groups/{answer.json()['id']}"
    away.error = None
    clock.advance(2)
    await turns()
    await sign(broker)
    assert (await shop.get(place)).json()["state"] == "complete"
    again = await shop.post("/v1/groups", json=MEMBERS, headers=headers)
    assert (again.status_code, again.json()["id"]) == (200, answer.json()["id"])


async def test_a_group_is_waited_for_when_the_store_is_back(broker, shop, away, clock):
    away.error = StoreUnavailable
    headers = {"prefer": "wait=30"}
    asking = asyncio.create_task(shop.post("/v1/groups", json=MEMBERS, headers=headers))
    await turns()
    away.error = None
    clock.advance(2)
    await turns()
    assert not asking.done()
    await sign(broker)
    answer = await asking
    assert (answer.status_code, answer.json()["state"]) == (200, "complete")
