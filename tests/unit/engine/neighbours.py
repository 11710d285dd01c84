"""Nodes over one store in memory, and what they tell one another through it. Nothing here waits for real time."""

from __future__ import annotations

import asyncio

from restante.errors import StoreUnavailable
from restante.nodes import (
    CLAIM_SECONDS,
    SLOTS,
    Beat,
    Node,
    NodeReport,
    changed_by,
    fair_share,
)
from restante.stores.memory import MemoryStore


class Board:
    """The ``Nodes`` of all: what PostgreSQL keeps in tables. Names in ``cut_off`` reach it no more."""

    def __init__(self, clock):
        self.clock = clock
        self.cut_off = set()
        self.held_back = None
        self.reports: dict[str, NodeReport] = {}
        self.beats = 0
        self.key_id = b""
        self._at = {}
        self._slots = dict.fromkeys(range(SLOTS), ("", 0.0))
        self._log = []

    def record(self, changes):
        self._log.append([told for change in changes if (told := changed_by(change)) is not None])

    def beat(self, report):
        answer = asyncio.get_running_loop().create_future()
        if report.name in self.cut_off:
            answer.set_exception(StoreUnavailable("cut off"))
            return answer
        beat = self._beat(report)
        if self.held_back is None:
            answer.set_result(beat)
        else:
            self.held_back.append((answer, beat))
        return answer

    def agree(self, key_ids):
        answer = asyncio.get_running_loop().create_future()
        if not self.key_id or self.key_id in key_ids:
            self.key_id = key_ids[0]
        answer.set_result(self.key_id == key_ids[0])
        return answer

    def leave(self, node):
        self._at.pop(node, None)
        for slot, (holder, _) in self._slots.items():
            if holder == node:
                self._slots[slot] = ("", 0.0)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def _beat(self, report):
        self.beats += 1
        now, me = self.clock.monotonic(), report.id
        self.reports[report.name] = report
        self.reports[me] = report
        self._at[me] = now
        for slot, (holder, _) in self._slots.items():
            if holder == me:
                kept = slot in report.holding
                self._slots[slot] = (me, now + CLAIM_SECONDS) if kept else ("", 0.0)
        mine = {slot for slot, (holder, _) in self._slots.items() if holder == me}
        if report.calls_webhooks and not report.draining:
            share = fair_share(
                sum(
                    self.reports[id].calls_webhooks and not self.reports[id].draining
                    for id, at in self._at.items()
                    if now - at < CLAIM_SECONDS
                )
            )
            free = [slot for slot, (_, until) in self._slots.items() if until <= now]
            for slot in free[: max(0, share - len(mine))]:
                self._slots[slot] = (me, now + CLAIM_SECONDS)
                mine.add(slot)
            mine = set(sorted(mine)[:share])
        version = 1 + len(self._log)
        changes = None
        if report.seen:
            changes = [one for told in self._log[report.seen - 1 :] for one in told]
        return Beat(version, changes, self._nodes(now), frozenset(mine))

    def _nodes(self, now):
        return [
            Node(
                id=id,
                name=self.reports[id].name,
                version=self.reports[id].version,
                url=self.reports[id].url,
                started_at_ms=self.reports[id].started_at_ms,
                draining=self.reports[id].draining,
                connections=self.reports[id].connections,
                webhooks=self.reports[id].webhooks,
                silent_seconds=now - at,
            )
            for id, at in self._at.items()
        ]


class SharedStore(MemoryStore):
    """A store in memory that several brokers have open."""

    def __init__(self, clock, **options):
        super().__init__(clock, **options)
        self.board = Board(clock)

    @property
    def nodes(self):
        return self.board

    def configure(self, changes):
        done = super().configure(changes)
        if done.exception() is None:
            self.board.record(changes)
        return done
