"""What a repeat of a request is told: the rules of ``Idempotency-Key``, and what is kept of a request.

A request is known by its principal and its key, and told from another by its fingerprint. What is kept of it says
which run of which process has it, so that one that was crashed in is never taken for one that is under way.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
from typing import Final

import msgspec

from restante.admission import check_text
from restante.errors import AnswerNotKept, IdempotencyKeyReused, InvalidHeader

HEADER: Final = b"idempotency-key"
REPLAYED: Final = (b"idempotency-replayed", b"true")
"""The header of an answer that is an earlier request's."""
ANSWER_BYTES: Final = 131_072
"""A longer body is not kept, and its repeat is told so."""
HEADERS_BYTES: Final = 16_384
"""Of the headers of an answer, together. With longer ones the answer is not kept."""
_PATH_CHARACTERS: Final = 512
_NOT_BEGUN: Final = frozenset(
    (401, 403, 404, 405, 406, 408, 413, 414, 415, 421, 426, 428, 429, 431, 501, 503, 507)
)
"""What is answered before anything is done, often to people whom nobody knows: they could fill a store with it."""
Headers = tuple[tuple[bytes, bytes], ...]


class Policy(enum.StrEnum):
    """What is done with the repeat of a request of which nobody knows what came."""

    REFUSE = "refuse"
    """It is told so (``RequestUnknown``), and somebody looks."""
    RUN_AGAIN = "run_again"
    """It is run once more: for requests that may be."""


class State(enum.StrEnum):
    IN_PROGRESS = "in_progress"
    DONE = "done"
    UNKNOWN = "unknown"
    """It was begun, and nobody knows what came of it."""
    INCOMPLETE = "incomplete"
    """Of its parts some may be missing: the same request with the same key does the rest."""
    FREE = "free"
    """It did nothing: the key may be used again."""


class Fate(enum.Enum):
    """What becomes of a key, by how its request ended."""

    KEEP = enum.auto()
    INCOMPLETE = enum.auto()
    FREE = enum.auto()
    UNKNOWN = enum.auto()


class Verdict(enum.Enum):
    RUN = enum.auto()
    REPLAY = enum.auto()
    WAIT = enum.auto()
    REFUSE = enum.auto()


class Reply(msgspec.Struct, frozen=True):
    """An answer as it went out."""

    status: int
    headers: Headers = ()
    body: bytes = b""

    @property
    def may_be_kept(self) -> bool:
        """Whether it is within ``ANSWER_BYTES`` and ``HEADERS_BYTES``."""
        size = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.body) <= ANSWER_BYTES and size <= HEADERS_BYTES

    @property
    def to_keep(self) -> Reply:
        """Without cookies: who can read the store could come with them, and a repeat may set back a newer one."""
        kept = tuple(pair for pair in self.headers if pair[0].lower() != b"set-cookie")
        return Reply(self.status, kept, self.body)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request with a key. ``secret`` says that its answer shows what nobody may read in the store.

    ``who`` is the principal: the same key of another is another request. ``private`` says that it may be a credential,
    which no log is to show. ``in_parts`` says that each part is kept with a key, ``key_of_part``, in the transaction
    that does it: run once more, the request does what is missing, and nothing twice.
    """

    who: str
    key: str
    method: str
    path: str
    fingerprint: bytes
    secret: bool = False
    private: bool = False
    in_parts: bool = False

    def key_of_part(self, index: int) -> str:
        """What part ``index`` is known by, and no part of any other request."""
        digest = _digest(f"{self.place}/".encode() + self.fingerprint)[:32]
        return f"restante-part-{digest}-{index}"

    @property
    def place(self) -> str:
        """The key of its paper. Neither the principal nor the key can be read in it."""
        return f"{_digest(self.who.encode())[:32]}/{_digest(self.key.encode('utf-8', 'replace'))}"


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of a request. ``run`` is the process that has it, by the id that it drew at its start.

    ``reply`` is None until it is done, and for an answer that was not kept; where it is ``sealed``, its body is.
    ``expires_at_ms`` is when it is forgotten, which its paper says. With ``in_parts``, as of ``Asked``, that is counted
    from when it was first begun, as long as its parts may be asked for: their keys last no longer. By the store's
    timeline, on which these keys go, that was at ``parts_since_ms``: whatever its paper says, it is gone before them.
    """

    method: str
    path: str
    fingerprint: bytes
    state: State
    run: str
    since_ms: int
    ended_at_ms: int | None = None
    status: int = 0
    reply: Reply | None = None
    sealed: bool = False
    in_parts: bool = False
    parts_since_ms: int = 0
    expires_at_ms: int | None = None

    @property
    def rests_on_parts(self) -> bool:
        """Whether a repeat is answered by its parts' keys, and not with an answer that was kept."""
        return self.in_parts and self.reply is None

    @property
    def left(self) -> Record:
        """The same, of which nobody is there any more to say how far it came."""
        state = State.INCOMPLETE if self.in_parts else State.UNKNOWN
        return msgspec.structs.replace(self, state=state)


