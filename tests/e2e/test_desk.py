"""The operators' page in a browser: Debian's Chromium, driven by Playwright, on a server in its own process."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any, Final

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from playwright.async_api import Browser, expect
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service
from tests.e2e.windows import AXE, HOSTILE, MILLISECONDS, Window, serious, window_of

from restante.client import Signer

pytestmark = pytest.mark.timeout(180)
# A queue that is new is seen within ten seconds.
expect.set_options(timeout=MILLISECONDS)

PASSWORD: Final = "correct horse battery staple"
CUT_OFF: Final = """() => [...document.querySelectorAll(".scroll")]
    .filter((table) => table.scrollWidth > table.clientWidth).map((table) => table.textContent)"""
"""The tables that one has to scroll sideways."""


async def test_the_overview_is_live(window: Window, box: Mailbox) -> None:
    page = window.page
    await expect(page.locator("#live")).to_have_text("live")
    await expect(page.locator(f"#q-{box.name}")).to_be_visible()
    box.settings(depth_limit=1)
    box.publish()
    box.publish()
    waiting = page.locator(".tiles div", has_text="Waiting").locator("dd")
    await expect(waiting).to_have_text("2")
    await expect(page.locator(".attention")).to_contain_text("2 waiting (limit 1)")
    await expect(page.locator("#table tbody tr").first).to_contain_text("bad")
    for notification in box.receive():
        box.settle(notification["lease"], "ack")
    await expect(waiting).to_have_text("0")
    await expect(page.get_by_text("Nothing needs attention")).to_be_visible()
    # The focus stays where it is, whatever is fetched anew around it.
    await page.locator(f"#q-{box.name}").focus()
    box.publish()
    await expect(waiting).to_have_text("1")
    assert await page.evaluate("document.activeElement.id") == f"q-{box.name}"
    await window.is_well()


async def test_the_table_is_searched_as_one_types(window: Window, box: Mailbox) -> None:
    page = window.page
    for number in range(60):
        made = box.admin.post("/v1/clients", json={"name": f"vendor-{number:02}"})
        assert made.status_code == 201
    rows = page.locator("#table tbody tr")
    await expect(rows).to_have_count(50)
    await page.get_by_role("link", name="Next").click()
    await expect(rows).to_have_count(11)
    await page.get_by_label("Search by name or owner").press_sequentially("vendor-4")
    await expect(rows).to_have_count(10)
    await expect(page).to_have_url(re.compile(r"q=vendor-4"))
    await page.get_by_role("link", name="Queue", exact=True).click()
    await expect(rows.first).to_contain_text("vendor-40")
    await page.get_by_role("link", name="Queue", exact=True).click()
    await expect(rows.first).to_contain_text("vendor-49")
    await expect(page.locator("th[aria-sort=descending]")).to_have_text("Queue")
    # What is live keeps the search and the order.
    box.publish()
    await expect(page.locator(".tiles div", has_text="Waiting").locator("dd")).to_have_text("1")
    await expect(rows).to_have_count(10)
    await window.is_well()


async def test_a_queues_page(window: Window, box: Mailbox) -> None:
    page = window.page
    box.settings(max_attempts=1, backoff_base_seconds=0)
    for _ in range(3):
        box.publish()
    first, *_ = box.receive(max=2)
    box.settle(first["lease"], "reject", reason=HOSTILE)
    await page.locator(f"#q-{box.name}").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(box.name)
    await expect(page.locator(".verdict")).to_contain_text(HOSTILE)
    await expect(page.locator("#deliveries tbody tr")).to_have_count(1)
    await page.get_by_role("link", name=re.compile("^leased")).click()
    await expect(page.locator("#deliveries tbody tr")).to_contain_text(f"{box.name} over http")
    await expect(page.locator("#consumers-title ~ .scroll")).to_contain_text("python-httpx")
    await expect(page.locator(".charts canvas")).to_have_count(3)
    await page.get_by_role("link", name="7d", exact=True).click()
    await expect(page.locator(".charts canvas")).to_have_count(3)
    await window.is_well()


async def test_settings_and_keys_are_changed(window: Window, box: Mailbox) -> None:
    page = window.page
    await window.see(f"/queues/{box.name}")
    await page.get_by_role("link", name="Change settings").click()
    await page.get_by_label("Lease seconds").fill("0")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("alert")).to_contain_text("lease_seconds must be between")
    # The answer's 422 is told by Chromium as an error of the page's: it is none.
    window.wrong.clear()
    await page.get_by_label("Lease seconds").fill("77")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("status").filter(has_text="settings")).to_be_visible()
    assert box.client.get(f"/v1/queues/{box.name}").json()["settings"]["lease_seconds"] == 77

    await page.get_by_label("Label", exact=True).fill(HOSTILE)
    await page.get_by_role("button", name="Make a key").click()
    key = await page.locator("#key").text_content()
    assert key is not None
    with box.service.caller(key) as caller:
        assert caller.get(f"/v1/queues/{box.name}").status_code == 200
    await page.get_by_role("link", name="Done").click()
    await expect(page.get_by_text(HOSTILE)).to_be_visible()
    await window.is_well()


async def test_signing_keys_are_added_and_revoked(window: Window, box: Mailbox) -> None:
    """As an administrator pastes what a client has sent; the client's interface takes what is signed with it."""
    page = window.page
    signer = Signer(Ed25519PrivateKey.generate())
    await window.see(f"/queues/{box.name}")
    await page.get_by_role("link", name="Signing keys").click()
    await page.get_by_label("Public key or certificate").fill(signer.public_pem)
    await page.get_by_label("Label").fill(HOSTILE)
    await page.get_by_role("button", name="Add the key").click()
    await expect(page.get_by_role("status").filter(has_text="key is added")).to_be_visible()
    await expect(page.get_by_text(HOSTILE)).to_be_visible()
    place = f"/v1/clients/{box.name}/signing-keys"
    (kept,) = box.client.get(place).json()["signing_keys"]
    assert (kept["id"], kept["pem"]) == (signer.key_id, signer.public_pem)
    page.once("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
    await page.get_by_role("button", name="Revoke").click()
    await expect(page.get_by_role("status").filter(has_text="key is revoked")).to_be_visible()
    (kept,) = box.client.get(place).json()["signing_keys"]
    assert kept["revoked_at"] is not None
    window.wrong = [one for one in window.wrong if "Revoke this signing key?" not in one]
    await window.is_well()


async def test_accounts_and_their_roles(
    own_server: Service, chromium: Browser, box: Mailbox
) -> None:
    """Made with the command line, as on the first day."""
    command = [sys.executable, "-m", "restante", "operator", "add", "ada", "--role", "viewer"]
    command += ["--url", own_server.url, "--key", ADMIN_KEY]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate(f"{PASSWORD}\n".encode())
    assert told == b"Operator ada may sign in, as viewer.\n"
    window = await window_of(await chromium.new_context(), own_server)
    page = window.page
    await window.see(f"/queues/{box.name}")
    await page.get_by_label("Name").fill("ada")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await expect(page).to_have_url(f"{own_server.admin_url}/queues/{box.name}")
    await expect(page.get_by_role("link", name="Change settings")).to_have_count(0)
    answer = await page.goto(f"{own_server.admin_url}/queues/{box.name}/settings")
    assert answer is not None
    assert answer.status == 403
    window.wrong.clear()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await window.is_well()


async def test_signed_out_elsewhere_the_page_says_so(window: Window, box: Mailbox) -> None:
    """By the stream: nobody goes on looking at figures that stand still."""
    other = await window.page.context.new_page()
    await other.goto(window.at)
    await expect(window.page.locator("#live")).to_have_text("live")
    await other.get_by_role("button", name="Sign out").click()
    await expect(window.page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_it_can_be_read_without_scripts(
    own_server: Service, chromium: Browser, box: Mailbox
) -> None:
    box.publish()
    window = await window_of(await chromium.new_context(java_script_enabled=False), own_server)
    await window.sign_in()
    page = window.page
    while not await page.locator(f"#q-{box.name}").count():
        await page.reload()
    await page.get_by_role("link", name="Waiting").click()
    await expect(page.locator("th[aria-sort=descending]")).to_have_text("Waiting")
    await page.locator(f"#q-{box.name}").click()
    await page.get_by_text("The numbers as a table").click()
    await expect(page.locator("details table tbody tr")).to_have_count(60)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(
    own_server: Service, chromium: Browser, box: Mailbox, scheme: Any
) -> None:
    assert AXE.exists(), "needs axe-core: run `make test`, or scripts/node-clients.sh"
    box.settings(depth_limit=1, max_attempts=1)
    for _ in range(3):
        box.publish()
    box.settle(box.receive(max=1)[0]["lease"], "reject", reason="no such order")
    # What axe is put in with would be forbidden by the page's policy.
    context = await chromium.new_context(color_scheme=scheme, bypass_csp=True)
    window = await window_of(context, own_server)
    await window.see("/sign-in")
    found = {"/sign-in": await serious(window.page)}
    await window.sign_in()
    place = f"/queues/{box.name}"
    (letter,) = box.admin.get(f"/v1/queues/{box.name}/dead").json()["dead"]
    asked = {"task": "redrive", "queues": [box.name], "all": True, "rate_per_second": 1}
    job = box.admin.post("/v1/jobs", json=asked).json()
    add_signing_key(box)
    paths: tuple[str, ...] = (
        "/",
        place,
        f"{place}?state=leased&span=7d",
        f"{place}/settings",
        f"{place}/webhook",
        "/queues/none",
    )
    paths += ("/dead-letters", f"/dead-letters/{box.name}", "/jobs", f"/jobs/{job['id']}")
    paths += (
        f"/notifications/{letter['id']}",
        f"/receipts?name={box.name}",
        "/audit",
        "/alerts",
        "/log",
        f"/groups/{group_of(box)}",
        f"{place}/signing",
        "/operations",
        f"/operations/{operation_of(box)}",
    )
    for path in paths:
        await window.see(path)
        if await window.page.locator(".charts").count():
            await expect(window.page.locator(".charts canvas")).to_have_count(3)
        found[path] = await serious(window.page)
    # Pages that a form leads to.
    box.settle(box.receive(max=1)[0]["lease"], "reject", reason="no such order")
    letters = f"/dead-letters/{box.name}"
    for begin, button in (
        (f"/operations/{operation_of(box)}", "Show the result"),
        (letters, "Preview"),
        (letters, "Replace the body of number"),
        (place, "Make a link for the client"),
        (place, "Make a key"),
    ):
        await window.see(begin)
        await window.page.get_by_role("button", name=button).first.click()
        await expect(window.page).not_to_have_url(f"{window.at}{begin}")
        found[button] = await serious(window.page)
    assert found == {path: [] for path in found}


def add_signing_key(box: Mailbox) -> str:
    """A key of the client's to sign with; its id."""
    asked = {"pem": Signer(Ed25519PrivateKey.generate()).public_pem, "label": "the office's"}
    made = box.admin.post(f"/v1/clients/{box.name}/signing-keys", json=asked)
    assert made.status_code == 201, made.text
    id: str = made.json()["id"]
    return id


def group_of(box: Mailbox) -> str:
    """A group of two members that waits to be signed for; its id."""
    part = {"queue": box.name, "body": "<do/>", "content_type": "application/xml"}
    undo = {"body": "<undo/>", "content_type": "application/xml"}
    asked = {"timeout_seconds": 600, "members": [part | {"compensation": undo}, part]}
    made = box.admin.post("/v1/groups", json=asked)
    assert made.status_code == 202, made.text
    id: str = made.json()["id"]
    return id


def operation_of(box: Mailbox) -> str:
    """An operation that has succeeded, with a result; its id."""
    made = box.admin.post("/v1/operations", json={"title": "a report", "queue": box.name})
    assert made.status_code == 201, made.text
    id: str = made.json()["id"]
    move = {"state": "succeeded", "result": "<report/>", "result_content_type": "text/xml"}
    assert box.admin.patch(f"/v1/operations/{id}", json=move).status_code == 200
    box.admin.post("/v1/operations", json={"title": "another", "client": box.name})
    return id


async def test_the_theme_is_kept(own_server: Service, chromium: Browser) -> None:
    context = await chromium.new_context(color_scheme="light")
    window = await window_of(context, own_server)
    await window.sign_in()
    page = window.page
    ground = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(ground)
    await page.get_by_role("button", name="Switch to dark colours").click()
    dark = await page.evaluate(ground)
    assert dark != light
    await page.reload()
    assert await page.evaluate(ground) == dark
    await window.is_well()


async def test_a_phone_has_nothing_beside_the_screen(
    own_server: Service, chromium: Browser, box: Mailbox
) -> None:
    context = await chromium.new_context(viewport={"width": 360, "height": 740})
    window = await window_of(context, own_server)
    box.publish()
    await window.sign_in()
    box.settings(max_attempts=1)
    rejected = box.receive(max=1)[0]
    box.settle(rejected["lease"], "reject", reason="a reason without end " * 20)
    paths: tuple[str, ...] = (
        "/",
        f"/queues/{box.name}",
        f"/queues/{box.name}/settings",
        "/dead-letters",
        "/jobs",
    )
    paths += (f"/dead-letters/{box.name}", f"/notifications/{rejected['id']}", "/audit")
    paths += (f"/groups/{group_of(box)}", "/operations", f"/operations/{operation_of(box)}")
    add_signing_key(box)
    paths += (f"/queues/{box.name}/signing",)
    for path in (*paths, f"/receipts?name={box.name}", "/log"):
        await window.see(path)
        assert await window.page.evaluate("document.documentElement.scrollWidth") == 360, path


async def test_a_desk_has_nothing_cut_off(
    own_server: Service, chromium: Browser, box: Mailbox
) -> None:
    context = await chromium.new_context(viewport={"width": 1280, "height": 800})
    window = await window_of(context, own_server)
    id = box.publish().json()["id"]
    operation_of(box)
    receipt = box.receipts()[0]["id"]
    proof = box.client.get(f"/v1/receipts/{receipt}/proof", params={"wait": 30})
    assert proof.status_code == 200, proof.text
    await window.sign_in()
    for path in ("/operations", "/log", f"/notifications/{id}"):
        await window.see(path)
        assert await window.page.evaluate(CUT_OFF) == [], path
    for path, label in (("/log", "Root"), (f"/notifications/{id}", "SHA-256")):
        await window.see(path)
        hash = window.page.locator(".facts > div", has_text=label).locator("dd")
        assert len(await hash.inner_text()) == 64
        lines = "(one) => one.clientHeight / parseFloat(getComputedStyle(one).lineHeight)"
        assert await hash.evaluate(lines) < 1.5, path


def test_the_listener_tells_the_page(own_server: Service) -> None:
    assert f"The operators' page is at {own_server.admin_url}/" in own_server.log()
    answer = httpx.get(own_server.admin_url)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2F")
    # On the listener for clients it is not.
    assert httpx.get(own_server.url).status_code == 404
