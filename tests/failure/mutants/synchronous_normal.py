"""Commits without waiting for the disk, and does not read its pragmas back."""

from __future__ import annotations

import apsw

from restante.cli import main
from restante.stores.sqlite import schema


def set_normal(pragma: str, value: object, connection: apsw.Connection, text: str = "") -> None:
    connection.pragma(pragma, "NORMAL" if pragma == "synchronous" else text or value)


if __name__ == "__main__":
    schema._set = set_normal
    main()
