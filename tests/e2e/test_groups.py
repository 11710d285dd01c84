"""All or compensate, over HTTP, by the example, on servers that are killed, and on two nodes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service
from tests.e2e.programs import EXAMPLES, Program, running

from restante.client import Client
from restante.errors import GroupNotFound

pytestmark = pytest.mark.timeout(120)


class Pair:
    """Two mailboxes on one server: B's and C's."""

    def __init__(self, service: Service) -> None:
        self.b, self.c = Mailbox(service), Mailbox(service)

    def close(self) -> None:
        self.b.close()
        self.c.close()

    def asked(self, timeout_seconds: float = 60) -> dict[str, Any]:
        members = [
            {
                "queue": box.name,
                "body": f"<do-{name}/>",
                "compensation": {"body": f"<undo-{name}/>"},
            }
            for name, box in (("b", self.b), ("c", self.c))
        ]
        return {"members": members, "timeout_seconds": timeout_seconds}

    def ask(self, timeout_seconds: float = 60, key: str | None = None) -> dict[str, Any]:
        headers = {} if key is None else {"Idempotency-Key": key}
        asked = self.asked(timeout_seconds)
        answer = self.b.publisher.post("/v1/groups", json=asked, headers=headers)
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/v1/groups/{answer.json()['id']}"
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
def pair(server: Service) -> Iterator[Pair]:
    pair = Pair(server)
    yield pair
    pair.close()


@pytest.fixture
def own_pair(own_server: Service) -> Iterator[Pair]:
    pair = Pair(own_server)
    yield pair
    pair.close()


def sign(box: Mailbox, verb: str = "ack", **asked: Any) -> dict[str, Any]:
    """The mailbox's client takes what comes next, and says that of it."""
    (one,) = box.receive(max=1, wait=20)
    answer = box.settle(one["lease"], verb, **asked)
    assert answer.status_code == 200, answer.text
    return one


async def until_ended(service: Service, id: str) -> dict[str, Any]:
    async with service.async_caller(ADMIN_KEY) as caller, asyncio.timeout(40):
        while True:
            answer = await caller.get(f"/v1/groups/{id}", params={"wait": 30})
            group: dict[str, Any] = answer.json()
            if group["ended_at"] is not None:
                return group


async def test_both_sign(server: Service, pair: Pair) -> None:
    async with server.async_caller(pair.b.publisher_key) as publisher:
        asking = asyncio.create_task(
            publisher.post("/v1/groups", json=pair.asked(), headers={"Prefer": "wait=30"})
        )
        for box in (pair.b, pair.c):
            await asyncio.to_thread(sign, box)
        answer = await asking
    assert (answer.status_code, answer.json()["state"]) == (200, "complete"), answer.text
    assert answer.headers["preference-applied"] == "wait=30"
    assert [one["state"] for one in answer.json()["members"]] == ["acked", "acked"]
    assert pair.b.figures()["published"] == 1


async def test_one_rejects(server: Service, pair: Pair) -> None:
    group = pair.ask()
    first = sign(pair.b)
    sign(pair.c, "reject", reason="out of stock")
    ended = await until_ended(server, group["id"])
    told = (ended["state"], ended["reason"])
    assert told == ("compensated", f"{pair.c.name} dead: out of stock")
    undo = sign(pair.b)
    assert undo["body"] == "<undo-b/>"
    assert undo["attributes"] == {"group": group["id"], "compensates": first["id"]}
    assert ended["members"][0]["compensation"] == undo["id"]
    assert pair.c.figures()["published"] == 1


async def test_a_compensation_that_fails_is_a_dead_letter(server: Service, pair: Pair) -> None:
    group = pair.ask()
    sign(pair.b)
    sign(pair.c, "reject")
    await until_ended(server, group["id"])
    sign(pair.b, "reject", reason="cannot be undone")
    dead = pair.b.client.get(f"/v1/queues/{pair.b.name}/dead").json()["dead"]
    assert [one["reason"] for one in dead] == ["cannot be undone"]


async def test_one_expires(server: Service, pair: Pair) -> None:
    """B signs in time and C does not come for it, which C finds nothing of later."""
    group = pair.ask(timeout_seconds=3)
    sign(pair.b)
    ended = await until_ended(server, group["id"])
    assert [one["state"] for one in ended["members"]] == ["acked", "expired"]
    assert ended["reason"] in ("the time is up", f"{pair.c.name} expired")
    assert sign(pair.b)["body"] == "<undo-b/>"
    assert pair.c.receive() == []


