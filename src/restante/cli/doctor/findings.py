"""What a check finds, and what every check is given."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

import msgspec

from restante.config import Config
from restante.urls import folder_of, folder_url

T = TypeVar("T")


class Level(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"

    @property
    def exit_code(self) -> int:
        return {Level.OK: 0, Level.WARNING: 1, Level.FAILURE: 2}[self]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """``subject`` is what was looked at, ``what`` what was seen, ``advice`` what to do."""

    level: Level
    subject: str
    what: str
    advice: str = ""


def ok(subject: str, what: str) -> Finding:
    """As it should be."""
    return Finding(Level.OK, subject, what)


def warning(subject: str, what: str, advice: str) -> Finding:
    """It works, for now or at a price."""
    return Finding(Level.WARNING, subject, what, advice)


def failure(subject: str, what: str, advice: str) -> Finding:
    """It does not work, or may lose something."""
    return Finding(Level.FAILURE, subject, what, advice)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """The settings looked into, the environment they are read in, and the URL of the server that is asked, if any."""

    config: Config
    environment: Mapping[str, str] = {}
    url: str | None = None

    @property
    def store_url(self) -> str:
        """The store that the settings name."""
        return self.config.store or folder_url(self.config.data)

    @property
    def on_sqlite(self) -> bool:
        return folder_of(self.store_url) is not None


async def carry_out(
    checks: Iterable[Callable[[T], Finding | Awaitable[Finding | None] | None]], subject: T
) -> list[Finding]:
    """What each of the checks finds, in their order."""
    findings = []
    for check in checks:
        finding = check(subject)
        if inspect.isawaitable(finding):
            finding = await finding
        if finding is not None:
            findings.append(finding)
    return findings


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level of all."""
    return max((one.level for one in findings), key=lambda level: level.exit_code, default=Level.OK)
