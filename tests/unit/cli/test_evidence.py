"""``restante ledger verify`` and ``consistency``: what they take to check by, and what they say of what they cannot."""

import asyncio
import json

import pytest
from tests.unit.cli.test_ledger import AT_MS, log_of
from tests.unit.engine.test_receipt_log import KEY

from restante.clock import SystemClock
from restante.stores.sqlite import SqliteStore
from restante.wire import times
from restante.wire.checkpoints import SignerKey, TreeHead, to_note

TRUST = ("--trust", KEY.verifier.text)
OTHER = SignerKey("elsewhere", b"\x07" * 32)
COUNT = 5
ROOT = bytes.fromhex("ff" * 32)


@pytest.fixture
def export(tmp_path):
    """An export of five receipts that are years old, and whole."""
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"".join(line + b"\n" for line in log_of(COUNT)))
    return file


@pytest.fixture
def verify(program):
    def run(*arguments, code=0, stdin=b""):
        told = program("ledger", "verify", *map(str, arguments), stdin=stdin)
        assert told.exit_code == code, told.output
        return told

    return run


def test_an_export_is_a_file_or_stdin(verify, export):
    for given, stdin in ((export, b""), ("-", export.read_bytes())):
        told = verify(*TRUST, given, stdin=stdin)
        assert told.stdout.endswith(
            "looked at 5 receipts and 1 head; 0 are past their time, 0 too new for the log\nnothing is wrong\n"
        )


def test_white_space_around_lines_says_nothing(verify, export):
    whole = export.read_bytes()
    for same in (whole.replace(b"\n", b"\r\n"), whole + b"\n", whole.rstrip()):
        export.write_bytes(same)
        assert "nothing is wrong" in verify(*TRUST, export).stdout


@pytest.mark.parametrize(
    "given",
    [
        ("log.jsonl", "--store", "sqlite:///data"),
        ("log.jsonl", "--proof", "proof.json"),
        ("--proof", "proof.json", "--store", "sqlite:///data"),
        ("log.jsonl", "--url", "http://service.test"),
        ("--store", "sqlite:///data", "--data", "data"),
    ],
)
def test_what_would_be_passed_over_is_refused(verify, given):
    told = verify(*TRUST, *given, code=2)
    assert "takes one of EXPORT, --proof, --store, a server" in told.stderr


@pytest.mark.parametrize("given", [("--head", "heads.txt"), ("--retention-seconds", "0")])
def test_a_proof_is_checked_by_itself(verify, given):
    told = verify(*TRUST, "--proof", "proof.json", *given, code=2)
    assert "--proof is checked by itself" in told.stderr


def test_no_time_is_kept_that_is_negative(verify, export):
    assert (
        "--retention-seconds" in verify(*TRUST, export, "--retention-seconds", "-1", code=2).stderr
    )


def test_an_export_is_not_made_of_two_sources(program):
    told = program("ledger", "export", "--store", "sqlite:///data", "--url", "http://service.test")
    assert (told.exit_code, "takes one of --store, a server" in told.stderr) == (2, True)


def test_two_heads_are_checked_by_a_proof_or_a_server(program):
    given = ("--head", "heads.txt", "--proof", "proof.json", "--url", "http://service.test")
    told = program("ledger", "consistency", *TRUST, *given)
    assert (told.exit_code, "takes one of --proof, a server" in told.stderr) == (2, True)


# -- keys -------------------------------------------------------------------------------------------


def test_a_private_key_is_told_from_a_public_one_and_never_shown(verify, export, tmp_path):
    (tmp_path / "ledger.key").write_text(f"{KEY.text}\n")
    secret = KEY.text.rpartition("+")[2]
    for given, named in ((KEY.text, "--trust"), ("ledger.key", "--trust ledger.key")):
        told = verify("--trust", given, export, code=2)
        assert f"error: {named}: that is a private key" in told.stderr
        assert "give its public part" in told.stderr
        assert secret not in told.output


@pytest.mark.parametrize("mangled", ["private+key+{}", "'{}", "x{}", "{}x"])
def test_nothing_of_what_is_no_key_is_shown(verify, export, mangled):
    told = verify("--trust", mangled.format(KEY.text), export, code=2)
    assert "name+id+key" in told.stderr
    assert KEY.text.rpartition("+")[2][:8] not in told.output


def test_all_lines_of_what_is_given_are_keys(verify, export):
    assert (
        "private key"
        in verify("--trust", f"{KEY.verifier.text}\n{KEY.text}", export, code=2).stderr
    )


def test_trusting_nothing_is_said_so(verify, export):
    assert "--trust names nothing" in verify("--trust", "", export, code=2).stderr


def test_of_a_log_of_another_key_only_that_is_said(verify, export):
    told = verify("--trust", OTHER.verifier.text, export, code=1)
    (error,) = told.stderr.splitlines()
    assert "key: the head of the log: no key that is trusted has signed it" in error
    assert "without that key the log cannot be judged" in error
    assert told.stdout.splitlines() == [
        "looked at 5 receipts and 0 heads; 0 are past their time, 0 too new for the log",
        "1 finding",
    ]


def test_what_needs_no_key_is_found_all_the_same(verify, export):
    export.write_bytes(export.read_bytes().replace(b'"number":3', b'"number":4'))
    told = verify("--trust", OTHER.verifier.text, export, code=1)
    assert "insertion: receipt acme~4" in told.stderr