async def test_one_is_discarded_while_the_other_is_out(server: Service, pair: Pair) -> None:
    group = pair.ask()
    (out,) = pair.b.receive(max=1, wait=20)
    sign(pair.c, "reject", reason="out of stock")
    path = f"/v1/groups/{group['id']}"
    failed = pair.b.publisher.get(path, params={"wait": 20}).json()
    assert failed["state"] == "compensating"
    path = f"/v1/queues/{pair.c.name}/dead/discard"
    assert pair.c.admin.post(path, json={"all": True}).json()["done"] == 1
    assert pair.b.settle(out["lease"], "ack").status_code == 200
    ended = await until_ended(server, group["id"])
    assert [one["state"] for one in ended["members"]] == ["acked", "discarded"]
    told = (ended["state"], ended["reason"])
    assert told == ("compensated", f"{pair.c.name} dead: out of stock")
    assert sign(pair.b)["body"] == "<undo-b/>"


async def test_a_dead_one_is_redriven_after_the_end(own_server: Service, own_pair: Pair) -> None:
    """It is done after all, long after B was told to undo its part, and a crash: it is undone as well."""
    group = own_pair.ask()
    sign(own_pair.b)
    sign(own_pair.c, "reject", reason="closed")
    ended = await until_ended(own_server, group["id"])
    assert ended["state"] == "compensated"
    assert own_server.end(signal.SIGKILL) == -signal.SIGKILL
    own_server.start()
    path = f"/v1/queues/{own_pair.c.name}/dead/redrive"
    assert own_pair.c.admin.post(path, json={"all": True}).json()["done"] == 1
    done = sign(own_pair.c)
    undo = sign(own_pair.c)
    assert (undo["body"], undo["attributes"]["compensates"]) == ("<undo-c/>", done["id"])
    assert sign(own_pair.b)["body"] == "<undo-b/>"
    async with own_server.async_caller(ADMIN_KEY) as caller, asyncio.timeout(40):
        seen = ended
        # It is published first, and shown in the group then.
        while seen["members"][1]["compensation"] is None:
            seen = (await caller.get(f"/v1/groups/{group['id']}")).json()
    assert (seen["state"], seen["ended_at"]) == ("compensated", ended["ended_at"])
    assert [one["state"] for one in seen["members"]] == ["acked", "acked"]
    assert seen["members"][1]["compensation"] == undo["id"]


def test_a_member_has_no_collapse_key(pair: Pair) -> None:
    """Nothing supersedes one."""
    asked = pair.asked()
    asked["members"][0]["collapse_key"] = "k"
    answer = pair.b.publisher.post("/v1/groups", json=asked)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"members": []}, 422, "out_of_bounds"),
        ({"members": [{"queue": "nowhere", "body": ""}]}, 404, "queue_not_found"),
        ({"members": [{"queue": "nowhere"}]}, 400, "malformed"),
        ({"timeout_seconds": 0.5}, 422, "out_of_bounds"),
        ({"unheard_of": 1}, 400, "malformed"),
    ],
)
def test_refused(pair: Pair, changed: dict[str, Any], status: int, code: str) -> None:
    answer = pair.b.publisher.post("/v1/groups", json=pair.asked() | changed)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert pair.b.figures()["published"] == 0


def test_publishers_alone(pair: Pair) -> None:
    group = pair.ask()
    path = f"/v1/groups/{group['id']}"
    assert pair.b.client.post("/v1/groups", json=pair.asked()).status_code == 403
    assert pair.b.client.get(path).status_code == 403
    assert pair.c.publisher.get(path).status_code == 404, "another publisher's"
    assert pair.b.publisher.get(path).json()["state"] == "pending"
    mine = pair.b.publisher.get("/v1/groups").json()
    assert [one["id"] for one in mine["groups"]] == [group["id"]]
    assert mine["next"] is None
    assert pair.c.publisher.get("/v1/groups?limit=1").json() == {"groups": [], "next": None}
    assert pair.b.publisher.get(f"/v1/groups?after={group['id']}").status_code == 400


def test_pages(pair: Pair) -> None:
    """To the end, in however small steps."""
    asked = [pair.ask()["id"] for _ in range(3)]
    found, path = [], "/v1/groups?limit=1"
    while True:
        page = pair.b.publisher.get(path).json()
        found += [one["id"] for one in page["groups"]]
        if page["next"] is None:
            break
        path = f"/v1/groups?limit=1&after={page['next']}"
    assert found == sorted(asked, reverse=True)


