"""Every command: its help, what it asks of the server, what it prints, and how it fails."""

from __future__ import annotations

import json

import httpx
import pytest
from tests.unit.cli.conftest import problem, reply

from restante.cli.failures import exit_code
from restante.errors import (
    ConfigurationError,
    Forbidden,
    LeaseLost,
    PortInUse,
    StoreInUse,
    StoreRefused,
    Unauthenticated,
)

COMMANDS = [
    *(
        "serve",
        "demo",
        "check",
        "backup",
        "restore",
        "copy",
        "bench",
        "version",
        "publish",
        "receive",
        "status",
        "top",
        "trace",
        "doctor",
    ),
    *("ack", "nack", "reject", "extend", "release"),
    *("queue list", "queue show", "queue set", "dead list", "dead redrive", "dead discard"),
    *("dead reasons", "dead show", "dead replace", "dead open", "acts", "body"),
    *("jobs list", "jobs show", "jobs pause", "jobs resume", "jobs cancel", "request"),
    *("group list", "group show", "operations list", "operations show", "operations cancel"),
    *("ledger head", "ledger heads", "ledger keys", "ledger proof", "ledger export"),
    *("ledger verify", "ledger new-key"),
    *("receipts list", "receipts show", "receipts verify", "client add", "client list"),
    *("keys add", "keys list", "keys revoke"),
    *("subscriptions add", "subscriptions list", "subscriptions remove"),
    *("webhook set", "webhook show", "webhook ping", "webhook rotate", "webhook enable"),
    *("webhook disable", "webhook remove"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(program, command):
    told = program(*command.split(), "--help")
    assert told.exit_code == 0
    assert "Usage" in told.stdout
    assert "[[" not in told.stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 2),
        (PortInUse("x"), 3),
        (StoreInUse("x"), 4),
        (StoreRefused("x"), 5),
        (Unauthenticated("x"), 6),
        (Forbidden("x"), 6),
        (LeaseLost("x"), 1),
    ],
)
def test_exit_codes(error, code):
    assert exit_code(error) == code


def test_no_key(program):
    told = program("queue", "list")
    assert told.exit_code == 6
    assert "no key was given" in told.stderr
    assert "RESTANTE_KEY" in told.stderr


def test_a_wrong_key(program):
    program.answer = lambda _: problem("unauthenticated", 401, "the key is not valid")
    told = program.remote("queue", "show", "acme")
    assert told.exit_code == 6
    assert "error: the key is not valid" in told.stderr
    assert not told.stdout


def test_nobody_there(program):
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    program.answer = refuse
    told = program.remote("queue", "list")
    assert told.exit_code == 1
    assert "no connection to http://service.test" in told.stderr
    assert "restante serve" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_page_that_is_not_ours(program):
    program.answer = lambda _: httpx.Response(200, text="<html>")
    told = program.remote("client", "list")
    assert told.exit_code == 1
    assert "does not answer like a Restante server" in told.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["queue", "show"],
        ["publish", "acme"],
        ["publish", "acme", "no-such-file"],
        ["publish", "acme", "-", "--attribute", "x"],
        ["publish", "acme", "-", "--require", "any"],
        ["publish", "acme", "-", "--wait", "-1"],
        ["publish", "acme", "-", "--wait", "1", "--require", "most"],
        ["group", "show", "g1", "--wait", "-1"],
        ["operations", "list", "--limit", "0"],
        ["receive", "acme", "--ack", "--release"],
        ["receive", "acme", "--follow", "--release"],
        ["dead", "redrive", "acme"],
        ["dead", "redrive", "acme", "--all", "--seq", "1"],
        ["dead", "redrive", "acme", "--seq", "1", "--rate", "5"],
        ["dead", "show", "acme", "0"],
        ["dead", "replace", "acme", "1", "no-such-file"],
        ["dead", "list", "acme", "--since", "yesterday"],
        ["queue", "set", "acme"],
        ["queue", "set", "acme", "colour=red"],
        ["queue", "set", "acme", "max_attempts=many"],
        ["queue", "set", "acme", "after_dead=weep"],
        ["keys", "add", "king", "me"],
        ["keys", "revoke", "rst_abc"],
        ["subscriptions", "add", "a.*", "acme", "--where", "x"],
        ["ack", "--colour"],
        ["serve", "--listen", "nowhere"],
        ["serve", "--config", "no-such-file.toml"],
        ["queue", "list", "--url", "ftp://x"],
        ["top", "--interval", "0"],
        ["top", "--sort", "colour"],
        ["doctor", "--through", "http://service.test"],
        ["doctor", "--through", "http://service.test", "--queue", "q", "--wait", "61"],
    ],
)
def test_wrong_usage(program, arguments):
    told = program.remote(*arguments)
    assert told.exit_code == 2, told.output
    assert told.stderr
    assert "Traceback" not in told.stderr
    assert not program.asked


