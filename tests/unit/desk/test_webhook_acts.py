"""The webhook of a queue, set and tried on its page, by operators and by its owner."""

import pytest
from tests.unit.desk.test_pages import HOSTILE, Markup
from tests.unit.engine.house import acts

from restante.engine.webhooks import Pinged
from restante.errors import WebhookNotFound

PLACE = "/queues/acme/webhook"
FIELDS = {
    "url": "https://hooks.acme.example/hook",
    "payload": "json",
    "timeout_seconds": "5",
    "concurrency": "2",
    "rate_per_second": "",
}


@pytest.fixture(autouse=True)
def courier(broker):
    """Calls nothing, and says that it went badly."""

    class Courier:
        count = 0
        done = False

        def refresh(self, queue):
            pass

        def refresh_all(self):
            pass

        def circuit(self, queue):
            return None

        async def ping(self, webhook):
            return Pinged(ok=False, status=500, reason=HOSTILE, seconds=0.25)

    broker.webhooks.courier = Courier()
    return broker.webhooks.courier


@pytest.fixture
async def operator(site):
    return await site.signed_in("operator")


async def test_it_is_set_changed_and_taken_away(site, broker, operator):
    assert "Set a webhook" in (await operator.see("/queues/acme")).text
    await operator.see(PLACE)
    answer = await operator.send_form(PLACE, **FIELDS)
    assert answer.status_code == 201
    (secret,) = {word for word in Markup(answer.text).words.split() if word.startswith("whsec_")}
    webhook = await broker.webhooks.get("acme")
    assert (webhook.url, webhook.payload, webhook.timeout_seconds) == (FIELDS["url"], "json", 5)
    assert (webhook.concurrency, webhook.rate_per_second) == (2, None)
    assert secret not in (await operator.see("/queues/acme")).text
    page = (await operator.see(PLACE)).text
    assert (secret in page, f'value="{FIELDS["url"]}"' in page) == (False, True)
    answer = await operator.send_form(PLACE, **FIELDS | {"rate_per_second": "2.5"})
    assert answer.headers["location"] == "/queues/acme?done=webhook"
    assert (await broker.webhooks.get("acme")).rate_per_second == 2.5
    await operator.see("/queues/acme")
    answer = await operator.send_form(f"{PLACE}/rotate")
    assert (answer.status_code, "whsec_" in answer.text, secret in answer.text) == (
        201,
        True,
        False,
    )
    answer = await operator.send_form(f"{PLACE}/remove")
    assert answer.headers["location"] == "/queues/acme?done=removed"
    with pytest.raises(WebhookNotFound):
        await broker.webhooks.get("acme")
    told = [act.what for act in await acts(broker, what="webhook")]
    assert told == ["webhook.added", "webhook.changed", "webhook.secret_added", "webhook.dropped"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"url": "ftp://x"}, "https"),
        ({"url": HOSTILE}, "Nothing was changed"),
        ({"url": "https://127.0.0.1/"}, "Nothing was changed"),
        ({"payload": "yaml"}, "payload must be one of"),
        ({"timeout_seconds": "soon"}, "timeout_seconds must be a number"),
        ({"timeout_seconds": "nan"}, "Nothing was changed"),
        ({"timeout_seconds": "900"}, "timeout_seconds must be between 1 and 15"),
        ({"concurrency": "1.5"}, "concurrency must be a number"),
    ],
)
async def test_what_is_wrong_is_said_and_stays_in_the_form(site, broker, operator, wrong, words):
    await operator.see(PLACE)
    answer = await operator.send_form(PLACE, **FIELDS | wrong)
    assert 400 <= answer.status_code < 500
    assert words in answer.text
    assert Markup(answer.text).handlers == set()
    with pytest.raises(WebhookNotFound):
        await broker.webhooks.get("acme")
    operator.page = answer.text
    assert (await operator.send_form(PLACE, **FIELDS)).status_code == 201


async def test_what_is_sent_along_does_not_follow_to_another_place(site, broker, operator):
    """An operator who sets another host is not sent the password that the client's own is sent."""
    kept = {"authorization": "Bearer of-the-client"}
    await broker.webhooks.put("acme", FIELDS["url"], kept, {"rate_per_second": 1_234.567})
    page = (await operator.see(PLACE)).text
    assert 'value="1234.567"' in page
    await operator.send_form(PLACE, **FIELDS | {"url": "https://hooks.acme.example/another"})
    assert (await broker.webhooks.get("acme")).header_names == ("authorization",)
    await operator.send_form(PLACE, **FIELDS | {"url": "https://elsewhere.example/hook"})
    assert (await broker.webhooks.get("acme")).header_names == ()


async def test_a_viewer_sees_it_and_changes_nothing(site, broker):
    await broker.webhooks.put("acme", FIELDS["url"], None, {})
    viewer = await site.signed_in("viewer")
    page = (await viewer.see("/queues/acme")).text
    assert (FIELDS["url"] in page, f'action="{PLACE}' in page) == (True, False)
    assert (await viewer.see(PLACE)).status_code == 403
    await viewer.see("/queues/acme")
    for path in (PLACE, f"{PLACE}/rotate", f"{PLACE}/remove", f"{PLACE}/pause"):
        assert (await viewer.send_form(path, **FIELDS)).status_code == 403
    assert (await broker.webhooks.get("acme")).version == 1


async def test_the_webhook_is_paused_and_resumed(site, broker, courier):
    browser = await site.signed_in("operator")
    await broker.webhooks.put("acme", "https://hooks.acme.example/hook", None, {})
    await browser.see("/queues/acme")
    assert "https://hooks.acme.example/hook" in browser.page
    answer = await browser.send_form("/queues/acme/webhook/pause", reason=HOSTILE)
    assert answer.headers["location"] == "/queues/acme?done=paused"
    page = (await browser.see("/queues/acme")).text
    assert "paused: &lt;script&gt;" in page
    assert (await broker.webhooks.get("acme")).enabled is False
    await browser.send_form("/queues/acme/webhook/resume")
    assert (await broker.webhooks.get("acme")).enabled is True
    answer = await browser.send_form("/queues/acme/webhook/test")
    assert "The test call failed: &lt;script&gt;" in answer.text
