"""The clients' page in a browser: a vendor's day, the samples as they are shown, and what axe finds."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect
from standardwebhooks import Webhook
from tests.e2e.conftest import Mailbox, Service
from tests.e2e.hooks import receiving
from tests.e2e.windows import AXE, MILLISECONDS, Window, serious, window_of

from restante.portal.pages import SAMPLES

pytestmark = pytest.mark.timeout(180)
expect.set_options(timeout=MILLISECONDS)
PROTO = Path(__file__).parents[2] / "src/restante/web/restante.proto"


class Visitor:
    """A vendor's browser, on the page of a client."""

    def __init__(self, window: Window, service: Service) -> None:
        self.window = window
        self.page: Page = window.page
        self.at = f"{service.url}/portal"

    async def see(self, path: str) -> None:
        await self.page.goto(f"{self.at}{path}")

    async def sign_in(self, key: str) -> None:
        await self.see("/")
        await self.page.get_by_label("Key").fill(key)
        await self.page.get_by_role("button", name="Sign in").click()
        await expect(self.page.get_by_role("heading", level=1)).to_contain_text("Queues of")


@pytest.fixture
async def visitor(chromium: Browser, own_server: Service) -> Visitor:
    window = await window_of(await chromium.new_context(), own_server)
    return Visitor(window, own_server)


async def run_sample(text: str, name: str, box: Mailbox, folder: Path, **more: str) -> str:
    """What it prints; as somebody would run it who has copied it."""
    file = folder / name
    file.write_text(text)
    command = ["sh", str(file)] if name.endswith(".sh") else [sys.executable, str(file)]
    environment = {**os.environ, "RESTANTE_KEY": box.key, **more}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
    return told.decode()


async def test_a_vendors_day(
    window: Window, visitor: Visitor, box: Mailbox, tmp_path: Path
) -> None:
    # The operator makes a link, and hands it over by whatever way they have.
    await window.see(f"/queues/{box.name}")
    await window.page.get_by_role("button", name="Make a link for the client").click()
    link = await window.page.locator("#link").text_content()
    assert link is not None
    assert link.startswith("/portal/enter/")
    await visitor.see(link.removeprefix("/portal"))
    await visitor.page.get_by_role("button", name="Open the page").click()
    page = visitor.page
    await page.get_by_role("link", name=box.name, exact=True).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(box.name)

    # They send themselves a test, collect it with the sample that is shown, and see it signed.
    await page.get_by_role("button", name="Send yourselves a test notification").click()
    await expect(page.locator(".step")).to_have_count(1)
    notification = page.url
    await visitor.see(f"/queues/{box.name}/samples")
    sample = await page.locator("[data-name='long_poll.sh']").text_content()
    assert sample is not None
    assert "This is a test" in await run_sample(sample, "collect.sh", box, tmp_path)
    await page.goto(notification)
    await expect(page.locator(".step").last).to_contain_text("signed")

    # What they rejected they see, and redrive once the operator lets them.
    box.publish(b"<order/>")
    box.settle(box.receive(max=1)[0]["lease"], "reject", reason="no such article")
    await visitor.see(f"/dead-letters/{box.name}")
    await expect(page.locator(".letter")).to_contain_text("no such article")
    await expect(page.get_by_role("button", name="Redrive")).to_have_count(0)
    box.settings(client_may_redrive=True)
    await page.reload()
    await page.get_by_role("button", name="Redrive number").click()
    await expect(page.get_by_role("status").filter(has_text="new attempts")).to_be_visible()
    assert [one["attempt"] for one in box.receive(max=1)] == [1]
    # They have an endpoint by now: they set it, and try it, and know the call for ours by its signature.
    async with receiving() as (receiver, url):
        await visitor.see(f"/queues/{box.name}")
        await page.get_by_role("link", name="Set a webhook").click()
        await page.get_by_label("Address").fill(url)
        await page.get_by_role("button", name="Save").click()
        secret = await page.locator("#secret").text_content()
        assert secret is not None
        await page.get_by_role("link", name="Done: back to the queue").click()
        await page.get_by_role("button", name="Test call").click(no_wait_after=True)
        call = await receiver.requests.get()
        Webhook(secret).verify(call.body, dict(call.headers))
        await receiver.answer(call, 204)
        await expect(page.get_by_text("went well (HTTP 204)")).to_be_visible()
        page.once("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
        await page.get_by_role("button", name="Remove").click()
        await expect(page.get_by_text("The webhook is gone")).to_be_visible()
    visitor.window.wrong = [
        one for one in visitor.window.wrong if "Take the webhook away" not in one
    ]
    await visitor.window.is_well()
    # The link is used up.
    await page.context.clear_cookies()
    await visitor.see(link.removeprefix("/portal"))
    await expect(page.get_by_role("alert")).to_contain_text("ask for another")


async def test_every_sample_does_what_it_says(
    visitor: Visitor, box: Mailbox, tmp_path: Path, unused_tcp_port: int
) -> None:
    """Each as the page gives it, run for itself: afterwards the ledger says who signed, over what."""
    await visitor.sign_in(box.key)
    await visitor.see(f"/queues/{box.name}/samples")
    texts = {
        name: await visitor.page.locator(f"[data-name='{name}']").text_content()
        for name, _ in SAMPLES
    }
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO.parent}"]
    command += [f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}", PROTO.name]
    await (await asyncio.create_subprocess_exec(*command)).wait()
    for name, transport in (
        *(("long_poll.sh", "http"), ("events.sh", "http"), ("client.py", "http")),
        *(("websocket.py", "websocket"), ("grpc.py", "grpc")),
    ):
        body = f"<for>{name}</for>"
        box.publish(body.encode())
        text = texts.pop(name)
        assert text is not None
        told = await run_sample(text, f"sample_{name}", box, tmp_path, GRPC=box.service.grpc)
        assert name in told, name
        last = box.receipts()[-1]
        assert (last["outcome"], last["principal"], last["transport"]) == (
            *("acked", box.name),
            transport,
        ), name
    ((name, text),) = texts.items()
    await receive_by_webhook(text, box, tmp_path, unused_tcp_port)


