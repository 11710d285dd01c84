"""A client's people: let in by the client's key, for as long as it opens, or by a one-time link.

Who was let in by a link is out when a key of the client is revoked.
"""

from __future__ import annotations

from typing import Final

from restante.desk.visitors import Visitor, Visits
from restante.engine.broker import Broker
from restante.engine.links import Opened, era_of
from restante.model import Actor, Role
from restante.operators import Level
from restante.wire.visits import Visit

TRANSPORT: Final = "portal"
"""What receipts call the page."""
COOKIE: Final = "__Host-restante-client"


class ClientVisits(Visits):
    """What a client's people may do is its owner's: whatever takes more is on no page of theirs."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker, COOKIE, b"client visits")

    def by_key(self, actor: Actor) -> Visit:
        """A visit that begins now, by a client's key."""
        return self._begin(actor.name, actor.key_id, "")

    def by_link(self, opened: Opened) -> Visit:
        """A visit that begins now, by a one-time link."""
        return self._begin(opened.client, "", f"link {opened.era}")

    async def admitted(self, visit: Visit, remote: str) -> Visitor | None:
        if visit.key_id:
            key = await self._broker.directory.key(visit.key_id)
            if key is None or (key.role, key.name) != (Role.CLIENT, visit.name):
                return None
            if not key.active(self._broker.clock.wall_ms()):
                return None
        elif visit.stamp != f"link {await era_of(self._broker, visit.name)}":
            return None
        return Visitor(visit, Level.OPERATOR, remote, Role.CLIENT, TRANSPORT)
