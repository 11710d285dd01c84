"""What is printed, and what is read from options and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from restante.cli import files, output
from restante.cli.queues import parse_settings
from restante.errors import ConfigurationError
from restante.wire import times


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("a\r\nb", "a\nb"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202edcba", "abc\\x202edcba"),
        ("Käufer", "Käufer"),
    ],
)
def test_text_of_others_cannot_steer_a_terminal(text, shown):
    assert output.safe(text) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.04, "0.0 s"),
        (59, "59 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7_300, "2 h"),
        (180_000, "2 d"),
    ],
)
def test_ages(seconds, shown):
    assert output.age(seconds) == shown


def test_times_of_options():
    assert output.moment(None) is None
    assert output.moment("2026-01-31T12:00:00Z") == "2026-01-31T12:00:00Z"
    hour_ago, now = output.moment("1h"), output.moment("0s")
    assert hour_ago is not None
    assert now is not None
    assert 3_599_000 <= times.to_ms(now) - times.to_ms(hour_ago) <= 3_660_000
    with pytest.raises(ConfigurationError):
        output.moment("soon")


def test_a_table_of_nothing_says_so_on_stderr(capsys):
    output.table(["a"], [], empty="nothing")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "nothing\n")


def test_a_table_takes_markup_as_text(capsys):
    output.table(["a", "n>"], [("[red]x[/red]", 1)], empty="")
    assert "[red]x[/red]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "content_type"),
    [
        ("a.xml", b"", "application/xml"),
        ("a.XML", b"", "application/xml"),
        ("a.json", b"", "application/json"),
        ("a.pdf", b"", "application/pdf"),
        ("-", b"<?xml version='1.0'?>", "application/xml"),
        ("-", b"\xef\xbb\xbf<a/>", "application/xml"),
        ("-", b"\xfe\xff\0<\0a", "application/xml"),
        ("-", b"PK\3\4", files.OCTETS),
        ("a.xml.gz", b"\x1f\x8b", files.OCTETS),
    ],
)
def test_content_types(name, content, content_type):
    assert files.content_type_of(Path(name), content) == content_type


def test_batches_keep_order_and_bounds(tmp_path):
    paths = []
    for number, size in enumerate([3, 3, 3, 20, 1]):
        path = tmp_path / str(number)
        path.write_bytes(b"x" * size)
        paths.append(path)
    grouped = [[int(path.name) for path, _ in batch] for batch in files.batches(paths, 2, 10)]
    assert grouped == [[0, 1], [2], [3], [4]]


def test_settings_of_words():
    assert parse_settings(
        ["lease-seconds=60", "backoff_factor=1.5", "depth_limit=off", "dead_limit=default"]
    ) == {
        "lease_seconds": 60,
        "backoff_factor": 1.5,
        "depth_limit": 0,
        "dead_limit": None,
    }
    with pytest.raises(ConfigurationError):
        parse_settings(["max_attempts=off"])
    with pytest.raises(ConfigurationError, match="it is one of: optional, required"):
        parse_settings(["signature=requird"])
