"""A browser's own EventSource and WebSocket, on a page of the same server: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Error, Page, async_playwright
from tests.e2e.conftest import Mailbox, Service
from tests.e2e.windows import FLAGS, MILLISECONDS

pytestmark = pytest.mark.timeout(120)

LISTEN = """path => {
    window.got = [];
    window.opened = 0;
    window.source = new EventSource(path);
    source.onopen = () => window.opened++;
    source.addEventListener("notification", event => {
        const {id, lease, attempt, body} = JSON.parse(event.data);
        got.push({id, lease, attempt, body, event: event.lastEventId});
    });
}"""
CALL = """async ([path, key, method]) => {
    const headers = key ? {Authorization: `Bearer ${key}`} : {};
    const answer = await fetch(path, {method: method ?? "POST", headers});
    return answer.status;
}"""
SOCKET = """([path, key]) => new Promise((done, failed) => {
    const address = location.origin.replace("http", "ws") + path;
    const socket = new WebSocket(address, ["restante.v1", `restante.key.${key}`]);
    const frames = [];
    socket.onopen = () => socket.send(JSON.stringify({type: "credit", messages: 1}));
    socket.onmessage = ({data}) => {
        const frame = JSON.parse(data);
        frames.push(frame);
        if (frame.type === "notifications") {
            const lease = frame.notifications[0].lease;
            socket.send(JSON.stringify({type: "ack", ref: "a", items: [{lease, reply: "<seen/>"}]}));
        } else {
            done({protocol: socket.protocol, frames});
            socket.close();
        }
    };
    socket.onerror = () => failed("refused");
})"""


@pytest.fixture
async def page(own_server: Service) -> AsyncIterator[Page]:
    """The page of the server that describes its interface: any page of the same origin would do."""
    program = shutil.which("chromium")
    assert program is not None, "needs Chromium: run `make test`, or install the package chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        page = await browser.new_page()
        page.set_default_timeout(MILLISECONDS)
        await page.goto(f"{own_server.url}/docs")
        yield page
        await browser.close()


@pytest.fixture
def mailbox(own_server: Service) -> Any:
    box = Mailbox(own_server)
    box.settings(lease_seconds=300)
    yield box
    box.close()


async def got(page: Page, count: int) -> list[dict[str, Any]]:
    await page.wait_for_function("count => got.length >= count", arg=count)
    found: list[dict[str, Any]] = await page.evaluate("got")
    assert len(found) == count
    return found


async def test_event_source(own_server: Service, mailbox: Mailbox, page: Page) -> None:
    path = f"/v1/queues/{mailbox.name}/events?credit=2"
    for number in range(3):
        mailbox.publish(f"<n{number}/>".encode())
    # Without a cookie it is refused, and with one no script can read it.
    assert await page.evaluate(CALL, [path, None, "GET"]) == 401
    assert await page.evaluate(CALL, ["/v1/cookie", mailbox.key]) == 204
    assert await page.evaluate("document.cookie") == ""
    (cookie,) = await page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"]) == ("restante_events", True)
    assert cookie["sameSite"] == "Strict"
    await page.evaluate(LISTEN, path)
    first, second = await got(page, 2)
    assert [first["body"], second["body"]] == ["<n0/>", "<n1/>"]
    # The cookie opens nothing else: to sign takes the key.
    ack = f"/v1/leases/{second['lease']}/ack"
    assert await page.evaluate(CALL, [ack, None]) == 401
    assert await page.evaluate(CALL, [f"/v1/queues/{mailbox.name}/receive", None]) == 401
    assert await page.evaluate(CALL, ["/v1/queues", None, "GET"]) == 401
    assert await page.evaluate(CALL, [ack, mailbox.key]) == 200
    third = (await got(page, 3))[2]
    assert third["body"] == "<n2/>"

    # It comes back by itself, and says where it was.
    own_server.end(signal.SIGKILL)
    own_server.start()
    again = (await got(page, 5))[3:]
    assert await page.evaluate("opened") == 2
    same = [(one["lease"], one["attempt"], one["body"]) for one in (first, third)]
    assert [(one["lease"], one["attempt"], one["body"]) for one in again] == same
    assert again[0]["event"].partition(".")[0] == first["event"].partition(".")[0]
    for one in again:
        ack = f"/v1/leases/{one['lease']}/ack"
        assert await page.evaluate(CALL, [ack, mailbox.key]) == 200
    assert [r["attempt"] for r in mailbox.receipts(outcome="acked")] == [1, 1, 1]
    assert mailbox.receipts(outcome="lease_expired") == []

    # It dies with its key.
    mailbox.admin.delete(f"/v1/keys/{mailbox.key.split('_')[1]}").raise_for_status()
    await page.wait_for_function("() => source.readyState === EventSource.CLOSED")
    assert await page.evaluate(CALL, [path, None, "GET"]) == 401


async def test_event_source_comes_back_after_a_stop(
    own_server: Service, mailbox: Mailbox, page: Page
) -> None:
    """Told by the drain event when to."""
    mailbox.publish(b"<held/>")
    assert await page.evaluate(CALL, ["/v1/cookie", mailbox.key]) == 204
    await page.evaluate(LISTEN, f"/v1/queues/{mailbox.name}/events")
    (held,) = await got(page, 1)
    await page.evaluate("() => source.addEventListener('drain', () => window.drained = true)")
    assert own_server.end(signal.SIGTERM) == 0
    await page.wait_for_function("() => window.drained")
    own_server.start()
    again = (await got(page, 2))[1]
    assert (again["lease"], again["attempt"]) == (held["lease"], 1)


async def test_web_socket(own_server: Service, mailbox: Mailbox, page: Page) -> None:
    mailbox.publish(b"<a/>")
    path = f"/v1/queues/{mailbox.name}/socket"
    seen = await page.evaluate(SOCKET, [path, mailbox.key])
    assert seen["protocol"] == "restante.v1"
    kinds = [frame["type"] for frame in seen["frames"]]
    assert kinds == ["notifications", "settled"]
    assert seen["frames"][1]["items"][0]["state"] == "acked"
    (receipt,) = mailbox.receipts(outcome="acked")
    assert (receipt["reply"], receipt["transport"]) == ("<seen/>", "websocket")
    with pytest.raises(Error, match="refused"):
        await page.evaluate(SOCKET, [path, "nonsense"])


async def test_the_page_shows_the_interface(own_server: Service, page: Page) -> None:
    """Nothing of it is forbidden by its own policy."""
    await page.wait_for_selector("text=Collect by server-sent events")
    errors: list[str] = []
    page.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else None
    )
    await page.reload()
    await page.wait_for_selector("text=Collect by server-sent events")
    assert errors == []
