"""What somebody brings to have the log checked by: keys, heads, proofs and exports; and how heads are told."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from restante.cli.files import STDIN
from restante.errors import ConfigurationError, Malformed

if TYPE_CHECKING:
    from restante.log_audit import HeldHead
    from restante.wire.checkpoints import TreeHead, VerifierKey

_FILE_BYTES: Final = 64 * 1024 * 1024
_PARQUET: Final = b"PAR1"
_LINE: Final = b'{"'
"""What every line of an export begins with."""
_PRIVATE: Final = "that is a private key, which signs heads: give its public part (name+id+key)"


def trusted(given: Sequence[str]) -> list[VerifierKey]:
    """The keys that ``--trust`` names: each itself, or a file of them, as ``restante ledger keys`` prints them too.

    ``ConfigurationError`` for what is none; it shows nothing of what was given, which may be a secret.
    """
    from restante.wire.checkpoints import SignerKey, VerifierKey

    found: list[VerifierKey] = []
    for one in given:
        if not one:
            raise ConfigurationError("--trust names nothing: give a key, or a file of keys")
        named = "--trust" if "+" in one else f"--trust {one}"
        text = one if "+" in one else read(Path(one)).decode(errors="replace")
        words = [word for line in text.splitlines() for word in line.split()[:1] if "+" in word]
        if not words:
            raise ConfigurationError(f"{named}: there is no key in it (name+id+key)")
        for word in words:
            if SignerKey.is_text(word):
                raise ConfigurationError(f"{named}: {_PRIVATE}")
            try:
                found.append(VerifierKey.parse(word))
            except ValueError as error:
                raise ConfigurationError(f"{named}: {error} (name+id+key)") from error
    return found


def held(paths: Sequence[Path] | None) -> list[HeldHead]:
    """The heads of files, with empty lines between them. ``Malformed`` where one has none."""
    from restante.log_audit import HeldHead
    from restante.wire.checkpoints import notes_of

    found: list[HeldHead] = []
    for path in paths or []:
        notes = notes_of(read(path).decode(errors="replace"))
        if not notes:
            raise Malformed(f"{path} has no signed heads")
        found += (
            HeldHead(note, f"head {number} of {path}") for number, note in enumerate(notes, 1)
        )
    return found


def read(path: Path) -> bytes:
    """A file's bytes, stdin's for ``-``. ``ConfigurationError``; ``Malformed`` where it is far too long."""
    with _opened(path) as file:
        data = file.read(_FILE_BYTES + 1)
    if len(data) > _FILE_BYTES:
        raise Malformed(f"{path} is longer than what it should be")
    return data


def export_lines(path: Path) -> Iterator[bytes]:
    """The lines of an export that is a file, or stdin for ``-``.

    ``ConfigurationError`` for a file of another kind, ``Malformed`` for what does not begin as an export does.
    """
    from restante.wire.log_lines import lines_of

    with _opened(path) as file:
        lines = lines_of(file)
        first = next(lines, None)
        if first is None:
            return
        _check_kind(path, first)
        yield first
        yield from lines


def _check_kind(path: Path, first: bytes) -> None:
    """Whether a file may be an export, by its first line."""
    from restante.wire import proofs

    if first.startswith(_PARQUET):
        raise ConfigurationError(f"{path} is a table: only exports as JSON lines can be verified")
    kinds = (
        (proofs.read, "that a receipt is in the log: give it by --proof"),
        (
            proofs.read_consistency,
            "that a log was only added to: `restante ledger consistency --proof` checks it",
        ),
    )
    for read_kind, what in kinds:
        with contextlib.suppress(proofs.NotProved):
            read_kind(first)
            raise ConfigurationError(f"{path} is a proof {what}")
    if not first.startswith(_LINE):
        raise Malformed(
            f"{path} is no export of a log: proofs are given by --proof, heads by --head"
        )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if path == STDIN:
        yield sys.stdin.buffer
        return
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


def shown(head: TreeHead | None) -> dict[str, object] | None:
    """A head as JSON has it: its root in base64, as in the head itself."""
    from restante.wire import times

    if head is None:
        return None
    return {"size": head.size, "root": head.root, "at": times.to_text(head.at_ms)}
