"""Files that hold keys: written so that nobody else may read them, and never half."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from restante.errors import ConfigurationError, StoreRefused
from restante.logs import get_logger
from restante.wire.checkpoints import SIGNATURES, LogKeys, SignerKey, VerifierKey
from restante.wire.sealing import KEY_BYTES, Keyring, parse_keys, to_line

_log = get_logger(__name__)

SECRETS_KEY_FILE: Final = "secrets.key"
"""In the data folder, unless another is named."""
LEDGER_KEY_FILE: Final = "ledger.key"
"""Likewise: what signs the heads of the log of receipts."""


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, durably, whole or not at all. Raises ``StoreRefused``.

    Its folder is made if need be: with a store elsewhere nothing else would.
    """
    beside = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # What an earlier start left when it was killed here.
        beside.unlink(missing_ok=True)
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StoreRefused(f"cannot write {path}: {error.strerror}") from error


def load_log_keys(path: Path) -> LogKeys:
    """The keys that sign heads, one a line, made with one new key where there is none. ``ConfigurationError``.

    The first gives the log its name where it has none yet; all sign, so that whoever knows one of them can check. A
    line may also be a key's public part: one that is lost, whose log is to be gone on with all the same.
    """
    if not path.exists():
        name = f"restante/{secrets.token_hex(4)}"
        write_private(path, f"{SignerKey(name, secrets.token_bytes(KEY_BYTES)).text}\n")
    try:
        if path.stat().st_mode & 0o077:
            _log.warning("ledger.key_readable_by_others", path=str(path))
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    signers: list[SignerKey] = []
    before: list[VerifierKey] = []
    for number, line in enumerate(map(str.strip, lines), 1):
        try:
            if SignerKey.is_text(line):
                signers.append(SignerKey.parse(line))
            elif line:
                before.append(VerifierKey.parse(line))
        except ValueError as error:
            raise ConfigurationError(
                f"{path}, line {number}: {error}. A line is a key that signs heads (PRIVATE+KEY+name+id+key),"
                " or the public part of one that is lost (name+id+key)"
            ) from error
    if not 1 <= len(signers) <= SIGNATURES:
        raise ConfigurationError(f"{path} has {len(signers)} keys: it takes 1 to {SIGNATURES}")
    return LogKeys(tuple(signers), tuple(before))


def load_keyring(path: Path) -> Keyring:
    """The keyring of a file, made with one new key where there is none. Raises ``ConfigurationError``."""
    if not path.exists():
        write_private(path, f"{to_line(secrets.token_bytes(KEY_BYTES))}\n")
    try:
        if path.stat().st_mode & 0o077:
            _log.warning("secrets.key_readable_by_others", path=str(path))
        return Keyring(parse_keys(path.read_text()))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from error
