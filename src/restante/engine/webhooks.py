"""Webhooks as their owners set them, and how they fare. The calling itself is a transport's, the ``Courier``."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import msgspec

from restante.addresses import Network
from restante.changes import Change, DropWebhook, PutPaper, PutWebhook
from restante.engine.acts import What
from restante.errors import (
    LastSecret,
    SecretNotFound,
    TooManySecrets,
    WebhookChanged,
    WebhookNotFound,
    WebhooksUnavailable,
)
from restante.logs import get_logger
from restante.model import REASON_CHARACTERS, SYSTEM, Actor, Outcome, check_bounds
from restante.queries import LedgerSpan, Receipts, WebhookOf, Webhooks
from restante.webhooks import (
    OLD_SECRET_SECONDS,
    SECRET_BYTES,
    SECRETS,
    Circuit,
    Webhook,
    WebhookSecret,
    check_headers,
    check_url,
)
from restante.wire import signatures
from restante.wire.receipts import decode_entry
from restante.wire.sealing import KEY_BYTES, NONCE_BYTES, Keyring, SealBroken

if TYPE_CHECKING:
    from restante.engine.broker import Broker

_log = get_logger(__name__)

TRANSPORT: Final = "webhook"
"""What receipts call it."""
_TRIES: Final = 5
_PAGE: Final = 100
_RECEIPTS: Final = 1_000
"""So many of a queue's newest receipts are looked at for how its webhook fares."""
_OF_SECRETS: Final = "webhook secret"
_OF_HEADERS: Final = "webhook headers"
"""What is sealed for one place opens in no other."""
_encode = msgspec.json.Encoder().encode
_decode_headers = msgspec.json.Decoder(dict[str, str]).decode


