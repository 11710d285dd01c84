"""Which operations share a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from restante.stores.postgresql.committer import Committer
from restante.stores.postgresql.operations import Operation
from restante.stores.postgresql.transactor import Transactor


class Watched(Committer):
    """Keeps what each transaction was given, and does it when it is let."""

    def __init__(self) -> None:
        super().__init__(cast("Transactor", None))
        self.transactions: list[list[Operation]] = []
        self.began = asyncio.Event()
        self.let = asyncio.Event()

    async def _transact(self, operations: Sequence[Operation]) -> list[Any]:
        self.transactions.append(list(operations))
        self.began.set()
        await self.let.wait()
        return [None] * len(operations)


async def test_who_was_just_answered_shares_the_next_transaction():
    committer = Watched()
    operations = [Operation() for _ in range(5)]
    again = [Operation() for _ in range(4)]

    async def ask_twice(number: int) -> None:
        await committer.submit(operations[number])
        await committer.submit(again[number])

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(ask_twice(number))
        await committer.began.wait()
        late = committer.submit(operations[4])
        committer.let.set()
    await late
    assert committer.transactions == [operations[:4], [operations[4], *again]]


async def test_who_asks_alone_is_not_kept_waiting():
    committer = Watched()
    first, second, third = [Operation() for _ in range(3)]

    async def ask_twice() -> None:
        await committer.submit(first)
        await committer.submit(third)

    async with asyncio.TaskGroup() as group:
        group.create_task(ask_twice())
        await committer.began.wait()
        late = committer.submit(second)
        committer.let.set()
    await late
    assert committer.transactions == [[first], [second], [third]]
