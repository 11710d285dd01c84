"""``restante operations``: what it asks of the server, what it tells, and how it fails."""

import base64
import json

import pytest
from tests.unit.cli.conftest import problem, reply

from restante.cli import waiting

OPERATION = {
    "id": "o1",
    "version": 2,
    "state": "running",
    "progress": 0.4,
    "note": "page 4 of 10",
    "title": "a report",
    "client": "acme",
    "queue": "acme",
    "runner": "",
    "made_by": "shop",
    "made_at": "2026-01-31T12:00:00.000Z",
    "changed_at": "2026-01-31T12:00:01.000Z",
    "ends_by": "2026-02-01T12:00:00.000Z",
    "result": None,
    "result_base64": None,
    "result_content_type": None,
    "error": None,
}
ENDED = OPERATION | {
    "state": "succeeded",
    "progress": 1,
    "result": "<report>\x1b[2J</report>",
    "result_content_type": "application/xml",
}
FAILED = OPERATION | {"state": "failed", "error": {"code": "timed_out", "detail": "nobody did"}}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(waiting, "_PAUSE_SECONDS", 0)


def test_those_that_are_open_are_listed_page_by_page(program):
    left = iter([[OPERATION] * 100, [OPERATION] * 50])
    program.answer = lambda _: reply({"operations": next(left), "next": "o1"})
    told = program.remote("operations", "list", "--runner", "shop-1", "--limit", "150")
    assert told.stdout.count("a report") == 150
    assert "40%" in told.stdout
    assert "--after o1" in told.stderr
    assert [dict(one.url.params) for one in program.asked] == [
        {"runner": "shop-1", "limit": "100"},
        {"runner": "shop-1", "limit": "50", "after": "o1"},
    ]


def test_at_the_end_nothing_is_said_of_more(program):
    left = iter([{"operations": [OPERATION], "next": "o1"}, {"operations": [], "next": None}])
    program.answer = lambda _: reply(next(left))
    told = program.remote("operations", "list", "--json")
    assert json.loads(told.stdout) == {"operations": [OPERATION], "next": None}
    program.answer = lambda _: reply({"operations": [], "next": None})
    assert "None is open" in program.remote("operations", "list").stderr


def test_one_is_shown_as_it_stands(program):
    program.answer = lambda _: reply(OPERATION)
    told = program.remote("operations", "show", "o1")
    assert told.exit_code == 0, told.output
    lines = [line.split(maxsplit=1) for line in told.stdout.splitlines()]
    assert ["done", "40%"] in lines
    assert ["ends by", "2026-02-01 12:00:00"] in [
        line.split("    ") for line in told.stdout.splitlines()
    ]
    assert "result" not in told.stdout
    (request,) = program.asked
    assert dict(request.url.params) == {"wait": "0.0"}


def test_its_end_is_waited_for(program):
    left = iter([OPERATION, ENDED])
    program.answer = lambda _: reply(next(left))
    told = program.remote("operations", "show", "o1", "--wait", "300")
    assert told.exit_code == 0, told.output
    assert "result     <report>\\x1b[2J</report>" in told.stdout
    assert "ends by" not in told.stdout
    assert [one.url.params["wait"] for one in program.asked] == ["60", "60"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (FAILED, "operation o1 is failed: timed_out: nobody did"),
        (OPERATION | {"state": "cancelled"}, "operation o1 is cancelled"),
        (OPERATION, "operation o1 is running"),
    ],
)
def test_who_waits_and_does_not_get_a_result_fails(program, answer, words):
    program.answer = lambda _: reply(answer)
    told = program.remote("operations", "show", "o1", "--wait", "0", "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout) == answer
    assert f"error: {words}\n" == told.stderr


def test_a_result_that_is_no_text_is_not_put_on_the_terminal(program):
    result = base64.b64encode(b"\xff\0").decode()
    program.answer = lambda _: reply(
        ENDED | {"result": None, "result_base64": result, "result_content_type": "image/png"}
    )
    told = program.remote("operations", "show", "o1")
    assert "image/png, 2 B, not text (see --json)" in told.stdout


def test_one_is_cancelled(program):
    program.answer = lambda _: reply(OPERATION | {"state": "cancelled"})
    told = program.remote("operations", "cancel", "o1")
    assert told.stdout == "o1 cancelled\n"
    (request,) = program.asked
    assert (request.method, request.url.path) == ("PATCH", "/v1/operations/o1")
    assert json.loads(request.content) == {"state": "cancelled"}
    program.answer = lambda _: problem("operation_ended", 409, "it has succeeded already")
    told = program.remote("operations", "cancel", "o1")
    assert (told.exit_code, told.stdout) == (1, "")
    assert "it has succeeded already" in told.stderr
