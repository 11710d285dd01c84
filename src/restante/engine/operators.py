"""The accounts of those who run the service: kept as papers, so that every node knows them."""

from __future__ import annotations

from typing import Final

import msgspec

from restante.changes import PutPaper
from restante.engine.acts import What, difference
from restante.engine.broker import Broker
from restante.engine.passwords import Passwords
from restante.errors import AlreadyExists, OperatorNotFound, PaperChanged
from restante.model import NAME, Actor, check_name
from restante.operators import Level, Operator, check_password
from restante.papers import Kind, Paper
from restante.queries import PaperOf, Papers

OPERATORS: Final = 1_000
"""So many are listed; a service has a few."""
_TRIES: Final = 5
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Operator).decode


class Operators:
    """Callers have checked that whoever asks is an administrator; ``sign_in`` and ``get`` anyone may ask."""

    def __init__(self, broker: Broker, passwords: Passwords) -> None:
        self._store = broker.store
        self._clock = broker.clock
        self._acts = broker.acts
        self._passwords = passwords

    async def get(self, name: str) -> Operator | None:
        """The account of that name, disabled or not."""
        found = await self._paper(name)
        return None if found is None else _decode(found.content)

    async def all(self) -> list[Operator]:
        """The accounts there are, by name."""
        found = await self._store.browse(Papers(Kind.OPERATOR, limit=OPERATORS))
        return [_decode(paper.content) for paper in found]

    async def add(self, name: str, level: Level, password: str, actor: Actor) -> Operator:
        """Make an account. Raises ``AlreadyExists``, ``InvalidName``, ``OutOfBounds``."""
        check_name("operator's name", name)
        operator = Operator(
            name=name,
            level=level,
            password_hash=await self._passwords.hash(check_password(password)),
            created_at_ms=self._clock.wall_ms(),
        )
        try:
            await self._put(
                operator,
                1,
                self._acts.paper(actor, What.OPERATOR_ADDED, subject=name, details={"role": level}),
            )
        except PaperChanged as error:
            raise AlreadyExists(f"there is an operator {name} already") from error
        return operator

    async def change(
        self,
        name: str,
        *,
        level: Level | None = None,
        password: str | None = None,
        disabled: bool | None = None,
        sign_out: bool = False,
        actor: Actor,
    ) -> Operator:
        """Change what is given of an account. With a new password, disabled or ``sign_out`` all its visits end.

        Raises ``OperatorNotFound``, ``OutOfBounds``, and ``PaperChanged`` where others are faster again and again.
        """
        new_hash = None
        if password is not None:
            new_hash = await self._passwords.hash(check_password(password))
        for left in reversed(range(_TRIES)):
            paper = await self._paper(name)
            if paper is None:
                raise OperatorNotFound(f"there is no operator {name[:128]}")
            current = _decode(paper.content)
            ends = sign_out or new_hash is not None or bool(disabled)
            changed = msgspec.structs.replace(
                current,
                level=level or current.level,
                password_hash=new_hash or current.password_hash,
                disabled=current.disabled if disabled is None else disabled,
                stamp=current.stamp + ends,
            )
            try:
                await self._put(changed, paper.version + 1, self._changed(actor, current, changed))
            except PaperChanged:
                if not left:
                    raise
            else:
                return changed
        raise AssertionError("the last try returns or raises")

    async def sign_in(self, name: str, password: str) -> Operator | None:
        """Whose name and password these are; None, after the same time, for anybody else."""
        found = await self.get(name) if NAME.fullmatch(name) else None
        kept = None if found is None else found.password_hash
        matches = await self._passwords.matches(kept, password)
        return found if found is not None and matches and not found.disabled else None

    async def _paper(self, name: str) -> Paper | None:
        return await self._store.browse(PaperOf(Kind.OPERATOR, name[:128]))

    def _changed(self, actor: Actor, before: Operator, after: Operator) -> PutPaper:
        details = difference(before, after)
        if details.pop("password_hash", None):
            details |= {"password": "changed"}
        return self._acts.paper(actor, What.OPERATOR_CHANGED, subject=after.name, details=details)

    async def _put(self, operator: Operator, version: int, act: PutPaper) -> None:
        paper = Paper(
            kind=Kind.OPERATOR, key=operator.name, content=_encode(operator), version=version
        )
        await self._store.configure([PutPaper(paper), act])
