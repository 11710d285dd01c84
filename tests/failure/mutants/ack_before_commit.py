"""Answers as soon as the statements have run, before their COMMIT."""

from __future__ import annotations

from restante.cli import main
from restante.stores.sqlite import committer

_run = committer._run


def run(operation: committer.Operation) -> object:
    result = _run(operation)
    if not isinstance(result, committer.Refused) and not operation.future.done():
        operation.future.set_result(result)
    return result


if __name__ == "__main__":
    committer._run = run
    main()
