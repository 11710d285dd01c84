"""Clients' signing keys on the operators' page: seen by all, added and revoked by administrators, both recorded."""

import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.desk.test_pages import HOSTILE, Markup
from tests.unit.engine.house import OPERATOR, acts

from restante.client import Signer

SIGNER = Signer(Ed25519PrivateKey.generate())
HERE = "/queues/acme/signing"


@pytest.fixture
async def admin(site):
    browser = await site.signed_in("admin")
    await browser.see(HERE)
    return browser


async def test_one_is_added(admin, broker):
    # As browsers send what stands on several lines.
    pem = SIGNER.public_pem.replace("\n", "\r\n")
    answer = await admin.send_form(HERE, pem=pem, label=HOSTILE)
    assert answer.headers["location"] == f"{HERE}?done=added"
    page = (await admin.see(answer.headers["location"])).text
    assert f'id="k-{SIGNER.key_id}"' in page
    assert HOSTILE in Markup(page).words
    assert "The key is added" in page
    assert (Markup(page).handlers, "ed25519" in page) == (set(), True)
    (key,) = await broker.signing_keys.of("acme")
    assert (key.id, key.label) == (SIGNER.key_id, HOSTILE)
    (act,) = await acts(broker, what="signing_key.added")
    assert (act.who.name, act.who.transport, act.subject) == ("admin", "dashboard", key.id)
    assert f'href="{HERE}"' in (await admin.see("/queues/acme")).text


@pytest.mark.parametrize(
    ("pem", "told"),
    [
        (HOSTILE, "give one public key or one certificate"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", ""),
        ("x" * 10_000, "length of pem"),
    ],
)
async def test_what_is_no_key_is_shown_again(admin, broker, pem, told):
    answer = await admin.send_form(HERE, pem=pem, label="mine")
    assert 400 <= answer.status_code < 500
    markup = Markup(answer.text)
    assert told in markup.words
    assert pem.splitlines()[0] in markup.words
    assert 'role="alert"' in answer.text
    assert 'value="mine"' in answer.text
    assert markup.handlers == set()
    assert await broker.signing_keys.of("acme") == []
    assert await acts(broker, what="signing_key") == []


async def test_one_is_revoked(admin, broker):
    await broker.signing_keys.add("acme", SIGNER.public_pem, "", OPERATOR)
    page = (await admin.see(HERE)).text
    (place,) = re.findall(r'action="([^"]+/revoke)"', page)
    answer = await admin.send_form(place)
    assert answer.headers["location"] == f"{HERE}?done=revoked"
    page = (await admin.see(answer.headers["location"])).text
    assert "The key is revoked" in page
    assert "/revoke" not in page
    assert SIGNER.key_id in page, "what it signed before has to be verified"
    (act,) = await acts(broker, what="signing_key.revoked")
    assert (act.who.name, act.subject) == ("admin", SIGNER.key_id)
    # Another client's, and none, are not there.
    other = Signer(Ed25519PrivateKey.generate())
    await broker.signing_keys.add("bob", other.public_pem, "", OPERATOR)
    for id in (other.key_id, "nothing"):
        assert (await admin.send_form(f"{HERE}/{id}/revoke")).status_code == 404
    assert (await broker.signing_keys.of("bob"))[0].revoked_at_ms is None


@pytest.mark.parametrize("level", ["viewer", "operator"])
async def test_others_see_them_alone(site, broker, level):
    await broker.signing_keys.add("acme", SIGNER.public_pem, "", OPERATOR)
    browser = await site.signed_in(level)
    page = (await browser.see(HERE)).text
    assert SIGNER.key_id in page
    assert "<textarea" not in page
    assert "/revoke" not in page
    other = Signer(Ed25519PrivateKey.generate())
    for path in (HERE, f"{HERE}/{SIGNER.key_id}/revoke"):
        answer = await browser.send_form(path, pem=other.public_pem)
        assert answer.status_code == 403
    (key,) = await broker.signing_keys.of("acme")
    assert (key.id, key.revoked_at_ms) == (SIGNER.key_id, None)
    assert (await browser.see("/queues/nothing/signing")).status_code == 404