def test_one_that_is_gone_is_told_from_many(verify, export):
    lines = log_of(COUNT)
    whole = [*lines[:3], *lines[8:]]
    for gone, told in (
        ((3,), "deletion: receipt acme~3: not there"),
        ((2, 3), "deletion: receipts acme~2 to acme~3: not there"),
        ((5,), "truncation: receipt acme~5: in the log, and not there"),
        ((1,), "deletion: receipt acme~1: not there, though not let go of by retention"),
    ):
        left = [lines[2 + number] for number in range(1, COUNT + 1) if number not in gone]
        export.write_bytes(b"".join(line + b"\n" for line in [*whole[:3], *left, *whole[3:]]))
        assert told in verify(*TRUST, export, code=1).stderr.splitlines()[0]


# -- heads ------------------------------------------------------------------------------------------


def note(size, *keys, origin=KEY.verifier.name):
    return to_note(origin, TreeHead(size, ROOT, AT_MS), keys)


def test_what_is_said_of_a_head_has_its_place(verify, export, tmp_path):
    (tmp_path / "heads.txt").write_text("\n".join([note(9, OTHER), note(COUNT, KEY)]))
    told = verify(*TRUST, "--head", "heads.txt", export, code=1)
    key, fork = (line for line in told.stderr.splitlines() if line.startswith("error:"))
    assert "key: a head that was kept elsewhere (head 1 of heads.txt): no key" in key
    assert "fork: a head that was kept elsewhere (head 2 of heads.txt), of 5 receipts" in fork
    assert "1 head is signed by keys that --trust does not name" in told.stderr
    assert told.stdout.endswith("2 findings\n")


def test_a_head_that_does_not_hold_has_its_place(program, tmp_path):
    (tmp_path / "heads.txt").write_text("\n".join([note(1, KEY), note(2, OTHER)]))
    told = program("ledger", "consistency", *TRUST, "--head", "heads.txt")
    assert told.exit_code == 1
    assert "head 2 of heads.txt does not hold: no key that is trusted" in told.stderr


def test_heads_in_json_have_names(program, verify, export, tmp_path):
    head = {"size": COUNT, "root": root_of(export), "at": times.to_text(AT_MS)}
    assert json.loads(verify(*TRUST, "--json", export).stdout)["head"] == head
    lost = json.loads(verify("--trust", OTHER.verifier.text, "--json", export, code=1).stdout)
    assert lost["head"] is None
    (tmp_path / "heads.txt").write_text(note(COUNT, KEY))
    answer = {"old": COUNT, "new": COUNT, "path": [], "checkpoint": note(COUNT, KEY)}
    (tmp_path / "proof.json").write_text(json.dumps(answer))
    given = ("--head", "heads.txt", "--proof", "proof.json", "--json")
    told = program("ledger", "consistency", *TRUST, *given)
    shown = {"size": COUNT, "root": "/" * 42 + "8=", "at": times.to_text(AT_MS)}
    assert json.loads(told.stdout) == [{"old": shown, "new": shown}]


def root_of(export):
    """The root in the first line, as its head has it."""
    first = json.loads(export.read_bytes().partition(b"\n")[0])
    return first["log"]["checkpoint"].split("\n")[2]


# -- what is no export ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"PAR1\x15\x04\n\x15\n" * 50, 2, "is a table"),
        (
            json.dumps({"entry": "", "index": 0, "path": [], "checkpoint": ""}).encode(),
            2,
            "is a proof that a receipt is in the log: give it by --proof",
        ),
        (
            json.dumps({"old": 1, "new": 2, "path": [], "checkpoint": ""}).encode(),
            2,
            "is a proof that a log was only added to",
        ),
        (note(1, KEY).encode(), 1, "is no export of a log"),
        (b"{\n" * 200, 1, "is no export of a log"),
    ],
)
def test_a_file_of_another_kind_is_told_in_a_line(verify, tmp_path, content, code, words):
    (tmp_path / "given").write_bytes(content)
    told = verify(*TRUST, "given", code=code)
    assert told.stdout == ""
    (line,) = told.stderr.splitlines()
    assert words in line


def test_an_export_with_another_beginning_is_looked_at(verify, export):
    export.write_bytes(export.read_bytes().replace(b'{"log":', b'{"lag":', 1))
    told = verify(*TRUST, export, code=1)
    assert "line 1" in told.stderr
    assert "looked at 5 receipts" in told.stdout


def test_an_export_of_nothing(verify, tmp_path):
    (tmp_path / "given").write_bytes(b"\n")
    assert "truncation: the export: nothing is there" in verify(*TRUST, "given", code=1).stderr


# -- a store ----------------------------------------------------------------------------------------


async def test_a_store_that_is_served_is_asked_of_its_server(program, tmp_path):
    (tmp_path / "data").mkdir()
    async with SqliteStore(tmp_path / "data", SystemClock()):
        told = await asyncio.to_thread(program, "ledger", "verify", "--store", "sqlite:///data")
    assert told.exit_code == 4
    assert "is in use by process" in told.stderr
    assert "Leave out --store to ask the server" in told.stderr
    assert "--data" not in told.stderr


async def test_a_store_in_which_nothing_was_sealed(verify, tmp_path):
    async with SqliteStore(tmp_path, SystemClock()):
        pass
    store = f"sqlite:///{tmp_path}"
    told = await asyncio.to_thread(lambda: verify(*TRUST, "--store", store, code=1))
    assert "nothing is in the log of receipts yet" in told.stderr
    heads = tmp_path / "heads.txt"
    heads.write_text(note(COUNT, KEY))
    given = (*TRUST, "--head", heads, "--store", store)
    told = await asyncio.to_thread(lambda: verify(*given, code=1))
    assert "truncation: a head that was kept elsewhere" in told.stderr
    assert told.stdout.endswith("1 finding\n")
