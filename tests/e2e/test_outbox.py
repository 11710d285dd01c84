"""From a publisher's own transaction to the client, over nodes that share a PostgreSQL; nodes are killed meanwhile."""

import concurrent.futures
import signal
import threading

import psycopg
import pytest
from tests.e2e.conftest import Mailbox, Service

import restante
from restante.testing.servers.postgresql import PostgresqlServer


@pytest.fixture(scope="module")
def cluster():
    with PostgresqlServer() as server:
        server.create_database()
        yield server


def a_node(folder, cluster):
    data = folder / "data"
    data.mkdir(parents=True)
    service = Service(data, "--store", cluster.url())
    service.start()
    return service


@pytest.fixture(scope="module")
def node(cluster, tmp_path_factory):
    """A node, which no test harms."""
    service = a_node(tmp_path_factory.mktemp("node"), cluster)
    yield service
    assert service.end(signal.SIGTERM) == 0, service.log()


@pytest.fixture
def box(node):
    mailbox = Mailbox(node)
    yield mailbox
    mailbox.close()


@pytest.fixture
def connection(cluster):
    with psycopg.connect(cluster.url()) as connection:
        yield connection


def collect(box, count):
    """Receive until there are so many, acking each: their ids and bodies."""
    found: list[tuple[str, str]] = []
    while len(found) < count:
        for one in box.receive(max=500, wait=20):
            found.append((one["id"], one["body"]))
            assert box.settle(one["lease"], "ack").status_code == 200
    return found


def test_who_waits_is_handed_what_was_committed(box, connection):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(box.receive, wait=20)
        given = restante.publish_in(
            connection,
            b"<order/>",
            queue=box.name,
            content_type="application/xml",
            publisher="shop",
        )
        connection.commit()
        (one,) = waiting.result()
    assert (one["id"], one["body"], one["content_type"]) == (given, "<order/>", "application/xml")
    (receipt,) = box.receipts()
    assert (receipt["principal"], receipt["transport"]) == ("shop", "outbox")
    assert connection.execute("SELECT count(*) FROM restante.outbox").fetchone() == (0,)


def test_what_was_rolled_back_never_was(box, connection):
    restante.publish_in(connection, b"no", queue=box.name)
    connection.rollback()
    restante.publish_in(connection, b"yes", queue=box.name)
    connection.commit()
    assert [body for _, body in collect(box, 1)] == ["yes"]
    assert box.figures()["published"] == 1


def test_a_topic_goes_to_who_has_subscribed(box, connection):
    asked = {"pattern": f"{box.name}.#", "queue": box.name}
    assert box.admin.post("/v1/subscriptions", json=asked).status_code == 201
    given = restante.publish_in(connection, b"x", topic=f"{box.name}.new")
    connection.commit()
    assert collect(box, 1) == [(given, "x")]


def test_what_cannot_be_taken_over_stays_with_the_reason_and_can_be_tried_again(box, connection):
    box.settings(max_body_bytes=3)
    asked = {"pattern": box.name, "queue": box.name}
    assert box.admin.post("/v1/subscriptions", json=asked).status_code == 201
    refused = restante.publish_in(connection, b"four", topic=box.name)
    behind = restante.publish_in(connection, b"two", topic=box.name)
    connection.commit()
    assert collect(box, 1) == [(behind, "two")]
    left = connection.execute("SELECT id, refused FROM restante.outbox").fetchall()
    assert left == [(refused, f"queue {box.name} takes bodies of at most 3 bytes")]
    assert "outbox.refused" in box.service.log()
    box.settings(max_body_bytes=4)
    connection.execute("UPDATE restante.outbox SET refused = NULL")
    connection.commit()
    assert collect(box, 1) == [(refused, "four")]


def test_a_transaction_that_takes_long_holds_up_nobody(box, connection, cluster):
    restante.publish_in(connection, b"slow", queue=box.name)
    with psycopg.connect(cluster.url()) as other:
        restante.publish_in(other, b"quick", queue=box.name)
    box.publish(b"quicker")
    assert {body for _, body in collect(box, 2)} == {"quick", "quicker"}
    connection.commit()
    assert [body for _, body in collect(box, 1)] == ["slow"]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "kills", [2, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_each_becomes_one_notification_in_order_though_nodes_are_killed(
    box, cluster, tmp_path, kills
):
    others = [a_node(tmp_path / name, cluster) for name in ("one", "two")]
    box.settings(max_in_flight=100_000)
    given: list[str] = []
    killed = threading.Event()

    def write():
        with psycopg.connect(cluster.url()) as connection:
            while not killed.is_set():
                ids = [restante.publish_in(connection, b"", queue=box.name) for _ in range(5)]
                connection.commit()
                given.extend(ids)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        writing = pool.submit(write)
        for kill in range(kills):
            victim = others[kill % 2]
            victim.end(signal.SIGKILL)
            victim.start()
        killed.set()
        writing.result()
    found: list[str] = []
    while len(found) < len(given):
        found += [one["id"] for one in box.receive(max=1_000, wait=20)]
    assert found == given
    assert box.figures()["published"] == len(given)
    for other in others:
        assert other.end(signal.SIGTERM) == 0
