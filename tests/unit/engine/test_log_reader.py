"""What is kept of the log can be read whatever somebody has put beside it."""

import pytest
import structlog.testing
from tests.unit.engine.test_receipt_log import KEY, log_of, publish, seal_all, stage

from restante.changes import PutPaper
from restante.engine.log_reader import TOLD_SECONDS
from restante.errors import LogDamaged
from restante.papers import Kind, Paper
from restante.receipt_log import head_key, head_size

__all__ = ["stage"]

NO_SIZES = ["!", "0" * 18 + "x", "00", "1" + "0" * 18 + "_", "9" * 19, "z"]


async def put(stage, kind, key, content=b"of nobody"):
    await stage.configure(PutPaper(Paper(kind=kind, key=key, content=content)))


@pytest.mark.parametrize("key", [*NO_SIZES, "", "+" + "1" * 18, "1" * 5_000])
def test_what_is_the_key_of_no_head(key):
    assert head_size(key) is None


@pytest.mark.parametrize("size", [0, 1, 2**62])
def test_the_size_of_a_head_is_told_by_its_key(size):
    assert head_size(head_key(size)) == size


async def test_heads_that_are_kept_by_no_size_hide_no_others(stage):
    log = log_of(stage, head_seconds=0)
    for _ in range(3):
        await publish(stage)
        await seal_all(log)
    heads = await log.heads(None, 10)
    for key in NO_SIZES:
        await put(stage, Kind.LOG_HEAD, key)
    with structlog.testing.capture_logs() as logged:
        for limit in (1, 2, 3, 10):
            assert await log.heads(None, limit) == heads[:limit]
            assert await log.newest_heads(None, limit) == heads[::-1][:limit]
            assert await log.heads(heads[-1][0], limit) == []
            assert await log.newest_heads(heads[0][0], limit) == []
        stage.clock.advance(TOLD_SECONDS)
        await log.heads(None, 10)
    assert [line["event"] for line in logged] == ["log.head_damaged"] * 2


async def test_keys_that_can_be_read_are_told_beside_one_that_cannot(stage):
    log = log_of(stage)
    await seal_all(log)
    keys = await log.keys()
    assert [one.key for one in keys] == [KEY.verifier.text]
    assert await log.readable_keys() == (keys, None)
    await put(stage, Kind.LOG_KEY, "0")
    readable, damage = await log.readable_keys()
    assert (readable, str(damage.detail)) == (keys, "paper log_key/0 is not what was written")
    with pytest.raises(LogDamaged):
        await log.keys()


async def test_the_newest_that_was_kept_is_told(stage):
    log = log_of(stage, head_seconds=600)
    assert await log.newest_kept() is None
    await publish(stage)
    await seal_all(log)
    kept = (await log.state()).checkpoint
    await publish(stage)
    await seal_all(log)
    assert (await log.state()).checkpoint != kept
    assert await log.newest_kept() == kept