encode_record: Final = msgspec.msgpack.Encoder().encode
decode_record: Final = msgspec.msgpack.Decoder(Record).decode


def begun(asked: Asked, run: str, now_ms: int, expires_at_ms: int | None = None) -> Record:
    """What is kept of a request before it is run."""
    return Record(
        method=asked.method,
        path=asked.path[:_PATH_CHARACTERS],
        fingerprint=asked.fingerprint,
        state=State.IN_PROGRESS,
        run=run,
        since_ms=now_ms,
        in_parts=asked.in_parts,
        expires_at_ms=expires_at_ms,
    )


def judge(record: Record | None, fingerprint: bytes, *, running: bool, policy: Policy) -> Verdict:
    """What is done with a request whose key was used as ``record`` says. ``IdempotencyKeyReused``.

    ``running`` says whether the run that has it lives and is at it.
    """
    if record is None or record.state is State.FREE:
        return Verdict.RUN
    if record.fingerprint != fingerprint:
        raise reused()
    if record.state is State.IN_PROGRESS and running:
        return Verdict.WAIT
    if record.rests_on_parts:
        return Verdict.RUN  # also where it was done: its parts give the answer that was not kept
    if record.state is State.DONE:
        return Verdict.REPLAY
    return Verdict.RUN if policy is Policy.RUN_AGAIN else Verdict.REFUSE


def reused() -> IdempotencyKeyReused:
    return IdempotencyKeyReused("this idempotency key was used for another request")


def not_kept(status: int) -> AnswerNotKept:
    return AnswerNotKept(
        f"the request was done before and answered with {status}; its answer was not kept"
    )


def fate_of(status: int) -> Fate:
    """What becomes of the key of a request that was answered with this status.

    Refusals that say that nothing was done free it; of what failed inside nobody knows how far it had come.
    """
    if status in _NOT_BEGUN:
        return Fate.FREE
    return Fate.UNKNOWN if status >= 500 else Fate.KEEP


def fingerprint_of(
    method: str, path: str, query: bytes, content_type: str, body_sha256: bytes
) -> bytes:
    """Tells a request from another with the same key."""
    parts = (method.encode(), path.encode("utf-8", "replace"), query, content_type.encode())
    digest = hashlib.sha256(body_sha256)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


def key_of_header(value: str) -> str:
    """The key as the draft has it, a quoted structured-field string (RFC 8941), or bare. ``InvalidHeader``.

    ``value`` is read as Latin-1. A key in UTF-8 is the same as in a path or in a message.
    """
    with contextlib.suppress(UnicodeDecodeError):
        value = value.encode("latin-1").decode()
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if not value:
        raise InvalidHeader("idempotency-key must not be empty")
    return value


def publishers_name(who: str) -> str:
    """Under what name a store keeps the keys of publications: a publisher's own, else the principal, ``role/name``."""
    return who.removeprefix("publisher/")


def check_key(key: str) -> str:
    """The key itself when it is 1 to 255 characters without control characters; else ``InvalidHeader``."""
    return check_text("idempotency key", key)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
