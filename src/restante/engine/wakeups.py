"""Who waits for what, and waking just as many as there is work for.

Arm before you look: a consumer takes a ticket before it asks the store, so that whatever is committed after the look
finds the ticket there. A wake goes to the longest waiting; one that finds a full batch wakes the next, for there may
be more. So many consumers of one queue never ask the store all at once for one notification.

What no consumer here was waiting for, those on other nodes are told of through the waker. What comes from there wakes
here only, and never goes out again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from types import TracebackType
from typing import Self

from restante.ports import Clock, Waker


class _Line:
    """Those attending one queue: ``waiting`` in the order they came, and those that look, or are about to."""

    __slots__ = ("limited", "looking", "settles", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[Ticket, None] = {}
        self.looking: set[Ticket] = set()
        self.limited = False
        self.settles = 0


class Ticket:
    """One consumer's place in the line of one queue. Use it as a context manager; it starts out looking."""

    __slots__ = ("_again", "_future", "_line", "_queue", "_settles", "_wakeups", "key_id")

    def __init__(self, wakeups: Wakeups, queue: str, line: _Line, key_id: str) -> None:
        self.key_id = key_id
        self._wakeups = wakeups
        self._queue = queue
        self._line = line
        self._again = False
        self._settles = line.settles
        self._future: asyncio.Future[bool] | None = None

    def __enter__(self) -> Self:
        self._line.looking.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        line = self._line
        line.looking.discard(self)
        line.waiting.pop(self, None)
        if kind is not None:
            # It may have been woken, or have looked, in vain: the work is another's.
            self._wakeups.wake(self._queue)
        self._wakeups.leave(self._queue, line)

    def look(self) -> None:
        """About to ask the store: a wake from now on means to ask again."""
        self._again = False
        self._settles = self._line.settles

    def found(self, *, more: bool) -> None:
        """The look found something; ``more`` says that it left some behind, which another may take."""
        if more or self._again:
            self._again = False
            self._wakeups.wake(self._queue)

    def limited(self) -> None:
        """The queue's flow control forbade to look for more: the next settle must wake."""
        if self._line.settles == self._settles:
            self._line.limited = True
        else:
            # That settle has been told of already, while the look's answer was on its way.
            self._again = True

    async def wait(self, seconds: float | None) -> bool:
        """Wait to be woken, at most ``seconds`` (None: however long); whether to look again."""
        if self._again:
            return True
        line = self._line
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._future = future
        line.looking.discard(self)
        line.waiting[self] = None
        cancel = None
        if seconds is not None:
            cancel = self._wakeups.clock.call_later(seconds, self.time_out)
        try:
            woken = await future
        finally:
            self._future = None
            if cancel is not None:
                cancel()
        if not woken:
            line.waiting.pop(self, None)
            line.looking.add(self)
        return woken

    def wake(self) -> bool:
        """Resolve the wait; False when it has just ended otherwise."""
        future = self._future
        if future is None or future.done():
            return False
        # Attending all the while, so that the line is not taken down before it looks.
        self._line.looking.add(self)
        future.set_result(True)
        return True

    def pass_on(self) -> None:
        """Woken, but leaving: the work is another's."""
        self._wakeups.wake(self._queue)

    def look_again(self) -> None:
        self._again = True

    def time_out(self) -> None:
        """End the wait with nothing."""
        if self._future is not None and not self._future.done():
            self._future.set_result(False)


class Wakeups:
    """All lines of this node. A queue has one only while somebody attends to it, and the waker knows of it as long."""

    def __init__(self, clock: Clock, waker: Waker | None = None) -> None:
        self.clock = clock
        self._waker = waker
        self._lines: dict[str, _Line] = {}

    def attend(self, queue: str, key_id: str = "") -> Ticket:
        """A ticket for the queue's line, for a consumer that came with the key of that id."""
        line = self._lines.get(queue)
        if line is None:
            line = self._lines[queue] = _Line()
            if self._waker is not None:
                self._waker.attend(queue)
        return Ticket(self, queue, line, key_id)

    def wake(self, queue: str, count: int = 1) -> None:
        """There is work for up to ``count`` consumers of the queue, here or on other nodes."""
        if self._wake_here(queue, count) > 0 and self._waker is not None:
            # Also where one here looks just now: it may have no room for more.
            self._waker.wake((queue,))

    def hear(self, queues: Collection[str] | None) -> None:
        """Another node says that there is work; None: a wake of any queue may have been missed.

        One consumer is enough: it wakes the next when it finds more. A queue that nobody attends is passed over.
        """
        for queue in list(self._lines) if queues is None else queues:
            self._wake_here(queue, 1)

    def _wake_here(self, queue: str, count: int) -> int:
        """Wake up to ``count`` of those who wait; for how many there was nobody."""
        line = self._lines.get(queue)
        if line is None:
            return count
        while count > 0 and line.waiting:
            ticket = next(iter(line.waiting))
            del line.waiting[ticket]
            if ticket.wake():
                count -= 1
        if count > 0:
            # Their look may have come before this work did.
            for ticket in line.looking:
                ticket.look_again()
        return count

    def settled(self, queue: str) -> None:
        """A lease of the queue has ended: whoever was held back by flow control may look again."""
        line = self._lines.get(queue)
        if line is None:
            return
        line.settles += 1
        if line.limited:
            line.limited = False
            self.wake(queue)

    def attended(self) -> list[str]:
        """The queues somebody waits on."""
        return [queue for queue, line in self._lines.items() if line.waiting]

    def key_ids(self) -> set[str]:
        """The keys that anybody who waits has come with."""
        return {ticket.key_id for line in self._lines.values() for ticket in line.waiting}

    def dismiss(self, key_id: str | None = None) -> None:
        """Send everybody home, or all who came with one key: each wait ends as if its time were up."""
        for line in self._lines.values():
            for ticket in list(line.waiting):
                if key_id is None or ticket.key_id == key_id:
                    ticket.time_out()

    def leave(self, queue: str, line: _Line) -> None:
        """Forget a line nobody attends to."""
        if not line.waiting and not line.looking and self._lines.get(queue) is line:
            del self._lines[queue]
            if self._waker is not None:
                self._waker.leave(queue)
