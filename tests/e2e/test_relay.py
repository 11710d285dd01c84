"""``restante relay`` as a process: killed and started again, with the server or the table not always there."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest
from tests.e2e.conftest import Mailbox

import restante
from restante.testing.servers.postgresql import PostgresqlServer

TABLE = "restante_outbox"
ROWS = 2_000
"""As many are written at most: a few times what is carried over between two kills."""


class Relaying:
    """One ``restante relay`` after the other, of one database to one server."""

    def __init__(self, box, source, folder):
        self.box = box
        self.source = source
        self.folder = folder

    def command(self, *flags):
        return [sys.executable, "-m", "restante", "relay", "--from", self.source, *flags]

    def environment(self, key=None):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RESTANTE_")}
        return clean | {
            "RESTANTE_KEY": key or self.box.publisher_key,
            "RESTANTE_URL": self.box.service.url,
        }

    def run(self, *flags, key=None):
        return subprocess.run(
            self.command(*flags),
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environment(key),
            timeout=50,
            check=False,
        )

    @contextlib.contextmanager
    def running(self, *flags):
        """One that runs until it is killed in the end."""
        process = subprocess.Popen(
            self.command(*flags),
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment(),
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()


@pytest.fixture
def service(request):
    """A server for all tests, but for those that end it."""
    return request.getfixturevalue("own_server" if "away" in request.node.name else "server")


@pytest.fixture
def box(service):
    mailbox = Mailbox(service)
    mailbox.settings(max_in_flight=100_000)
    yield mailbox
    mailbox.close()


@pytest.fixture
def relaying(box, tmp_path):
    relaying = Relaying(box, "sqlite:///shop.db", tmp_path)
    made = relaying.run("--create-table")
    assert (made.returncode, made.stdout) == (0, f"{TABLE} is made\n"), made.stderr
    return relaying


@pytest.fixture
def shop(relaying, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db", timeout=30)) as connection:
        yield connection


def write(connection, box, *bodies, **options):
    ids = [
        restante.publish_in(connection, body, queue=box.name, table=TABLE, **options)
        for body in bodies
    ]
    connection.commit()
    return ids


def left(shop):
    return shop.execute(f"SELECT id, refused FROM {TABLE} ORDER BY position").fetchall()


def test_what_waits_is_carried_over_in_its_order(box, relaying, shop):
    attributes = {"ce-type": "größe"}
    write(shop, box, b"\x00", b"two", content_type="application/xml", attributes=attributes)
    done = relaying.run("--once")
    assert (done.returncode, done.stderr) == (0, "published 2, refused 0\n")
    one, two = box.receive()
    assert (one["body"], two["body"]) == ("\x00", "two")
    assert (two["content_type"], two["attributes"]) == ("application/xml", attributes)
    assert left(shop) == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "kills", [3, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_each_row_becomes_one_notification_however_often_it_is_killed(
    box, relaying, shop, tmp_path, kills
):
    written: list[bytes] = []
    killed = threading.Event()

    def produce():
        with contextlib.closing(sqlite3.connect(tmp_path / "shop.db", timeout=30)) as connection:
            while not killed.is_set() and len(written) < ROWS:
                bodies = [b"%d" % n for n in range(len(written), len(written) + 20)]
                write(connection, box, *bodies)
                written.extend(bodies)

    producer = threading.Thread(target=produce)
    producer.start()
    found: list[bytes] = []
    try:
        for _ in range(kills):
            with relaying.running("--look-seconds", "0.01"):
                # Handed out as soon as it is published: its row has not been deleted yet, as like as not.
                found += [one["body"].encode() for one in box.receive(max=1_000, wait=30)]
    finally:
        killed.set()
        producer.join()
    done = relaying.run("--once")
    assert done.returncode == 0, done.stderr
    while len(found) < len(written):
        found += [one["body"].encode() for one in box.receive(max=1_000, wait=20)]
    assert found == written
    assert box.figures()["published"] == len(written)
    assert left(shop) == []


def test_a_server_that_is_away_is_waited_for(box, relaying, shop):
    box.service.end(signal.SIGKILL)
    write(shop, box, b"patience")
    with relaying.running() as process:
        line = process.stderr.readline()
        assert "relay.waits" in line, line
        box.service.start()
        assert [one["body"] for one in box.receive(wait=30)] == ["patience"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert "published 1, refused 0" in process.stderr.read()
    assert left(shop) == []


def test_what_the_server_refuses_stays_marked_and_holds_up_nothing(box, relaying, shop):
    (nowhere,) = [restante.publish_in(shop, b"x", queue="nowhere", table=TABLE)]
    write(shop, box, b"fine")
    shop.execute(
        f"INSERT INTO {TABLE} (id, publisher, content_type, body) VALUES ('7','s','x', x'')"
    )
    shop.commit()
    done = relaying.run("--once")
    assert done.returncode == 1
    assert "published 1, refused 2" in done.stderr
    assert "there is no queue nowhere" in done.stderr
    assert [one["body"] for one in box.receive()] == ["fine"]
    (first, why), (_, malformed) = left(shop)
    assert (first, why) == (nowhere, "there is no queue nowhere here")
    assert malformed == "the id must be a UUID in lower case"


def test_what_has_waited_expires_by_when_it_was_written(box, relaying, shop):
    write(shop, box, b"late", expires_after_seconds=60)
    write(shop, box, b"due", deliver_after_seconds=60)
    shop.execute(f"UPDATE {TABLE} SET written_at = datetime('now', '-61 seconds')")
    shop.commit()
    assert relaying.run("--once").returncode == 0
    assert [one["body"] for one in box.receive()] == ["due"]


def test_a_key_that_may_not_publish_ends_it(box, relaying, shop):
    write(shop, box, b"x")
    done = relaying.run("--once", key="rk_none_none")
    assert done.returncode == 6
    assert len(left(shop)) == 1
    assert "Traceback" not in done.stderr


def test_where_there_is_no_table_it_says_how_to_make_one(box, tmp_path):
    done = Relaying(box, "sqlite:///other.db", tmp_path).run("--once")
    assert done.returncode == 2
    assert "make it with --create-table" in done.stderr
    printed = Relaying(box, "postgresql://", tmp_path).run("--print-table")
    assert printed.stdout.startswith(f"CREATE TABLE {TABLE} (")


def test_another_postgresql_is_carried_over_too(box, tmp_path):
    import psycopg

    with PostgresqlServer() as cluster:
        url = cluster.create_database("shop")
        relaying = Relaying(box, url.replace("postgresql:", "postgresql+psycopg:"), tmp_path)
        assert relaying.run("--create-table", "--table", "public.mail").returncode == 0
        with psycopg.connect(url) as connection:
            options = {"queue": box.name, "table": "public.mail"}
            restante.publish_in(connection, b"kept", expires_after_seconds=60, **options)
            connection.commit()
            restante.publish_in(connection, b"lost", **options)
            connection.rollback()
        assert relaying.run("--once", "--table", "public.mail").returncode == 0
        assert cluster.query("SELECT count(*) FROM mail", database="shop") == ["0"]
    assert [one["body"] for one in box.receive()] == ["kept"]
