"""``restante webhook``: what it asks of the server, what it prints, and how it fails."""

import json

import pytest
from tests.unit.cli.conftest import problem, reply

WEBHOOK = {
    "queue": "acme",
    "url": "https://a.example/in",
    "header_names": ["x-tenant"],
    "timeout_seconds": 10.0,
    "concurrency": 4,
    "rate_per_second": 2.5,
    "payload": "body",
    "secrets": [
        {"id": "whs-2", "created_at": "2026-01-02T00:00:00.000Z", "ends_at": None},
        {
            "id": "whs-1",
            "created_at": "2026-01-01T00:00:00.000Z",
            "ends_at": "2026-01-03T00:00:00.000Z",
        },
    ],
    "created_at": "2026-01-01T00:00:00.000Z",
    "state": "disabled",
    "since": "2026-01-02T03:04:05.000Z",
    "reason": "HTTP 410",
    "circuit": "open",
    "consecutive_failures": 7,
    "last_error_at": "2026-01-02T03:04:04.000Z",
    "last_error": "HTTP 500",
}


def asked(program, index=-1):
    request = program.asked[index]
    return request.method, request.url.path, json.loads(request.content or b"null")


def test_a_new_one_s_secret_is_alone_on_stdout(program):
    program.answer = lambda request: reply({**WEBHOOK, "secret": "whsec_x"}, 201)
    told = program.remote("webhook", "set", "acme", "https://a.example/in")
    assert told.stdout == "whsec_x\n"
    assert "not shown again" in told.stderr
    assert asked(program) == ("PUT", "/v1/queues/acme/webhook", {"url": "https://a.example/in"})


def test_every_setting(program):
    program.answer = lambda request: reply(WEBHOOK)
    told = program.remote(
        *("webhook", "set", "acme", "https://b.example/", "--header", "A=b=c", "--timeout", "3"),
        *("--concurrency", "9", "--rate", "1.5", "--payload", "json"),
    )
    assert told.exit_code == 0, told.stderr
    assert asked(program)[2] == {
        "url": "https://b.example/",
        "headers": {"A": "b=c"},
        "timeout_seconds": 3,
        "concurrency": 9,
        "rate_per_second": 1.5,
        "payload": "json",
    }


def test_without_a_url_it_stays_as_it_is(program):
    program.answer = lambda request: reply(WEBHOOK)
    program.remote("webhook", "set", "acme", "--rate", "off", "--no-headers")
    assert asked(program, 0)[0] == "GET"
    assert asked(program)[2] == {
        "url": "https://a.example/in",
        "headers": {},
        "rate_per_second": None,
    }


@pytest.mark.parametrize("wrong", [("--header", "x"), ("--rate", "fast")])
def test_wrong_options(program, wrong):
    told = program.remote("webhook", "set", "acme", "https://a.example/", *wrong)
    assert told.exit_code == 2
    assert program.asked == []


def test_show(program):
    program.answer = lambda request: reply(WEBHOOK)
    told = program.remote("webhook", "show", "acme")
    for line in (
        "state              disabled since 2026-01-02 03:04:05",
        "reason             HTTP 410",
        "circuit            open",
        "failures in a row  7",
        "last error         2026-01-02 03:04:04  HTTP 500",
        "headers            x-tenant",
        "rate_per_second    2.5",
        "secret whs-2       since 2026-01-02 00:00:00",
        "secret whs-1       since 2026-01-01 00:00:00, ends 2026-01-03 00:00:00",
    ):
        assert line in told.stdout.splitlines()
    assert "last success" not in told.stdout
    shown = json.loads(program.remote("webhook", "show", "acme", "--json").stdout)
    assert shown == {**WEBHOOK}


@pytest.mark.parametrize(
    ("pinged", "says", "code"),
    [
        ({"ok": True, "status": 204, "duration_ms": 5}, "HTTP 204 after 5 ms\n", 0),
        ({"ok": False, "reason": "connection refused", "duration_ms": 1}, "refused after 1 ms", 1),
    ],
)
def test_ping(program, pinged, says, code):
    program.answer = lambda request: reply(pinged)
    told = program.remote("webhook", "ping", "acme")
    assert says in told.stdout
    assert told.exit_code == code
    assert asked(program)[:2] == ("POST", "/v1/queues/acme/webhook/ping")
    assert json.loads(program.remote("webhook", "ping", "acme", "--json").stdout)["ok"] == (
        not code
    )


def test_rotate(program):
    made = {"id": "whs-3", "secret": "whsec_y", "created_at": "2026-01-01T00:00:00.000Z"}
    program.answer = lambda request: reply(made, 201)
    told = program.remote("webhook", "rotate", "acme")
    assert (told.stdout, "whs-3" in told.stderr) == ("whsec_y\n", True)
    assert asked(program)[:2] == ("POST", "/v1/queues/acme/webhook/secrets")


def test_rotate_end_old(program):
    program.answer = lambda request: reply(WEBHOOK)
    told = program.remote("webhook", "rotate", "acme", "--end-old")
    assert told.exit_code == 0
    assert asked(program)[:2] == ("DELETE", "/v1/queues/acme/webhook/secrets/whs-1")
    assert len(program.asked) == 2


def test_too_many_secrets_say_what_to_do(program):
    program.answer = lambda request: problem("too_many_secrets", 409)
    told = program.remote("webhook", "rotate", "acme")
    assert told.exit_code == 1
    assert "--end-old" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "method", "path", "ask"),
    [
        (("enable",), "POST", "/enable", None),
        (("disable",), "POST", "/disable", {}),
        (("disable", "--reason", "we move"), "POST", "/disable", {"reason": "we move"}),
        (("remove",), "DELETE", "", None),
    ],
)
def test_the_others(program, arguments, method, path, ask):
    program.answer = lambda request: reply(WEBHOOK)
    verb, *more = arguments
    told = program.remote("webhook", verb, "acme", *more)
    assert told.exit_code == 0, told.stderr
    assert verb in told.stdout
    assert asked(program) == (method, f"/v1/queues/acme/webhook{path}", ask)
