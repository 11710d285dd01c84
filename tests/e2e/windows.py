"""A browser on the pages of a server in its own process: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from playwright.async_api import BrowserContext, Page, expect

if TYPE_CHECKING:
    from tests.e2e.conftest import Service

FLAGS: Final = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
MILLISECONDS: Final = 30_000
"""How long anything may take that has to come; EventSource itself pauses for two seconds."""
HOSTILE: Final = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
AXE: Final = Path(__file__).parents[1] / "clients/node/node_modules/axe-core/axe.min.js"
VIOLATIONS: Final = """() => {
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) => violations.push(
        `${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
}"""


class Window:
    """A page of the browser, and everything that went wrong on it."""

    def __init__(self, page: Page, service: Service) -> None:
        self.page = page
        self.at = service.admin_url
        self.key = service.admin_key
        self.wrong: list[str] = []
        page.set_default_timeout(MILLISECONDS)
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("dialog", lambda dialog: self.wrong.append(dialog.message))

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.wrong.append(text)

    async def see(self, path: str) -> None:
        await self.page.goto(f"{self.at}{path}")

    async def sign_in(self) -> None:
        await self.see("/")
        await self.page.get_by_label("Key").fill(self.key)
        await self.page.get_by_role("button", name="Sign in with the key").click()
        await expect(
            self.page.get_by_role("heading", name="Clients and their queues")
        ).to_be_visible()

    async def is_well(self) -> None:
        """Nothing failed, and nothing was forbidden by the page's own policy."""
        assert await self.page.evaluate("violations") == []
        assert self.wrong == []


async def window_of(context: BrowserContext, service: Service) -> Window:
    page = await context.new_page()
    await page.add_init_script(f"({VIOLATIONS})()")
    return Window(page, service)


async def serious(page: Page) -> list[str]:
    await page.add_script_tag(path=AXE)
    result = await page.evaluate("axe.run()")
    return [
        f"{one['id']}: {node['html']} {node['failureSummary']}"
        for one in result["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
