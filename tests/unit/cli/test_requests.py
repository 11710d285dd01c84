"""``restante request``: what came of a request with an idempotency key."""

import json

from tests.unit.cli.conftest import problem, reply

DONE = {
    "key": "onboarding/initech",
    "state": "done",
    "method": "POST",
    "path": "/v1/subscriptions",
    "since": "2026-01-31T12:00:00.000Z",
    "ended_at": "2026-01-31T12:00:01.000Z",
    "status": 201,
    "content_type": "application/json",
    "body": '{"id":"s1"}',
}


def test_a_call_is_told_with_its_answer(program):
    program.answer = lambda _: reply(DONE)
    told = program.remote("request", "onboarding/initech", "--principal", "publisher/shop")
    assert told.exit_code == 0, told.output
    lines = [line.split(maxsplit=1) for line in told.stdout.splitlines()]
    assert ["asked", "POST /v1/subscriptions"] in lines
    assert ["status", "201"] in lines
    assert ["answer", '{"id":"s1"}'] in lines
    (request,) = program.asked
    assert request.url.raw_path == b"/v1/requests/onboarding%2Finitech?principal=publisher%2Fshop"
    assert json.loads(program.remote("request", "x", "--json").stdout) == DONE


def test_a_publication_is_told_by_its_notification(program):
    program.answer = lambda _: reply(
        {"key": "k", "state": "done", "since": DONE["since"], "notification": "n1"}
    )
    told = program.remote("request", "k")
    assert [line.split()[0] for line in told.stdout.splitlines()] == [
        *("request", "state", "since", "notification"),
    ]


def test_one_that_never_arrived(program):
    program.answer = lambda _: problem("request_not_found", 404, "no request with that key")
    told = program.remote("request", "k")
    assert (told.exit_code, told.stdout) == (1, "")
    assert "no request with that key" in told.stderr
