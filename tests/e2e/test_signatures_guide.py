"""What the guide to signatures tells to paste works, its examples sign, and the printed receipt prints."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from playwright.async_api import Browser
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service
from tests.e2e.programs import environment_of, node, python
from tests.e2e.test_signatures import add, header, last, one
from tests.e2e.windows import Window, serious

from restante.client import Signer, verify_signature

GUIDE = (Path(__file__).parents[2] / "docs" / "signatures.md").read_text()
pytestmark = pytest.mark.timeout(120)


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def test_the_guide_can_be_pasted_into_a_shell(mailbox: Mailbox, tmp_path: Path) -> None:
    url = mailbox.service.url
    given = {
        "URL": url,
        "QUEUE": mailbox.name,
        "CLIENT": mailbox.name,
        "KEY": mailbox.key,
        "RESTANTE_URL": url,
        "RESTANTE_KEY": ADMIN_KEY,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    mailbox.publish("<order name='Bodø'/>".encode())
    shell = ["bash", "-euo", "pipefail", "-c", "\n".join(blocks("sh"))]
    done = subprocess.run(
        shell, check=False, env=given, cwd=tmp_path, capture_output=True, timeout=50
    )
    output = done.stdout.decode()
    assert done.returncode == 0, output + done.stderr.decode()
    assert "Signature Verified Successfully" in output
    assert verify_signature(last(mailbox), (tmp_path / "public.pem").read_text())
    mailbox.settings(signature="required")
    assert mailbox.client.get(f"/v1/queues/{mailbox.name}").json()["settings"]["signature"]


@pytest.fixture
def keyfile(tmp_path: Path) -> tuple[Signer, dict[str, str]]:
    private = Ed25519PrivateKey.generate()
    file = tmp_path / "private.pem"
    file.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return Signer(private), {"SIGNING_KEY": str(file)}


@pytest.mark.parametrize(
    ("run", "script"), [(node, "signed.mjs"), (python, "collect_signed.py")], ids=["node", "python"]
)
async def test_the_examples_sign(
    mailbox: Mailbox, tmp_path: Path, keyfile: tuple[Signer, dict[str, str]], run, script: str
) -> None:
    signer, more = keyfile
    add(mailbox, signer)
    mailbox.settings(signature="required")
    folder = tmp_path / "example"
    folder.mkdir()
    for body in (b"<one/>", b"\xff\xfe", b"<three/>"):
        assert mailbox.publish(body).status_code == 201
    async with run(script, folder, environment_of(mailbox) | more) as program:
        await program.until(lambda _: len(program.of("booked")) == 3)
        # What the last round booked is signed for by the request after it.
        async with asyncio.timeout(20):
            while (await asyncio.to_thread(mailbox.figures))["acked"] != 3:
                pass
        mailbox.publish(b"")
        await program.until(lambda _: len(program.of("booked")) == 4)
    ids = {words[1] for words in program.of("booked")}
    for receipt in mailbox.receipts(outcome="acked")[:3]:
        assert receipt["reply"] == "<booked/>"
        assert receipt["signature_key"] == signer.key_id
        assert receipt["notification"] in ids


async def test_the_receipt_prints_to_pdf(
    window: Window, chromium: Browser, own_server: Service, box: Mailbox, tmp_path: Path
) -> None:
    """From the notification's page, under the page's own policy, and again from a file without any server."""
    signer = Signer(Ed25519PrivateKey.generate())
    add(box, signer)
    notification = one(box)
    ack = f"/v1/leases/{notification.lease}/ack"
    signed = header(signer.sign(notification))
    assert box.client.post(ack, headers=signed).status_code == 200
    await window.see(f"/notifications/{notification.id}")
    await window.page.get_by_role("link", name="Receipt to print").click()
    await window.page.get_by_role("heading", name="How to check it").wait_for()
    assert signer.key_id in await window.page.inner_text("main")
    assert await window.page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    pdf = await window.page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF-")
    # A4, in points.
    (box_of,) = {*re.findall(rb"/MediaBox\s*\[([^]]+)\]", pdf)}
    width, height = (float(number) for number in box_of.split()[2:])
    assert (round(width), round(height)) == (595, 842)
    await window.is_well()

    kept = tmp_path / "receipt.html"
    kept.write_bytes(box.client.get(f"/v1/notifications/{notification.id}/receipt").content)
    page = await chromium.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(kept.as_uri())
    assert asked == [kept.as_uri()]
    assert await serious(page) == []
    assert (await page.pdf(prefer_css_page_size=True)).startswith(b"%PDF-")


async def test_a_client_prints_from_its_own_page(
    chromium: Browser, own_server: Service, box: Mailbox
) -> None:
    notification = one(box)
    page = await chromium.new_page()
    await page.goto(f"{own_server.url}/portal/")
    await page.get_by_label("Key").fill(box.key)
    await page.get_by_role("button").first.click()
    await page.goto(f"{own_server.url}/portal/notifications/{notification.id}")
    await page.get_by_role("link", name="Receipt to print").click()
    await page.get_by_role("heading", name="How to check it").wait_for()
    assert notification.id in await page.inner_text("main")
