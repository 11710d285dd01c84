"""No success is answered before the fdatasync of what it promises: read off the system calls."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import pytest
from tests.failure.house import House
from tests.failure.server import Server
from tests.failure.strace import FAST, SYNCS, traced

from restante.testing.history import History, Publish, Settle

Run = Callable[[Coroutine[Any, Any, None]], None]

WORKERS = 64
TRACED_BYTES = 4_300
"""A page of the WAL and some more: strace prints no less of each write."""

_LINE = re.compile(
    rb"^\d+ +(?:<\.\.\. )?(?P<call>pwrite64|write|writev|sendto|sendmsg|fdatasync|fsync)"
    rb"(?P<resumed> resumed>)?"
)
_FILE = re.compile(rb"^\d+ +\w+\(\d+<(?P<path>[^>]*)>")
_NONCE = re.compile(rb"nonce(\d{7})z")
_SUCCESS = re.compile(rb"HTTP/1\.1 20[01] ")
# What a publish's answer names, and an ack's; a receive's answer promises nothing of either.
_NAMED = re.compile(
    rb'\\"id\\":\\"([^"\\]+)\\",\\"deliveries\\"'
    rb'|\\"lease\\":\\"([^"\\]+)\\",\\"outcome\\":\\"acked\\"'
)


class Order:
    """When what became durable, and when it was promised. Fed with strace's lines in order."""

    def __init__(self) -> None:
        self.durable_at: dict[bytes, int] = {}
        """Nonce: the line that ended the sync of the WAL that covers it."""
        self.promised_at: dict[bytes, int] = {}
        """What a success named, a notification or a lease: the line that began its answer."""
        self._line = 0
        self._written: set[bytes] = set()
        self._syncing: dict[bytes, set[bytes]] = {}
        self._success_on: dict[bytes, int] = {}

    def feed(self, line: bytes) -> None:
        self._line += 1
        match = _LINE.match(line)
        if match is None:
            return
        if match["call"] in (b"fdatasync", b"fsync"):
            self._sync(line, begins=not match["resumed"])
        elif not match["resumed"] and (file := _FILE.match(line)) is not None:
            if file["path"].endswith(b"-wal"):
                self._written.update(set(_NONCE.findall(line)) - self.durable_at.keys())
            elif b"socket:" in file["path"]:
                self._answer(file["path"], line)

    def _sync(self, line: bytes, *, begins: bool) -> None:
        thread = line.split(b" ", 1)[0]
        if begins:
            file = _FILE.match(line)
            if file is None or not file["path"].endswith(b"-wal"):
                return
            # Only what was written before the sync began is covered by it.
            self._syncing[thread] = set(self._written)
        if line.rstrip().endswith(b"= 0"):
            covered = self._syncing.pop(thread, set())
            self._written -= covered
            self.durable_at.update(dict.fromkeys(covered, self._line))

    def _answer(self, socket: bytes, line: bytes) -> None:
        if _SUCCESS.search(line):
            self._success_on[socket] = self._line
        # Head and body may be written apart: the promise is made with the head.
        for published, acked in _NAMED.findall(line):
            name = published or acked
            if socket in self._success_on:
                self.promised_at.setdefault(name, self._success_on[socket])


def early_answers(lines: Iterable[bytes], nonces: dict[bytes, bytes]) -> tuple[list[bytes], int]:
    """The nonces whose success was answered before they were durable, and how many were judged."""
    order = Order()
    for line in lines:
        order.feed(line)
    judged = order.promised_at.keys() & nonces.keys()
    never = len(nonces) * 1_000_000_000
    return [
        nonces[name]
        for name in judged
        if order.durable_at.get(nonces[name], never) > order.promised_at[name]
    ], len(judged)


@pytest.mark.timeout(300)
def test_no_success_before_its_sync(house: House, run: Run) -> None:
    run(no_success_before_its_sync(house, publishes=10_000))


