"""The log of what was committed: a line for each receipt where that is asked for, and one for each death always."""

import logging

import pytest
import structlog
from tests.unit.engine.house import ACME, SHOP, letter, settings

from restante.engine import journal
from restante.engine.journal import REASON_CHARACTERS
from restante.engine.settling import Settle
from restante.model import Verb


@pytest.fixture
def broker(broker):
    broker.store.meter.journal = journal.write
    return broker


async def settle(broker, verb, **fields):
    session = await broker.session("acme", ACME)
    (one,) = await session.receive(max=1)
    await (await session.settle([Settle(lease=session.token(one), verb=verb, **fields)])).results()
    return one


async def test_each_receipt_is_a_line_at_debug(broker):
    with structlog.testing.capture_logs() as logs:
        await broker.publish(letter(b"<secret/>"), SHOP)
        one = await settle(broker, Verb.ACK, reply=b"a reply")
    lines = [log for log in logs if log["event"] == "delivery.receipt"]
    assert [(log["outcome"], log["number"], log["by"]) for log in lines] == [
        ("published", 1, "shop"),
        ("acked", 2, "acme"),
    ]
    assert {(log["notification"], log["queue"], log["seq"]) for log in lines} == {
        (one.id, "acme", 1)
    }
    assert "secret" not in str(logs)
    assert "a reply" not in str(logs)


async def test_a_death_is_a_line_at_warning_and_nothing_else_is(broker):
    await settings(broker, max_attempts=2, backoff_base_seconds=0)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        with structlog.testing.capture_logs() as logs:
            await broker.publish(letter(), SHOP)
            await settle(broker, Verb.NACK, reason="once")
            await settle(broker, Verb.NACK, reason="x" * 1_000)
            await broker.publish(letter(), SHOP)
            await settle(broker, Verb.REJECT, reason="no such article")
    finally:
        structlog.reset_defaults()
    assert [(log["event"], log["log_level"]) for log in logs] == [("delivery.dead", "warning")] * 2
    assert [(log["outcome"], log["reason"]) for log in logs] == [
        ("nacked", "x" * REASON_CHARACTERS),
        ("rejected", "no such article"),
    ]
