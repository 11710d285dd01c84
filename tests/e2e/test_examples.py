"""The examples, with other people's libraries, against a server that is killed and stopped in mid-stream."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import Mailbox, Service
from tests.e2e.programs import NODE_MODULES, Program, environment_of, node, python, running

README = Path(__file__).parents[2] / "README.md"
# A client may be told to pause for ten seconds after a drain, and pauses a growing time after a break.
pytestmark = pytest.mark.timeout(150)


@pytest.fixture
def mailbox(own_server: Service) -> Any:
    box = Mailbox(own_server)
    box.settings(max_attempts=2, backoff_base_seconds=0, lease_seconds=5)
    yield box
    box.close()


def publish(mailbox: Mailbox, *numbers: int) -> None:
    for number in numbers:
        assert mailbox.publish(f"<n{number}/>".encode()).status_code == 201


def booked(program: Program) -> set[str]:
    return {id for _, id, *_ in program.of("booked")}


def at_least(program: Program, count: int) -> Any:
    return program.until(lambda _: len(booked(program)) >= count)


def check_receipts(mailbox: Mailbox, program: Program, transport: str, replies: str) -> None:
    """Nothing is lost, each is signed for once, and what came twice came as it may."""
    receipts = mailbox.receipts(outcome="acked", limit="1000")
    ids = [receipt["notification"] for receipt in receipts]
    published = {r["notification"] for r in mailbox.receipts(outcome="published", limit="1000")}
    assert sorted(ids) == sorted(set(ids)), "signed for twice"
    assert booked(program) == set(ids)
    assert {receipt["transport"] for receipt in receipts} == {transport}
    for receipt in receipts:
        assert re.fullmatch(replies, receipt["reply"]), receipt
    dead = mailbox.figures()["dead"]
    assert isinstance(dead, int)
    assert len(published) == len(ids) + dead
    attempts: dict[str, dict[str, set[str]]] = {}
    for _, id, lease, *attempt in program.of("booked"):
        attempts.setdefault(id, {}).setdefault(lease, set()).update(attempt)
    for id, leases in attempts.items():
        # Another lease has another attempt, and one lease has one.
        counted = [attempt for of_lease in leases.values() for attempt in of_lease]
        assert len(counted) == len(set(counted)), (id, leases)


@pytest.mark.parametrize(
    ("script", "transport"),
    [("ws.mjs", "websocket"), ("eventsource.mjs", "http"), ("grpc.mjs", "grpc")],
)
async def test_in_javascript(
    own_server: Service, mailbox: Mailbox, tmp_path: Path, script: str, transport: str
) -> None:
    folder = tmp_path / "example"
    folder.mkdir()
    publish(mailbox, *range(20))
    async with node(script, folder, environment_of(mailbox)) as program:
        # Killed while it hands out and takes acks.
        await at_least(program, 5)
        own_server.end(signal.SIGKILL)
        own_server.start()
        publish(mailbox, *range(20, 40))
        await at_least(program, 40)
        # Stopped: it says good-bye, and when to come back.
        ended = await asyncio.to_thread(own_server.end, signal.SIGTERM)
        assert ended == 0
        own_server.start()
        publish(mailbox, 40)
        await at_least(program, 41)
        # What it cannot read it does not sign for; at its last attempt it is a dead letter.
        mailbox.publish(b"no XML")
        await program.until(lambda _: len(program.of("failed")) >= 2)
        publish(mailbox, 41)
        await at_least(program, 42)
        await _settled(mailbox, acked=42, dead=1)
    check_receipts(mailbox, program, transport, r'<booked number="\d+"/>')
    nacked = mailbox.receipts(outcome="nacked")
    assert {receipt["reason"] for receipt in nacked} == {"this is not XML"}


async def _settled(mailbox: Mailbox, **figures: int) -> None:
    """The last acks are on their way: each look is a round trip, and they need no more than some."""
    async with asyncio.timeout(20):
        while True:
            found = await asyncio.to_thread(mailbox.figures)
            if {name: found[name] for name in figures} == figures:
                return


@pytest.mark.parametrize(
    ("script", "transport"), [("collect_websocket.py", "websocket"), ("collect_events.py", "http")]
)
async def test_in_python(
    own_server: Service, mailbox: Mailbox, tmp_path: Path, script: str, transport: str
) -> None:
    publish(mailbox, *range(10))
    async with python(script, tmp_path, environment_of(mailbox)) as program:
        await at_least(program, 5)
        own_server.end(signal.SIGKILL)
        own_server.start()
        publish(mailbox, *range(10, 20))
        await at_least(program, 20)
        await _settled(mailbox, acked=20)
    check_receipts(mailbox, program, transport, "<booked/>")


async def test_a_report_that_comes_later(
    own_server: Service, mailbox: Mailbox, tmp_path: Path
) -> None:
    """Both the service and Restante are killed while its caller waits: it is told, and orders another."""
    slow = {"URL": own_server.url, "KEY": mailbox.publisher_key, "RUNNER": "reports-1"}

    async def until(program: Program, word: str) -> list[str]:
        await program.until(lambda _: bool(program.of(word)))
        return program.of(word)[0]

    async with python(
        "slow_reports.py", tmp_path, slow | {"PORT": "0", "SECONDS": "3600"}
    ) as service:
        _, port = await until(service, "listening")
        caller_of = {"SERVICE": f"http://127.0.0.1:{port}"}
        async with python("order_report.py", tmp_path, caller_of) as caller:
            await until(caller, "waiting")
            await service.end()
            own_server.end(signal.SIGKILL)
            own_server.start()
            again = slow | {"PORT": port, "SECONDS": "2"}
            async with python("slow_reports.py", tmp_path, again):
                assert '"interrupted"' in " ".join(await until(caller, "failed"))
                assert " ".join(await until(caller, "report")) == "report <report on='may'/>"
    places = {place for _, place in caller.of("waiting")}
    assert len(places) == 2


async def test_orders_that_count_once(tmp_path: Path) -> None:
    """The service is killed after an order and in the middle of another: neither is booked twice, and it is told."""

    async def until(program: Program, word: str) -> list[str]:
        await program.until(lambda _: bool(program.of(word)))
        return program.of(word)[0]

    def service(port: str, seconds: int) -> Any:
        settings = {"PORT": port, "FOLDER": str(tmp_path), "SECONDS": str(seconds)}
        return python("count_once.py", tmp_path, settings)

    async with service("0", 0) as program:
        _, port = await until(program, "listening")
        caller_of = {"SERVICE": f"http://127.0.0.1:{port}"}
        async with python("place_orders.py", tmp_path, caller_of | {"ORDERS": "tea"}) as caller:
            assert await until(caller, "first") == ["first", "booked", "tea"]
    orders = {"ORDERS": "tea coffee milk"}
    async with python("place_orders.py", tmp_path, caller_of | orders) as caller:
        await until(caller, "away")
        async with service(port, 3_600) as program:
            assert await until(program, "booking") == ["booking", "coffee"]
        async with service(port, 0):
            assert await until(caller, "unknown") == ["unknown", "coffee", "request_unknown"]
            assert await until(caller, "first") == ["first", "booked", "milk"]
    assert caller.of("again") == [["again", "booked", "tea"]]
    assert (tmp_path / "orders.txt").read_text().split() == ["tea", "coffee", "milk"]


async def test_with_curl_as_the_readme_has_it(mailbox: Mailbox, tmp_path: Path) -> None:
    (command,) = re.findall(r"^curl -sN .*$", README.read_text(), re.MULTILINE)
    environment = environment_of(mailbox)
    environment["KEY"] = f"Authorization: Bearer {mailbox.key}"
    # As the shell of who reads it would: with its own queue.
    words = shlex.split(command.replace("/acme/", f"/{mailbox.name}/"))
    words = [
        word.replace("$KEY", environment["KEY"]).replace("$URL", environment["URL"])
        for word in words
    ]
    publish(mailbox, 1)
    async with running(words, tmp_path, environment) as curl:
        await curl.until(lambda lines: any("<n1/>" in line for line in lines))
        publish(mailbox, 2)
        await curl.until(lambda lines: any("<n2/>" in line for line in lines))
    fields = [line.partition(":")[0] for line in curl.lines if line]
    assert fields[:4] == ["retry", "id", "event", "data"]
    assert mailbox.figures()["leased"] == 2


def test_the_packages_are_locked_without_addresses() -> None:
    folder = NODE_MODULES.parent
    lock = json.loads((folder / "package-lock.json").read_text())
    wanted = json.loads((folder / "package.json").read_text())
    assert lock["packages"][""]["dependencies"] == wanted["dependencies"]
    for name, version in wanted["dependencies"].items():
        assert re.fullmatch(r"[\d.]+", version), "pinned"
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
    for package in lock["packages"].values():
        assert "resolved" not in package
