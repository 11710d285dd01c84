"""Webhooks and the process that calls them: many at once, kills and stops, embedding, the command line."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys

import pytest
import standardwebhooks
from tests.e2e.conftest import ADMIN_KEY, Service
from tests.e2e.hooks import (
    SECONDS,
    hooked,
    next_call,
    receiving,
)
from tests.unit.engine.house import turns

from restante.testing.transports.drivers.webhook import delivered_of

XML = '<?xml version="1.0"?><order name="Bodø"/>'.encode()


# -- many, and restarts -------------------------------------------------------------------------


@pytest.mark.timeout(180)
async def test_two_hundred_dead_endpoints_leave_a_live_one_alone(own_server: Service) -> None:
    async with hooked(own_server) as live, receiving() as (receiver, url):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            dead = f"http://127.0.0.1:{closed.getsockname()[1]}/"
            for number in range(200):
                name = f"dead-{number}"
                for path, asked in (
                    (f"/v1/queues/{name}", {"owner": live.name, "backoff_base_seconds": 0}),
                    (f"/v1/queues/{name}/webhook", {"url": dead}),
                ):
                    answer = await live.admin.put(path, json=asked)
                    assert answer.is_success, answer.text
            batch = [{"queue": f"dead-{n % 200}", "body": "x"} for n in range(1_000)]
            await live.admin.post("/v1/notifications", json={"notifications": batch})
            await live.set(url, concurrency=8)
            ids = await live.publish(*[b"%d" % number for number in range(300)])
            got: set[str] = set()
            for _ in ids:
                call = await next_call(receiver)
                got.add(delivered_of(call).id)
                await receiver.answer(call, 200)
            await live.receipts("acked", 300)
            assert got == set(ids)
            waiting = 0
            for number in range(200):
                figures = (await live.admin.get(f"/v1/queues/dead-{number}")).json()["figures"]
                assert (figures["acked"], figures["published"]) == (0, 5)
                waiting += figures["published"] - figures["dead"]
            assert waiting == 1_000, "no attempts were burnt"


async def test_killed_in_mid_delivery_it_comes_again(own_server: Service) -> None:
    async with hooked(own_server) as one, receiving() as (receiver, url):
        secret = (await one.set(url, timeout_seconds=1))["secret"]
        ids = await one.publish(b"1", b"2")
        for _ in ids:
            await next_call(receiver)
        own_server.end(signal.SIGKILL)
        own_server.start()
        got: set[str] = set()
        while len(got) < 2:
            call = await next_call(receiver)
            standardwebhooks.Webhook(secret).verify(call.body, dict(call.headers), json_parse=False)
            await receiver.answer(call, 200)
            got.add(delivered_of(call).id)
        assert got == set(ids)
        await one.receipts("acked", 2)


async def test_a_stop_lets_the_call_under_way_end(own_server: Service) -> None:
    async with hooked(own_server) as one, receiving() as (receiver, url):
        await one.set(url, concurrency=1)
        await one.publish(b"1", b"2")
        call = await next_call(receiver)
        stopping = asyncio.create_task(asyncio.to_thread(own_server.end, signal.SIGTERM))
        # A long poll is answered as soon as the service goes out of operation.
        other = f"{one.name}-other"
        await one.admin.put(f"/v1/queues/{other}", json={"owner": one.name})
        await one.http.post(f"/v1/queues/{other}/receive", json={"wait": 60})
        await receiver.answer(call, 200)
        assert await stopping == 0
        assert receiver.requests.empty()
        own_server.start()
        again = await next_call(receiver)
        assert again.body == b"2"
        await receiver.answer(again, 200)
        first, second = await one.receipts("acked", 2)
        assert (first["attempt"], second["attempt"]) == (1, 1)


async def test_embedded_in_another_program(tmp_path) -> None:
    import restante

    for url in ("memory://", f"sqlite:///{tmp_path}/mail"):
        async with (
            receiving() as (receiver, target),
            restante.open(url, webhook_allow=["127.0.0.0/8"]) as office,
        ):
            await office.add_client("acme")
            await office.broker.webhooks.put("acme", target, None, {})
            await office.publish(queue="acme", body=b"<order/>")
            call = await next_call(receiver)
            assert call.body == b"<order/>"
            await receiver.answer(call, 204)
            async with asyncio.timeout(SECONDS):
                while [one.outcome async for one in office.receipts("acme")][-1] != "acked":
                    await turns(1)
    assert (tmp_path / "mail" / "secrets.key").exists()


# -- without the extra --------------------------------------------------------------------------

WITHOUT = """
import asyncio, sys
sys.modules["aiohttp"] = None
import restante
from restante.errors import ConfigurationError, WebhooksUnavailable

async def main():
    async with restante.open("memory://") as office:
        await office.add_client("acme")
        try:
            await office.broker.webhooks.put("acme", "https://a.example/", None, {})
        except WebhooksUnavailable as error:
            print(error)
    try:
        async with restante.open(f"sqlite:///{sys.argv[1]}"):
            print("opened")
    except ConfigurationError as error:
        print(error)

asyncio.run(main())
"""


async def test_without_the_extra_all_else_works_and_it_says_what_to_install(
    own_server: Service,
) -> None:
    async with hooked(own_server) as one:
        await one.set("https://127.0.0.1:1024/")
        own_server.end(signal.SIGTERM)
        told = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", WITHOUT, str(own_server.data)],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        own_server.start()
    lines = told.stdout.splitlines()
    assert "restante[webhooks]" in lines[0]
    assert f"queue {one.name} has a webhook" in lines[1]
    assert "restante[webhooks]" in lines[1]


def test_on_the_command_line(server: Service, tmp_path) -> None:
    from tests.e2e.conftest import Mailbox
    from tests.e2e.test_cli import restante

    box = Mailbox(server)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return restante(
            "webhook",
            *arguments,
            cwd=tmp_path,
            RESTANTE_URL=server.url,
            RESTANTE_KEY=box.key,
        )

    made = run("set", box.name, "https://127.0.0.1:1024/in", "--header", "x-a=b", "--rate", "5")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("whsec_")
    shown = run("show", box.name)
    for word in ("https://127.0.0.1:1024/in", "enabled", "x-a", "closed", "rate_per_second"):
        assert word in shown.stdout
    assert made.stdout.strip() not in shown.stdout
    pinged = run("ping", box.name)
    assert (pinged.returncode, pinged.stdout.startswith("connection refused")) == (1, True)
    assert run("set", box.name, "ftp://x").returncode == 1
    assert ADMIN_KEY not in server.log()
    box.close()
