"""``make screenshots``: pictures of every page, light, dark and on a phone, of a made-up day (``scene.py``).

They are taken by Debian's Chromium of a real server, and written into docs/screenshots.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image
from playwright.async_api import Browser, Page, async_playwright
from scripts.screenshots import scene
from websockets.asyncio.client import connect

from restante.cli.demo.server import Server, serving
from restante.client import Signer

OUT: Final = Path(__file__).parents[2] / "docs/screenshots"
FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
)
COLOURS: Final = 128
"""A page has few: a picture is a third of its size so."""


class Look(NamedTuple):
    """How a picture is taken."""

    name: str
    width: int
    height: int
    scheme: Any


LOOKS: Final = (
    Look("light", 1280, 860, "light"),
    Look("dark", 1280, 860, "dark"),
    Look("phone", 390, 844, "light"),
)


class Shot(NamedTuple):
    """``path`` is the page's, ``ready`` what stands on it once it is whole, ``press`` a button to be pressed first.

    With ``client`` it is on that client's page, else on the operators'.
    """

    name: str
    path: str
    ready: str = "h1"
    press: str = ""
    client: str = ""


async def take(out: Path, only: Sequence[str]) -> None:
    """Play the day, serve it, and take the pictures of the pages named (none: of all)."""
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("screenshots: needs Chromium; run `make test-packages`")
    with tempfile.TemporaryDirectory(prefix="restante-") as folder:
        data = Path(folder)
        keys = await scene.play(data, int(time.time() * 1_000))
        async with (
            serving(data) as server,
            attached(server, keys),
            async_playwright() as playwright,
        ):
            browser = await playwright.chromium.launch(executable_path=program, args=list(FLAGS))
            shots = [shot for shot in await shots_of(server) if not only or shot.name in only]
            for look in LOOKS:
                await _take_all(browser, server, keys, look, shots, out)
            await browser.close()


async def shots_of(server: Server) -> list[Shot]:
    """Every page, with something on it that is worth a look."""
    async with httpx.AsyncClient(base_url=server.url, headers=_bearer(server.admin_key)) as admin:
        dead = (await admin.get("/v1/queues/forge-3/dead?limit=1")).json()["dead"][0]
        asked = {"task": "redrive", "queues": ["forge-3"], "all": True, "rate_per_second": 8}
        job = (await admin.post("/v1/jobs", json=asked)).json()
        group = await _group(admin)
        operation = await _operation(admin)
        key = {"pem": Signer(Ed25519PrivateKey.generate()).public_pem, "label": "the office's"}
        await admin.post("/v1/clients/mill-9/signing-keys", json=key)
    return [
        Shot("sign-in", "/sign-in"),
        Shot("overview", "/?span=24h", ".charts canvas"),
        Shot("queue", "/queues/mill-9?span=24h", ".charts canvas"),
        Shot("settings", "/queues/mill-9/settings"),
        Shot("notification", f"/notifications/{dead['id']}"),
        Shot("body", f"/notifications/{dead['id']}", press="Show the body"),
        Shot("dead-letters", "/dead-letters"),
        Shot("dead-letters-queue", "/dead-letters/forge-3"),
        Shot("job", f"/jobs/{job['id']}", ready="#progress"),
        Shot("receipts", "/receipts?name=depot-4"),
        Shot("group", f"/groups/{group}"),
        Shot("operation", f"/operations/{operation}"),
        Shot("signing-keys", "/queues/mill-9/signing"),
        Shot("log", "/log"),
        Shot("audit", "/audit"),
        Shot("alerts", "/alerts"),
        Shot("portal", "/", client="mill-9"),
        Shot("portal-queue", "/queues/mill-9?span=24h", ".charts canvas", client="mill-9"),
        Shot("portal-samples", "/queues/mill-9/samples", client="mill-9"),
    ]


async def _group(admin: httpx.AsyncClient) -> str:
    """A group of which one member has signed and one nobody comes for, once its time is up; its id."""
    part = {"body": "<order/>", "content_type": "application/xml"}
    undo = {"body": "<cancel/>", "content_type": "application/xml"}
    members = [{**part, "queue": name, "compensation": undo} for name in ("depot-4", "yard-12")]
    asked = {"timeout_seconds": 2, "members": members}
    made = await admin.post("/v1/groups", json=asked, headers={"Prefer": "wait=10"})
    id: str = made.json()["id"]
    return id


async def _operation(admin: httpx.AsyncClient) -> str:
    """An operation that is under way; its id."""
    asked = {"title": "Stock report", "client": "mill-9", "queue": "mill-9", "runner": "reports"}
    id: str = (await admin.post("/v1/operations", json=asked)).json()["id"]
    move = {"state": "running", "progress": 0.4, "note": "page 4 of 10"}
    await admin.patch(f"/v1/operations/{id}", json=move)
    return id


async def _take_all(  # what a picture is made of
    browser: Browser,
    server: Server,
    keys: dict[str, str],
    look: Look,
    shots: Sequence[Shot],
    out: Path,
) -> None:
    context = await browser.new_context(
        viewport={"width": look.width, "height": look.height}, color_scheme=look.scheme
    )
    page = await context.new_page()
    for shot in shots:
        root = f"{server.url}/portal" if shot.client else server.page_url.rstrip("/")
        have = {one["name"] for one in await context.cookies()}
        if shot.client and "__Host-restante-client" not in have:
            await _sign_in_client(page, root, keys[shot.client])
        elif shot.name != "sign-in" and "__Host-restante" not in have:
            await _sign_in(page, server)
        await page.goto(f"{root}{shot.path}")
        if shot.press:
            await page.get_by_role("button", name=shot.press).click()
        await page.locator(shot.ready).first.wait_for()
        await page.wait_for_load_state("networkidle")
        await _keep(await page.screenshot(), out / f"{shot.name}-{look.name}.png")
    await context.close()


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def _sign_in(page: Page, server: Server) -> None:
    await page.goto(server.page_url)
    await page.get_by_label("Key").fill(server.admin_key)
    await page.get_by_role("button", name="Sign in with the key").click()
    await page.get_by_role("heading", name="Clients and their queues").wait_for()


async def _sign_in_client(page: Page, root: str, key: str) -> None:
    await page.goto(f"{root}/sign-in")
    await page.get_by_label("Key").fill(key)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("heading", name="Queues of").wait_for()


async def _keep(picture: bytes, path: Path) -> None:
    with Image.open(io.BytesIO(picture)) as image:
        few = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
    print(path.name)


@contextlib.asynccontextmanager
async def attached(server: Server, keys: dict[str, str]) -> AsyncIterator[None]:
    """Some of the clients come for their queues, each in its way, and are seen to be there."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_poll(server, keys[name], name, agent))
            for name, agent in (("depot-4", "curl/8.5.0"), ("foundry-6", "Java-http-client/17"))
        ]
        tasks += [
            group.create_task(_listen(server, keys[name], name, agent))
            for name, agent in (("quarry-1", "Go-http-client/2.0"), ("forge-3", "node/22.3"))
        ]
        tasks += [
            group.create_task(_connect(server, keys[name], name, agent))
            for name, agent in (("buyer-17", "ledgerbridge/4.2"), ("tannery-5", "websockets/13"))
        ]
        yield
        for task in tasks:
            task.cancel()


