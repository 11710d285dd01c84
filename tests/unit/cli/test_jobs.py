"""Commands about dead letters, jobs, acts and bodies: what they ask of the server, and what they tell."""

import json
import signal

import pytest
from tests.unit.cli.conftest import problem, reply

from restante.cli import jobs

JOB = {
    "id": "j1",
    "task": "redrive",
    "queues": ["acme"],
    "filter": {"reason": "bad"},
    "reason": "",
    "rate_per_second": None,
    "asked_by": "op",
    "asked_at": "2026-01-31T12:00:00.000Z",
    "state": "running",
    "total": 3,
    "at_least": False,
    "done": 0,
    "skipped": 0,
    "unsure": 0,
    "error": "",
    "node": "n",
    "ended_at": None,
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(jobs, "_FIRST_LOOK_SECONDS", 0)


def answering(program, *answers):
    """One answer after the other."""
    left = iter(answers)
    program.answer = lambda _: next(left)


def calls(program):
    return [(one.method, one.url.path) for one in program.asked]


def test_a_redrive_by_a_filter_is_a_job_that_is_followed(program):
    done = JOB | {"state": "done", "done": 2, "skipped": 1}
    answering(program, reply(JOB, 202), reply(JOB | {"done": 1}), reply(done))
    told = program.remote("dead", "redrive", "acme", "--reason", "bad", "--rate", "50")
    assert told.exit_code == 0, told.output
    assert told.stdout == "2 dead letters redriven\n"
    assert "1 were dead no more, 0 are unsure: `restante jobs show j1`" in told.stderr
    assert calls(program) == [("POST", "/v1/jobs"), ("GET", "/v1/jobs/j1"), ("GET", "/v1/jobs/j1")]
    assert json.loads(program.asked[0].content) == {
        "task": "redrive",
        "queues": ["acme"],
        "filter": {"reason": "bad"},
        "reason": "",
        "rate_per_second": 50,
    }


@pytest.mark.parametrize(
    ("state", "error", "words"),
    [
        ("failed", "given up after 5 tries", "job j1 is failed: given up after 5 tries"),
        ("cancelled", "", "job j1 is cancelled"),
    ],
)
def test_a_job_that_does_not_end_well_is_a_failure(program, state, error, words):
    answering(program, reply(JOB, 202), reply(JOB | {"state": state, "error": error}))
    told = program.remote("dead", "redrive", "acme", "--all")
    assert (told.exit_code, told.stdout) == (1, "")
    assert words in told.stderr


def test_whom_the_server_leaves_alone_is_told_that_it_goes_on(program):
    answering(program, reply(JOB, 202), problem("store_error", 503))
    told = program.remote("dead", "redrive", "acme", "--all")
    assert told.exit_code == 1
    assert "restante jobs show j1 --follow" in told.stderr


def test_who_interrupts_is_told_that_it_goes_on(program):
    def answer(request):
        if request.method == "GET":
            signal.raise_signal(signal.SIGINT)
        return reply(JOB, 202)

    program.answer = answer
    told = program.remote("dead", "redrive", "acme", "--all")
    assert told.exit_code == 130
    assert "restante jobs show j1 --follow" in told.stderr
    assert calls(program) == [("POST", "/v1/jobs"), ("GET", "/v1/jobs/j1")]


def test_a_job_that_somebody_pauses_says_how_it_goes_on(program):
    paused = reply(JOB | {"state": "paused"})
    answering(program, reply(JOB), paused, paused, reply(JOB | {"state": "done", "done": 3}))
    told = program.remote("jobs", "show", "j1", "--follow")
    assert told.exit_code == 0, told.output
    assert told.stderr.count("restante jobs resume j1") == 1
    assert "3 of 3" in told.stdout


def test_a_preview_counts_and_asks_for_nothing(program):
    program.answer = lambda _: reply({"matched": 1_234, "at_least": True})
    told = program.remote("dead", "discard", "acme", "--all", "--preview")
    assert told.stdout == "at least 1,234 dead letters would be discarded\n"
    (request,) = program.asked
    assert json.loads(request.content)["preview"] is True


def test_discarding_many_asks_or_is_told_yes(program):
    program.answer = lambda _: reply({"matched": 4, "at_least": False})
    refused = program.remote("dead", "discard", "acme", "--all")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert len(program.asked) == 1


@pytest.mark.parametrize(
    ("word", "method", "path"),
    [
        ("pause", "POST", "/v1/jobs/j1/pause"),
        ("resume", "POST", "/v1/jobs/j1/resume"),
        ("cancel", "DELETE", "/v1/jobs/j1"),
    ],
)
def test_what_is_done_with_a_job(program, word, method, path):
    program.answer = lambda _: reply(JOB | {"state": "paused", "done": 1})
    told = program.remote("jobs", word, "j1")
    assert told.stdout == "j1 paused, 1 of 3\n"
    assert calls(program) == [(method, path)]


def test_jobs_are_listed(program):
    page = {"jobs": [JOB | {"queues": ["a", "b", "c"], "at_least": True}], "next": "j1"}
    program.answer = lambda _: reply(page)
    told = program.remote("jobs", "list")
    assert "a and 2 more" in told.stdout
    assert "0 of at least 3" in told.stdout
    assert "--after j1" in told.stderr
    assert json.loads(program.remote("jobs", "list", "--json").stdout) == page


def test_a_job_that_is_not_there(program):
    program.answer = lambda _: problem("job_not_found", 404, "there is no job j2 here")
    told = program.remote("jobs", "show", "j2")
    assert (told.exit_code, told.stdout) == (1, "")
    assert "there is no job j2 here" in told.stderr


def test_reasons(program):
    reason = {"reason": "b\x1b[2Jad", "count": 7, "last_dead_at": "2026-01-31T12:00:00.000Z"}
    program.answer = lambda _: reply({"reasons": [reason], "dead": 20_000, "scanned": 10_000})
    told = program.remote("dead", "reasons", "acme")
    assert "b\\x1b[2Jad" in told.stdout
    assert "10,000 of 20,000 were looked at" in told.stderr


def test_replacing(program, tmp_path):
    (tmp_path / "mended.xml").write_bytes(b"<order/>")
    program.answer = lambda _: reply({"id": "n2", "deliveries": [{"queue": "acme", "seq": 9}]}, 201)
    told = program.remote("dead", "replace", "acme", "7", "mended.xml")
    assert told.stdout == "n2  acme 9 replaces 7\n"
    (request,) = program.asked
    assert request.url.path == "/v1/queues/acme/dead/7/replace"
    assert (request.content, request.headers["content-type"]) == (b"<order/>", "application/xml")


def test_a_way_past(program):
    program.answer = lambda _: reply({"ordering_key": "k"})
    assert program.remote("dead", "open", "acme", "7").stdout == "k goes on; 7 stays dead\n"
    assert calls(program) == [("POST", "/v1/queues/acme/dead/7/open")]


def test_a_dead_letter_that_is_not_there(program):
    program.answer = lambda _: reply({"dead": [], "next": None})
    told = program.remote("dead", "show", "acme", "7")
    assert (told.exit_code, told.stdout) == (1, "")
    assert "queue acme has no dead letter 7" in told.stderr


def test_acts(program):
    act = {
        "id": "a1",
        "at": "2026-01-31T12:00:00.000Z",
        "who": "op\x07",
        "role": "admin",
        "what": "queue.changed",
        "queue": "acme",
        "details": {"lease_seconds": "30 -> 60", "empty": ""},
    }
    program.answer = lambda _: reply({"acts": [act], "next": "a1"})
    told = program.remote("acts", "--who", "op", "--what", "queue", "--subject", "s")
    assert "lease_seconds: 30 -> 60" in told.stdout
    assert "\x07" not in told.stdout
    assert "empty" not in told.stdout
    assert "--after a1" in told.stderr
    assert dict(program.asked[0].url.params) == {
        "who": "op",
        "what": "queue",
        "subject": "s",
        "limit": "100",
    }


def test_a_body_goes_to_stdout_as_it_is_or_to_a_new_file(program, tmp_path):
    content = b"\xff\xfe<\0\x1b\0"
    program.answer = lambda _: reply({}).__class__(200, content=content)
    assert program.remote("body", "n1").stdout_bytes == content
    assert program.remote("body", "n1", "--output", "one").exit_code == 0
    assert (tmp_path / "one").read_bytes() == content
    looks = len(program.asked)
    again = program.remote("body", "n1", "--output", "one")
    assert again.exit_code == 2
    assert len(program.asked) == looks, "nobody has looked"
