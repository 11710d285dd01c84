"""``restante ledger head`` and ``heads``: what they keep, and that they never take away what was kept."""

import httpx
import pytest
from tests.unit.cli.conftest import reply

from restante.cli.evidence import held, trusted
from restante.errors import ConfigurationError
from restante.wire.checkpoints import SignerKey, TreeHead, to_note

KEY = SignerKey("restante/bc19bcd8", b"\x01" * 32)


def head(size):
    return to_note("restante/bc19bcd8", TreeHead(size, bytes(32), size), [KEY])


def kept(folder):
    """The heads in the file, in order, each with its place."""
    found = held([folder / "heads.txt"])
    file = folder / "heads.txt"
    assert [one.place for one in found] == [
        f"head {number} of {file}" for number in range(1, len(found) + 1)
    ]
    return [one.note for one in found]


def test_a_head_is_kept_behind_those_that_were_kept_before(program, tmp_path):
    heads = iter([head(3), head(5)])
    program.answer = lambda _: httpx.Response(200, text=next(heads))
    for _ in range(2):
        told = program.remote("ledger", "head", "--out", "heads.txt")
        assert (told.exit_code, told.stdout) == (0, ""), told.output
    assert kept(tmp_path) == [head(3), head(5)]


def test_all_heads_are_kept_page_by_page(program, tmp_path):
    pages = iter([{"heads": [head(3), head(5)], "next": 5}, {"heads": [head(8)], "next": None}] * 2)
    program.answer = lambda _: reply(next(pages))
    told = program.remote("ledger", "heads", "--after", "2", "-o", "heads.txt")
    assert (told.exit_code, told.stdout) == (0, ""), told.output
    assert kept(tmp_path) == [head(3), head(5), head(8)]
    assert [dict(one.url.params) for one in program.asked] == [
        {"after": "2", "limit": "1000"},
        {"after": "5", "limit": "1000"},
    ]
    shown = program.remote("ledger", "heads").stdout
    assert shown == (tmp_path / "heads.txt").read_text()


def test_a_place_where_nothing_can_be_written(program, tmp_path):
    program.answer = lambda _: httpx.Response(200, text=head(3))
    told = program.remote("ledger", "head", "--out", str(tmp_path))
    assert told.exit_code == 2
    assert "cannot write" in told.stderr


def test_the_list_of_keys_is_a_file_to_trust(program, tmp_path):
    since = "2026-01-31T12:00:00.000Z"
    program.answer = lambda _: reply({"keys": [{"key": KEY.verifier.text, "since": since}]})
    (tmp_path / "keys.txt").write_text(program.remote("ledger", "keys").stdout)
    assert trusted([str(tmp_path / "keys.txt")]) == [KEY.verifier]
    assert trusted([KEY.verifier.text]) == [KEY.verifier]
    (tmp_path / "none.txt").write_text("key  since\n")
    for bad in (str(tmp_path / "none.txt"), "not+a+key"):
        with pytest.raises(ConfigurationError, match="--trust"):
            trusted([bad])
