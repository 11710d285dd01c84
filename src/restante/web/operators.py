"""The accounts of those who sign in to the operators' page."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from restante import auth
from restante.engine.operators import Operators
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.once import Once
from restante.http.request import Request
from restante.model import Role
from restante.operators import Operator
from restante.wire import times
from restante.wire.operator_messages import NewOperator, OperatorChange, OperatorList, OperatorOut

T = TypeVar("T")
_NEW: Final = msgspec.json.Decoder(NewOperator)
_CHANGE: Final = msgspec.json.Decoder(OperatorChange)


def add_routes(routes: Routes, operators: Operators) -> None:
    """Attach the calls."""
    web = OperatorCalls(operators)
    # Not even a fingerprint is kept of what has a password in it: by its name it counts once.
    routes.add("POST", "/v1/operators", web.add, once=Once.BY_ITSELF)
    routes.add("GET", "/v1/operators", web.list)
    routes.add("PUT", "/v1/operators/{name}", web.change)


class OperatorCalls:
    """Every call takes an administrator's key."""

    def __init__(self, operators: Operators) -> None:
        self._operators = operators

    async def add(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        asked = await request.read(_NEW)
        made = await self._operators.add(asked.name, asked.role, asked.password, request.actor)
        return envelope(request, _out(made), "operator", 201)

    async def list(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        found = OperatorList(operators=[_out(one) for one in await self._operators.all()])
        return envelope(request, found, "operators")

    async def change(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        asked = await request.read(_CHANGE, OperatorChange())
        changed = await self._operators.change(
            request.parameters["name"],
            level=_given(asked.role),
            password=_given(asked.password),
            disabled=_given(asked.disabled),
            sign_out=asked.sign_out,
            actor=request.actor,
        )
        return envelope(request, _out(changed), "operator")


def _given(value: T | msgspec.UnsetType) -> T | None:
    return None if isinstance(value, msgspec.UnsetType) else value


def _out(operator: Operator) -> OperatorOut:
    return OperatorOut(
        name=operator.name,
        role=operator.level,
        disabled=operator.disabled,
        created_at=times.to_text(operator.created_at_ms),
    )
