"""What is let go of after its time."""

from __future__ import annotations

from restante.stores.postgresql.unit import Unit


class Retention:
    def __init__(self, idempotency_retention_seconds: int) -> None:
        self._idempotency_retention_seconds = idempotency_retention_seconds

    async def prune(self, unit: Unit, limit: int) -> int:
        return 0
