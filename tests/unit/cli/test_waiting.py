"""Publishing and waiting for signatures: how long the server is asked to wait, what is told, and the exit code."""

import json

import httpx
import pytest
from tests.unit.cli.conftest import problem, reply

from restante.cli import waiting

PUBLISHED = {"id": "n1", "deliveries": [{"queue": "acme", "seq": 7}, {"queue": "bolt", "seq": 3}]}
SIGNED = {
    "queue": "acme",
    "seq": 7,
    "state": "acked",
    "attempt": 1,
    "receipt": "acme~13",
    "outcome": "acked",
    "settled_at": "2026-01-31T12:00:00.123Z",
    "client": "acme",
    "reply": "<price>9.90\x1b[2J</price>",
    "reply_content_type": "application/xml",
}
OPEN = {"queue": "bolt", "seq": 3, "state": "ready", "attempt": 0}
DEAD = OPEN | {"state": "dead", "attempt": 1, "outcome": "rejected", "reason": "no such article"}


def status(result, *deliveries, id="n1"):
    return reply(
        {
            "id": id,
            "content_type": "application/xml",
            "body_bytes": 8,
            "body_sha256": "ab",
            "published_at": "2026-01-31T12:00:00.000Z",
            "publisher": "shop",
            "result": result,
            "deliveries": list(deliveries),
        }
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(waiting, "_PAUSE_SECONDS", 0)


def answering(program, *answers):
    """One answer, or lost connection, after the other."""
    left = iter(answers)

    def answer(_):
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found

    program.answer = answer


def test_each_queues_outcome_and_reply_are_told(program):
    answering(program, reply(PUBLISHED, 201), status("met", SIGNED, OPEN))
    told = program.remote("publish", "acme", "-", "--wait", "30", "--require", "any", stdin=b"<a/>")
    assert told.exit_code == 0, told.output
    assert "n1  acme 7, bolt 3" in told.stdout
    assert "-: met" in told.stdout
    (line,) = [line for line in told.stdout.splitlines() if "acme~13" in line]
    assert line.split()[:4] == ["acme", "7", "acked", "1"]
    assert line.endswith("<price>9.90\\x1b[2J</price>")
    asked = program.asked[1].url
    assert (asked.path, asked.params["require"]) == ("/v1/notifications/n1", "any")
    assert 29 < float(asked.params["wait"]) <= 30


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("failed", "not as many can sign any more as are required"),
        ("pending", "the time is up, and not as many have signed as are required"),
    ],
)
def test_who_does_not_get_the_signatures_is_told_so_and_fails(program, result, words):
    answering(program, reply(PUBLISHED, 201), status(result, SIGNED, DEAD))
    told = program.remote("publish", "acme", "-", "--wait", "0", stdin=b"<a/>")
    assert told.exit_code == 1
    assert f"error: -: {words}" in told.stderr
    assert "no such article" in told.stdout
    assert dict(program.asked[1].url.params) == {"wait": "0.0", "require": "all"}


def test_longer_than_a_server_waits_is_asked_for_again(program):
    pending = status("pending", SIGNED, OPEN)
    answering(program, reply(PUBLISHED, 201), pending, pending, status("met", SIGNED))
    told = program.remote("publish", "acme", "-", "--wait", "900", "--json", stdin=b"<a/>")
    assert told.exit_code == 0, told.output
    assert [one.url.params["wait"] for one in program.asked[1:]] == ["60"] * 3
    (shown,) = json.loads(told.stdout)
    assert (shown["id"], shown["result"]) == ("n1", "met")
    assert shown["deliveries"] == [SIGNED]


def test_many_files_are_waited_for_together(program, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    results = [{"ok": True, "id": f"n{name}", "deliveries": []} for name in ("a", "b")]
    answering(
        program,
        reply({"results": results}),
        status("failed", DEAD, id="na"),
        status("met", SIGNED, id="nb"),
    )
    told = program.remote("publish", "acme", "a", "b", "--wait", "5")
    assert told.exit_code == 1
    assert "a: failed" in told.stdout
    assert "b: met" in told.stdout
    assert told.stderr.count("error:") == 1
    assert [one.url.path for one in program.asked[1:]] == [
        "/v1/notifications/na",
        "/v1/notifications/nb",
    ]


def test_what_was_published_stays_so_where_nobody_can_wait(program):
    answering(program, reply(PUBLISHED, 201), problem("too_many_waiters", 429))
    told = program.remote("publish", "acme", "-", "--wait", "5", stdin=b"<a/>")
    assert told.exit_code == 1
    assert "restante status n1" in told.stderr
    assert "n1  acme 7" in told.stdout


def test_more_signatures_than_one_queue_can_give_are_refused_before_publishing(program):
    told = program.remote("publish", "acme", "-", "--wait", "1", "--require", "2", stdin=b"<a/>")
    assert told.exit_code == 2
    assert "one queue signs once" in told.stderr
    assert program.asked == []


AWAY = [
    httpx.ConnectError("refused"),
    httpx.ReadError("reset"),
    problem("shutting_down", 503),
    problem("store_unavailable", 503),
    httpx.Response(502, text="Bad Gateway"),
]


def test_a_wait_goes_on_over_a_restart_of_the_server(program):
    answering(program, reply(PUBLISHED, 201), *AWAY, status("met", SIGNED))
    told = program.remote("publish", "acme", "-", "--wait", "900", stdin=b"<a/>")
    assert told.exit_code == 0, told.output
    assert told.stderr.count("waiting for it") == 1
    assert "-: met" in told.stdout
    assert [one.method for one in program.asked] == ["POST", *["GET"] * 6]


def test_who_waits_for_a_server_that_stays_away_is_told_so(program):
    answering(program, reply(PUBLISHED, 201), httpx.ConnectError("refused"))
    told = program.remote("publish", "acme", "-", "--wait", "0", stdin=b"<a/>")
    assert told.exit_code == 1
    assert "restante status n1" in told.stderr
    assert "error: no connection" in told.stderr


def test_an_answer_that_will_not_change_ends_the_wait(program):
    answering(program, reply(PUBLISHED, 201), httpx.Response(500, text="oh"))
    told = program.remote("publish", "acme", "-", "--wait", "900", stdin=b"<a/>")
    assert told.exit_code == 1
    assert "500" in told.stderr
