"""A real server in its own process, and clients of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, async_playwright
from tests.certificates import Issued
from tests.e2e.windows import FLAGS, Window, window_of

from restante.testing.servers.postgresql import PostgresqlServer

ADMIN_KEY = "admin-key-of-the-end-to-end-tests"
_names = itertools.count(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Processes that share the tests know each by its id: of several with the same one only one would run."""
    if hasattr(config, "workerinput"):
        same = [id for id, count in Counter(item.nodeid for item in items).items() if count > 1]
        if same:
            raise pytest.UsageError(f"several tests are called {same[0]}: run them in one process")


class Service:
    """One ``restante serve`` on a data folder, started and ended as often as a test likes.

    ``flags`` are for ``serve``; with TLS, ``ca_file`` is the authority that signed its certificate, and ``shown`` what
    its callers show.
    """

    admin_key = ADMIN_KEY

    def __init__(self, data: Path, *flags: str, ca_file: Path | None = None) -> None:
        self.data = data
        self.flags = flags
        self.ca_file = ca_file
        self.shown: Issued | None = None
        self.environment: dict[str, str] = {}
        self.url = ""
        self.admin_url = ""
        self.grpc = ""
        self.grpc_admin = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self, admin_key: str | None = ADMIN_KEY) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RESTANTE_")}
        command = [sys.executable, "-m", "restante", "serve", "--data", str(self.data)]
        command += ["--listen", self._listen(), "--admin-listen", "127.0.0.1:0"]
        # The receivers of webhooks are on this machine.
        command += ["--webhook-allow", "127.0.0.0/8"]
        command += ["--grpc-listen", self.grpc or "127.0.0.1:0"]
        command += ["--grpc-admin-listen", "127.0.0.1:0", *self.flags]
        log = (self.data.parent / f"{self.data.name}.log").open("a")
        with log:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.data.parent,
                env=environment
                | self.environment
                | ({"RESTANTE_ADMIN_KEY": admin_key} if admin_key else {}),
            )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            name, _, address = line.strip().partition(" ")
            match name:
                case "grpc":
                    self.grpc = address
                case "grpc-admin":
                    self.grpc_admin = address
                case "ready":
                    self.url = address
                    self.admin_url = re.findall(r"Health is at (\S+)/healthz", self.log())[-1]
                    return
        raise AssertionError(f"no start: {self.log()}")

    def _listen(self) -> str:
        # The same port again after a restart, so that clients come back to it.
        return self.url.partition("://")[2] or "127.0.0.1:0"

    def log(self) -> str:
        return (self.data.parent / f"{self.data.name}.log").read_text()

    def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(20)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.partition("://")[2].split(":")
        return host, int(port)

    def trust(self) -> ssl.SSLContext | bool:
        """What its certificate is checked against, and what is shown to it."""
        if self.ca_file is None:
            return True
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.shown is not None:
            context.load_cert_chain(self.shown.certificate, self.shown.key)
        return context

    def caller(self, key: str = ADMIN_KEY) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=bearer(key), timeout=30, verify=self.trust())

    def async_caller(self, key: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url, headers=bearer(key), timeout=90, verify=self.trust()
        )


class Mailbox:
    """A client with its own queue, a publisher, and HTTP callers for both and for the administrator."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.name = f"client-{next(_names)}"
        self.admin = service.caller()
        made = self.admin.post("/v1/clients", json={"name": self.name})
        assert made.status_code == 201, made.text
        self.key: str = made.json()["key"]
        self.client = service.caller(self.key)
        made = self.admin.post("/v1/keys", json={"role": "publisher", "name": f"for-{self.name}"})
        self.publisher_key: str = made.json()["key"]
        self.publisher = service.caller(self.publisher_key)

    def close(self) -> None:
        for caller in (self.admin, self.client, self.publisher):
            caller.close()

    def settings(self, **settings: object) -> None:
        answer = self.admin.put(f"/v1/queues/{self.name}", json=settings)
        assert answer.status_code == 200, answer.text

    def publish(self, body: bytes = b"<order/>", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("content-type", "application/xml")
        return self.publisher.post(
            f"/v1/queues/{self.name}/notifications", content=body, headers=named
        )

    def receive(self, **asked: object) -> list[dict[str, Any]]:
        answer = self.client.post(f"/v1/queues/{self.name}/receive", json={"wait": 0, **asked})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["notifications"]
        return found

    def settle(self, lease: object, verb: str, /, **asked: object) -> httpx.Response:
        return self.client.post(f"/v1/leases/{lease}/{verb}", json=asked or None)

    def figures(self) -> dict[str, object]:
        found: dict[str, object] = self.client.get(f"/v1/queues/{self.name}").json()["figures"]
        return found

    def receipts(self, **query: str) -> list[dict[str, Any]]:
        answer = self.client.get(f"/v1/queues/{self.name}/receipts", params=query)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["receipts"]
        return found


@contextlib.contextmanager
def two_nodes(folder: Path, database: str) -> Iterator[tuple[Service, Service]]:
    """Two processes on one PostgreSQL, whose URL it is, with the keys that nodes share."""
    keys = [f"--{name}-key-file={folder / name}.key" for name in ("secrets", "ledger")]
    services = []
    for name in ("one", "two"):
        service = Service(folder / name / "data", "--store", database, *keys)
        service.data.mkdir(parents=True)
        service.start()
        services.append(service)
    yield services[0], services[1]
    for service in services:
        if service.running:
            assert service.end(signal.SIGTERM) == 0, service.log()
        assert "log_damaged" not in service.log()


@pytest.fixture
def database() -> Iterator[str]:
    """A database of its own, on a PostgreSQL of its own."""
    with PostgresqlServer() as server:
        yield server.create_database()


@pytest.fixture
def nodes(tmp_path: Path, database: str) -> Iterator[tuple[Service, Service]]:
    """Two processes on it."""
    with two_nodes(tmp_path, database) as nodes:
        yield nodes


async def until_waited_for(service: Service, count: int) -> None:
    """As many wait on the server, by its own figures."""
    async with asyncio.timeout(40), httpx.AsyncClient(base_url=service.admin_url) as admin:
        while f"restante_waiters {float(count)}\n" not in (await admin.get("/metrics")).text:
            pass


def raw_post(path: str, key: str, body: bytes = b"") -> bytes:
    """A request as bytes, for a test that wants the socket in its own hands."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One server for all tests that do not harm it."""
    service = Service(tmp_path_factory.mktemp("service") / "data")
    service.start()
    yield service
    assert service.end(signal.SIGTERM) == 0, service.log()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Service]:
    """A server for one test alone, to be killed and started again."""
    service = Service(tmp_path / "data")
    service.start()
    yield service
    with contextlib.suppress(ProcessLookupError):
        service.end(signal.SIGKILL)


@pytest.fixture
def mailbox(server: Service) -> Iterator[Mailbox]:
    box = Mailbox(server)
    yield box
    box.close()


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    program = shutil.which("chromium")
    assert program is not None, "needs Chromium: run `make test`, or install the package chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def window(chromium: Browser, own_server: Service) -> Window:
    window = await window_of(await chromium.new_context(), own_server)
    await window.sign_in()
    return window


@pytest.fixture
def box(own_server: Service) -> Any:
    box = Mailbox(own_server)
    yield box
    box.close()