async def receive_by_webhook(text: Any, box: Mailbox, folder: Path, port: int) -> None:
    url = f"http://127.0.0.1:{port}/inbox"
    made = box.client.put(f"/v1/queues/{box.name}/webhook", json={"url": url})
    assert made.status_code == 201, made.text
    file = folder / "receiver.py"
    file.write_text(text)
    environment = {**os.environ, "WEBHOOK_SECRET": made.json()["secret"], "PORT": str(port)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(file),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        box.publish(b"<for>webhook.py</for>")
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"<for>webhook.py</for>\n"
            while box.receipts()[-1]["outcome"] != "acked":
                pass
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert box.receipts()[-1]["transport"] == "webhook"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(
    own_server: Service, chromium: Browser, box: Mailbox, scheme: Any
) -> None:
    assert AXE.exists(), "needs axe-core: run `make test`, or scripts/node-clients.sh"
    box.settings(client_may_redrive=True)
    id = box.publish().json()["id"]
    box.settle(box.receive(max=1)[0]["lease"], "reject", reason="no such order")
    context = await chromium.new_context(
        color_scheme=scheme, bypass_csp=True, viewport={"width": 390, "height": 844}
    )
    visitor = Visitor(await window_of(context, own_server), own_server)
    await visitor.see("/sign-in")
    found = {"/sign-in": await serious(visitor.page)}
    await visitor.sign_in(box.key)
    for path in (
        *("/", f"/queues/{box.name}", f"/queues/{box.name}/samples", "/receipts"),
        *(f"/queues/{box.name}/webhook", f"/queues/{box.name}/signing"),
        *(f"/dead-letters/{box.name}", f"/notifications/{id}", "/queues/nothing"),
    ):
        await visitor.see(path)
        found[path] = await serious(visitor.page)
        assert await visitor.page.evaluate("document.documentElement.scrollWidth") == 390, path
    assert found == {path: [] for path in found}
