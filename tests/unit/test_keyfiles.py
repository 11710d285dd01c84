"""Files of keys."""

import stat

import pytest
from structlog.testing import capture_logs

from restante.errors import ConfigurationError, StoreRefused
from restante.keyfiles import load_keyring, load_log_keys, write_private
from restante.wire.sealing import SealBroken, to_line

NONCE = bytes(12)


def test_a_file_is_made_where_there_is_none_and_read_from_then_on(tmp_path):
    path = tmp_path / "secrets.key"
    sealed = load_keyring(path).seal(b"x", ("a",), NONCE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert load_keyring(path).open(sealed, ("a",)) == b"x"


def test_a_new_key_in_front_of_the_old_one(tmp_path):
    path = tmp_path / "secrets.key"
    sealed = load_keyring(path).seal(b"x", (), NONCE)
    path.write_text(to_line(b"n" * 32) + "\n" + path.read_text())
    ring = load_keyring(path)
    assert ring.open(sealed, ()) == b"x"
    assert not ring.is_current(sealed)
    path.write_text(to_line(b"n" * 32))
    with pytest.raises(SealBroken):
        load_keyring(path).open(sealed, ())


def test_what_is_no_file_of_keys_is_refused_and_not_shown(tmp_path):
    path = tmp_path / "secrets.key"
    for text in ("", "hunter2\n", to_line(b"short")):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=r"secrets\.key: .*key") as caught:
            load_keyring(path)
        assert "hunter2" not in str(caught.value)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError):
        load_keyring(path)
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_keyring(tmp_path)


def test_what_others_can_read_is_told(tmp_path):
    path = tmp_path / "secrets.key"
    load_keyring(path)
    path.chmod(0o644)
    with capture_logs() as logs:
        load_keyring(path)
    assert [line["event"] for line in logs] == ["secrets.key_readable_by_others"]


def test_what_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreRefused, match="cannot write"):
        write_private(tmp_path / "file" / "key", "x")


def test_the_folder_is_made_for_nobody_else(tmp_path):
    write_private(tmp_path / "folder" / "key", "x")
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o700


def test_what_an_earlier_start_left_is_written_over(tmp_path):
    (tmp_path / "key.new").write_text("half")
    write_private(tmp_path / "key", "whole")
    assert (tmp_path / "key").read_text() == "whole"
    assert not (tmp_path / "key.new").exists()


def test_a_line_that_is_no_key_of_the_log_is_named_and_not_shown(tmp_path):
    path = tmp_path / "ledger.key"
    (signer,) = load_log_keys(path).signers
    whole = path.read_text()
    secret = signer.text.rpartition("+")[2]
    for bad in ("hunter2", secret, signer.text[:-6], f"a+{secret}"):
        path.write_text(f"{whole}\n{bad}\n")
        with pytest.raises(
            ConfigurationError, match=r"ledger\.key, line 3: .*PRIVATE\+KEY"
        ) as caught:
            load_log_keys(path)
        assert "signs heads" in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert secret[:12] not in str(caught.value)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="line 1"):
        load_log_keys(path)


def test_a_key_that_is_lost_has_its_public_part_in_the_file(tmp_path):
    path = tmp_path / "ledger.key"
    (old,) = load_log_keys(tmp_path / "old.key").signers
    (new,) = load_log_keys(path).signers
    path.write_text(f"{new.text}\n\n{old.verifier.text}\n")
    assert load_log_keys(path).trusted == (new.verifier, old.verifier)
