"""The post office's counter: publishing, opening sessions, asking. Every transport and every embedder comes here."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from restante import auth
from restante.addresses import Network
from restante.admission import admit, check_body
from restante.alerting import Alerting
from restante.changes import Change
from restante.engine.acts import ACT_RETENTION_SECONDS, Acts
from restante.engine.alerts import Alerts
from restante.engine.attachments import CONNECTIONS_PER_PRINCIPAL, Attachments
from restante.engine.contacts import Contacts
from restante.engine.directory import Directory
from restante.engine.groups import Groups
from restante.engine.ids import new_id
from restante.engine.intake import Intake
from restante.engine.jobs import Jobs
from restante.engine.monitor import Monitor
from restante.engine.nodes import Membership
from restante.engine.operations import Operations
from restante.engine.proof_waits import ProofWaits
from restante.engine.publishing import Publishing
from restante.engine.rates import CLIENT_REQUESTS_PER_SECOND, Rates
from restante.engine.receipt_log import HEAD_SECONDS, ReceiptLog
from restante.engine.requests import KEPT_REQUESTS, RETENTION_SECONDS, Requests
from restante.engine.session import Session
from restante.engine.settling import Settle, Settler, Settling
from restante.engine.signing_keys import SigningKeys
from restante.engine.stream import Holders, Stream
from restante.engine.sweeper import Sweeper
from restante.engine.tracing import Tracer
from restante.engine.waiting import Waiting
from restante.engine.wakeups import Wakeups
from restante.engine.webhooks import WebhookDesk
from restante.errors import LeaseNotFound, Malformed, RestanteError
from restante.idempotency import Policy, publishers_name
from restante.model import (
    BATCH,
    Actor,
    Appended,
    Draft,
    Idempotency,
    LeaseRef,
    Publication,
    Role,
    check_bounds,
    check_name,
)
from restante.nodes import Changed, NodeName, Subject, changed_by
from restante.ports import Clock, Store, Waker
from restante.tracecontext import carried
from restante.wire import tokens
from restante.wire.checkpoints import NO_KEYS, LogKeys
from restante.wire.sealing import Keyring

POLL_INTERVAL_SECONDS: Final = 15.0
RETENTION_INTERVAL_SECONDS: Final = 60.0


class Broker:
    """``async with Broker(store, clock) as broker`` runs the time-outs and the retention as long as it is open.

    Leaving it answers every waiting ``receive`` with nothing and finishes what was begun; leases stay as they are.
    With ``log_keys`` it seals receipts into the log, whose heads these keys sign.
    The store is its maker's to close; ``waker`` (None: this node is alone) is listened to while the broker is open.
    """

    def __init__(  # noqa: PLR0913  # one for each setting
        self,
        store: Store,
        clock: Clock,
        *,
        poll_interval_seconds: float = POLL_INTERVAL_SECONDS,
        retention_interval_seconds: float = RETENTION_INTERVAL_SECONDS,
        connections_per_principal: int = CONNECTIONS_PER_PRINCIPAL,
        keyring: Keyring | None = None,
        webhook_allow: Sequence[Network] = (),
        waker: Waker | None = None,
        client_requests_per_second: float = CLIENT_REQUESTS_PER_SECOND,
        node: NodeName | None = None,
        alerting: Alerting | None = None,
        tracer: Tracer | None = None,
        act_retention_seconds: int = ACT_RETENTION_SECONDS,
        log_keys: LogKeys = NO_KEYS,
        ledger_head_seconds: float = HEAD_SECONDS,
        ledger_heads: Iterable[str] = (),
        request_retention_seconds: float = RETENTION_SECONDS,
        unknown_requests: Policy = Policy.REFUSE,
        requests_per_principal: int = KEPT_REQUESTS,
    ) -> None:
        self.store = store
        self.clock = clock
        self.tracer = tracer
        self.retiring = asyncio.Event()
        self.draining = False
        self.directory = Directory(store)
        self.wakeups = Wakeups(clock, waker)
        self._waker = waker
        self._open = contextlib.AsyncExitStack()
        self.holders = Holders()
        self.attachments = Attachments(self.directory, clock, connections_per_principal)
        self.sweeper = Sweeper(
            store,
            clock,
            self.wakeups,
            self.wake,
            poll_interval_seconds=poll_interval_seconds,
            retention_interval_seconds=retention_interval_seconds,
        )
        self.rates = Rates(clock, client_requests_per_second)
        self.acts = Acts(store, clock, act_retention_seconds)
        self.signing_keys = SigningKeys(store, clock, self.acts)
        self.webhooks = WebhookDesk(self, keyring, webhook_allow)
        self.membership = Membership(self, node or NodeName())
        self.jobs = Jobs(self)
        self.log = ReceiptLog(
            store, clock, self.membership.id, log_keys, ledger_head_seconds, ledger_heads
        )
        self.waiting = Waiting(self)
        self.proofs = ProofWaits(self)
        self.groups = Groups(self)
        self.operations = Operations(self)
        self.requests = Requests(
            self,
            policy=unknown_requests,
            retention_seconds=request_retention_seconds,
            kept_requests=requests_per_principal,
            keyring=keyring,
        )
        self.contacts = Contacts(clock.wall_ms)
        self.monitor = Monitor(self)
        self.alerts = Alerts(store, clock, self.monitor, alerting)
        self.monitor.after_look(self.alerts.look)
        self._kept: set[asyncio.Task[Any]] = set()
        self._endless: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        if self._waker is not None:
            await self._open.enter_async_context(self._waker.listening(self.wakeups.hear))
        endless: list[Coroutine[Any, Any, None]] = [
            self.sweeper.sweep(),
            self.sweeper.retain(),
            self.membership.live(),
            self.jobs.live(),
            self.groups.live(),
            self.operations.live(),
            self.operations.watches.look(),
            self.monitor.watch(),
            self.log.live(),
            self.proofs.look(),
            self.log.watch(),
        ]
        if (outbox := self.store.outbox) is not None:
            intake = Intake(outbox, self.directory, self.clock, self.wake, self.sweeper.arm)
            endless.append(intake.take_in())
        self._endless = [asyncio.create_task(job) for job in endless]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.drain()
        await self.requests.close()
        for task in self._endless:
            task.cancel()
        await asyncio.gather(*self._endless, *self._kept, return_exceptions=True)
        await self.monitor.close()
        await self.membership.leave()
        await self._open.aclose()

    @property
    def ready(self) -> bool:
        """Whether this node is one to be sent requests."""
        store = self.store
        return store.available and not store.failed.done() and not self.retiring.is_set()

    def retire(self) -> None:
        """Say wherever it is asked that this node goes out of service. Until ``drain`` it serves as before."""
        self.retiring.set()
        self.membership.hurry()

    def drain(self) -> None:
        """Answer everyone who waits, now, with nothing, and tell those who are connected to leave.

        Whoever comes later does not wait.
        """
        self.retire()
        self.draining = True
        self.wakeups.dismiss()
        self.waiting.dismiss()
        self.operations.watches.dismiss()
        self.attachments.drain()

    async def configure(self, *changes: Change) -> None:
        """Have all changes made, or none, and let them take effect on this node."""
        await self.store.configure(changes)
        for change in changes:
            if (changed := changed_by(change)) is not None:
                self.heed(changed)

    def heed(self, changed: Changed) -> None:
        """What was changed, on whatever node, takes effect on this one. For a key that has ended see ``dismiss``."""
        match changed.subject:
            case Subject.QUEUE:
                self.directory.forget_queue(changed.name)
                # Settings may have let held deliveries go, or opened the flow.
                self.wakeups.wake(changed.name)
            case Subject.KEY:
                self.directory.forget_key(changed.name)
            case Subject.SUBSCRIPTIONS:
                self.directory.forget_subscriptions()
            case Subject.WEBHOOK:
                self.webhooks.refresh(changed.name)

    def dismiss(self, key_id: str) -> None:
        """A key has ended: who came with it is answered with nothing, and disconnected."""
        self.directory.end_key(key_id)
        self.wakeups.dismiss(key_id)
        self.waiting.dismiss(key_id)
        self.operations.watches.dismiss(key_id)
        self.attachments.dismiss(key_id)

    # -- publishing -----------------------------------------------------------------------------

    async def publish(self, publication: Publication, actor: Actor) -> Appended:
        """Store one notification durably, then return. Raises what ``Store.append`` names, and ``BodyTooLarge``."""
        draft = self._draft(publication, actor)
        name = publication.queue
        queue = self.directory.known_queue(name) or await self.directory.queue(name)
        auth.require_publish(actor, queue)
        check_body(len(draft.body), name, queue.settings)
        return _one(await self.append_all([draft]))

    async def publish_to_topic(self, publication: Publication, actor: Actor) -> Appended:
        """Store one notification for every queue subscribed to its topic, none included, in one transaction."""
        return _one(await self.append_all([await self._routed(publication, actor)]))

    async def publish_batch(
        self, publications: Sequence[Publication], actor: Actor
    ) -> list[Appended | RestanteError]:
        """Store up to 1,000 notifications in one transaction; each stands or fails by itself."""
        return await (await self.begin_batch(publications, actor)).results()

    async def begin_batch(self, publications: Sequence[Publication], actor: Actor) -> Publishing:
        """As ``publish_batch``, begun when this returns: those begun one after the other are stored in that order."""
        check_bounds("number of notifications", len(publications), 1, BATCH)
        auth.require(actor, Role.PUBLISHER, Role.ADMIN)
        publishing = Publishing(len(publications))
        drafts: list[Draft] = []
        places: list[int] = []
        for index, publication in enumerate(publications):
            try:
                drafts.append(await self.checked(publication, actor))
                places.append(index)
            except RestanteError as error:
                publishing.refuse(index, error)
        if drafts:
            publishing.stores(places, self._begin(drafts))
        return publishing

    async def checked(self, publication: Publication, actor: Actor) -> Draft:
        """What would be stored, where nothing is against it. Raises what publishing does before it stores."""
        if bool(publication.queue) == bool(publication.topic):
            raise Malformed("a notification names either a queue or a topic")
        if publication.topic:
            return await self._routed(publication, actor)
        draft = self._draft(publication, actor)
        queue = await self.directory.queue(publication.queue)
        auth.require_publish(actor, queue)
        check_body(len(draft.body), queue.name, queue.settings)
        return draft

    async def _routed(self, publication: Publication, actor: Actor) -> Draft:
        auth.require(actor, Role.PUBLISHER, Role.ADMIN)
        check_name("topic", publication.topic)
        router = await self.directory.router()
        queues = router.queues(publication.topic, publication.attributes)
        for name in queues:
            queue = self.directory.known_queue(name) or await self.directory.queue(name)
            check_body(len(publication.body), name, queue.settings)
        return self._draft(publication, actor, queues)

    def _draft(self, publication: Publication, actor: Actor, queues: tuple[str, ...] = ()) -> Draft:
        digest = hashlib.sha256(publication.body).digest()
        idempotency = None
        if publication.idempotency_key:
            target = f"{publication.queue}\n{publication.topic}\n{publication.content_type}\n"
            fingerprint = hashlib.sha256(target.encode() + digest).digest()
            idempotency = Idempotency(
                publishers_name(actor.principal),
                publication.idempotency_key,
                fingerprint,
            )
        draft = Draft(
            id=new_id(self.clock.wall_ms()),
            queues=(publication.queue,) if publication.queue else queues,
            body=publication.body,
            body_sha256=digest,
            content_type=publication.content_type,
            actor=actor,
            topic=publication.topic,
            attributes=carried(publication.attributes) if publication.attributes else {},
            ordering_key=publication.ordering_key,
            collapse_key=publication.collapse_key,
            deliver_after_seconds=publication.deliver_after_seconds,
            expires_after_seconds=publication.expires_after_seconds,
            idempotency=idempotency,
        )
        admit(draft)
        return draft

    async def append(self, draft: Draft) -> Appended:
        """Store a draft that its maker has checked."""
        return _one(await self.append_all([draft]))

    async def append_all(self, drafts: list[Draft]) -> list[Appended | RestanteError]:
        """As ``append``, in one transaction; each stands or fails by itself."""
        # The publisher may leave: what is being committed is committed, and its consumers are woken.
        return await asyncio.shield(self._begin(drafts))

    def _begin(self, drafts: list[Draft]) -> asyncio.Future[list[Appended | RestanteError]]:
        if self.tracer is None:
            future = self.store.append(drafts)
        else:
            drafts, traced = self.tracer.publishing(drafts)
            future = self.store.append(drafts)
            future.add_done_callback(traced)
        future.add_done_callback(lambda done: self._appended(drafts, done))
        return future

    def _appended(
        self, drafts: list[Draft], done: asyncio.Future[list[Appended | RestanteError]]
    ) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        for draft, result in zip(drafts, done.result(), strict=True):
            if isinstance(result, Appended) and not result.replayed:
                if result.ready:
                    self.wake(result.ready)
                for due in (draft.deliver_after_seconds, draft.expires_after_seconds):
                    if due:
                        self.sweeper.arm(due)

    # -- collecting -----------------------------------------------------------------------------

    async def session(self, queue: str, actor: Actor) -> Session:
        """Attach a consumer. ``QueueNotFound`` where the actor may not know the queue; ``Forbidden`` for publishers."""
        found = self.directory.known_queue(queue) or await self.directory.queue(queue)
        auth.require_collect(actor, found)
        return Session(self, found, actor)

    async def stream(
        self,
        queue: str,
        actor: Actor,
        *,
        lease_seconds: float | None = None,
        consumer: str | None = None,
        turns: asyncio.Semaphore | None = None,
    ) -> Stream:
        """A consumer that stays, to be entered. Errors as for ``session``, and ``OutOfBounds``.

        ``consumer`` is the id of an earlier stream, where this one goes on. ``turns`` is for streams that share a
        connection: each takes a turn to look, and keeps it until it asks for more, so that no more is leased than the
        connection can take.
        """
        return Stream(self, await self.session(queue, actor), lease_seconds, consumer, turns)

    async def settle(self, items: Sequence[Settle], actor: Actor) -> Settling:
        """Settle leases of any queue that the actor may collect from; begun when this returns.

        An item whose token is forged, or another's, has ``LeaseNotFound`` for its result. ``Forbidden`` for publishers.
        """
        auth.require(actor, Role.CLIENT, Role.ADMIN)
        refs = [self.ref_of(item.lease) for item in items]
        names = {ref.queue for ref in refs if ref is not None}
        return await Settler(self, actor).begin(items, refs, names)

    def ref_of(self, lease: str) -> LeaseRef | None:
        """What a lease token names; None for one that this store never made."""
        try:
            return tokens.unseal(self.store.token_secret, lease)
        except LeaseNotFound:
            return None

    # -- waking ---------------------------------------------------------------------------------

    def wake(self, ready: dict[str, int]) -> None:
        """So many deliveries became ready, by queue: wake as many consumers."""
        for queue, count in ready.items():
            self.wakeups.wake(queue, count)

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something to its end, whoever asked for it; closing the broker waits for it."""
        task = asyncio.create_task(work)
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)


def _one(results: list[Appended | RestanteError]) -> Appended:
    result = results[0]
    if isinstance(result, RestanteError):
        raise result
    return result