async def test_a_group_outlives_a_killed_server(own_server: Service, own_pair: Pair) -> None:
    group = own_pair.ask(key="k")
    sign(own_pair.b)
    assert own_server.end(signal.SIGKILL) == -signal.SIGKILL
    own_server.start()
    assert own_pair.ask(key="k")["id"] == group["id"]
    sign(own_pair.c, "reject", reason="no")
    assert (await until_ended(own_server, group["id"]))["state"] == "compensated"
    assert sign(own_pair.b)["body"] == "<undo-b/>"
    assert own_pair.b.figures()["published"] == 2
    assert own_pair.c.figures()["published"] == 1


async def test_another_node_goes_on(nodes: tuple[Service, Service]) -> None:
    one, two = nodes
    pair = Pair(one)
    group = pair.ask()
    for box in (pair.b, pair.c):
        box.client.close()
        box.client = two.caller(box.key)
    await asyncio.to_thread(sign, pair.b)
    one.end(signal.SIGKILL)
    await asyncio.to_thread(sign, pair.c, "reject", reason="no")
    ended = await until_ended(two, group["id"])
    assert (ended["state"], ended["members"][0]["state"]) == ("compensated", "acked")
    undo = await asyncio.to_thread(sign, pair.b)
    assert undo["body"] == "<undo-b/>"
    pair.close()


# -- the example --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def service_a(pair: Pair, folder: Path, timeout: int = 60) -> AsyncIterator[Program]:
    environment = {
        "URL": pair.b.service.url,
        "KEY": pair.b.publisher_key,
        "B": pair.b.name,
        "C": pair.c.name,
        "TIMEOUT": str(timeout),
    }
    command = [sys.executable, str(EXAMPLES / "python" / "all_or_compensate.py"), "4711"]
    async with running(command, folder, environment) as program:
        yield program


async def answer_of(program: Program) -> str:
    states = ("complete", "compensating", "compensated")
    await program.until(lambda lines: any(line.startswith(states) for line in lines))
    return program.lines[-1]


async def test_the_example_when_both_sign(pair: Pair, tmp_path: Path) -> None:
    async with service_a(pair, tmp_path) as program:
        for box in (pair.b, pair.c):
            await asyncio.to_thread(sign, box)
        assert (await answer_of(program)).startswith("complete")


async def test_the_example_with_a_failing_b(server: Service, pair: Pair, tmp_path: Path) -> None:
    async with service_a(pair, tmp_path) as program:
        await asyncio.to_thread(sign, pair.c)
        await asyncio.to_thread(sign, pair.b, "reject", reason="out of stock")
        assert (await answer_of(program)).endswith(f"{pair.b.name} dead: out of stock")
    undo = await asyncio.to_thread(sign, pair.c)
    assert undo["body"] == "<cancel order='4711'/>"


async def test_the_example_with_a_slow_c(server: Service, pair: Pair, tmp_path: Path) -> None:
    """C has it, and signs when the time is long up: both are told to undo it."""
    async with service_a(pair, tmp_path, timeout=2) as program:
        await asyncio.to_thread(sign, pair.b)
        (slow,) = await asyncio.to_thread(pair.c.receive, max=1, wait=20)
        assert (await answer_of(program)).startswith("compensating the time is up")
        assert (await asyncio.to_thread(sign, pair.b))["body"] == "<cancel order='4711'/>"
        assert pair.c.settle(slow["lease"], "ack").status_code == 200
        assert (await asyncio.to_thread(sign, pair.c))["body"] == "<cancel order='4711'/>"
    async with Client(server.url, ADMIN_KEY) as client:
        (id,) = (line.split()[1] for line in program.lines if line.startswith("group"))
        assert (await client.group(id)).state == "compensated"
        assert id in [one.id for one in (await client.groups()).groups]
        with pytest.raises(GroupNotFound):
            await client.group("nothing")


async def test_the_example_goes_on_after_a_crash(
    own_server: Service, own_pair: Pair, tmp_path: Path
) -> None:
    async with service_a(own_pair, tmp_path) as program:
        await asyncio.to_thread(sign, own_pair.b)
        own_server.end(signal.SIGKILL)
        await program.until(lambda lines: lines[-1:] != [] and lines[-1].startswith("again:"))
        await asyncio.to_thread(own_server.start)
        await asyncio.to_thread(sign, own_pair.c)
        assert (await answer_of(program)).startswith("complete")
    assert [box.figures()["published"] for box in (own_pair.b, own_pair.c)] == [1, 1]
