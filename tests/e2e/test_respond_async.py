"""``RespondAsync`` under a real server that is killed in the middle of a request, and started again."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import httpx
import pytest
from tests.e2e.conftest import Mailbox, Service

PROGRAM: Final = """
import asyncio, socket, sys
import restante, uvicorn
from restante.client import Client

go = asyncio.Event()
client = Client(*sys.argv[1:3])

async def app(scope, receive, send):
    await receive()
    if scope["type"] == "lifespan":
        async with client:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/go":
        go.set()
    if scope["path"] == "/reports/done":
        await go.wait()
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-pages", b"7")]})
    if scope["path"] == "/reports/hang":
        await asyncio.Event().wait()
    if scope["path"] == "/reports/endless":
        leaving = asyncio.create_task(receive())
        while not leaving.done():
            await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})
            await asyncio.sleep(0)
        print(leaving.result()["type"], flush=True)
        return
    await send({"type": "http.response.body", "body": b"done"})

listener = socket.create_server(("127.0.0.1", 0))
wrapped = restante.RespondAsync(app, client, runner=sys.argv[3], paths=("/reports",))
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(wrapped, log_level="error")).run(sockets=[listener])
"""


@contextlib.contextmanager
def serving(
    box: Mailbox, worker: str = "one"
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The program, as this worker of its service, and a caller of it; it is killed in the end."""
    runner = f"{box.name}-{worker}"
    command = [sys.executable, "-c", PROGRAM, box.service.url, box.publisher_key, runner]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as caller:
                yield process, caller
        finally:
            process.kill()


def begun(caller: httpx.Client, what: str) -> str:
    answer = caller.post(f"/reports/{what}", headers={"prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    place: str = answer.headers["location"]
    return place


@pytest.mark.timeout(90)
def test_killed_with_one_answer_kept_and_one_under_way(
    own_server: Service, request: pytest.FixtureRequest
) -> None:
    box = Mailbox(own_server)
    request.addfinalizer(box.close)
    with serving(box) as (process, caller):
        done, hanging = begun(caller, "done"), begun(caller, "hang")
        assert caller.post("/go").text == "done"
        assert caller.get(done, params={"wait": 30}).status_code == 201
        assert caller.get(hanging).status_code == 202
        process.kill()
        process.wait(20)
    for _ in range(2):
        with serving(box) as (_, caller):
            kept = caller.get(done)
            assert (kept.status_code, kept.text, kept.headers["x-pages"]) == (201, "done", "7")
            told = caller.get(hanging)
            assert (told.status_code, told.json()["error"]["code"]) == (500, "interrupted")


@pytest.mark.timeout(90)
def test_stopped_in_order_it_says_so_before_it_ends(server: Service, mailbox: Mailbox) -> None:
    with serving(mailbox, "two") as (_, two):
        with serving(mailbox, "one") as (process, one):
            hanging = begun(one, "hang")
            process.terminate()
            process.wait(20)
        told = two.get(hanging)
        assert (told.status_code, told.json()["error"]["code"]) == (500, "interrupted")


@pytest.mark.timeout(90)
def test_asked_at_another_worker(server: Service, mailbox: Mailbox) -> None:
    """Which of the service's processes a caller comes to again is all the same, also when the one has crashed."""
    with serving(mailbox, "two") as (_, two), ThreadPoolExecutor(1) as threads:
        with serving(mailbox, "one") as (_, one):
            done, hanging = begun(one, "done"), begun(one, "hang")
            assert two.get(done).status_code == 202
            asking = threads.submit(two.get, done, params={"wait": 30})
            assert one.post("/go").text == "done"
            answer = asking.result()
            assert (answer.status_code, answer.text) == (201, "done")
            assert answer.headers["x-pages"] == "7"
        kept = two.get(done)
        assert (kept.status_code, kept.text) == (201, "done")
        assert two.get(hanging).status_code == 202, "nobody knows what has become of it yet"
        with serving(mailbox, "one"):
            told = two.get(hanging, params={"wait": 30})
            assert (told.status_code, told.json()["error"]["code"]) == (500, "interrupted")


@pytest.mark.timeout(90)
def test_an_answer_without_an_end(server: Service, mailbox: Mailbox) -> None:
    """Before there is a 202 it comes as it is made, until its caller leaves, which the endpoint hears."""
    with serving(mailbox) as (process, caller):
        prefer = {"prefer": "respond-async, wait=30"}
        with caller.stream("POST", "/reports/endless", headers=prefer) as answer:
            assert answer.status_code == 201
            size = 0
            for chunk in answer.iter_bytes():
                size += len(chunk)
                if size > 2_000_000:
                    break
        assert process.stdout is not None
        assert process.stdout.readline() == "http.disconnect\n"
