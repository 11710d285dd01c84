"""The printed receipt: a document by itself that tells all there is to check, and nothing that is somebody else's."""

import base64
import datetime
import hashlib
import html
import re
import subprocess

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.desk.house import ADMIN_KEY
from tests.unit.desk.test_pages import HOSTILE, Markup
from tests.unit.engine.house import ACME, BOB, OPERATOR, SHOP, letter

from restante.app import build_api
from restante.client import Signer
from restante.desk import printed
from restante.engine.administration import Administration
from restante.engine.settling import Settle
from restante.http.delivering import to_notification
from restante.model import Role, Verb

SIGNERS = [
    Signer(Ed25519PrivateKey.generate()),
    Signer(ec.generate_private_key(ec.SECP256R1())),
    Signer(rsa.generate_private_key(65_537, 2_048)),
]
COMMANDS = {
    "ed25519": "openssl pkeyutl -verify -rawin -in text -pubin -inkey key.pem -sigfile signature",
    "ecdsa-p256-sha256": "openssl dgst -sha256 -verify key.pem -signature signature text",
    "rsa-pss-sha256": (
        "openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32"
        " -verify key.pem -signature signature text"
    ),
}


async def publish(broker, *queues):
    subscribed = Administration(broker, OPERATOR)
    for queue in queues:
        await subscribed.subscribe("t", queue, {})
    return (
        await broker.publish_to_topic(
            letter(queue="", topic="t", attributes={"note": HOSTILE}), SHOP
        )
    ).id


async def settle(broker, clock, actor, verb=Verb.ACK, signer=None, **fields):
    session = await broker.session(actor.name, actor)
    (one,) = await session.receive()
    said = fields.get("reply", b"") if verb is Verb.ACK else fields["reason"].encode()
    at = datetime.datetime.fromtimestamp(clock.wall_ms() / 1_000, datetime.UTC)
    signed = signer and signer.sign(to_notification(session, one), verb, said=said, at=at)
    items = [Settle(lease=session.token(one), verb=verb, signature=signed, **fields)]
    await (await session.settle(items)).results()


def succeeds(command, folder):
    done = subprocess.run(command.split(), cwd=folder, capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
async def signed(broker, clock):
    """In two queues: one nacked it, with hostile words, and both signed for it, one with a key of its own."""
    await broker.signing_keys.add("acme", SIGNERS[0].public_pem, HOSTILE, OPERATOR)
    id = await publish(broker, "acme", "bob")
    await settle(broker, clock, ACME, Verb.NACK, reason=HOSTILE, retry_after_seconds=0)
    await settle(broker, clock, ACME, signer=SIGNERS[0], reply=b"<ok/>")
    await settle(broker, clock, BOB, reply=b"\xff")
    return id


async def test_it_tells_everything_and_loads_nothing(site, broker, signed):
    browser = await site.signed_in("viewer")
    assert (
        f'href="/notifications/{signed}/receipt"'
        in (await browser.see(f"/notifications/{signed}")).text
    )
    answer = await browser.see(f"/notifications/{signed}/receipt")
    words = Markup(answer.text).words
    for told in (
        *(signed, hashlib.sha256(b"<hello/>").hexdigest(), "8 bytes", "by shop", HOSTILE),
        *("acme~1", "acme~2", "acme~3", "bob~1", "bob~2", "<ok/>", "/w=="),
        *(SIGNERS[0].key_id, "ed25519", "restante receipt signature v1", "BEGIN PUBLIC KEY"),
        COMMANDS["ed25519"],
    ):
        assert told in words, told
    assert Markup(answer.text).handlers == set()
    assert not re.findall(r"<(?:script|img|link|iframe|form|a)\b|url\(|@import", answer.text)
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("signer", SIGNERS, ids=COMMANDS)
async def test_what_it_says_to_do_proves_the_signature(site, broker, clock, tmp_path, signer):
    key = await broker.signing_keys.add("acme", signer.public_pem, "", OPERATOR)
    id = await publish(broker, "acme")
    await settle(broker, clock, ACME, signer=signer, reply="größe".encode())
    browser = await site.signed_in("viewer")
    page = (await browser.see(f"/notifications/{id}/receipt")).text
    text, pem = (html.unescape(one) for one in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL))
    value = re.findall(r"Value, in base64</dt><dd class=\"id\">(\S+)</dd>", page)[0]
    command = html.unescape(re.findall(rf"<dt>{key.algorithm}</dt><dd><code>(.*?)</code>", page)[0])
    assert command == COMMANDS[key.algorithm]
    (tmp_path / "key.pem").write_text(pem)
    (tmp_path / "signature").write_bytes(base64.b64decode(html.unescape(value)))
    for whole, proves in ((text, True), (text.replace("acked", "rejected"), False)):
        (tmp_path / "text").write_text(whole)
        assert succeeds(command, tmp_path) is proves


async def test_a_client_prints_its_own_alone(broker, signed):
    """Over the interface, by a client, a publisher, an administrator and strangers."""
    administration = Administration(broker, OPERATOR)
    keys = {}
    for role, name in ((Role.CLIENT, "bob"), (Role.PUBLISHER, "shop"), (Role.PUBLISHER, "other")):
        _, keys[name] = await administration.add_key(role, name, None, "")
    api = build_api(broker, ADMIN_KEY)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(api, client=("192.0.2.1", 1)), base_url="http://x"
    ) as http:

        async def printed_by(key):
            return await http.get(
                f"/v1/notifications/{signed}/receipt", headers={"authorization": f"Bearer {key}"}
            )

        own = await printed_by(keys["bob"])
        assert own.status_code == 200
        assert "bob~2" in own.text
        assert "acme" not in own.text
        for key in (ADMIN_KEY, keys["shop"]):
            assert "acme~3" in (await printed_by(key)).text
        assert (await printed_by(keys["other"])).status_code == 404


async def test_it_is_bounded(site, signed, monkeypatch):
    monkeypatch.setattr(printed, "RECEIPTS", 3)
    browser = await site.signed_in("viewer")
    words = Markup((await browser.see(f"/notifications/{signed}/receipt")).text).words
    assert "acme~3" in words
    assert "bob~1" not in words
    assert "It went to 1 queue more" in words
    assert "There are more receipts than are printed here" in words