async def _poll(server: Server, key: str, queue: str, agent: str) -> None:
    headers = {**_bearer(key), "User-Agent": agent}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client:
        while True:
            received = await client.post(
                f"/v1/queues/{queue}/receive", json={"max": 10, "wait": 20}
            )
            for one in received.json()["notifications"]:
                await client.post(f"/v1/leases/{one['lease']}/ack")


async def _listen(server: Server, key: str, queue: str, agent: str) -> None:
    headers = {**_bearer(key), "User-Agent": agent}
    async with (
        httpx.AsyncClient(base_url=server.url, headers=headers, timeout=120) as client,
        client.stream("GET", f"/v1/queues/{queue}/events") as events,
    ):
        async for line in events.aiter_lines():
            for lease in re.findall(r'"lease":"([^"]+)"', line):
                await client.post(f"/v1/leases/{lease}/ack")


async def _connect(server: Server, key: str, queue: str, agent: str) -> None:
    address = server.url.replace("http", "ws", 1)
    async with connect(
        f"{address}/v1/queues/{queue}/socket",
        subprotocols=["restante.v1"],  # type: ignore[list-item]  # a NewType of str
        additional_headers=_bearer(key),
        user_agent_header=agent,
    ) as socket:
        await socket.wait_closed()


def main() -> None:
    parser = argparse.ArgumentParser(description="Take pictures of every page.")
    parser.add_argument("--out", type=Path, default=OUT, help="the folder they are written into")
    parser.add_argument("only", nargs="*", help="names of pages; without any: all of them")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    asyncio.run(take(arguments.out, arguments.only))


if __name__ == "__main__":
    main()
