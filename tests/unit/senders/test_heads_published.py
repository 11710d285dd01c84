"""Heads of the log in a queue: each is there once."""

from tests.unit.engine.conftest import broker, clock, store
from tests.unit.engine.house import figures

from restante.queries import Receipts
from restante.senders.heads import to_queue
from restante.wire.checkpoints import NOTE_CHARACTERS

__all__ = ["broker", "clock", "store"]


async def test_one_that_is_sent_again_is_in_the_queue_once(broker):
    tell = to_queue("acme", broker.publish)
    for head in ("one", "one", "x" * NOTE_CHARACTERS, "one"):
        await tell(head)
    assert (await figures(broker)).ready == 2
    page = await broker.store.browse(Receipts("acme"))
    assert len(page.receipts) == 2
