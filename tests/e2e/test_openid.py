"""Signing in to the operators' page by way of somebody else's OpenID provider, in a browser."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from tests.e2e.conftest import Service
from tests.e2e.programs import NODE_MODULES, Program, running
from tests.e2e.windows import Window, window_of

pytestmark = pytest.mark.timeout(120)
PROVIDER = NODE_MODULES.parent / "openid.mjs"
SECRET = "a secret of some length"


@pytest.fixture
async def at_a_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> AsyncIterator[Service]:
    """A server whose operators sign in at a provider: ada is in the group post, which makes an operator."""
    page = f"http://127.0.0.1:{unused_tcp_port}"
    command = ["node", str(PROVIDER), page, "ada", "post"]
    async with running(command, PROVIDER.parent, {}) as provider:
        issuer = await issuer_of(provider)
        service = Service(
            tmp_path / "data",
            *("--admin-listen", f"127.0.0.1:{unused_tcp_port}"),
            *("--openid-issuer", issuer, "--openid-client-id", "desk"),
            *("--openid-page-url", page, "--openid-operator", "post,helpers"),
        )
        service.environment = {"RESTANTE_OPENID_CLIENT_SECRET": SECRET}
        service.start()
        yield service
        service.end(signal.SIGKILL)


async def issuer_of(provider: Program) -> str:
    await provider.until(lambda _: bool(provider.of("issuer")))
    return provider.of("issuer")[0][1]


async def test_one_signs_in_there_and_works_here(at_a_provider: Service, chromium: Browser) -> None:
    window: Window = await window_of(await chromium.new_context(), at_a_provider)
    page = window.page
    await window.see("/receipts?name=acme")
    await page.get_by_role("link", name="Sign in with 127.0.0.1").click()
    # The provider's own pages, in which whoever says so is who they say.
    await page.get_by_placeholder("Enter any login").fill("u-1")
    await page.get_by_placeholder("and password").fill("whatever")
    await page.get_by_role("button", name="Sign-in").click()
    await page.get_by_role("button", name="Continue").click()
    # On the page that was asked for, with the role that the provider's group gives.
    await expect(page).to_have_url(f"{at_a_provider.admin_url}/receipts?name=acme")
    await expect(page.locator(".who")).to_have_text("openid:ada operator")
    await expect(page.get_by_role("navigation", name="Pages", exact=True)).not_to_contain_text(
        "Audit"
    )
    cookies = {one["name"]: one for one in await page.context.cookies(at_a_provider.admin_url)}
    assert cookies["__Host-restante"]["sameSite"] == "Strict"
    assert "__Host-restante-openid" not in cookies
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    window.wrong.clear()


async def test_who_says_no_there_is_told_so_here(at_a_provider: Service, chromium: Browser) -> None:
    window = await window_of(await chromium.new_context(), at_a_provider)
    page = window.page
    await window.see("/")
    await page.get_by_role("link", name="Sign in with 127.0.0.1").click()
    await page.get_by_role("link", name="[ Cancel ]").click()
    await expect(page.get_by_role("alert")).to_contain_text("access_denied")
    await page.get_by_role("link", name="Back to signing in").click()
    await expect(page.get_by_text("With an administrator's key")).to_be_visible()
