from __future__ import annotations

import multiprocessing
from pathlib import Path

import msgspec
import pytest

from restante.testing.history import History, Mark, Place, Publish, Recorder, Settle, digest


def publish(body: bytes = b"x") -> Publish:
    return Publish(queue="acme", body_sha256=digest(body))


def test_an_operation_is_read_back_as_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with Recorder(path, "w") as recorder:
        call = recorder.begin(publish())
        call.notification, call.deliveries = "n1", [Place("acme", 1)]
        recorder.end(call, "ok")
    (read,) = History.load(path).of(Publish)
    assert read == call
    assert read.end is not None
    assert read.start <= read.end


def test_an_operation_without_an_end_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with Recorder(path, "w") as recorder:
        recorder.begin(publish())
    (read,) = History.load(path).of(Publish)
    assert (read.outcome, read.end) == ("unknown", None)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [("lease_lost", "refused"), ("outcome_unknown", "unknown"), ("internal", "unknown")],
)
def test_an_error_code_says_whether_it_was_done(tmp_path: Path, code: str, outcome: str) -> None:
    path = tmp_path / "history.jsonl"
    with Recorder(path, "w") as recorder:
        call = recorder.begin(Settle(lease="t", action="ack"))
        recorder.refused(call, code)
    (read,) = History.load(path).of(Settle)
    assert (read.outcome, read.code) == (outcome, code)


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with Recorder(path, "w") as recorder:
        recorder.mark("note", note="whole")
        recorder.mark("note", note="torn")
    path.write_bytes(path.read_bytes()[:-5])
    # The line of its beginning is whole: it is there, and never ended.
    assert [mark.note for mark in History.load(path).of(Mark)] == ["whole", "torn"]
    assert [mark.outcome for mark in History.load(path).of(Mark)] == ["ok", "unknown"]


def test_a_line_that_is_no_operation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"kind":"guess"}\n')
    with pytest.raises(msgspec.ValidationError):
        History.load(path)


def write_many(path: Path, writer: str) -> None:
    with Recorder(path, writer) as recorder:
        for _ in range(200):
            recorder.end(recorder.begin(publish(b"y" * 100)), "ok")


def test_processes_can_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(path, f"w{n}")) for n in range(2)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
        assert process.exitcode == 0
    operations = History.load(path).operations
    assert len(operations) == 400
    starts = [operation.start for operation in operations]
    assert starts == sorted(starts)
