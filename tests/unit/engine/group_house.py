"""Groups that a broker was asked for, and what becomes of their members."""

from tests.unit.engine.house import OPERATOR, SHOP, turns

from restante.engine.group_request import Payload, Wanted
from restante.engine.settling import Settle
from restante.model import Actor, Role, Selection, Verb
from restante.papers import Kind
from restante.queries import Papers, Receipts
from restante.wire.receipts import decode_entry

OTHER = Actor("other-shop", Role.PUBLISHER, "k-other")


def member(queue, *, required=True, undo=True):
    compensation = Payload(f"<undo-{queue}/>".encode(), "application/xml") if undo else None
    return Wanted(
        queue, Payload(f"<do-{queue}/>".encode(), "application/xml"), compensation, required
    )


BOTH = (member("acme"), member("bob"))


async def ask(broker, wanted=BOTH, timeout_seconds=60, actor=SHOP, key=""):
    group = (await broker.groups.ask(wanted, timeout_seconds, actor, key)).group
    await turns()
    return group.id


async def take(broker, queue):
    """What the queue's client is handed."""
    session = await broker.session(queue, OPERATOR)
    (delivery,) = await session.receive(max=1)
    return session, delivery


async def outcome(broker, id, seconds=0.0, actor=SHOP):
    with broker.waiting.enter(actor, seconds) as waiter:
        return await broker.groups.outcome(waiter, id, actor, seconds)


async def settle(broker, queue, verb=Verb.ACK, **fields):
    session, delivery = await take(broker, queue)
    await (
        await session.settle([Settle(lease=session.token(delivery), verb=verb, **fields)])
    ).results()
    await turns()
    return delivery


async def redrive(broker, queue):
    """An operator has the dead letters of the queue delivered again."""
    done, _ = await broker.store.redrive(queue, Selection(), OPERATOR, 10)
    assert done
    await turns()


async def discard(broker, queue):
    """An operator throws them away."""
    done, _ = await broker.store.discard(queue, Selection(), OPERATOR, 10, "")
    assert done
    await turns()


async def handed_out(broker, queue):
    """The bodies that wait in the queue."""
    session = await broker.session(queue, OPERATOR)
    return [one.body for one in await session.receive(max=100)]


async def stands(broker, id):
    group = await broker.groups.group(id, OPERATOR)
    return group.state.value, [one.state.label for one in group.members]


async def left_over(broker):
    """Papers of groups that are kept beside the past ones."""
    bodies = await broker.store.browse(Papers(Kind.GROUP_BODY))
    still_open = await broker.store.browse(Papers(Kind.GROUP, before="open/~", after="open/"))
    return len(bodies) + len(still_open)


async def receipts(broker, queue):
    """The number and the notification of what was published to the queue."""
    page = await broker.store.browse(Receipts(queue, outcome="published"))
    return [(one.number, decode_entry(one.entry).notification) for one in page.receipts]


def refusing(monkeypatch, store, verb, refused):
    """The store raises what ``refused`` makes of a call, or does it where that is None."""
    method = getattr(store, verb)

    def may_refuse(*asked):
        error = refused(*asked)
        if error is not None:
            raise error
        return method(*asked)

    monkeypatch.setattr(store, verb, may_refuse)
