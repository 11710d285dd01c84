"""The middleware under a real server that is killed in the middle of a request, and started again on the same store."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

PROGRAM: Final = """
import asyncio, socket, sys
import restante, uvicorn

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        if sys.argv[3] == "unknown":
            raise ValueError("what is lifespan?")
        for _ in range(2):
            asked = (await receive())["type"]
            print("told", asked, flush=True)
            failed = asked.endswith(sys.argv[3])
            await send({"type": asked + (".failed" if failed else ".complete"), "message": "no"})
            if failed:
                return
        return
    await receive()
    print("entered", flush=True)
    if scope["path"] == "/hang":
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})
    if scope["path"] == "/mail":
        await asyncio.to_thread(sys.stdin.readline)
        print("mailed", flush=True)

listener = socket.create_server(("127.0.0.1", 0))
app = restante.IdempotencyMiddleware(app, sys.argv[1], policy=sys.argv[2])
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
"""


HEADERS: Final = {"idempotency-key": "k1", "authorization": "Bearer a"}
WAIT_SECONDS: Final = 20.0


@contextlib.contextmanager
def serving(
    folder: Path, policy: str, lifespan: str = "whole"
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The program on its store, killed in the end; ``lifespan``: what of it fails, or that it is ``unknown``."""
    command = [sys.executable, "-c", PROGRAM, f"sqlite:///{folder}", policy, lifespan]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def post(port: int, path: str) -> httpx.Response:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as caller:
        return caller.post(path, headers=HEADERS)


def entered(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return "entered\n" in process.stdout


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), WAIT_SECONDS).close()
    except OSError:
        return False
    return True


def test_a_repeat_after_a_kill_is_given_the_first_answer(tmp_path: Path) -> None:
    for expected in (None, "true"):
        with serving(tmp_path / "store", "refuse") as (_, port):
            answer = post(port, "/order")
            assert (answer.status_code, answer.text) == (201, "done")
            assert answer.headers.get("idempotency-replayed") == expected


@pytest.mark.parametrize("policy", ["refuse", "run_again"])
def test_a_kill_in_the_middle_is_told_and_the_policy_decides(tmp_path: Path, policy: str) -> None:
    with serving(tmp_path / "store", policy) as (process, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/hang", headers=HEADERS)
        assert entered(process)
        # While it runs, a repeat is told so.
        assert post(port, "/hang").json()["code"] == "request_in_progress"
        process.kill()
        process.wait(WAIT_SECONDS)
        connection.close()
    with serving(tmp_path / "store", policy) as (process, port):
        if policy == "refuse":
            for _ in range(2):
                assert post(port, "/hang").json()["code"] == "request_unknown"
        else:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("POST", "/hang", headers=HEADERS)
            assert entered(process)
            connection.close()


def test_stopped_in_order_it_ends_what_it_runs_and_closes_its_store(tmp_path: Path) -> None:
    """What the application does after its answer ends before the application is told to stop."""
    with serving(tmp_path / "store", "refuse") as (process, port):
        assert post(port, "/mail").status_code == 201
        process.terminate()
        deadline = time.monotonic() + WAIT_SECONDS
        while listens(port):
            assert time.monotonic() < deadline, "it does not stop"
        output, _ = process.communicate("go\n", WAIT_SECONDS)
        said = [line for line in output.splitlines() if line.startswith(("told", "mailed"))]
        assert said == ["told lifespan.startup", "mailed", "told lifespan.shutdown"]
    assert not list((tmp_path / "store").glob("*-wal"))


@pytest.mark.parametrize("lifespan", ["unknown", "startup", "shutdown"])
def test_its_store_is_closed_also_where_the_application_s_lifespan_fails(
    tmp_path: Path, lifespan: str
) -> None:
    with serving(tmp_path / "store", "refuse", lifespan) as (process, port):
        if lifespan != "startup":
            assert post(port, "/order").status_code == 201
            process.terminate()
        process.communicate(timeout=WAIT_SECONDS)
    assert (tmp_path / "store" / "restante.db").exists()
    assert not list((tmp_path / "store").glob("*-wal"))