async def no_success_before_its_sync(
    house: House, *, publishes: int, module: str = "restante"
) -> None:
    early, judged = await answer_order(house, publishes=publishes, module=module)
    assert judged == 2 * publishes
    assert not early, f"{len(early)} of {judged} successes were answered before their fdatasync"


async def answer_order(
    house: House, *, publishes: int, module: str = "restante"
) -> tuple[list[bytes], int]:
    """Publish and ack under strace; what was answered too early, and how many answers were judged."""
    trace = house.data.parent / "trace"
    calls = f"trace=pwrite64,write,writev,sendto,sendmsg,{SYNCS}"
    options = [FAST, "-s", str(TRACED_BYTES), "-e", calls]
    async with traced(house.data, *options, output=trace, module=module) as (server, _):
        nonces = await publish_and_ack(house, server, publishes)
        await server.stop()
    with trace.open("rb") as lines:
        return early_answers(lines, nonces)


async def publish_and_ack(house: House, server: Server, publishes: int) -> dict[bytes, bytes]:
    """Publish, then ack all, each with a nonce; the nonces by the notification or lease."""
    await house.furnish(server, ["acme"], lease_seconds=600, max_in_flight=100_000)
    numbers = iter(range(2 * publishes))
    work = asyncio.Queue[bytes]()
    for _ in range(publishes):
        work.put_nowait(b"nonce%07dz" % next(numbers))
    nonces: dict[bytes, bytes] = {}

    async def publish() -> None:
        shop = house.caller("shop")
        while not work.empty():
            nonce = work.get_nowait()
            call = await shop.publish(nonce, queue="acme")
            assert call.outcome == "ok", call
            assert call.notification is not None
            nonces[call.notification.encode()] = nonce[5:-1]

    async def ack() -> None:
        acme = house.caller("acme")
        while leases := await acme.receive("acme", max=10):
            for lease in leases:
                nonce = b"nonce%07dz" % next(numbers)
                nonces[lease.lease.encode()] = nonce[5:-1]
                call = await acme.settle(lease.lease, "ack", reply=nonce)
                assert call.outcome == "ok", call

    await asyncio.gather(*(publish() for _ in range(WORKERS)))
    await asyncio.gather(*(ack() for _ in range(WORKERS)))
    history = History.load(house.history_file)
    assert len(list(history.of(Publish))) == len(list(history.of(Settle))) == publishes
    return nonces


def test_the_judge_tells_early_from_late() -> None:
    wal = b'7 pwrite64(9</d/restante.db-wal>, "..nonce0000001z..", 4096, 0) = 4096\n'
    sync = b"7 fdatasync(9</d/restante.db-wal>) = 0\n"
    answer = b'8    write(12<socket:[55]>, "HTTP/1.1 201 Created\\r\\n\\r\\n{\\"id\\":\\"n1\\",\\"deliveries\\":[]}", 60) = 60\n'  # noqa: E501
    begun = b"7 fdatasync(9</d/restante.db-wal> <unfinished ...>\n"
    done = b"7 <... fdatasync resumed>) = 0\n"
    failed = b"7 fdatasync(9</d/restante.db-wal>) = -1 EIO (Input/output error) (INJECTED)\n"
    other = b"7 fdatasync(9</d/restante.db>) = 0\n"
    head = b'8 write(12<socket:[55]>, "HTTP/1.1 201 Created\\r\\n\\r\\n", 40) = 40\n'
    body = b'8 write(12<socket:[55]>, "{\\"id\\":\\"n1\\",\\"deliveries\\":[]}", 20) = 20\n'
    named = {b"n1": b"0000001"}
    for lines in ([wal, sync, answer], [wal, begun, done, answer], [wal, sync, head, body]):
        assert early_answers(lines, named) == ([], 1)
    for lines in (
        [wal, answer, sync],
        [sync, wal, answer],
        [wal, begun, answer, done],
        [begun, wal, done, answer],
        [wal, failed, answer],
        [wal, other, answer],
        [answer],
        [wal, head, begun, done, body],
    ):
        assert early_answers(lines, named) == ([b"0000001"], 1)
