"""Operators: the accounts of those who sign in to the operators' page."""

from __future__ import annotations

from urllib.parse import quote

from restante.client.http import Wire
from restante.operators import Level
from restante.wire.operator_messages import LinkMade, OperatorList, OperatorOut


class OperatorOperations:
    """What an administrator does with them."""

    _wire: Wire

    async def add_operator(self, name: str, role: Level, password: str) -> OperatorOut:
        """Make an account. ``AlreadyExists``."""
        ask: dict[str, object] = {"name": name, "role": role, "password": password}
        return await self._wire.call(
            OperatorOut, "POST", "/v1/operators", ask=ask, repeatable=False
        )

    async def operators(self) -> list[OperatorOut]:
        """The accounts there are, by name."""
        return (await self._wire.call(OperatorList, "GET", "/v1/operators")).operators

    async def change_operator(
        self,
        name: str,
        *,
        role: Level | None = None,
        password: str | None = None,
        disabled: bool | None = None,
        sign_out: bool = False,
    ) -> OperatorOut:
        """Change what is given. With a new password, disabled or ``sign_out`` all the operator's visits end."""
        given = {"role": role, "password": password, "disabled": disabled}
        ask: dict[str, object] = {key: value for key, value in given.items() if value is not None}
        if sign_out:
            ask["sign_out"] = True
        path = f"/v1/operators/{quote(name, safe='')}"
        return await self._wire.call(OperatorOut, "PUT", path, ask=ask, repeatable=True)

    async def make_link(
        self, client: str, *, life_seconds: int = 86_400, idempotency_key: str | None = None
    ) -> LinkMade:
        """A path of this server that opens the client's page once, within so many seconds (60 to 604,800).

        ``ClientNotFound``, ``OutOfBounds``.
        """
        path = f"/v1/clients/{quote(client, safe='')}/links"
        return await self._wire.call(
            LinkMade,
            "POST",
            path,
            ask={"life_seconds": life_seconds},
            repeatable=False,
            idempotency_key=idempotency_key,
        )

    def address_of(self, path: str) -> str:
        """A path of the server, with its address."""
        return f"{self._wire.url}{path}"
