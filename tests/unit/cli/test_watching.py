"""``top``, ``queue show`` and ``trace``: what they ask of the server, and what they print."""

import io
import json
import re

import pytest
from rich.console import Console
from tests.unit.cli import watched
from tests.unit.cli.conftest import problem, reply

from restante.cli.sparkline import sparkline
from restante.cli.top import drawn
from restante.client import Receipt
from restante.way import steps_of


def lines_of(renderable, width=80, height=24):
    out = io.StringIO()
    Console(file=out, width=width, height=height, markup=False, highlight=False).print(renderable)
    return out.getvalue().splitlines()


def test_top_prints_once_where_there_is_no_terminal(program):
    program.answer = lambda _: reply(
        watched.overview(watched.seen(), attention=[("acme", "1,204 waiting (limit 9)")])
    )
    told = program.remote("top", "--sort", "oldest_age", "--search", "ac")
    assert told.exit_code == 0, told.output
    (request,) = program.asked
    assert request.url.path == "/v1/overview"
    assert dict(request.url.params) == {
        "search": "ac",
        "sort": "oldest_age",
        "order": "desc",
        "limit": "20",
    }
    assert "10,000 queues" in told.stdout
    assert "waiting 1,206 (leased 2, oldest 2 h)" in told.stdout
    assert "attached: 1,000 longpoll, 3 websocket" in told.stdout
    assert "acme 1,204 waiting (limit 9)" in told.stdout
    assert re.search(r"acme +1,206 +2 +2 h +1 +2\.0 +1\.0 +40% +now", told.stdout)


@pytest.mark.parametrize(("sort", "order"), [("name", "asc"), ("last_contact", "asc")])
def test_what_is_worst_when_it_is_least_comes_rising(program, sort, order):
    program.answer = lambda _: reply(watched.overview())
    assert program.remote("top", "--once", "--sort", sort).exit_code == 0
    assert program.asked[0].url.params["order"] == order


def test_top_as_json(program):
    program.answer = lambda _: reply(watched.overview(watched.seen()))
    told = json.loads(program.remote("top", "--json").stdout)
    assert told["queues"][0]["name"] == "acme"


def test_top_tells_errors_as_any_command(program):
    program.answer = lambda _: problem("forbidden", 403, "this takes a key of role admin")
    told = program.remote("top")
    assert told.exit_code == 6
    assert "role admin" in told.stderr


def test_top_fits_into_a_small_terminal():
    """Whatever there is to tell: longer lines are cut, and the queues get the lines that are left."""
    queues = [watched.seen(f"a-client-with-rather-a-long-name-{n:03}") for n in range(100)]
    attention = [(f"queue-{n}", "has signed nothing for 3 h; " * 9) for n in range(20)]
    lines = lines_of(drawn(watched.overview(*queues, attention=attention), height=24))
    assert len(lines) == 24
    assert all(len(line) <= 80 for line in lines)
    assert lines[-1].startswith("a-client-with-rather-a")
    assert sum("has signed nothing" in line for line in lines) == 5


def test_top_says_that_it_has_lost_the_server():
    (first, *_) = lines_of(drawn(watched.overview(), lost="no connection\x1b[2J", height=24))
    assert "not seen since: no connection" in first
    assert "\x1b" not in first


def test_queue_show_tells_how_it_fares(program):
    answers = {
        "/v1/queues/acme": watched.queue(),
        "/v1/queues/acme/view": watched.seen(),
        "/v1/queues/acme/history": watched.history(),
        "/v1/queues/acme/consumers": watched.consumers(),
    }
    program.answer = lambda request: reply(answers[request.url.path])
    told = program.remote("queue", "show", "acme")
    assert told.exit_code == 0, told.output
    for words in (
        "health  warning: its webhook does not answer",
        "40% of the attempts of five minutes",
        "failed 40x",
        "websocket 192.0.2.7:5000 acme/1.0",
        "not answering: https://a.example/in",
        "at most 59",
        "60 in all",
        "attached",
        "lease_seconds",
    ):
        assert words in told.stdout, words
    assert "\x1b" not in told.stdout
    shown = json.loads(program.remote("queue", "show", "acme", "--json").stdout)
    assert shown["settings"]["lease_seconds"] == 30
    assert shown["view"]["depth"] == 1_206
    assert len(shown["history"]["points"]) == 60
    assert shown["consumers"][0]["transport"] == "websocket"


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([], ""), ([0, 0], "··"), ([1, 2, 4, 8, 0], "▂▃▅█·"), ([0.001, 1], "▁█")],
)
def test_sparklines(values, drawn):
    assert sparkline(values) == drawn


def receipt(number, outcome, state, at, **fields):
    fields = {"queue": "acme", "seq": 7, "principal": "acme", "transport": "http", **fields}
    return Receipt(
        id=f"{fields['queue']}~{number}",
        digest="",
        number=number,
        notification="n1",
        outcome=outcome,
        state=state,
        at=f"2026-01-31T12:00:{at:06.3f}Z",
        **fields,
    )


WAY = [
    receipt(1, "published", "ready", 0, principal="shop"),
    receipt(
        2,
        "lease_expired",
        "ready",
        31.5,
        attempt=1,
        fence=1,
        leased_at="2026-01-31T12:00:01.500Z",
        transport="internal",
        principal="restante",
    ),
    receipt(3, "acked", "acked", 41, attempt=2, fence=2, leased_at="2026-01-31T12:00:40.000Z"),
    receipt(4, "late_ack", "acked", 42, attempt=1, fence=1, leased_at="2026-01-31T12:00:01.500Z"),
]


def test_the_leases_are_told_of_on_the_way_each_once():
    other = receipt(9, "published", "ready", 5, queue="bob", seq=1)
    steps = steps_of([other, *reversed(WAY)])
    assert [(step.queue, step.what, step.by, step.after_seconds) for step in steps] == [
        ("acme", "published", "shop", None),
        ("acme", "leased", "", 1.5),
        ("acme", "lease_expired", "restante", 30.0),
        ("acme", "leased", "acme", 8.5),
        ("acme", "acked", "acme", 1.0),
        ("acme", "late_ack", "acme", 1.0),
        ("bob", "published", "acme", None),
    ]


def test_trace(program):
    status = {
        "id": "n1",
        "content_type": "application/xml",
        "body_bytes": 9,
        "body_sha256": "00",
        "published_at": "2026-01-31T12:00:00.000Z",
        "publisher": "shop",
        "result": "met",
        "deliveries": [{"queue": "acme", "seq": 7, "state": "acked", "attempt": 2}],
    }
    answers = {
        "/v1/notifications/n1": status,
        "/v1/notifications/n1/receipts": {"receipts": WAY, "complete": False},
    }
    program.answer = lambda request: reply(answers[request.url.path])
    told = program.remote("trace", "n1")
    assert told.exit_code == 0, told.output
    assert "acme 7: acked" in told.stdout
    assert re.search(r"12:00:31\.500 +30 s +its lease ran out +1 +ready", told.stdout)
    assert re.search(r"12:00:41\.000 +1\.0 s +signed +2 +acked +acme +http", told.stdout)
    assert "There are more" in told.stderr
    shown = json.loads(program.remote("trace", "n1", "--json").stdout)
    assert [step["what"] for step in shown["steps"]][-1] == "late_ack"
    assert shown["complete"] is False


def test_trace_of_what_is_not_there(program):
    program.answer = lambda _: problem("notification_not_found", 404, "there is no such one")
    assert program.remote("trace", "n1").exit_code == 1
