"""What a request and a WebSocket handshake have in common: path, query, headers, and who it is."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TypeVar

from restante.errors import Malformed, OutOfBounds
from restante.model import Actor
from restante.tracecontext import NAMES, context_of

T = TypeVar("T")
_TRACE: Final = frozenset(name.encode() for name in NAMES)
Scope = MutableMapping[str, Any]


class Head:
    """``parameters`` are the parts of the path in braces; ``actor`` is set where a key is asked for."""

    __slots__ = ("_query", "actor", "headers", "parameters", "path", "scope")

    actor: Actor

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.path: str = scope["path"]
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.parameters: Mapping[str, str] = {}
        self._query: dict[str, str] | None = None

    def header(self, name: bytes) -> str | None:
        """The first header of that lower-case name, as Latin-1 text."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return None

    def lines(self, name: bytes) -> list[str]:
        """All headers of that lower-case name, as Latin-1 text."""
        return [value.decode("latin-1") for key, value in self.headers if key == name]

    def trace_context(self) -> dict[str, str]:
        """The W3C trace context that came with it, as attributes; empty where there is none."""
        return context_of(
            (key.decode("ascii"), value.decode("latin-1"))
            for key, value in self.headers
            if key in _TRACE
        )

    @property
    def wants_xml(self) -> bool:
        """Whether the client asked for XML rather than JSON."""
        accept = self.header(b"accept")
        return (
            accept is not None and "xml" in accept and "json" not in accept and "html" not in accept
        )

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of a repeated one the last."""
        if self._query is None:
            try:
                text = self.scope["query_string"].decode("ascii")
                pairs = urllib.parse.parse_qsl(
                    text, keep_blank_values=True, errors="strict", max_num_fields=50
                )
            except ValueError as error:
                raise Malformed("the query string is malformed") from error
            self._query = dict(pairs)
        return self._query

    def number(self, name: str, default: T) -> float | T:
        """A number from the query."""
        text = self.query.get(name)
        if text is None:
            return default
        try:
            return float(text)
        except ValueError as error:
            raise Malformed(f"{name} must be a number, not {text[:40]!r}") from error

    def cursor(self, name: str) -> str:
        """What an earlier page gave as ``next``, from the query; empty where it is not given. ``Malformed``."""
        text = self.query.get(name, "")
        if len(text) > 128 or not (text.isascii() and text.isprintable()):
            raise Malformed(f"{name} must be what an earlier page gave as next")
        return text

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from the query, within its bounds."""
        text = self.query.get(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise Malformed(f"{name} must be a whole number, not {text[:40]!r}")
        if not low <= int(text) <= high:
            raise OutOfBounds(name, text, low, high)
        return int(text)


def path_of(scope: Scope) -> str:
    """The path below where the application is mounted."""
    path: str = scope["path"]
    root = scope.get("root_path")
    # Mounted below a path of somebody else's application.
    return path[len(root) :] if root and path.startswith(root) else path
