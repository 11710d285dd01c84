"""Bulk work over HTTP and with the SDK, on servers that are killed and stopped in the middle of it."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from typing import Any, Final

import httpx
import pytest
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service

from restante.client import Client
from restante.errors import JobEnded, JobNotFound, QueueNotFound
from restante.wire.job_messages import Task

BATCH: Final = 100
SECONDS: Final = 40.0
pytestmark = pytest.mark.timeout(120)


def bury(box: Mailbox, count: int, reason: str = "no such article") -> None:
    """So many dead letters."""
    for _ in range(count // BATCH):
        item = {"queue": box.name, "body": "<order/>", "content_type": "application/xml"}
        box.publisher.post("/v1/notifications", json={"notifications": [item] * BATCH})
        settle = [
            {"lease": one["lease"], "outcome": "reject", "reason": reason}
            for one in box.receive(max=BATCH)
        ]
        answer = box.client.post(f"/v1/queues/{box.name}/settle", json={"settle": settle})
        assert answer.status_code == 200, answer.text


def ask(admin: httpx.Client, box: Mailbox, **asked: Any) -> dict[str, Any]:
    asked = {"task": "redrive", "queues": [box.name], "all": True} | asked
    answer = admin.post("/v1/jobs", json=asked)
    assert answer.status_code == 202, answer.text
    assert answer.json().keys() >= {"id", "state", "done", "total"}
    found: dict[str, Any] = answer.json()
    return found


async def until(admin: httpx.AsyncClient, id: str, **wanted: Any) -> dict[str, Any]:
    """The job once it stands like that; ``done`` at least so far."""
    least = wanted.pop("done", 0)
    async with asyncio.timeout(SECONDS):
        while True:
            job: dict[str, Any] = (await admin.get(f"/v1/jobs/{id}")).json()
            if job["done"] >= least and wanted.items() <= job.items():
                return job


def redriven(box: Mailbox) -> Counter[int]:
    """How often each was redriven, by the ledger."""
    found: Counter[int] = Counter()
    after: int | None = 0
    while after is not None:
        path = f"/v1/queues/{box.name}/receipts"
        page = box.admin.get(
            path, params={"outcome": "redriven", "after": after, "limit": 1_000}
        ).json()
        found.update(one["seq"] for one in page["receipts"])
        after = page["next"]
    return found


async def test_a_job_from_asking_to_its_end(server: Service, mailbox: Mailbox) -> None:
    bury(mailbox, 2 * BATCH)
    admin = mailbox.admin
    counted = admin.post(
        "/v1/jobs",
        json={"task": "redrive", "queues": [mailbox.name], "all": True, "preview": True},
    )
    assert (counted.status_code, counted.json()) == (200, {"matched": 200, "at_least": False})
    job = ask(admin, mailbox, rate_per_second=1, reason="agreed by telephone")
    assert (job["state"], job["total"], job["asked_by"]) == ("running", 200, "admin")
    path = f"/v1/jobs/{job['id']}"
    assert admin.post(f"{path}/pause").json()["state"] == "paused"
    assert job["id"] in [one["id"] for one in admin.get("/v1/jobs").json()["jobs"]]
    assert admin.post(f"{path}/resume").json()["state"] == "running"
    cancelled = admin.delete(path).json()
    assert cancelled["state"] == "cancelled"
    assert cancelled["done"] < 200
    for method, place in (("DELETE", path), ("POST", f"{path}/pause"), ("POST", f"{path}/resume")):
        answer = admin.request(method, place)
        assert (answer.status_code, answer.json()["code"]) == (409, "job_ended")
    async with server.async_caller(ADMIN_KEY) as caller:
        rest = await until(caller, ask(admin, mailbox)["id"], state="done")
    assert sum(redriven(mailbox).values()) == 200
    assert rest["skipped"] == 0

    acts = admin.get("/v1/acts", params={"queue": mailbox.name}).json()["acts"]
    told = [act["what"] for act in acts if act["what"].startswith("job.")]
    assert told == ["job.asked", "job.cancelled", "job.resumed", "job.paused", "job.asked"]
    first = acts[len(told) - 1]
    assert (first["who"], first["details"]["why"]) == ("admin", "agreed by telephone")


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"queues": ["nowhere"]}, 404, "queue_not_found"),
        ({"queues": None}, 400, "malformed"),
        ({"client": "acme"}, 400, "malformed"),
        ({"queues": None, "client": "nobody"}, 404, "client_not_found"),
        ({"rate_per_second": 0.5}, 422, "out_of_bounds"),
        ({"rate_per_second": 1e9}, 422, "out_of_bounds"),
        ({"task": "burn"}, 400, "malformed"),
        ({"all": None}, 400, "malformed"),
        ({"queues": []}, 422, "out_of_bounds"),
        ({"reason": "x" * 10_000}, 422, "out_of_bounds"),
        ({"unheard_of": 1}, 400, "malformed"),
    ],
)
def test_refused(mailbox: Mailbox, asked: dict[str, Any], status: int, code: str) -> None:
    whole = {"task": "redrive", "queues": [mailbox.name], "all": True} | asked
    body = {name: value for name, value in whole.items() if value is not None}
    answer = mailbox.admin.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_administrators_alone(mailbox: Mailbox) -> None:
    for caller in (mailbox.client, mailbox.publisher):
        for method, path in (
            *(("GET", "/v1/jobs"), ("GET", "/v1/jobs/x"), ("DELETE", "/v1/jobs/x")),
            *(("POST", "/v1/jobs/x/pause"), ("GET", "/v1/acts")),
        ):
            assert caller.request(method, path).status_code == 403, path
        body = {"task": "redrive", "queues": [mailbox.name], "all": True}
        assert caller.post("/v1/jobs", json=body).status_code == 403


async def test_with_the_sdk(server: Service, mailbox: Mailbox) -> None:
    bury(mailbox, BATCH)
    async with Client(server.url, ADMIN_KEY) as client:
        counted = await client.count_job(Task.REDRIVE, queues=[mailbox.name])
        assert counted.matched == BATCH
        job = await client.ask_job(Task.REDRIVE, queues=[mailbox.name], rate_per_second=1)
        assert (await client.pause_job(job.id)).state == "paused"
        assert (await client.resume_job(job.id)).state == "running"
        assert (await client.cancel_job(job.id)).state == "cancelled"
        with pytest.raises(JobEnded):
            await client.pause_job(job.id)
        with pytest.raises(JobNotFound):
            await client.job("nothing-of-the-kind")
        with pytest.raises(QueueNotFound):
            await client.ask_job(Task.DISCARD, queues=["nowhere"])
        discarded = await client.ask_job(Task.DISCARD, client=mailbox.name, reason="agreed")
        async with server.async_caller(ADMIN_KEY) as caller:
            await until(caller, discarded.id, state="done")
        # Some were redriven before the first job was stopped: its last step may be counted later, the ledger knows it.
        again = redriven(mailbox).total()
        assert (await client.job(discarded.id)).done == BATCH - again
        page = await client.jobs()
        assert {job.id, discarded.id} <= {one.id for one in page.jobs}
        acts = await client.acts(what="job", queue=mailbox.name)
        assert [act.what for act in acts.acts][:1] == ["job.asked"]


async def test_a_job_outlives_a_killed_server(own_server: Service, box: Mailbox) -> None:
    bury(box, 10 * BATCH)
    job = ask(box.admin, box, rate_per_second=400)
    async with own_server.async_caller(ADMIN_KEY) as admin:
        await until(admin, job["id"], done=200)
    assert own_server.end(signal.SIGKILL) == -signal.SIGKILL
    own_server.start()
    async with own_server.async_caller(ADMIN_KEY) as admin:
        ended = await until(admin, job["id"], state="done")
    # Of the step that was in hand the ledger knows what became, and the job that it does not.
    assert (ended["done"] + ended["unsure"], ended["skipped"]) == (1_000, 0)
    assert redriven(box) == Counter(range(1, 1_001))
    assert (ended["unsure"] <= BATCH, box.figures()["dead"]) == (True, 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_another_node_goes_on(nodes: tuple[Service, Service], number: signal.Signals) -> None:
    one, two = nodes
    box = Mailbox(one)
    bury(box, 10 * BATCH)
    job = ask(box.admin, box, rate_per_second=400)
    async with one.async_caller(ADMIN_KEY) as admin:
        begun = await until(admin, job["id"], done=100)
    box.close()
    one.end(number)
    async with two.async_caller(ADMIN_KEY) as admin:
        ended = await until(admin, job["id"], state="done")
    assert ended["node"] != begun["node"]
    assert (ended["done"] + ended["unsure"], ended["skipped"]) == (1_000, 0)
    box.admin = two.caller()
    assert redriven(box) == Counter(range(1, 1_001))
    box.close()


def test_acts_hold_no_secrets(own_server: Service, box: Mailbox) -> None:
    """Everything an administrator does that has a secret in it or makes one; none of it is in the record of acts."""
    admin = own_server.caller()
    secrets = [ADMIN_KEY, box.key, box.publisher_key]
    made = admin.post("/v1/keys", json={"role": "client", "name": box.name, "label": "second"})
    secrets.append(made.json()["key"])
    hook = f"/v1/queues/{box.name}/webhook"
    answer = admin.put(
        hook, json={"url": "https://127.0.0.1:1024/?token=t0ken", "headers": {"x-a": "s3cret"}}
    )
    secrets += [answer.json()["secret"], "t0ken", "s3cret"]
    secrets.append(admin.post(f"{hook}/secrets").json()["secret"])
    operator = {"name": "ann", "role": "admin", "password": "a long pass phrase"}
    assert admin.post("/v1/operators", json=operator).status_code == 201
    assert admin.put("/v1/operators/ann", json={"password": "another pass phrase"}).is_success
    secrets += ["a long pass phrase", "another pass phrase"]
    secrets.append(admin.post(f"/v1/clients/{box.name}/links").json()["path"].rpartition("/")[2])
    assert admin.delete(f"/v1/keys/{made.json()['id']}").is_success
    acts = admin.get("/v1/acts", params={"limit": 1_000}).json()["acts"]
    assert len({act["what"] for act in acts}) >= 6
    told = json.dumps(acts)
    assert [secret for secret in secrets if secret in told] == []
    assert [secret for secret in secrets if secret in own_server.log()] == []
    admin.close()
