"""What carries one call's messages: the part of a transport that the service sees."""

from __future__ import annotations

from typing import Protocol, TypeVar

from google.protobuf.message import Message

from restante.engine.session import Hangup

Q_co = TypeVar("Q_co", bound=Message, covariant=True)


class LinkClosed(Exception):
    """The other side has left: what was being written may not have arrived, and nothing more can be."""


class Line(Hangup, Protocol):
    """The way to the client of a call that answers with one message or with many."""

    async def write(self, message: Message) -> None:
        """Hand over a message, waiting while the one before is not taken. One at a time. Raises ``LinkClosed``."""


class TwoWay(Protocol[Q_co]):
    """Both ways of a call whose requests are a stream too."""

    async def read(self) -> Q_co | None:
        """The next request; None when the client has closed its side. Raises ``Malformed``."""

    async def write(self, message: Message) -> None:
        """As ``Line.write``."""
