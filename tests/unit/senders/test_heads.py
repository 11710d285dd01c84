"""Heads of the log in a file and in a queue."""

from tests.unit.engine.conftest import broker, clock, store
from tests.unit.engine.house import figures

from restante.queries import Receipts
from restante.senders.heads import to_file, to_queue
from restante.wire.checkpoints import NOTE_CHARACTERS

__all__ = ["broker", "clock", "store"]


async def test_each_is_appended_with_an_empty_line_behind_it(tmp_path):
    tell = to_file(tmp_path / "heads.txt")
    for head in ("one\n", "two\n"):
        await tell(head)
    assert (tmp_path / "heads.txt").read_text() == "one\n\ntwo\n\n"


async def test_one_that_is_sent_again_is_in_the_queue_once(broker):
    tell = to_queue("acme", broker.publish)
    for head in ("one", "one", "x" * NOTE_CHARACTERS, "one"):
        await tell(head)
    assert (await figures(broker)).ready == 2
    page = await broker.store.browse(Receipts("acme"))
    assert len(page.receipts) == 2
