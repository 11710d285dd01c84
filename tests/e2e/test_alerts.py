"""Alerts of a running server: told by mail, by webhook and into a queue, once each, also where it was killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from standardwebhooks import Webhook
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service
from tests.e2e.hooks import SECONDS, receiving
from tests.e2e.postmaster import Postmaster, postmaster

from restante.testing.transports.drivers.webhook import Receiver

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OPERATORS: Final = "operators"


class Watch:
    """A server that tells of a dead letter and of silence wherever it can."""

    def __init__(self, service: Service, office: Postmaster, receiver: Receiver) -> None:
        self.service = service
        self.office = office
        self.receiver = receiver

    async def called(self, status: int = 200) -> tuple[str, dict[str, Any]]:
        """The next call of the webhook, its signature checked; its id, and what it says."""
        async with asyncio.timeout(SECONDS):
            request = await self.receiver.requests.get()
        Webhook(SECRET).verify(request.body, dict(request.headers))
        await self.receiver.answer(request, status)
        said: dict[str, Any] = json.loads(request.body)
        assert request.headers["webhook-id"] == said["id"]
        return said["id"], said

    async def mailed(self) -> str:
        async with asyncio.timeout(SECONDS):
            envelope = await self.office.mails.get()
        assert isinstance(envelope.content, bytes)
        return envelope.content.decode()

    def kept(self) -> list[dict[str, Any]]:
        """What is in the operators' queue, waited for."""
        with self.service.caller() as admin:
            answer = admin.post(f"/v1/queues/{OPERATORS}/receive", json={"wait": 20, "max": 10})
            found: list[dict[str, Any]] = answer.json()["notifications"]
            for one in found:
                assert admin.post(f"/v1/leases/{one['lease']}/ack").status_code == 200
        return found

    def opened(self) -> list[dict[str, Any]]:
        with self.service.caller() as admin:
            found: list[dict[str, Any]] = admin.get("/v1/alerts").json()["alerts"]
        return found


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[Watch]:
    async with postmaster() as office, receiving() as (receiver, url):
        service = Service(
            tmp_path / "data",
            *("--alert-dead", "1", "--alert-webhook-url", url, "--alert-queue", OPERATORS),
            *("--alert-mail-to", "ann@ops.test", "--alert-mail-from", "restante@ops.test"),
        )
        service.environment = {
            "RESTANTE_ALERT_WEBHOOK_SECRET": SECRET,
            "RESTANTE_SMTP_URL": f"smtp+plain://127.0.0.1:{office.port}",
        }
        service.start()
        with service.caller() as admin:
            assert admin.post("/v1/clients", json={"name": OPERATORS}).status_code == 201
        yield Watch(service, office, receiver)
        with contextlib.suppress(ProcessLookupError):
            service.end(signal.SIGKILL)


@pytest.fixture
def box(watch: Watch) -> Iterator[Mailbox]:
    box = Mailbox(watch.service)
    yield box
    box.close()


def bury(box: Mailbox) -> None:
    box.publish()
    (one,) = box.receive()
    box.settle(one["lease"], "reject", reason="no such article")


async def test_it_is_told_everywhere_once_when_it_begins_and_once_when_it_is_over(
    watch: Watch, box: Mailbox
) -> None:
    bury(box)
    words = f"{box.name} has 1 dead letter (limit 1); last error: no such article"
    _, said = await watch.called()
    (notice,) = said["notices"]
    assert (notice["event"], notice["alert"]["words"]) == ("raised", words)
    mail = await watch.mailed()
    assert f"{box.name} has 1 dead letter" in mail
    (kept,) = await asyncio.to_thread(watch.kept)
    body = httpx.Response(200, text=kept["body"]).json()
    assert body["notices"][0]["alert"]["id"] == notice["alert"]["id"]
    assert [one["words"] for one in watch.opened()] == [words]

    path = f"/v1/queues/{box.name}/dead/discard"
    assert box.admin.post(path, json={"all": True, "reason": "agreed"}).status_code == 200
    _, said = await watch.called()
    (notice,) = said["notices"]
    assert notice["event"] == "cleared"
    assert "down to 0 dead letters" in await watch.mailed()
    (kept,) = await asyncio.to_thread(watch.kept)
    assert json.loads(kept["body"])["cleared"] == 1
    assert watch.opened() == []
    history = box.admin.get("/v1/alerts/history").json()["alerts"]
    assert [(one["rule"], one["unsent"]) for one in history] == [("dead_letters", [])]
    assert watch.receiver.requests.empty()
    assert watch.office.mails.empty()


async def test_what_a_killed_server_had_not_told_is_told_by_the_next(
    watch: Watch, box: Mailbox
) -> None:
    """The receiver failed, and then the server: the message comes again as it was, with its id, and only there."""
    bury(box)
    first, said = await watch.called(status=503)
    await watch.mailed()
    assert len(await asyncio.to_thread(watch.kept)) == 1
    assert watch.service.end(signal.SIGKILL) == -signal.SIGKILL
    watch.service.start()
    again, told = await watch.called()
    assert (again, told) == (first, said)
    with watch.service.caller() as admin:
        assert len(admin.get("/v1/alerts/history").json()["alerts"]) == 1
        figures = admin.get(f"/v1/queues/{OPERATORS}").json()["figures"]
    assert (figures["ready"], figures["acked"]) == (0, 1)
    assert watch.office.mails.empty()
    assert ADMIN_KEY not in watch.service.log()
