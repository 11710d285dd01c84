"""What the forms do, for whom, and that they come from the page's own forms."""

import pytest
from tests.unit.engine.house import OPERATOR

from restante.engine.acts import Wanted
from restante.engine.administration import Administration
from restante.model import Role, Settings
from restante.queries import KeysOf, QueueByName

SETTINGS = dict.fromkeys(Settings.__struct_fields__, "") | {
    "lease_seconds": "45",
    "max_attempts": "3",
    "backoff_base_seconds": "0.5",
    "backoff_factor": "2",
    "backoff_cap_seconds": "60",
    "max_in_flight": "10",
    "max_body_bytes": "1000",
    "body_retention_seconds": "86400",
    "receipt_retention_seconds": "86400",
    "after_dead": "park",
    "silence_limit_seconds": "3600",
}


async def settings_of(broker, queue="acme"):
    found = await broker.store.browse(QueueByName(queue))
    return found.settings


async def keys_of(broker):
    found = await broker.store.browse(KeysOf(Role.CLIENT, "acme"))
    return [key.id for key in found if key.active(broker.clock.wall_ms())]


async def test_settings_are_changed(site, broker):
    browser = await site.signed_in("operator")
    await browser.see("/queues/acme/settings")
    answer = await browser.send_form("/queues/acme/settings", **SETTINGS)
    assert answer.headers["location"] == "/queues/acme?done=settings"
    changed = await settings_of(broker)
    assert (changed.lease_seconds, changed.backoff_base_seconds) == (45, 0.5)
    assert (changed.after_dead, changed.depth_limit, changed.silence_limit_seconds) == (
        "park",
        None,
        3_600,
    )
    page = await browser.see("/queues/acme?done=settings")
    assert "The settings are changed." in page.text
    (act,) = (await broker.acts.page(Wanted(what="queue.changed"))).acts
    assert (act.who.name, act.queue, act.who.transport) == ("operator", "acme", "dashboard")


@pytest.mark.parametrize(
    ("wrong", "status", "words"),
    [
        ({"lease_seconds": "0"}, 422, "lease_seconds must be between"),
        ({"lease_seconds": "<b>"}, 400, "lease_seconds must be a number, not &lt;b&gt;"),
        ({"max_attempts": ""}, 400, "not nothing"),
        ({"backoff_factor": "nan"}, 422, "backoff_factor"),
        ({"after_dead": "explode"}, 400, "after_dead"),
    ],
)
async def test_wrong_settings_are_shown_again(site, broker, wrong, status, words):
    before = await settings_of(broker)
    browser = await site.signed_in("operator")
    await browser.see("/queues/acme/settings")
    answer = await browser.send_form("/queues/acme/settings", **SETTINGS | wrong)
    assert answer.status_code == status
    assert words in answer.text
    assert 'value="3600"' in answer.text
    assert await settings_of(broker) == before


async def test_a_key_is_shown_once(site, broker):
    browser = await site.signed_in("admin")
    await browser.see("/queues/acme")
    answer = await browser.send_form("/queues/acme/keys", label="<i>spring</i>")
    assert answer.status_code == 201
    (id,) = await keys_of(broker)
    assert f"rst_{id}_" in answer.text
    assert answer.headers["cache-control"] == "no-store"
    page = await browser.see("/queues/acme")
    assert "&lt;i&gt;spring&lt;/i&gt;" in page.text
    assert "rst_" not in page.text
    answer = await browser.send_form(f"/queues/acme/keys/{id}/revoke")
    assert answer.headers["location"] == "/queues/acme?done=revoked"
    assert await keys_of(broker) == []


async def test_another_owners_key_is_not_revoked(site, broker):
    key, _ = await Administration(broker, OPERATOR).add_key(Role.CLIENT, "bob", None, "")
    browser = await site.signed_in("admin")
    await browser.see("/queues/acme")
    answer = await browser.send_form(f"/queues/acme/keys/{key.id}/revoke")
    assert answer.status_code == 404
    found = await broker.directory.key(key.id)
    assert found.active(broker.clock.wall_ms())


