"""The messages about operators, those who sign in to the operators' page."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from restante.operators import Level
from restante.wire.messages import Answered, Asked


class NewOperator(Asked, kw_only=True):
    name: str
    role: Level
    password: str


class OperatorChange(Asked, kw_only=True):
    """What is left out keeps its value. ``sign_out`` ends every visit of the operator's."""

    role: Level | UnsetType = UNSET
    password: str | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    sign_out: bool = False


class OperatorOut(Answered, kw_only=True, omit_defaults=False):
    name: str
    role: Level
    disabled: bool
    created_at: str


class OperatorList(Answered, kw_only=True, omit_defaults=False):
    operators: list[OperatorOut]


class NewLink(Asked, kw_only=True):
    life_seconds: int = 86_400


class LinkMade(Answered, kw_only=True, omit_defaults=False):
    client: str
    path: str
    expires_at: str
