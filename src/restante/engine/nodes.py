"""This node among those that share its store: it says that it lives, hears what others changed, and holds claims.

A node that hears nothing any more trusts neither what it remembers nor its claims: it asks the store again for each
key, and calls no webhook by the time from which on others may.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from restante.errors import ShuttingDown, StoreError
from restante.logs import get_logger
from restante.nodes import (
    BEAT_SECONDS,
    CLAIM_SECONDS,
    Beat,
    Node,
    NodeName,
    NodeReport,
    Subject,
    slot_of,
)
from restante.ports import Nodes

if TYPE_CHECKING:
    from restante.engine.broker import Broker

_log = get_logger(__name__)

DOUBT_SECONDS: Final = 3.0
"""Without a beat for this long, what is remembered may have been changed: a key may have been revoked."""


class Membership:
    """Alone with its store a node knows of itself only, and may call every webhook."""

    def __init__(self, broker: Broker, node: NodeName) -> None:
        self._broker = broker
        self._clock = broker.clock
        self._nodes = broker.store.nodes
        self._self = NodeReport(
            id=secrets.token_hex(8),
            name=node.name,
            version=node.version,
            url=node.url,
            started_at_ms=broker.clock.wall_ms(),
        )
        self._seen = 0
        self._known: list[Node] = []
        self._claims: frozenset[int] = frozenset()
        self._heard = self._clock.monotonic()
        self._silent = False
        self._cancel_doubt: Callable[[], None] | None = None
        self._cancel_claims: Callable[[], None] | None = None
        self._alarm: asyncio.Future[None] | None = None

    @property
    def id(self) -> str:
        """Of this process: one that is started again has another."""
        return self._self.id

    @property
    def name(self) -> str:
        """What people call it."""
        return self._self.name

    def holds(self, queue: str) -> bool:
        """Whether the queue's webhook is this node's to call, now. Whoever is told changes that refreshes it."""
        if self._nodes is None:
            return True
        return slot_of(queue) in self._claims and not self._run_out()

    def nodes(self) -> list[Node]:
        """All that have said within an hour that they live, as of the last beat."""
        if self._nodes is None:
            report = self._report()
            return [
                Node(
                    id=report.id,
                    name=report.name,
                    version=report.version,
                    url=report.url,
                    started_at_ms=report.started_at_ms,
                    draining=report.draining,
                    connections=report.connections,
                    webhooks=report.webhooks,
                    silent_seconds=0.0,
                )
            ]
        since = self._clock.monotonic() - self._heard
        return [
            msgspec.structs.replace(node, silent_seconds=node.silent_seconds + since)
            for node in self._known
        ]

    def lives(self, id: str) -> bool:
        """Whether the node with this id is taken for alive; also where this one has heard of nobody lately."""
        if self._clock.monotonic() - self._heard > DOUBT_SECONDS:
            return True
        return any(node.id == id and node.silent_seconds < CLAIM_SECONDS for node in self.nodes())

    def hurry(self) -> None:
        """Something is to be said at once, not at the next beat."""
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    async def live(self) -> None:
        """Until cancelled: say that this node lives, and follow what it hears."""
        if self._nodes is None:
            return
        self._arm(self._clock.monotonic())
        while True:
            # From here on ``hurry`` is heard: what is said below may be what it was before.
            alarm = self._alarm = asyncio.get_running_loop().create_future()
            begun = self._clock.monotonic()
            await self._beat(self._nodes)
            left = begun + BEAT_SECONDS - self._clock.monotonic()
            cancel = self._clock.call_later(max(left, 0.0), self.hurry)
            try:
                await alarm
            finally:
                cancel()

    async def leave(self) -> None:
        """Let the others have what this node held, at its end."""
        self._disarm()
        if self._nodes is None:
            return
        self._claims = frozenset()
        try:
            await self._nodes.leave(self.id)
        except StoreError as error:
            # They have it when the claims have run out.
            _log.warning("nodes.not_left", error=str(error))

    # -- one beat -------------------------------------------------------------------------------

    async def _beat(self, nodes: Nodes) -> None:
        begun = self._clock.monotonic()
        try:
            beat = await nodes.beat(self._report())
            await self._follow(beat)
        except ShuttingDown:
            return
        except StoreError as error:
            if not self._silent:
                self._silent = True
                _log.warning("nodes.silent", error=str(error))
        except Exception:  # noqa: BLE001 (logged; a node that stops saying so is taken for dead)
            _log.exception("nodes.failed")
        else:
            if self._silent:
                self._silent = False
                _log.info("nodes.heard_again")
            self._heard_of(beat, begun)

    def _report(self) -> NodeReport:
        broker = self._broker
        courier = broker.webhooks.courier
        return msgspec.structs.replace(
            self._self,
            draining=broker.retiring.is_set(),
            connections=len(broker.attachments),
            webhooks=0 if courier is None else courier.count,
            seen=self._seen,
            calls_webhooks=courier is not None,
            # What has run out may be another's already, and what nobody here calls any more is another's to call.
            holding=frozenset()
            if courier is None or courier.done or self._run_out()
            else self._claims,
        )

    async def _follow(self, beat: Beat) -> None:
        broker = self._broker
        if beat.changes is None:
            broker.directory.forget_all()
            broker.webhooks.refresh_all()
            await self._end_inactive(
                broker.attachments.key_ids() | broker.wakeups.key_ids() | broker.waiting.key_ids()
            )
            return
        for changed in beat.changes:
            broker.heed(changed)
        await self._end_inactive({one.name for one in beat.changes if one.subject is Subject.KEY})

    async def _end_inactive(self, key_ids: Iterable[str]) -> None:
        """Whoever is here with a key that has ended is disconnected, as on the node where that was asked for."""
        now = self._clock.wall_ms()
        for key_id in key_ids:
            # The environment's key is not in the store, and webhooks are called with none.
            key = await self._broker.directory.key(key_id)
            if key is not None and not key.active(now):
                self._broker.dismiss(key_id)

    def _heard_of(self, beat: Beat, begun: float) -> None:
        before = frozenset() if self._run_out() else self._claims
        self._seen, self._known, self._heard = beat.seen, beat.nodes, begun
        courier = self._broker.webhooks.courier
        done = courier is None or courier.done
        self._claims = frozenset() if done else beat.claims
        self._arm(begun)
        if self._claims != before:
            self._broker.webhooks.refresh_all()

    # -- silence --------------------------------------------------------------------------------

    def _run_out(self) -> bool:
        return self._clock.monotonic() - self._heard >= CLAIM_SECONDS

    def _doubt(self) -> None:
        """Remember nothing for longer than this, until the next beat."""
        self._broker.directory.forget_all()
        self._cancel_doubt = self._clock.call_later(BEAT_SECONDS, self._doubt)

    def _arm(self, begun: float) -> None:
        self._disarm()
        left = begun - self._clock.monotonic()
        self._cancel_doubt = self._clock.call_later(max(0.0, left + DOUBT_SECONDS), self._doubt)
        self._cancel_claims = self._clock.call_later(
            max(0.0, left + CLAIM_SECONDS), self._broker.webhooks.refresh_all
        )

    def _disarm(self) -> None:
        for cancel in (self._cancel_doubt, self._cancel_claims):
            if cancel is not None:
                cancel()
        self._cancel_doubt = self._cancel_claims = None
