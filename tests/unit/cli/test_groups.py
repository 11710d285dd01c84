"""``restante group``: what it asks of the server, what it tells, and how it fails."""

import json

import pytest
from tests.unit.cli.conftest import reply

from restante.cli import waiting

MEMBER = {
    "queue": "stock",
    "required": True,
    "notification": "n1",
    "state": "acked",
    "reason": "",
    "compensation": None,
}
GROUP = {
    "id": "g1",
    "asked_by": "shop",
    "asked_at": "2026-01-31T12:00:00.000Z",
    "until": "2026-01-31T12:01:00.000Z",
    "state": "pending",
    "reason": "",
    "members": [MEMBER, MEMBER | {"queue": "mail", "required": False, "state": "ready"}],
    "ended_at": None,
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(waiting, "_PAUSE_SECONDS", 0)


def test_groups_are_listed(program):
    page = {"groups": [GROUP], "next": "past/g1"}
    program.answer = lambda _: reply(page)
    told = program.remote("group", "list")
    assert "stock, mail" in told.stdout
    assert "--after past/g1" in told.stderr
    assert json.loads(program.remote("group", "list", "--json").stdout) == page


def test_one_is_shown_as_it_stands(program):
    program.answer = lambda _: reply(GROUP)
    told = program.remote("group", "show", "g1")
    assert told.exit_code == 0, told.output
    lines = [line.split() for line in told.stdout.splitlines()]
    assert ["state", "pending"] in lines
    assert ["stock", "yes", "acked", "n1", "-"] in lines
    assert ["mail", "no", "ready", "n1", "-"] in lines
    (request,) = program.asked
    assert (request.url.path, request.url.params["wait"]) == ("/v1/groups/g1", "0.0")


@pytest.mark.parametrize(
    ("state", "reason", "code"),
    [("complete", "", 0), ("compensating", "stock is dead", 1), ("compensated", "", 1)],
)
def test_it_is_waited_for_and_the_exit_code_says_whether_it_is_complete(
    program, state, reason, code
):
    left = iter([GROUP, GROUP, GROUP | {"state": state, "reason": reason}])
    program.answer = lambda _: reply(next(left))
    told = program.remote("group", "show", "g1", "--wait", "100", "--json")
    assert told.exit_code == code
    assert json.loads(told.stdout)["state"] == state
    assert (f"group g1 is {state}" in told.stderr) == bool(code)
    assert reason in told.stderr
    assert len(program.asked) == 3