def test_publish_one_file(program, tmp_path):
    file = tmp_path / "order.xml"
    file.write_bytes(b"<order/>")
    program.answer = lambda _: reply({"id": "n1", "deliveries": [{"queue": "acme", "seq": 7}]}, 201)
    told = program.remote("publish", "acme", str(file), "--attribute", "Region=north")
    assert told.exit_code == 0, told.output
    (request,) = program.asked
    assert request.url.path == "/v1/queues/acme/notifications"
    assert request.content == b"<order/>"
    assert request.headers["content-type"] == "application/xml"
    assert request.headers["restante-attribute-region"] == "north"
    assert request.headers["authorization"] == "Bearer a-key"
    assert len(request.headers["idempotency-key"]) > 16
    assert "n1  acme 7" in told.stdout


def test_publish_stdin_to_a_topic(program):
    program.answer = lambda _: reply({"id": "n1", "deliveries": []}, 201)
    told = program.remote("publish", "--topic", "orders.new", "-", stdin=b"\xff\xfe<\0a\0/\0>\0")
    assert told.exit_code == 0, told.output
    (request,) = program.asked
    assert request.url.path == "/v1/topics/orders.new/notifications"
    assert request.headers["content-type"] == "application/xml"
    assert "no queue is subscribed" in told.stdout


def test_publish_a_folder_in_order_and_tell_what_failed(program, tmp_path):
    folder = tmp_path / "orders"
    folder.mkdir()
    for name in ("2.xml", "1.json", ".hidden", "3.bin"):
        (folder / name).write_bytes(name.encode() + b"\xff" * (name == "3.bin"))

    def answer(request: httpx.Request) -> httpx.Response:
        good = {"ok": True, "id": "n", "deliveries": []}
        bad = {"ok": False, "status": 413, "code": "body_too_large", "detail": "too large"}
        return reply({"results": [good, bad, good]})

    program.answer = answer
    told = program.remote("publish", "acme", str(folder), "--idempotency-key", "k-{name}", "--json")
    assert told.exit_code == 1
    (request,) = program.asked
    items = json.loads(request.content)["notifications"]
    assert [item["idempotency_key"] for item in items] == ["k-1.json", "k-2.xml", "k-3.bin"]
    assert [item["content_type"] for item in items] == [
        *("application/json", "application/xml", "application/octet-stream"),
    ]
    assert items[0]["body"] == "1.json"
    assert items[2]["body_base64"]
    assert "2.xml: too large" in told.stderr
    assert "1 of 3 were not published" in told.stderr
    assert len(json.loads(told.stdout)) == 2


