"""Who is visiting: by the cookie, and by the account or key behind it, which is looked at on every request.

``Visits`` is what each site stands on, and ``Visitors`` the operators'. Sites have cookies of their own, each sealed
with a secret of its own: what one site lets in is nobody on another.
"""

from __future__ import annotations

import abc
import hashlib
import secrets
from typing import Final, NamedTuple

import msgspec

from restante.changes import PutPaper
from restante.engine.broker import Broker
from restante.engine.operators import Operators
from restante.http.answers import Header
from restante.http.authentication import ENVIRONMENT, Authenticator, remote_of
from restante.http.head import Head
from restante.model import Actor, Role
from restante.openid import OpenId
from restante.operators import Level, Operator
from restante.papers import Kind, Paper
from restante.queries import PaperOf
from restante.wire import visits
from restante.wire.visits import Visit

TRANSPORT: Final = "dashboard"
"""What receipts call the page."""
_RENEW_SECONDS: Final = 60
_ID_BYTES: Final = 16


class Visitor(NamedTuple):
    """Somebody who has signed in."""

    visit: Visit
    level: Level
    remote_address: str
    role: Role = Role.ADMIN
    transport: str = TRANSPORT

    @property
    def name(self) -> str:
        return self.visit.name

    @property
    def actor(self) -> Actor:
        """Who that is to the engine and in receipts. The page has checked what the level allows."""
        return Actor(
            self.visit.name, self.role, self.visit.key_id, self.transport, self.remote_address
        )


class Visits(abc.ABC):
    """Begins visits, recognises and ends them. ``cookie_name`` and ``purpose`` are one site's alone."""

    def __init__(self, broker: Broker, cookie_name: str, purpose: bytes) -> None:
        self._broker = broker
        self._cookie_name = cookie_name
        self._secret = hashlib.blake2b(
            purpose, digest_size=32, key=broker.store.token_secret, person=b"restante desk"
        ).digest()

    @abc.abstractmethod
    async def admitted(self, visit: Visit, remote: str) -> Visitor | None:
        """Who that is now; None where the account or key behind the visit opens nothing any more."""

    async def find(self, head: Head) -> Visitor | None:
        """Who sent the request; None without a cookie of ours, or where its visit, account or key has ended."""
        value = visits.cookie_of(head.header(b"cookie") or "", self._cookie_name)
        visit = None if value is None else visits.unseal(self._secret, value, self._now())
        return None if visit is None else await self._current(visit, remote_of(head))

    async def level(self, visit: Visit) -> Level | None:
        """What the visitor may do now; None where the visit has ended."""
        visitor = await self._current(visit, "")
        return None if visitor is None else visitor.level

    async def _current(self, visit: Visit, remote: str) -> Visitor | None:
        if visit.over(self._now()):
            return None
        if await self._broker.store.browse(PaperOf(Kind.SIGNED_OUT, visit.id)) is not None:
            return None
        return await self.admitted(visit, remote)

    async def end(self, visit: Visit) -> None:
        """Sign out: a copy of the cookie opens nothing any more."""
        until_ms = (visit.began + visits.LIFE_SECONDS) * 1_000
        paper = Paper(kind=Kind.SIGNED_OUT, key=visit.id, content=b"", expires_at_ms=until_ms)
        await self._broker.store.configure([PutPaper(paper)])

    def _begin(self, name: str, key_id: str, stamp: str) -> Visit:
        now = self._now()
        id = secrets.token_hex(_ID_BYTES)
        return Visit(id=id, name=name, key_id=key_id, stamp=stamp, began=now, seen=now)

    # -- cookies and forms ----------------------------------------------------------------------

    def cookie(self, visit: Visit | None) -> Header:
        """The header that sets the visit's cookie, or with None takes it away."""
        value = "" if visit is None else visits.seal(self._secret, visit)
        life = 0 if visit is None else visit.began + visits.LIFE_SECONDS - self._now()
        cookie = f"{self._cookie_name}={value}; Path=/; Max-Age={life}; Secure; HttpOnly; SameSite=Strict"
        return b"set-cookie", cookie.encode()

    def renewed(self, visit: Visit) -> Visit | None:
        """The visit as seen now; None where it was seen so lately that it need not be told."""
        now = self._now()
        if now < visit.seen + _RENEW_SECONDS:
            return None
        return msgspec.structs.replace(visit, seen=now)

    def form_token(self, visit: Visit) -> str:
        """What each form of the visit carries."""
        return visits.form_token(self._secret, visit)

    def is_form_token(self, visit: Visit, token: str) -> bool:
        """Whether a form came from a page of this visit."""
        return visits.is_form_token(self._secret, visit, token)

    def _now(self) -> int:
        return self._broker.clock.wall_ms() // 1_000


class Visitors(Visits):
    """Those of the operators' page: by an account, by an administrator's key, or by an OpenID provider."""

    def __init__(
        self,
        broker: Broker,
        operators: Operators,
        authenticator: Authenticator,
        openid: OpenId | None = None,
    ) -> None:
        super().__init__(broker, visits.NAME, b"visits")
        self._openid = openid
        self._operators = operators
        self._authenticator = authenticator

    def by_account(self, operator: Operator) -> Visit:
        """A visit that begins now, by an account."""
        return self._begin(operator.name, "", str(operator.stamp))

    def by_key(self, actor: Actor) -> Visit:
        """A visit that begins now, by an administrator's key."""
        return self._begin(actor.name, actor.key_id, self._stamp(actor.key_id))

    def by_provider(self, name: str, level: Level) -> Visit:
        """A visit that begins now, of somebody whom the OpenID provider vouches for."""
        stamp = "" if self._openid is None else self._openid.stamp
        return msgspec.structs.replace(self._begin(name, "", stamp), level=level.value)

    async def admitted(self, visit: Visit, remote: str) -> Visitor | None:
        level = await self._level(visit)
        return None if level is None else Visitor(visit, level, remote)

    async def _level(self, visit: Visit) -> Level | None:
        if visit.level:
            agreed = self._openid is not None and self._openid.stamp == visit.stamp
            return Level(visit.level) if agreed else None
        if not visit.key_id:
            operator = await self._operators.get(visit.name)
            if operator is None or operator.disabled or str(operator.stamp) != visit.stamp:
                return None
            return operator.level
        if visit.key_id == ENVIRONMENT:
            return Level.ADMIN if visit.stamp == self._stamp(ENVIRONMENT) else None
        key = await self._broker.directory.key(visit.key_id)
        if key is None or key.role is not Role.ADMIN:
            return None
        return Level.ADMIN if key.active(self._broker.clock.wall_ms()) else None

    def _stamp(self, key_id: str) -> str:
        if key_id != ENVIRONMENT:
            return ""
        # Hashed once more under our secret: a cookie is no help to who would guess the key.
        named = self._authenticator.environment_stamp.encode()
        return hashlib.blake2b(named, digest_size=8, key=self._secret).hexdigest()
