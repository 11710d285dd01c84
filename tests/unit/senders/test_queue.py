"""Alerts as notifications in the operators' own queue."""

from restante.alerting import Alert, Message, Notice, Rule
from restante.errors import StoreFull
from restante.senders.queue import QueueSender


def notice(queue):
    alert = Alert(
        id="a",
        queue=queue,
        owner=queue,
        rule=Rule.DEPTH,
        value=9,
        limit=1,
        words="",
        raised_at_ms=0,
    )
    return Notice(event="raised", at_ms=0, alert=alert)


def message(*queues, raised=None):
    count = len(queues) if raised is None else raised
    notices = tuple(map(notice, queues))
    return Message(id="m", made_at_ms=0, raised=count, cleared=0, notices=notices)


class Broker:
    def __init__(self, error=None):
        self.published = []
        self.error = error

    async def publish(self, publication, actor):
        if self.error is not None:
            raise self.error
        self.published.append(publication)


async def test_it_is_published_under_the_messages_id():
    broker = Broker()
    assert await QueueSender("ops", broker.publish).send(message("acme")) is None
    (one,) = broker.published
    assert (one.queue, one.idempotency_key, one.content_type) == ("ops", "m", "application/json")


async def test_what_is_of_that_queue_alone_is_not_published_into_it():
    """Or a consumer that fails there would raise the alert that it then fails on, without end."""
    broker = Broker()
    sender = QueueSender("ops", broker.publish)
    assert await sender.send(message("ops", "ops")) is None
    assert broker.published == []
    for told in (message("ops", "acme"), message("ops", raised=2)):
        await sender.send(told)
    assert len(broker.published) == 2


async def test_what_is_refused_is_told():
    sender = QueueSender("ops", Broker(StoreFull("no room")).publish)
    assert await sender.send(message("acme")) == "store_full: no room"