FORBIDDEN = [
    ("viewer", "/queues/acme/settings"),
    ("viewer", "/queues/acme/keys"),
    ("viewer", "/queues/acme/webhook/test"),
    ("viewer", "/queues/acme/webhook/pause"),
    ("viewer", "/queues/acme/webhook/resume"),
    ("operator", "/queues/acme/keys"),
    ("operator", "/queues/acme/keys/abc/revoke"),
]


@pytest.mark.parametrize(("name", "path"), FORBIDDEN)
async def test_a_wrong_role_is_told_nothing(site, broker, name, path):
    before = await settings_of(broker)
    browser = await site.signed_in(name)
    await browser.see("/queues/acme")
    answer = await browser.send_form(path, **SETTINGS)
    assert answer.status_code == 403
    assert "acme" not in answer.text
    # Whether the queue is there makes no difference.
    other = await browser.send_form(path.replace("acme", "nothing"), **SETTINGS)
    assert other.text.replace("nothing", "acme") == answer.text
    assert await settings_of(broker) == before
    assert await keys_of(broker) == []


async def test_what_one_may_not_do_is_not_offered(site):
    viewer = (await (await site.signed_in("viewer")).see("/queues/acme")).text
    operator = (await (await site.signed_in("operator")).see("/queues/acme")).text
    admin = (await (await site.signed_in("admin")).see("/queues/acme")).text
    assert ["Change settings" in page for page in (viewer, operator, admin)] == [False, True, True]
    assert ["Make a key" in page for page in (viewer, operator, admin)] == [False, False, True]


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin", "origin": "https://evil.test"},
    ],
)
async def test_another_sites_form_does_nothing(site, broker, headers):
    before = await settings_of(broker)
    browser = await site.signed_in("operator")
    await browser.see("/queues/acme/settings")
    answer = await browser.send_form("/queues/acme/settings", headers, **SETTINGS)
    assert answer.status_code == 403
    assert await settings_of(broker) == before


async def test_a_form_without_the_visits_token_does_nothing(site, broker):
    before = await settings_of(broker)
    browser, other = await site.signed_in("operator"), await site.signed_in("operator")
    await other.see("/queues/acme/settings")
    browser.page = other.page
    for fields in ({}, {"form_token": ""}, {"form_token": "\u00e9"}):
        answer = await browser.send_form("/queues/acme/settings", **SETTINGS | fields)
        assert answer.status_code == 403
    assert await settings_of(broker) == before


async def test_where_a_form_comes_from_has_to_be_said(site, broker):
    browser = await site.signed_in("operator")
    await browser.see("/queues/acme/settings")
    del browser.headers["sec-fetch-site"]
    assert (await browser.send_form("/queues/acme/settings", **SETTINGS)).status_code == 403
    own = {"origin": "https://desk.test"}
    assert (await browser.send_form("/queues/acme/settings", own, **SETTINGS)).status_code == 303


async def test_a_form_is_a_form(site):
    browser = await site.signed_in("operator")
    answer = await browser.post("/queues/acme/settings", json={})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/queues/acme/keys", "/queues/acme"),
        ("/queues/acme/webhook/test", "/queues/acme"),
        ("/notifications/1%20%3F2/body", "/notifications/1%20%3F2"),
        ("/dead-letters/acme/preview", "/dead-letters/acme"),
        ("/dead-letters/acme/1/edit", "/dead-letters/acme"),
        ("/jobs/7/pause", "/jobs/7"),
    ],
)
async def test_the_address_of_an_act_leads_back_to_its_page(site, path, there):
    """Where a browser was left by what was done, and loads it by itself: nothing is done."""
    browser = await site.signed_in("admin")
    answer = await browser.see(path)
    assert (answer.status_code, answer.headers["location"]) == (303, there)
