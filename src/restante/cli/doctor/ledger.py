"""The key of the log of receipts: whether this machine can go on with the log that is in the store."""

from __future__ import annotations

from typing import Final

import msgspec

from restante.cli.doctor.findings import Case, Finding, failure, ok
from restante.errors import ConfigurationError
from restante.keyfiles import LEDGER_KEY_FILE, load_log_keys
from restante.receipt_log import decode_state
from restante.wire.checkpoints import LogKeys, NotSigned, NotTrusted, of_note

SUBJECT: Final = "ledger key"
_LOST: Final = "if the key is lost, docs/ledger.md says how its log is gone on with"


def examine(case: Case, state: bytes | None) -> Finding | None:
    """What this machine's keys are to the log whose state is kept so; None where nothing was sealed yet."""
    if state is None:
        return None
    path = case.config.ledger_key_file or case.config.data / LEDGER_KEY_FILE
    if not path.exists():
        return failure(
            SUBJECT,
            f"there is a log of receipts, and no {path}: the next start makes a key, with which it cannot go on",
            f"copy the file from another node, or from where you keep it; {_LOST}",
        )
    try:
        return judge(state, load_log_keys(path))
    except ConfigurationError as error:
        return failure(SUBJECT, error.detail, "correct it: the server would not start")


def judge(state: bytes, keys: LogKeys) -> Finding:
    """Whether one of the keys has signed the head of the log."""
    try:
        log = decode_state(state)
        of_note(log.checkpoint, log.origin, keys.trusted)
        return ok(SUBJECT, f"goes on with the log {log.origin}")
    except NotTrusted:
        names = ", ".join(key.verifier.text for key in keys.signers)
        return failure(
            SUBJECT,
            f"the log is signed with another key than {names}: this machine seals no receipts",
            f"copy the file of ledger_key_file from a node that seals; {_LOST}",
        )
    except (msgspec.DecodeError, ValueError, NotSigned) as error:
        return failure(
            SUBJECT,
            f"the head of the log is not what was signed: {error}",
            "no node goes on with it: `restante ledger verify` says what was done to it (docs/ledger.md)",
        )
