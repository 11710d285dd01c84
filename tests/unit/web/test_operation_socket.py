"""Following operations while they are read: nothing older is told after what is newer."""

import asyncio
import re

import httpx
import pytest
from tests.unit.engine.house import OPERATOR, SHOP, turns
from tests.unit.engine.test_operations import DONE, RUNNING, make
from tests.unit.transports.house import Socket

from restante.app import build_api
from restante.engine.administration import Administration
from restante.model import Role
from restante.operation import Move
from restante.papers import Kind
from restante.queries import PaperOf


@pytest.fixture
async def key(broker):
    _, text = await Administration(broker, OPERATOR).add_key(Role.CLIENT, "acme", None, "")
    return text


class Reader(Socket):
    """Takes as many messages as there is room for."""

    def __init__(self, broker, key, room):
        self.room = asyncio.Semaphore(room)
        super().__init__(broker, key, "/v1/operations/socket", "restante.operations.v1")

    async def _send(self, message):
        if message["type"] == "websocket.send":
            await self.room.acquire()
        await super()._send(message)

    @property
    def told(self):
        return [(frame["operation"]["id"], frame["operation"]["version"]) for frame in self.frames]


@pytest.fixture
async def reader(broker, key):
    socket = Reader(broker, key, 3)
    await turns()
    yield socket
    await socket.leave()


class Held:
    """Has the store read operations at once, and answer each time only when it is let go."""

    def __init__(self, monkeypatch, store):
        self.reads: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        self._browse = store.browse
        monkeypatch.setattr(store, "browse", self.browse)

    def browse(self, query):
        found = self._browse(query)
        if isinstance(query, PaperOf) and query.kind is Kind.OPERATION:
            return asyncio.ensure_future(self._late(found))
        return found

    async def _late(self, found):
        go = asyncio.Event()
        self.reads.put_nowait(go)
        await go.wait()
        return await found


@pytest.mark.parametrize("move", [DONE, RUNNING])
async def test_what_was_read_before_a_change_is_not_told_after_it(
    broker, store, monkeypatch, reader, move
):
    id = (await make(broker)).operation.id
    with monkeypatch.context() as patch:
        held = Held(patch, store)
        reader.say(type="watch", ids=[id])
        read = await held.reads.get()
    await broker.operations.move(id, move, SHOP)
    await turns()
    read.set()
    await turns()
    assert reader.told == [(id, 2)]
    if move is RUNNING:
        await broker.operations.move(id, DONE, SHOP)
        await turns()
        assert reader.told == [(id, 2), (id, 3)]


async def test_what_is_watched_anew_is_not_told_as_it_was_before(broker, reader):
    """By one that is slow to read: changes of several wait for it, and it is no longer told of one of them."""
    one, two, three = [(await make(broker)).operation.id for _ in range(3)]
    reader.say(type="watch", ids=[one, two, three])
    await turns()
    for id in (one, two, three):
        await broker.operations.move(id, RUNNING, SHOP)
        await turns()
    reader.room.release()
    await turns()
    reader.say(type="unwatch", ids=[three])
    await turns()
    await broker.operations.move(three, Move(progress=0.5), SHOP)
    reader.say(type="watch", ids=[three])
    await turns()
    for _ in range(5):
        reader.room.release()
    await turns()
    assert reader.told == [(one, 1), (two, 1), (three, 1), (one, 2), (two, 2), (three, 3)]


async def test_a_frame_of_no_kind_is_told_which_kinds_there_are(reader):
    reader.say(type="wach", ids=[])
    await turns()
    (frame,) = reader.frames
    assert (frame["type"], frame["code"]) == ("error", "malformed")
    assert "'wach' (it is one of: watch, unwatch) - at `$.type`" in frame["detail"]


async def test_events_never_go_back(broker, store, monkeypatch, key):
    id = (await make(broker)).operation.id
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(build_api(broker)),
        base_url="http://service.test",
        headers=headers,
    ) as caller:
        with monkeypatch.context() as patch:
            held = Held(patch, store)
            following = asyncio.create_task(caller.get(f"/v1/operations/{id}/events"))
            (await held.reads.get()).set()
            read = await held.reads.get()
        await broker.operations.move(id, DONE, SHOP)
        read.set()
        answer = await asyncio.wait_for(following, 5)
    assert re.findall(r"^id: (.*)$", answer.text, re.MULTILINE) == ["2"]


async def test_a_wait_has_what_came_while_it_read(broker, store, monkeypatch):
    id = (await make(broker)).operation.id
    with monkeypatch.context() as patch:
        held = Held(patch, store)
        waiting = asyncio.create_task(broker.operations.wait(id, SHOP, after=None, seconds=60))
        read = await held.reads.get()
    await broker.operations.move(id, RUNNING, SHOP)
    await broker.operations.move(id, DONE, SHOP)
    read.set()
    assert (await asyncio.wait_for(waiting, 5)).version == 3
