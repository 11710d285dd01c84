"""What a way is to the benchmark: a publisher and a consumer of Restante over one transport.

Both are as cheap as they can be made: what they send is made beforehand, and what comes is searched rather than
parsed, so that the generator leaves the machine to the server.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import msgspec

from restante.bench.lanes import LoadFailed
from restante.bench.specs import Target

OnError = Callable[[str], None]


class Collecting:
    """What a consumer tells: that a notification has come, and that its ack has gone well."""

    def came(self) -> None:
        """A notification is in hand; its ack is sent next, unless ``running`` says no."""

    def settled(self) -> None:
        """An ack was answered."""

    def failed(self, reason: str) -> None:
        """Something was answered that should not have been, or the connection ended."""

    @property
    def running(self) -> bool:
        """Whether to go on acking and asking."""
        return True


class Way(ABC):
    """One transport of Restante as the load generator speaks it."""

    name: str
    title: str
    settings: str
    serve_options: tuple[str, ...] = ()
    """What the server has to be started with."""
    idles: bool = True
    """Whether a consumer that waits is connected, and costs the server memory."""
    requests: str
    """How many requests a notification with its ack takes, in words where that is not a number."""

    def port(self, target: Target) -> int:
        """The port that consumers connect to."""
        return target.port

    def through(self, target: Target, port: int) -> Target:
        """The same target, its consumers' port replaced by a relay's."""
        return msgspec.structs.replace(target, port=port)

    @abstractmethod
    async def connect_publisher(
        self,
        target: Target,
        queue: str,
        body: bytes,
        on_confirm: Callable[[], None],
        on_error: OnError,
    ) -> Callable[[], None]:
        """Connect; the callable publishes one notification to the queue, whose confirm calls ``on_confirm``."""

    @abstractmethod
    async def connect_consumer(self, target: Target, queue: str, collecting: Collecting) -> None:
        """Connect a consumer that takes one notification at a time and acks each at once."""


def publisher_key(target: Target) -> str:
    """The publisher's key, or the administrator's where there is none."""
    return target.publisher_key or target.admin_key


def way_of(ways: dict[str, Way], name: str) -> Way:
    """The way of that name; LoadFailed when there is none."""
    way = ways.get(name)
    if way is None:
        raise LoadFailed(f"there is no way called {name}")
    return way
