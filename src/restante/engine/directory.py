"""What this node remembers of queues, keys and subscriptions, so that the hot path asks the store for none of them."""

from __future__ import annotations

from typing import Final, TypeVar

from restante.errors import QueueNotFound
from restante.model import Key, Queue
from restante.ports import Store
from restante.queries import KeyById, QueueByName, Subscriptions
from restante.routing import Router

REMEMBERED: Final = 200_000
V = TypeVar("V")


class Directory:
    """A bounded memory in front of the store. Whoever changes something says so by a ``forget``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queues: dict[str, Queue] = {}
        self._keys: dict[str, Key] = {}
        self._router: Router | None = None
        self._generation = 0

    def known_queue(self, name: str) -> Queue | None:
        """The queue, if it is remembered: the way that needs no await."""
        return self._queues.get(name)

    async def queue(self, name: str) -> Queue:
        """The queue of that name, or ``QueueNotFound``."""
        queue = self._queues.get(name)
        if queue is None:
            generation = self._generation
            queue = await self._store.browse(QueueByName(name))
            if queue is None:
                raise QueueNotFound(f"there is no queue {name} here")
            if generation == self._generation:
                _remember(self._queues, name, queue)
        return queue

    def known_key(self, id: str) -> Key | None:
        """The key, if it is remembered, as that of anyone is who was let in just now."""
        return self._keys.get(id)

    async def key(self, id: str) -> Key | None:
        """The key of that id, active or not."""
        key = self._keys.get(id)
        if key is None:
            generation = self._generation
            key = await self._store.browse(KeyById(id))
            if key is not None and generation == self._generation:
                _remember(self._keys, id, key)
        return key

    async def router(self) -> Router:
        """All subscriptions, ready to be asked."""
        router = self._router
        if router is None:
            generation = self._generation
            subscriptions = await self._store.browse(Subscriptions())
            router = Router(subscriptions)
            if generation == self._generation:
                self._router = router
        return router

    def forget_all(self) -> None:
        self._generation += 1
        self._queues.clear()
        self._keys.clear()
        self._router = None

    def forget_queue(self, name: str) -> None:
        # The generation keeps an answer that was read before the change from being remembered after it.
        self._generation += 1
        self._queues.pop(name, None)

    def forget_key(self, id: str) -> None:
        self._generation += 1
        self._keys.pop(id, None)

    def forget_subscriptions(self) -> None:
        self._generation += 1
        self._router = None


def _remember(memory: dict[str, V], name: str, value: V) -> None:
    if len(memory) >= REMEMBERED:
        memory.pop(next(iter(memory)))
    memory[name] = value
