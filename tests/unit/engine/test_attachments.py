"""Connections that stay open: how many, and how they are told to leave."""

import asyncio

import msgspec
import pytest
from tests.unit.engine.house import ACME, BOB, OPERATOR, turns

from restante.engine.administration import Administration
from restante.engine.attachments import Ending
from restante.engine.broker import Broker
from restante.errors import ShuttingDown, TooManyConnections
from restante.model import Actor, Role


class Line:
    """A connection that notes why it was ended."""

    def __init__(self, broker, actor=ACME):
        self.endings: list[Ending] = []
        self.attachment = broker.attachments.attach(actor, self.endings.append)


async def principal(broker, expires_after_seconds=None, name="acme"):
    key, _ = await Administration(broker, OPERATOR).add_key(
        Role.CLIENT, name, expires_after_seconds, ""
    )
    await broker.directory.key(key.id)
    return Actor(name, Role.CLIENT, key.id)


async def test_each_principal_has_so_many(store, clock):
    async with Broker(store, clock, connections_per_principal=2) as broker:
        with Line(broker).attachment, Line(broker).attachment:
            with pytest.raises(TooManyConnections), Line(broker).attachment:
                pass
            with Line(broker, BOB).attachment:
                assert len(broker.attachments) == 3
            # A publisher of the same name is another principal.
            with Line(broker, msgspec.structs.replace(ACME, role=Role.PUBLISHER)).attachment:
                pass
        with Line(broker).attachment:
            assert len(broker.attachments) == 1
        assert len(broker.attachments) == 0


async def test_a_refused_one_leaves_no_trace(store, clock):
    async with Broker(store, clock, connections_per_principal=1) as broker:
        with Line(broker).attachment:
            for _ in range(3):
                with pytest.raises(TooManyConnections), Line(broker).attachment:
                    pass
        with Line(broker).attachment:
            pass


async def test_a_connection_that_was_let_in_just_before_its_key_was_revoked_is_ended(broker, clock):
    mine = await principal(broker)
    await Administration(broker, OPERATOR).revoke_key(mine.key_id)
    with (line := Line(broker, mine)).attachment:
        clock.advance(0)
        assert line.endings == [Ending.KEY_ENDED]


async def test_a_revoked_key_ends_its_connections_at_once(broker):
    mine, other = await principal(broker), await principal(broker)
    with (line := Line(broker, mine)).attachment, (bystander := Line(broker, other)).attachment:
        await Administration(broker, OPERATOR).revoke_key(mine.key_id)
        assert (line.endings, bystander.endings) == ([Ending.KEY_ENDED], [])


async def test_a_key_that_runs_out_ends_its_connections(broker, clock):
    actor = await principal(broker, 100)
    clock.advance(40)
    with (line := Line(broker, actor)).attachment:
        clock.advance(59.9)
        assert line.endings == []
        clock.advance(0.1)
        assert line.endings == [Ending.KEY_ENDED]


async def test_no_timer_is_left_behind(broker, clock):
    actor = await principal(broker, 100)
    before = clock.timers
    with Line(broker, actor).attachment:
        assert clock.timers == before + 1
    assert clock.timers == before


async def test_drained_connections_are_told_and_no_more_are_taken(broker):
    with (line := Line(broker)).attachment:
        broker.drain()
        assert line.endings == [Ending.DRAIN]
        with pytest.raises(ShuttingDown), Line(broker).attachment:
            pass


async def test_only_the_first_reason_counts(broker):
    with (line := Line(broker)).attachment:
        line.attachment.end(Ending.DISPLACED)
        broker.drain()
        assert line.endings == [Ending.DISPLACED]


async def test_a_connection_that_gets_its_name_later_displaces_the_one_that_had_it(broker):
    with (old := Line(broker)).attachment, (new := Line(broker)).attachment:
        old.attachment.become("acme/1")
        assert old.endings == []
        new.attachment.become("acme/1")
        assert (old.endings, new.endings) == ([Ending.DISPLACED], [])
    with (last := Line(broker)).attachment:
        last.attachment.become("acme/1")
    assert new.endings == []


async def test_waiting_until_all_are_gone(broker, clock):
    assert await broker.attachments.gone(10)
    with Line(broker).attachment:
        with Line(broker).attachment:
            task = asyncio.create_task(broker.attachments.gone(10))
            await turns()
        await turns()
        assert not task.done()
    assert await task


async def test_not_for_ever(broker, clock):
    with Line(broker).attachment:
        task = asyncio.create_task(broker.attachments.gone(10))
        await turns()
        clock.advance(10)
        assert not await task


@pytest.mark.parametrize(("certificate", "key"), [(10, None), (10, 100), (100, 10)])
async def test_a_certificate_that_runs_out_ends_its_connections(broker, clock, certificate, key):
    """Whichever of the two ends first: its own life, or that of what it is kept as."""
    actor = await principal(broker, key)
    until_ms = clock.wall_ms() + certificate * 1_000
    line = Line(broker, msgspec.structs.replace(actor, until_ms=until_ms))
    with line.attachment:
        clock.advance(9.9)
        assert line.endings == []
        clock.advance(0.2)
        assert line.endings == [Ending.KEY_ENDED]
