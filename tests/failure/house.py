"""A service with its clients: who there is, what they may do, and what they have seen so far."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.failure.clients import Caller
from tests.failure.server import Reachable
from tests.failure.streams import CALLERS

from restante.keyfiles import LEDGER_KEY_FILE, load_log_keys
from restante.log_audit import HeldHead, LogAuditor
from restante.testing.checker import Verdict, examine
from restante.testing.history import HeadRead, History, Publish, Recorder, Role

DRAIN_SECONDS = 90.0
POLL_SECONDS = 15.0
WAITING = ("ready", "scheduled", "held", "leased")


class House:
    """Makes callers that share one history. ``data`` is the server's directory, ``ledger_key`` the file of the key
    that signs its log of receipts.
    """

    def __init__(self, folder: Path, name: str = "data") -> None:
        self.data = folder / name
        self.ledger_key = self.data / LEDGER_KEY_FILE
        self.history_file = folder / f"{name}.history.jsonl"
        self.recorder = Recorder(self.history_file, "test")
        self.queues: list[str] = []
        self.leases: dict[str, float] = {}
        self._keys: dict[str, str] = {}
        self._callers: list[Caller] = []
        self._bodies = itertools.count(1)
        self.admin = self.caller("admin")

    def caller(self, who: str, speaks: str = "http") -> Caller:
        """A new caller: the administrator, the publisher ``shop``, or a client, which may speak ``websocket``
        or ``events``.
        """
        kind = CALLERS[speaks]
        if who == "admin":
            caller = kind(self.recorder, self.leases)
        else:
            role: Role = "publisher" if who == "shop" else "client"
            caller = kind(self.recorder, self.leases, who=who, role=role, key=self._keys[who])
        caller.port = self._callers[0].port if self._callers else 0
        self._callers.append(caller)
        return caller

    def key_of(self, who: str) -> str:
        """The key of the publisher ``shop`` or of a client."""
        return self._keys[who]

    def use(self, *servers: Reachable) -> None:
        """From now on every caller talks to this server; to several in turn, where there are several."""
        for caller, server in zip(self._callers, itertools.cycle(servers), strict=False):
            caller.use(server)

    async def furnish(self, server: Reachable, clients: Iterable[str], **settings: Any) -> None:
        """Make clients with a queue of their own name and these settings, and a publisher."""
        self.use(server)
        made = await self.admin.must("POST", "/v1/keys", {"role": "publisher", "name": "shop"})
        self._keys["shop"] = made["key"]
        for name in clients:
            made = await self.admin.must("POST", "/v1/clients", {"name": name})
            self._keys[name] = made["key"]
            self.queues.append(name)
            configured = await self.admin.put_queue(name, name, **settings)
            assert configured.outcome == "ok", configured

    def body(self, filler: int = 0) -> bytes:
        """A body that no other publish of this history has."""
        return b"<notification number='%d'>%b</notification>" % (next(self._bodies), b"x" * filler)

    async def drain(self, *queues: str) -> None:
        """Collect and ack until nothing waits any more; fails after DRAIN_SECONDS."""
        self.recorder.mark("healed")
        await asyncio.gather(*(self._drain(queue) for queue in queues or self.queues))

    async def _drain(self, queue: str) -> None:
        client, admin = self.caller(queue), self.caller("admin")
        deadline = time.monotonic() + DRAIN_SECONDS
        while True:
            leases = await client.receive(queue, max=200, wait=1)
            if leases:
                await client.settle_batch(queue, [(lease.lease, "ack") for lease in leases])
                continue
            figures = await admin.read_figures(queue)
            assert figures, f"the figures of {queue} could not be read"
            if not any(figures[state] for state in WAITING):
                self.recorder.mark("drained", queue=queue)
                return
            assert time.monotonic() < deadline, f"{queue} is not drained: {figures}"

    async def read_everything(self, notifications: int = 200) -> None:
        """Read figures and ledgers, and the records of the last acknowledged notifications."""
        acknowledged = [
            publish.notification
            for publish in History.load(self.history_file).of(Publish)
            if publish.outcome == "ok" and publish.notification is not None
        ]
        for notification in acknowledged[-notifications:]:
            await self.admin.read_notification(notification)
        for queue in self.queues:
            await self.admin.read_figures(queue)
            await self.admin.read_receipts(queue)

    async def sealed(self, caller: Caller) -> None:
        """Wait until all that is written is in the log, as an administrator's caller is told; fails after 20 s."""
        for queue in self.queues:
            # The newest of each: those before it are in the log by then.
            newest, after = "", 0
            while after is not None:
                page = f"/v1/queues/{queue}/receipts?limit=1000&after={after}"
                found = await caller.must("GET", page)
                newest = found["receipts"][-1]["id"] if found["receipts"] else newest
                after = found["next"]
            if newest:
                await caller.must("GET", f"/v1/receipts/{newest}/proof?wait=20")

    async def audit_log(self) -> None:
        """Read the log for I18, and have an auditor look at it who holds the key and every head that was read before.

        Nothing is written since the ledgers were read.
        """
        await self.sealed(self.admin)
        heads = [head for head in History.load(self.history_file).of(HeadRead) if head.note]
        held = [HeldHead(head.note, f"read {number}") for number, head in enumerate(heads, 1)]
        auditor = LogAuditor(load_log_keys(self.ledger_key).trusted, held)
        await self.admin.read_log(auditor.look)
        verdict = auditor.verdict()
        assert (verdict.findings, verdict.unsealed, verdict.unjudged) == ([], 0, 0)
        assert verdict.receipts > 0

    def verdict(self) -> Verdict:
        return examine(History.load(self.history_file), poll_seconds=POLL_SECONDS)

    def assert_sound(self, *judged: str) -> Verdict:
        """No violation, and something looked at for each invariant named."""
        verdict = self.verdict()
        assert not verdict.violations, str(verdict)
        silent = [name for name in judged if not verdict.judged[name]]
        assert not silent, f"nothing was judged for {silent}"
        return verdict

    def close(self) -> None:
        for caller in self._callers:
            caller.disconnect()
        self.recorder.close()
