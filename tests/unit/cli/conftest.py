"""The program run in this process, against a server that is a function."""

from __future__ import annotations

import functools
from collections.abc import Callable

import httpx
import msgspec
import pytest
import typer
from typer.testing import CliRunner, Result

import restante.client
from restante.cli.program import app

_command = functools.cache(typer.main.get_command)
"""Made once of all subcommands: it takes longer than to run most of them."""

URL = "http://service.test"


class Program:
    """Runs ``restante`` with arguments; ``answer`` says what the server answers to a request."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.answer: Callable[[httpx.Request], httpx.Response] = lambda request: reply({})

    def __call__(self, *arguments: str, stdin: str | bytes = b"", **environment: str) -> Result:
        return CliRunner().invoke(app, arguments, input=stdin, env=environment)

    def remote(self, *arguments: str, stdin: str | bytes = b"") -> Result:
        """The same with a URL and a key."""
        return self(*arguments, stdin=stdin, RESTANTE_URL=URL, RESTANTE_KEY="a-key")

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self.answer(request)


def reply(content: object, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, content=msgspec.json.encode(content), headers=headers)


def problem(code: str, status: int, detail: str = "so it is") -> httpx.Response:
    return reply({"code": code, "detail": detail, "status": status}, status)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Program:
    made = Program()
    monkeypatch.setattr("typer.testing._get_command", _command)
    for name in ("RESTANTE_URL", "RESTANTE_KEY", "RESTANTE_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        restante.client,
        "Client",
        functools.partial(
            restante.client.Client,
            transport=httpx.MockTransport(made.handle),
            retry_delays_seconds=(),
        ),
    )
    return made
