"""Where heads of the log are sent, and what is said of a place that does not take them."""

import asyncio

import pytest
import structlog
from structlog.typing import EventDict, WrappedLogger
from tests.unit.engine.conftest import clock, store
from tests.unit.engine.test_head_post import KEY, keep

from restante.config import Config
from restante.engine.broker import Broker
from restante.telling import sending_heads
from restante.wire.checkpoints import LogKeys

__all__ = ["clock", "store"]


@pytest.fixture
def not_sent():
    """The lines of the log about heads that were not taken, as they come."""
    lines: asyncio.Queue[EventDict] = asyncio.Queue()

    def take(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
        if line["event"] == "log.head_not_sent":
            lines.put_nowait(line)
        raise structlog.DropEvent

    structlog.configure(processors=[take])
    yield lines
    structlog.reset_defaults()


async def test_a_place_that_does_not_take_a_head_is_named_without_its_secrets(
    store, clock, not_sent, tmp_path, unused_tcp_port
):
    config = Config(
        ledger_head_url=f"http://ann:open-sesame@127.0.0.1:{unused_tcp_port}/heads?token=open-sesame",
        ledger_head_file=tmp_path / "away" / "heads.txt",
        ledger_head_queue="nobody",
    )
    async with Broker(store, clock, log_keys=LogKeys((KEY,))) as broker:
        await keep(store, 3)
        async with asyncio.timeout(20), sending_heads(broker, config, "Restante/test"):
            told = [await not_sent.get() for _ in range(3)]
    why = {line["to"]: line["error"] for line in told}
    assert sorted(why) == [
        str(tmp_path / "away" / "heads.txt"),
        f"http://...@127.0.0.1:{unused_tcp_port}/heads",
        "queue nobody",
    ]
    assert "Connect call failed" in why[f"http://...@127.0.0.1:{unused_tcp_port}/heads"]
    assert "open-sesame" not in str(told)