class Pinged(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a test call. ``status`` is None where nothing was answered, ``reason`` empty where all went well."""

    ok: bool
    status: int | None
    reason: str
    seconds: float


class Opened(NamedTuple):
    """What is sealed of a webhook. Each secret stands with the time at which it ends."""

    headers: Mapping[str, str]
    secrets: Sequence[tuple[bytes, int | None]]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a webhook fares. ``circuit`` is None where this node does not call it; times are RFC 3339, or empty."""

    circuit: Circuit | None
    problem: str = ""
    consecutive_failures: int = 0
    last_success_at: str = ""
    last_error_at: str = ""
    last_error: str = ""


History = Mapping[str, Any]
"""Those fields of a ``Standing`` that the ledger tells."""
NO_HISTORY: Final[History] = {"consecutive_failures": 0}


class Courier(Protocol):
    """What calls webhooks: there where this process can call any."""

    def refresh(self, queue: str) -> None:
        """The queue's webhook was changed, made or dropped."""

    def refresh_all(self) -> None:
        """Other webhooks than before may be this node's to call, and any may have been changed."""

    @property
    def count(self) -> int:
        """How many webhooks are called from here."""

    @property
    def done(self) -> bool:
        """Whether it was told to end, and its last call has ended: others may have its webhooks."""

    async def ping(self, webhook: Webhook) -> Pinged:
        """Make a test call now, whether it is enabled or not."""

    def circuit(self, queue: str) -> Circuit | None:
        """The state of the queue's circuit; None where its webhook is not called from here."""


class WebhookDesk:
    """Callers have checked that the actor may collect from the queue. Each change is written down as an act of theirs.

    Without a ``keyring`` secrets are sealed under a key that lives no longer than this: for stores that do not either.
    """

    def __init__(
        self,
        broker: Broker,
        keyring: Keyring | None,
        allowed: Sequence[Network],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._broker = broker
        self._keyring = keyring or Keyring([random_bytes(KEY_BYTES)])
        self._lasts = keyring is not None
        self._random_bytes = random_bytes
        self.allowed = allowed
        self.courier: Courier | None = None

    # -- looking --------------------------------------------------------------------------------

    async def get(self, queue: str) -> Webhook:
        """The queue's webhook, or ``WebhookNotFound``."""
        webhook = await self._broker.store.browse(WebhookOf(queue))
        if webhook is None:
            raise WebhookNotFound(f"queue {queue} has no webhook")
        return webhook

    async def standing(self, webhook: Webhook, history: History | None = None) -> Standing:
        """How it fares, as the ledger's end tells; where its ``history`` is given, nothing is looked up."""
        if history is None:
            history = await self.history(webhook)
        circuit = None if self.courier is None else self.courier.circuit(webhook.queue)
        return Standing(circuit=circuit, problem=self._problem(webhook), **history)

    async def history(self, webhook: Webhook) -> History:
        """How its last calls ended, as the ledger's end tells, which any node can read; not what an earlier one did."""
        told = dict(NO_HISTORY)
        after: int | None = None
        for _ in range(_RECEIPTS // _PAGE):
            page = await self._broker.store.browse(
                Receipts(webhook.queue, after, _PAGE, newest_first=True)
            )
            for receipt in page.receipts:
                if receipt.number <= webhook.after_receipt:
                    return told
                entry = decode_entry(receipt.entry)
                if entry.transport != TRANSPORT:
                    continue
                if entry.outcome == Outcome.ACKED:
                    told.setdefault("last_success_at", entry.at)
                elif entry.outcome == Outcome.NACKED and "last_success_at" not in told:
                    told["consecutive_failures"] += 1
                if entry.outcome != Outcome.ACKED and "last_error_at" not in told:
                    told |= {"last_error_at": entry.at, "last_error": entry.reason}
            after = page.next
            if after is None or {"last_success_at", "last_error_at"} <= told.keys():
                break
        return told

    def open(self, webhook: Webhook) -> Opened:
        """What is sealed of it; ``SealBroken`` where the operator's keys do not open it."""
        headers: Mapping[str, str] = {}
        if webhook.sealed_headers:
            place = (_OF_HEADERS, webhook.queue)
            headers = _decode_headers(self._keyring.open(webhook.sealed_headers, place))
        opened = [(self._open(webhook.queue, one), one.ends_at_ms) for one in webhook.secrets]
        return Opened(headers, opened)

    def _problem(self, webhook: Webhook) -> str:
        try:
            self.open(webhook)
        except SealBroken:
            return "its secrets cannot be opened with the service's keys: tell the operator"
        return ""

    # -- changing -------------------------------------------------------------------------------

    async def put(
        self,
        queue: str,
        url: str,
        headers: Mapping[str, str] | None,
        settings: Mapping[str, Any],
        actor: Actor = SYSTEM,
    ) -> tuple[Webhook, str | None]:
        """Make or change the queue's webhook; the first secret's text when it was made, which is shown this once.

        Headers that are None, and what is not in ``settings``, keep their value (on creation: none, and the default).
        Raises ``InvalidUrl``, ``InvalidHeader``, ``OutOfBounds``.
        """
        self._require_courier()
        fields = {**settings, "url": check_url(url, self.allowed)}
        if headers is not None:
            checked = check_headers(headers)
            fields["header_names"] = tuple(checked)
            fields["sealed_headers"] = self._seal(_encode(checked), _OF_HEADERS, queue)
        for _ in range(_TRIES):
            current = await self._broker.store.browse(WebhookOf(queue))
            text = None
            if current is None:
                span = await self._broker.store.browse(LedgerSpan(queue))
                secret, text = self._mint(queue)
                now = self._now()
                current = Webhook(
                    queue=queue,
                    url="",
                    version=0,
                    secrets=(secret,),
                    since_ms=now,
                    created_at_ms=now,
                    after_receipt=span.newest,
                )
            wanted = msgspec.structs.replace(current, **fields, version=current.version + 1)
            wanted.check()
            what = What.WEBHOOK_ADDED if text is not None else What.WEBHOOK_CHANGED
            try:
                wanted = self._sealed_anew(wanted)
                act = self._act(actor, what, queue, **_changed(current, wanted))
                await self._configure(queue, PutWebhook(wanted), act)
            except WebhookChanged:
                continue
            return wanted, text
        raise WebhookChanged(f"the webhook of queue {queue} was changed by others meanwhile")

    async def drop(self, queue: str, actor: Actor = SYSTEM) -> None:
        """Call it no more; what is in the queue stays. ``WebhookNotFound``."""
        act = self._act(actor, What.WEBHOOK_DROPPED, queue)
        await self._configure(queue, DropWebhook(queue), act)

    async def enable(self, queue: str, actor: Actor = SYSTEM) -> Webhook:
        """Call it (again): what has waited meanwhile is sent."""
        self._require_courier()

        def enabled(webhook: Webhook) -> Webhook:
            if webhook.enabled:
                return webhook
            return msgspec.structs.replace(
                webhook,
                enabled=True,
                reason="",
                since_ms=self._now(),
                disabled_by_service=False,
            )

        return await self._change(
            queue, enabled, lambda: self._act(actor, What.WEBHOOK_ENABLED, queue)
        )

    async def disable(
        self, queue: str, reason: str, actor: Actor = SYSTEM, *, seen: Webhook | None = None
    ) -> Webhook:
        """Call it no more until it is enabled.

        ``seen`` is for the service, which does so of its own accord: only if the webhook goes where it went, and nobody
        enabled it since.
        """
        check_bounds("length of reason", len(reason), 0, REASON_CHARACTERS)

        def disabled(webhook: Webhook) -> Webhook:
            # Whoever disables what the service has disabled says that it shall be so.
            if not webhook.enabled and (seen is not None or not webhook.disabled_by_service):
                return webhook
            if seen is not None and (seen.url, seen.since_ms) != (webhook.url, webhook.since_ms):
                return webhook
            return disabled_for(webhook, reason, self._now(), by_service=seen is not None)

        return await self._change(
            queue, disabled, lambda: self._act(actor, What.WEBHOOK_DISABLED, queue, reason=reason)
        )

    async def rotate(self, queue: str, actor: Actor = SYSTEM) -> tuple[WebhookSecret, str]:
        """Sign with a new secret, whose text is shown this once; the old one goes on signing too for a day."""
        secret, text = self._mint(queue)

        def rotated(webhook: Webhook) -> Webhook:
            now = self._now()
            active = [one for one in webhook.secrets if one.active(now) and self._opens(queue, one)]
            if len(active) >= SECRETS:
                raise TooManySecrets(f"{SECRETS} secrets sign already: end the old one first")
            old = [
                msgspec.structs.replace(one, ends_at_ms=now + OLD_SECRET_SECONDS * 1_000)
                for one in active
            ]
            return msgspec.structs.replace(webhook, secrets=(secret, *old))

        await self._change(
            queue,
            rotated,
            lambda: self._act(actor, What.WEBHOOK_SECRET_ADDED, queue, subject=secret.id),
        )
        return secret, text

    async def drop_secret(self, queue: str, id: str, actor: Actor = SYSTEM) -> Webhook:
        """Sign with this secret no more. ``SecretNotFound``; ``LastSecret`` for the only one."""

        def dropped(webhook: Webhook) -> Webhook:
            active = [one for one in webhook.secrets if one.active(self._now())]
            left = [one for one in active if one.id != id]
            if len(left) == len(active):
                raise SecretNotFound(f"there is no secret {id[:100]} here")
            if not left:
                raise LastSecret("this is the only secret: make a new one first")
            # What is left is no longer being replaced.
            kept = tuple(msgspec.structs.replace(one, ends_at_ms=None) for one in left)
            return msgspec.structs.replace(webhook, secrets=kept)

        return await self._change(
            queue, dropped, lambda: self._act(actor, What.WEBHOOK_SECRET_DROPPED, queue, subject=id)
        )

    async def ping(self, queue: str, actor: Actor) -> Pinged:
        """Call it now with a test, whether it is enabled or not. Recorded before it is done."""
        webhook = await self.get(queue)
        courier = self._require_courier()
        await self._broker.acts.record(
            actor, What.WEBHOOK_PINGED, queue=queue, details={"url": _place(webhook.url)}
        )
        return await courier.ping(webhook)

    async def agree(self) -> bool:
        """Whether this node has the key with which other nodes seal, if there are any: from now on its first is it."""
        nodes = self._broker.store.nodes
        return nodes is None or not self._lasts or await nodes.agree(self._keyring.ids)

    async def seal_anew(self) -> None:
        """Seal with the first key what an older one has sealed: at start. What no key opens is left alone."""
        after = ""
        while page := await self._broker.store.browse(Webhooks(after, _PAGE)):
            for webhook in page:
                if self._problem(webhook):
                    _log.error("webhook.sealed_by_unknown_key", queue=webhook.queue)
                elif self._sealed_anew(webhook) != webhook:
                    await self._change(webhook.queue, self._sealed_anew)
            after = page[-1].queue

    def refresh(self, queue: str) -> None:
        """The webhook was changed otherwise, together with its queue."""
        if self.courier is not None:
            self.courier.refresh(queue)

    def refresh_all(self) -> None:
        """Any webhook may have been changed, or have become this node's to call, or another's."""
        if self.courier is not None:
            self.courier.refresh_all()

    # -- inside ---------------------------------------------------------------------------------

    async def _change(
        self,
        queue: str,
        change: Callable[[Webhook], Webhook],
        act: Callable[[], PutPaper] | None = None,
    ) -> Webhook:
        """Put what ``change`` makes of the webhook; again of what is there then, where another was faster.

        ``act`` is None where nothing changes that its owner has set.
        """
        for _ in range(_TRIES):
            current = await self.get(queue)
            wanted = change(current)
            if wanted == current:
                return current
            wanted = msgspec.structs.replace(self._sealed_anew(wanted), version=current.version + 1)
            acts = [] if act is None else [act()]
            try:
                await self._configure(queue, PutWebhook(wanted), *acts)
            except WebhookChanged:
                continue
            return wanted
        raise WebhookChanged(f"the webhook of queue {queue} was changed by others meanwhile")

    def _act(
        self, actor: Actor, what: What, queue: str, subject: str = "", **details: str
    ) -> PutPaper:
        return self._broker.acts.paper(actor, what, queue=queue, subject=subject, details=details)

    async def _configure(self, queue: str, change: Change, *acts: PutPaper) -> None:
        if isinstance(change, PutWebhook) and not await self.agree():
            raise WebhooksUnavailable(
                "other nodes seal secrets with a key that this node has not: the operator has to give it to all"
            )
        future = self._broker.store.configure([change, *acts])
        # Whoever asked may leave: what is committed takes effect all the same.
        future.add_done_callback(lambda _: self.refresh(queue))
        await asyncio.shield(future)

    def _require_courier(self) -> Courier:
        if self.courier is None:
            raise WebhooksUnavailable(
                "this server cannot call webhooks: install it as restante[webhooks]"
            )
        return self.courier

    def _mint(self, queue: str) -> tuple[WebhookSecret, str]:
        secret = self._random_bytes(SECRET_BYTES)
        id = f"whs-{self._random_bytes(6).hex()}"
        sealed = self._seal(secret, _OF_SECRETS, queue, id)
        kept = WebhookSecret(id=id, sealed=sealed, created_at_ms=self._now())
        return kept, signatures.to_text(secret)

    def _seal(self, secret: bytes, *context: str) -> bytes:
        return self._keyring.seal(secret, context, self._random_bytes(NONCE_BYTES))

    def _open(self, queue: str, secret: WebhookSecret) -> bytes:
        return self._keyring.open(secret.sealed, (_OF_SECRETS, queue, secret.id))

    def _opens(self, queue: str, secret: WebhookSecret) -> bool:
        try:
            self._open(queue, secret)
        except SealBroken:
            return False
        return True

    def _sealed_anew(self, webhook: Webhook) -> Webhook:
        """The same with the first key's seals, as far as what is sealed can be opened."""
        queue = webhook.queue

        def anew(sealed: bytes, *context: str) -> bytes:
            if not sealed or self._keyring.is_current(sealed):
                return sealed
            try:
                return self._seal(self._keyring.open(sealed, context), *context)
            except SealBroken:
                return sealed

        return msgspec.structs.replace(
            webhook,
            sealed_headers=anew(webhook.sealed_headers, _OF_HEADERS, queue),
            secrets=tuple(
                msgspec.structs.replace(one, sealed=anew(one.sealed, _OF_SECRETS, queue, one.id))
                for one in webhook.secrets
            ),
        )

    def _now(self) -> int:
        return self._broker.clock.wall_ms()


def _changed(before: Webhook, after: Webhook) -> dict[str, str]:
    """What an act may tell of it. Of addresses only where they lead: the rest of one may be a secret of its own."""
    told: dict[str, str] = {}
    if before.url != after.url:
        told["url"] = f"{_place(before.url)} -> {_place(after.url)}"
    if before.sealed_headers != after.sealed_headers:
        told["header_names"] = ", ".join(after.header_names)
    for name in ("timeout_seconds", "concurrency", "rate_per_second", "payload"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            told[name] = f"{old} -> {new}"
    return told


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if url else "none"


def disabled_for(webhook: Webhook, reason: str, now_ms: int, *, by_service: bool) -> Webhook:
    """The same, disabled; the version is the caller's to raise."""
    return msgspec.structs.replace(
        webhook, enabled=False, reason=reason, since_ms=now_ms, disabled_by_service=by_service
    )
