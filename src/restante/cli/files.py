"""Files to publish: which they are, and what kind of content they hold."""

from __future__ import annotations

import mimetypes
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from restante.errors import ConfigurationError

OCTETS: Final = "application/octet-stream"
STDIN: Final = Path("-")
_TYPES: Final = {
    # The system's own table says text/xml, which allows a proxy to assume a character set (RFC 7303).
    ".xml": "application/xml",
    ".json": "application/json",
    ".txt": "text/plain",
    ".csv": "text/csv",
}
_XML_STARTS: Final = (
    b"<?xml",
    b"\xef\xbb\xbf<",
    b"\xff\xfe<\x00",
    b"\xfe\xff\x00<",
)


def listed(paths: Sequence[Path]) -> list[Path]:
    """The files meant: a folder stands for the files in it, by name, hidden ones left out.

    Raises ``ConfigurationError`` for what is not there.
    """
    files: list[Path] = []
    for path in paths:
        if path == STDIN or path.is_file():
            files.append(path)
        elif path.is_dir():
            inside = (child for child in path.iterdir() if not child.name.startswith("."))
            files.extend(sorted(child for child in inside if child.is_file()))
        elif path.exists():
            # A named pipe, or <(...) of a shell.
            files.append(path)
        else:
            raise ConfigurationError(f"there is no file {path}")
    return files


def read(path: Path) -> bytes:
    """A file's bytes; ``-`` is stdin. Raises ``ConfigurationError`` for what cannot be read."""
    try:
        return sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


def content_type_of(path: Path, content: bytes) -> str:
    """By the file's name, else by its first bytes."""
    known = _TYPES.get(path.suffix.lower())
    if known is not None:
        return known
    guessed, encoding = mimetypes.guess_type(path.name)
    if guessed is not None and encoding is None:
        return guessed
    return "application/xml" if content.startswith(_XML_STARTS) else OCTETS


def batches(
    paths: Sequence[Path], most: int, most_bytes: int
) -> Iterator[list[tuple[Path, bytes]]]:
    """Files with their bytes, in order, so many and so many bytes at once (a larger file goes alone)."""
    batch: list[tuple[Path, bytes]] = []
    size = 0
    for path in paths:
        content = read(path)
        if batch and (len(batch) == most or size + len(content) > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append((path, content))
        size += len(content)
    if batch:
        yield batch
