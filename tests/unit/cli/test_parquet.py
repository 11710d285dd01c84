"""Receipts as a table: every field that a receipt has is a column of it."""

from typing import Any

import msgspec
from pyarrow import parquet

from restante.cli.parquet import write_parquet
from restante.model import Receipt
from restante.queries import StoredReceipt
from restante.receipt_log import Seal
from restante.wire import log_lines
from restante.wire.receipts import encode_entry

QUEUE = b'{"queue":{"name":"acme","receipt_retention_seconds":60}}'


def receipt(number):
    """One that says something in each of its fields."""
    said: dict[str, Any] = {
        field.name: number if field.type is int else f"{field.name} {number}"
        for field in msgspec.structs.fields(Receipt)
    }
    return Receipt(**said | {"queue": "acme"})


async def lines_of(receipts):
    yield QUEUE
    yield log_lines.of_seal(Seal("acme", 2, 1, 40))
    for one in receipts:
        digest = bytes([one.number]) * 32
        stored = StoredReceipt("acme", one.number, encode_entry(one), digest)
        yield log_lines.of_receipt(stored)


async def test_every_field_is_a_column(tmp_path):
    receipts = [receipt(number) for number in (1, 2, 3)]
    assert await write_parquet(lines_of(receipts), tmp_path / "log.parquet") == 3
    rows = parquet.read_table(tmp_path / "log.parquet").to_pylist()
    told = [(row.pop("digest"), row.pop("place")) for row in rows]
    assert told == [("01" * 32, None), ("02" * 32, 40), ("03" * 32, None)]
    assert rows == [msgspec.structs.asdict(one) for one in receipts]


async def test_what_a_receipt_does_not_say_is_empty(tmp_path):
    short = Receipt(
        at="", notification="n", number=1, outcome="acked", queue="acme", seq=1, state="acked"
    )
    await write_parquet(lines_of([short]), tmp_path / "log.parquet")
    (row,) = parquet.read_table(tmp_path / "log.parquet").to_pylist()
    assert (row["signature"], row["attempt"], row["state"]) == (None, None, "acked")
