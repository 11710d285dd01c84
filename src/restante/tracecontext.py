"""W3C Trace Context: which of what publishers send is one, and how it travels with a notification.

It travels in the attributes ``traceparent`` and ``tracestate``, as in CloudEvents' extension for distributed tracing. A
context that is malformed is left out, as its specification asks: nothing is refused for its sake.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
NAMES: Final = frozenset({TRACEPARENT, TRACESTATE})
TRACESTATE_CHARACTERS: Final = 512
"""So much the specification asks to be passed on (3.3.1.5); a longer one is left out."""
_MEMBERS: Final = 32
# Versions to come may append fields after another hyphen (3.2.4); ff is none, and neither id is all zeros.
_PARENT: Final = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<more>-[!-~]{1,200})?",
    re.ASCII,
)
_MEMBER: Final = re.compile(
    r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[ -+\--<>-~]{0,255}[!-+\--<>-~]",
    re.ASCII,
)


def context_of(headers: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """The context in headers, or metadata, with lower-case names: one or both attributes; empty where there is none.

    More than one ``traceparent`` is none (3.2); several ``tracestate`` are one list (3.3.1).
    """
    parents: list[str] = []
    states: list[str] = []
    for name, value in headers:
        if name in NAMES and isinstance(value, str):
            (parents if name == TRACEPARENT else states).append(value.strip(" \t"))
    if len(parents) != 1:
        return {}
    return carried({TRACEPARENT: parents[0], **({TRACESTATE: ",".join(states)} if states else {})})


def carried(attributes: dict[str, str]) -> dict[str, str]:
    """The attributes themselves, or without what they have of a context that is malformed."""
    if NAMES.isdisjoint(attributes):
        return attributes
    state = attributes.get(TRACESTATE)
    if not _is_parent(attributes.get(TRACEPARENT, "")):
        return {name: value for name, value in attributes.items() if name not in NAMES}
    if state is not None and not _is_state(state):
        return {name: value for name, value in attributes.items() if name != TRACESTATE}
    return attributes


def with_context(attributes: dict[str, str], context: Mapping[str, str]) -> dict[str, str]:
    """The attributes with that context, where they have none of their own."""
    if not context or TRACEPARENT in attributes:
        return attributes
    return {**{n: v for n, v in attributes.items() if n != TRACESTATE}, **context}


def _is_parent(text: str) -> bool:
    match = _PARENT.fullmatch(text)
    return match is not None and (match["version"] != "00" or match["more"] is None)


def _is_state(text: str) -> bool:
    if len(text) > TRACESTATE_CHARACTERS:
        return False
    members = [member for part in text.split(",") if (member := part.strip(" \t"))]
    if not 1 <= len(members) <= _MEMBERS or not all(map(_MEMBER.fullmatch, members)):
        return False
    keys = [member.partition("=")[0] for member in members]
    return len(set(keys)) == len(keys)