def test_one_key_for_many_files_is_refused(program, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    told = program.remote("publish", "acme", "a", "b", "--idempotency-key", "same")
    assert told.exit_code == 2
    assert not program.asked


NOTIFICATION = {
    "id": "n1",
    "queue": "acme",
    "seq": 3,
    "lease": "-lease",
    "attempt": 2,
    "content_type": "application/xml",
    "body": "<a>\x1b[2J</a>",
    "published_at": "2026-01-31T12:00:00.000Z",
    "lease_until": "2026-01-31T12:00:30.000Z",
}


def test_receive_shows_what_came_and_cannot_steer_the_terminal(program):
    program.answer = lambda _: reply({"notifications": [NOTIFICATION]})
    told = program.remote("receive", "acme", "--wait", "0", "--max", "5")
    assert told.exit_code == 0, told.output
    assert json.loads(program.asked[0].content) == {"max": 5, "wait": 0}
    assert "-lease" in told.stdout
    assert "<a>\\x1b[2J</a>" in told.stdout
    assert "\x1b" not in told.stdout
    assert "restante ack" in told.stderr


def test_receive_writes_and_then_signs(program, tmp_path):
    there: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/ack"):
            there.extend(path.read_bytes() for path in (tmp_path / "in").iterdir())
            return reply({"ok": True, "lease": "-lease", "outcome": "acked", "state": "acked"})
        return reply({"notifications": [NOTIFICATION]})

    program.answer = answer
    told = program.remote("receive", "acme", "--ack", "--output", "in")
    assert told.exit_code == 0, told.output
    assert program.asked[1].url.path == "/v1/leases/-lease/ack"
    assert there == [b"<a>\x1b[2J</a>"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["acme-000000003-n1.xml"]


def test_receive_json_is_a_line_each(program):
    program.answer = lambda _: reply({"notifications": [NOTIFICATION, NOTIFICATION]})
    told = program.remote("receive", "acme", "--json")
    assert [json.loads(line)["lease"] for line in told.stdout.splitlines()] == ["-lease"] * 2


def test_nothing_came(program):
    program.answer = lambda _: reply({"notifications": []})
    told = program.remote("receive", "acme", "--wait", "0")
    assert told.exit_code == 0
    assert not told.stdout
    assert "Nothing came" in told.stderr


def test_a_lease_token_may_begin_with_a_hyphen(program):
    program.answer = lambda _: reply(
        {"ok": True, "lease": "-hV", "outcome": "nacked", "state": "dead", "receipt": "acme~4"}
    )
    told = program.remote("nack", "-hV", "--reason", "no stock", "--retry-after", "60")
    assert told.exit_code == 0, told.output
    (request,) = program.asked
    assert request.url.path == "/v1/leases/-hV/nack"
    assert json.loads(request.content) == {"reason": "no stock", "retry_after": 60}
    assert told.stdout == "nacked: now dead, receipt acme~4\n"


def test_a_lost_lease_does_not_keep_the_others(program):
    def answer(request: httpx.Request) -> httpx.Response:
        if "/old/" in request.url.path:
            return problem("lease_lost", 409, "lost it")
        return reply({"ok": True, "lease": "new", "outcome": "acked", "state": "acked"})

    program.answer = answer
    told = program.remote("ack", "old", "new", "--reply", "<ok/>")
    assert told.exit_code == 1
    assert "acked: now acked" in told.stdout
    assert "lost it" in told.stderr
    assert program.asked[1].headers["content-type"] == "application/xml"
    assert program.asked[1].content == b"<ok/>"


def test_discarding_asks_or_is_told_yes(program):
    program.answer = lambda _: reply({"matched": 4, "done": 4})
    assert program.remote("dead", "discard", "acme", "--seq", "2").exit_code == 2
    assert len(program.asked) == 1
    told = program.remote("dead", "discard", "acme", "--seq", "2", "--yes", "--because", "old")
    assert told.exit_code == 0, told.output
    assert told.stdout == "4 dead letters discarded\n"
    assert json.loads(program.asked[2].content) == {
        "seqs": [2],
        "reason": "old",
        "preview": False,
    }


def test_a_preview_changes_nothing(program):
    program.answer = lambda _: reply({"matched": 1, "done": 0})
    told = program.remote("dead", "redrive", "acme", "--seq", "3", "--preview")
    assert told.stdout == "1 dead letter would be redriven\n"
    (request,) = program.asked
    assert json.loads(request.content) == {"seqs": [3], "preview": True}


def test_a_key_stands_alone_on_stdout(program):
    program.answer = lambda _: reply(
        {"name": "acme", "queue": "acme", "key_id": "k", "key": "rst_secret"}, 201
    )
    told = program.remote("client", "add", "acme")
    assert told.stdout == "rst_secret\n"
    assert "not shown again" in told.stderr


def test_a_certificate_has_no_key_to_print(program):
    made = {
        "id": "san-k",
        "role": "client",
        "name": "acme",
        "label": "",
        "certificate_san": "dns:a.example",
        "created_at": "2026-01-31T12:00:00.000Z",
        "expires_at": None,
        "revoked_at": None,
    }
    program.answer = lambda _: reply(made, 201)
    add = ("keys", "add", "client", "acme", "--certificate-san", "dns:A.example")
    told = program.remote(*add)
    assert told.stdout == "dns:a.example stands for client acme (key san-k).\n"
    assert json.loads(program.asked[0].content) == {
        "role": "client",
        "name": "acme",
        "label": "",
        "certificate_san": "dns:A.example",
    }
    assert json.loads(program.remote(*add, "--json").stdout) == made
    program.answer = lambda _: reply({"keys": [made], "next": None})
    assert "dns:a.example" in program.remote("keys", "list").stdout


def test_subscribing_with_conditions(program):
    program.answer = lambda _: reply({"id": "s", "pattern": "a.*", "queue": "q", "filter": {}}, 201)
    program.remote("subscriptions", "add", "a.*", "q", "--where", "r=n", "--where", "r=s")
    assert json.loads(program.asked[0].content)["filter"] == {"r": ["n", "s"]}


def test_versions(program):
    assert program("--version").stdout.startswith("restante ")
    assert "sqlite" in json.loads(program("version", "--json").stdout)


def test_check_without_a_store(program, tmp_path):
    told = program("check", "--data", str(tmp_path))
    assert told.exit_code == 5
    assert "there is no store" in told.stderr
