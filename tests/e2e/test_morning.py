"""An operator's morning, in a browser: a client is silent, its mail is dead, and in the end all of it is signed for."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from playwright.async_api import expect
from tests.e2e.conftest import Mailbox
from tests.e2e.windows import MILLISECONDS, Window

pytestmark = pytest.mark.timeout(240)
expect.set_options(timeout=MILLISECONDS)
LETTERS = 500
ERROR = "HTTP 500 from the stock system"


@pytest.fixture
def endpoint():
    """The client's own endpoint, which is well again."""

    class Well(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Well) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/inbox"
        server.shutdown()
        thread.join()


async def test_the_morning(window: Window, box: Mailbox, endpoint: str) -> None:
    page = window.page
    box.settings(silence_limit_seconds=1, max_attempts=1)
    items = [{"queue": box.name, "body": f"<order n='{n}'/>"} for n in range(LETTERS)]
    made = box.publisher.post("/v1/notifications", json={"notifications": items})
    assert made.status_code == 200, made.text
    for taken in (box.receive(max=250), box.receive(max=250)):
        settle = [{"lease": one["lease"], "outcome": "reject", "reason": ERROR} for one in taken]
        answer = box.client.post(f"/v1/queues/{box.name}/settle", json={"settle": settle})
        assert answer.status_code == 200, answer.text
    hook = box.admin.put(f"/v1/queues/{box.name}/webhook", json={"url": endpoint})
    assert hook.status_code == 201, hook.text
    box.admin.post(f"/v1/queues/{box.name}/webhook/disable")

    # What needs attention stands first, in words; it is opened, and the error read.
    sentence = page.locator(".attention li", has_text=box.name)
    await expect(sentence).to_contain_text("500 dead letters")
    await expect(sentence).to_contain_text(ERROR)
    await sentence.get_by_role("link").click()
    await expect(page.locator(".verdict")).to_contain_text("its webhook is off")

    # The endpoint is tried, and called again.
    await page.get_by_role("button", name="Test call").click()
    await expect(page.get_by_role("status").filter(has_text="204")).to_be_visible()
    await page.get_by_role("button", name="Resume").click()
    await expect(page.get_by_role("status").filter(has_text="called again")).to_be_visible()

    # All that died of it is redriven, at a rate that leaves something to be seen of it.
    await page.locator("#dead").click()
    await expect(page.locator(".letter")).to_have_count(25)
    await page.get_by_role("link", name="Dead letters", exact=True).first.click()
    await page.get_by_role("link", name=ERROR).click()
    await page.get_by_label("At most a second").fill("200")
    await page.get_by_role("button", name="Preview").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Redrive 500 dead letters?")
    await page.get_by_role("button", name="Redrive them").click()
    progress = page.locator("#progress")
    await expect(progress).to_be_visible()
    await expect(page.locator("#job-now")).to_contain_text("running")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.locator("#job-now")).to_contain_text("paused")
    await page.get_by_role("button", name="Go on").click()
    await expect(page.locator("#job-now")).to_contain_text("500 of 500")
    await expect(page.locator("#job-now")).to_contain_text(re.compile(r"done\s"))

    # They are seen signed: by the figures, and by the receipt of one.
    await page.get_by_role("link", name=box.name).first.click()
    await page.get_by_role("link", name=box.name).first.click()
    signed = page.locator(".tiles div", has_text="Signed in all").locator("dd")
    await expect(signed).to_have_text("500")
    menu = page.get_by_role("navigation", name="Pages", exact=True)
    await menu.get_by_role("link", name="Receipts").click()
    await page.get_by_label("Client or queue").fill(box.name)
    await page.get_by_label("Outcome").select_option("acked")
    await page.get_by_role("button", name="Search").click()
    await expect(page.locator("tbody tr")).to_have_count(50)
    await page.locator("tbody tr a").first.click()
    steps = page.locator(".step")
    await expect(steps.last).to_contain_text("signed")
    assert await steps.evaluate_all("all => all.map(one => one.classList[1])") == [
        *("published", "leased", "rejected", "redriven", "leased", "acked")
    ]
    await menu.get_by_role("link", name="Audit").click()
    await expect(page.locator("tbody")).to_contain_text("job.asked")
    await window.is_well()
