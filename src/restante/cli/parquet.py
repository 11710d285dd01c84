"""Receipts as a Parquet file, for whoever asks of them with tools for that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec

from restante.errors import ConfigurationError
from restante.model import Receipt
from restante.wire import log_lines

_ROWS: Final = 10_000


async def write_parquet(lines: AsyncIterator[bytes], path: Path) -> int:
    """Write the receipts of an export, all that they say and their ``digest``; how many there are.

    ``place`` is their leaf in the log (none: not yet sealed).

    ``ConfigurationError`` where the extra ``parquet`` is not installed, or the file cannot be written.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"--format parquet needs packages that are not installed ({error.name}):"
            " pip install 'restante[parquet]'"
        ) from error
    columns = [
        *(
            (field.name, pyarrow.int64() if field.type is int else pyarrow.string())
            for field in msgspec.structs.fields(Receipt)
        ),
        *(("digest", pyarrow.string()), ("place", pyarrow.int64())),
    ]
    schema = pyarrow.schema(columns)
    count = 0
    try:
        with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
            async for rows in _rows(lines):
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                count += len(rows)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror or error}") from error
    return count


async def _rows(lines: AsyncIterator[bytes]) -> AsyncIterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    seals: list[log_lines.SealLine] = []
    at = 0
    async for text in lines:
        line = log_lines.decode(text)
        if line.queue is not None:
            seals, at = [], 0
        elif line.seal is not None:
            seals.append(line.seal)
        elif line.receipt is not None:
            row: dict[str, Any] = msgspec.json.decode(line.receipt.entry)
            number = row["number"]
            while at < len(seals) and number >= seals[at].first + seals[at].count:
                at += 1
            inside = at < len(seals) and number >= seals[at].first
            row["place"] = seals[at].place + number - seals[at].first if inside else None
            row["digest"] = line.receipt.digest
            rows.append(row)
            if len(rows) == _ROWS:
                yield rows
                rows = []
    if rows:
        yield rows
