"""What the relay makes of answers and failures, over a table and a server that are in memory."""

import asyncio

import pytest

from restante.client import UnexpectedAnswer
from restante.client.answers import Published
from restante.errors import QueueNotFound, RestanteError, StoreFull, Unauthenticated
from restante.ids import uuid7
from restante.outbox import relay
from restante.outbox.relay import BATCH, BATCH_BYTES, Carried, Relay
from restante.written import Written


class Table:
    """Rows in memory."""

    def __init__(self, *rows):
        self.rows = {row.id: row for row in rows}
        self.refused: dict[str, str] = {}
        self.failures: list[RestanteError] = []

    def waiting(self, limit):
        if self.failures:
            raise self.failures.pop(0)
        return [row for row in self.rows.values() if row.id not in self.refused][:limit]

    def settle(self, published, refused):
        for id in published:
            del self.rows[id]
        self.refused |= refused


class Server:
    """Answers with what it was told to, else takes all."""

    def __init__(self):
        self.batches: list[list[str]] = []
        self.failures: list[RestanteError] = []
        self.answers: dict[str, list[RestanteError]] = {}

    async def publish_one(self, publication):
        (result,) = await self.publish_batch([publication])
        if isinstance(result, RestanteError):
            raise result
        return result

    async def publish_batch(self, publications):
        self.batches.append([one.idempotency_key for one in publications])
        if self.failures:
            raise self.failures.pop(0)
        return [self._result(one.idempotency_key) for one in publications]

    def _result(self, key):
        answers = self.answers.get(key)
        return answers.pop(0) if answers else Published(f"n-{key}", [])


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(relay, "SHORTEST_PAUSE_SECONDS", 0.0)


def row(n, body=b"", **fields):
    return Written(
        **{"id": uuid7(n, n), "publisher": "p", "content_type": "a/b", "queue": "q"} | fields,
        body=body,
    )


async def run(table, server, *, told_to_end=False):
    stop = asyncio.Event()
    if told_to_end:
        stop.set()
    return await Relay(table, server, look_seconds=0.0, stop=stop).run(once=True)


async def test_rows_go_in_their_order_under_their_own_keys():
    rows = [row(n) for n in range(BATCH + 1)]
    table, server = Table(*rows), Server()
    assert await run(table, server) == Carried(published=BATCH + 1)
    assert server.batches == [[one.id for one in rows[:BATCH]], [rows[BATCH].id]]
    assert table.rows == {}


async def test_a_request_holds_no_more_bytes_than_it_should():
    rows = [row(n, b"x" * (BATCH_BYTES // 2)) for n in range(5)]
    server = Server()
    await run(Table(*rows), server)
    assert [len(batch) for batch in server.batches] == [2, 2, 1]


@pytest.mark.parametrize("failure", [StoreFull(), UnexpectedAnswer("bad gateway", 502)])
async def test_what_passes_is_waited_for(failure):
    table, server = Table(row(1), row(2)), Server()
    table.failures = [StoreFull("locked")]
    server.failures = [failure]
    assert await run(table, server) == Carried(published=2)
    assert table.rows == {}


async def test_one_that_could_not_be_stored_is_tried_again_alone():
    first, second = row(1), row(2)
    table, server = Table(first, second), Server()
    server.answers = {first.id: [StoreFull("full")]}
    assert await run(table, server) == Carried(published=2)
    assert server.batches == [[first.id, second.id], [first.id]]


async def test_one_that_is_refused_is_marked():
    rows = [row(1), row(2), row(3, attributes="[]")]
    table, server = Table(*rows), Server()
    server.answers = {rows[1].id: [QueueNotFound("there is no queue q here")]}
    assert await run(table, server) == Carried(published=1, refused=2)
    assert table.refused[rows[1].id] == "there is no queue q here"
    assert "JSON object" in table.refused[rows[2].id]


@pytest.mark.parametrize("failure", [Unauthenticated(), UnexpectedAnswer("a page", 200)])
async def test_what_no_waiting_will_mend_ends_it(failure):
    table, server = Table(row(1), row(2)), Server()
    server.failures = [failure]
    with pytest.raises(type(failure)):
        await run(table, server)
    assert len(table.rows) == 2


async def test_it_ends_when_it_is_told_to():
    assert await run(Table(row(1)), Server(), told_to_end=True) == Carried()
