"""Clients' own signatures over every interface, on servers that are killed, and on two nodes."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.certificates import Authority
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service
from tests.e2e.sockets import opened as socket_to
from tests.e2e.sockets import received
from tests.e2e.test_cli import restante

from restante.client import Client, Notification, Receipt, Settle, Signer, verify_signature
from restante.errors import SignatureRefused, SignatureRequired
from restante.model import Signature, Verb
from restante.testing.transports.drivers.webhook import Receiver
from restante.wire.client_signatures import HEADER, to_header, to_json

pytestmark = pytest.mark.timeout(120)


def signer_of() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


def add(box: Mailbox, signer: Signer, **more: str) -> dict[str, Any]:
    answer = box.admin.post(keys_of(box), json={"pem": signer.public_pem, **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def keys_of(box: Mailbox) -> str:
    return f"/v1/clients/{box.name}/signing-keys"


def one(box: Mailbox, body: bytes = b"<order/>") -> Notification:
    """One notification in hand."""
    assert box.publish(body).status_code == 201
    (found,) = box.receive(max=1)
    return msgspec.convert(found, Notification)


def last(box: Mailbox) -> Receipt:
    return msgspec.convert(box.receipts(limit="1000")[-1], Receipt)


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def header(signature: Signature) -> dict[str, str]:
    return {HEADER: to_header(signature)}


# -- the register -------------------------------------------------------------------------------


def test_who_may_do_what_with_signing_keys(server: Service, mailbox: Mailbox) -> None:
    signer = signer_of()
    path = keys_of(mailbox)
    body = {"pem": signer.public_pem}
    assert mailbox.client.post(path, json=body).status_code == 403
    assert mailbox.publisher.post(path, json=body).status_code == 403
    made = add(mailbox, signer, label="of the archive")
    assert (made["id"], made["algorithm"]) == (signer.key_id, "ed25519")
    assert (made["label"], made["client"]) == ("of the archive", mailbox.name)
    for caller in (mailbox.client, mailbox.admin):
        assert caller.get(path).json() == {"signing_keys": [made]}
    other = Mailbox(server)
    for caller in (other.client, mailbox.publisher):
        assert refused(caller.get(path)) == (404, "client_not_found")
        assert refused(caller.delete(f"{path}/{signer.key_id}")) == (404, "client_not_found")
    other.close()
    assert refused(mailbox.admin.post(path, json=body)) == (409, "already_exists")
    assert refused(mailbox.admin.post(path, json={"pem": "?"})) == (422, "invalid_signing_key")
    nobody = "/v1/clients/nobody/signing-keys"
    assert refused(mailbox.admin.post(nobody, json=body)) == (404, "client_not_found")
    revoked = mailbox.client.delete(f"{path}/{signer.key_id}").json()
    assert revoked["revoked_at"]
    assert mailbox.client.delete(f"{path}/{signer.key_id}").json() == revoked
    assert refused(mailbox.client.delete(f"{path}/{'0' * 64}")) == (404, "key_not_found")
    acts = mailbox.admin.get("/v1/acts", params={"subject": signer.key_id}).json()["acts"]
    assert [(act["what"], act["who"]) for act in acts] == [
        ("signing_key.revoked", mailbox.name),
        ("signing_key.added", "admin"),
    ]


def test_a_certificate_stands_for_its_key(mailbox: Mailbox, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.for_client("dns:acme.example")
    pem = issued.pem.partition("-----END CERTIFICATE-----\n")
    made = mailbox.admin.post(keys_of(mailbox), json={"pem": pem[0] + pem[1]}).json()
    assert made["not_before"] < made["not_after"]
    signer = Signer.from_pem(issued.key.read_bytes())
    notification = one(mailbox)
    signed = header(signer.sign(notification))
    ack = f"/v1/leases/{notification.lease}/ack"
    assert mailbox.client.post(ack, headers=signed).status_code == 200
    assert verify_signature(last(mailbox), made["pem"])
    day = datetime.timedelta(days=1)
    old = authority.for_client("dns:b.example", file="old", valid=(-2 * day, -day))
    pem = old.pem.partition("-----END CERTIFICATE-----\n")
    answer = mailbox.admin.post(keys_of(mailbox), json={"pem": pem[0] + pem[1]})
    assert refused(answer) == (422, "invalid_signing_key")
    assert "was valid until" in answer.json()["detail"]


# -- over every interface -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "private",
    [
        Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(65_537, 3_072),
    ],
    ids=["ed25519", "ecdsa", "rsa"],
)
def test_over_http_one_by_one(mailbox: Mailbox, private: Any) -> None:
    signer = Signer(private)
    algorithm = add(mailbox, signer)["algorithm"]
    for verb, asked, said in (
        ("ack", {"content": b"<ok/>", "headers": {"content-type": "application/xml"}}, b"<ok/>"),
        ("reject", {"json": {"reason": "poison"}, "headers": {}}, b"poison"),
        ("nack", {"json": {"reason": "busy"}, "headers": {}}, b"busy"),
    ):
        notification = one(mailbox)
        path = f"/v1/leases/{notification.lease}/{verb}"
        signed = header(signer.sign(notification, Verb(verb), said=said))
        wrong = header(signer.sign(notification, Verb(verb), said=b"another"))
        sent: dict[str, Any] = dict(asked)
        own = sent.pop("headers")
        answer = mailbox.client.post(path, headers=own | wrong, **sent)
        assert refused(answer) == (422, "signature_invalid")
        answer = mailbox.client.post(path, headers=own | signed, **sent)
        assert answer.status_code == 200, answer.text
        again = mailbox.client.post(path, headers=own | signed, **sent)
        assert again.json() == answer.json()
        receipt = last(mailbox)
        assert receipt.id == answer.json()["receipt"]
        assert (receipt.signature_algorithm, receipt.signature_key) == (algorithm, signer.key_id)
        assert verify_signature(receipt, signer.public_pem)


def test_in_batches_and_on_the_way_of_a_receive(mailbox: Mailbox) -> None:
    signer = signer_of()
    add(mailbox, signer)
    notifications = [one(mailbox, b"%d" % number) for number in range(4)]
    settle: list[dict[str, Any]] = [
        {"lease": n.lease, "outcome": "ack", "signature": to_json(signer.sign(n))}
        for n in notifications
    ]
    settle[1]["signature"]["notification"] = notifications[0].id
    settle[2].pop("signature")
    path = f"/v1/queues/{mailbox.name}"
    batch = mailbox.client.post(f"{path}/settle", json={"settle": settle[:3]}).json()["settled"]
    assert [one.get("code", one.get("outcome")) for one in batch] == [
        "acked",
        "signature_invalid",
        "acked",
    ]
    ask = {"wait": 0, "settle": settle[3:]}
    on_the_way = mailbox.client.post(f"{path}/receive", json=ask).json()["settled"]
    assert [one["outcome"] for one in on_the_way] == ["acked"]
    bears = ["signature" in receipt for receipt in mailbox.receipts(outcome="acked")]
    assert bears == [True, False, True]


def test_in_xml(mailbox: Mailbox) -> None:
    signer = signer_of()
    add(mailbox, signer)
    notification = one(mailbox)
    members = to_json(signer.sign(notification)).items()
    signature = "".join(f"<{name}>{value}</{name}>" for name, value in members)
    body = (
        '<settle xmlns="urn:restante:v1"><settle><item>'
        f"<lease>{notification.lease}</lease><outcome>ack</outcome>"
        f"<signature>{signature}</signature></item></settle></settle>"
    )
    answer = mailbox.client.post(
        f"/v1/queues/{mailbox.name}/settle",
        content=body,
        headers={"content-type": "application/xml"},
    )
    assert answer.json()["settled"][0]["outcome"] == "acked", answer.text
    assert verify_signature(last(mailbox), signer.public_pem)
    answer = mailbox.client.get(keys_of(mailbox), headers={"accept": "application/xml"})
    assert signer.key_id in answer.text


@pytest.mark.parametrize(("verb", "said"), [("ack", b""), ("nack", b"busy"), ("reject", b"bad")])
async def test_over_a_websocket(server: Service, mailbox: Mailbox, verb: str, said: bytes) -> None:
    signer = signer_of()
    add(mailbox, signer)
    path = f"/v1/queues/{mailbox.name}/socket"
    assert mailbox.publish().status_code == 201
    async with socket_to(server, path, mailbox.key, "restante.v1") as connection:
        await connection.send(json.dumps({"type": "credit", "messages": 1}))
        (found,) = (await received(connection))["notifications"]
        notification = msgspec.convert(found, Notification)
        for signed, code in (
            (signer.sign(notification, Verb(verb), said=b"else"), "signature_invalid"),
            (signer.sign(notification, Verb(verb), said=said), None),
        ):
            item = {"lease": notification.lease, "signature": to_json(signed)}
            if said:
                item["reason"] = said.decode()
            await connection.send(json.dumps({"type": verb, "items": [item]}))
            (result,) = (await received(connection))["items"]
            assert result.get("code") == code
    assert verify_signature(last(mailbox), signer.public_pem)


async def test_over_protobuf(server: Service, mailbox: Mailbox) -> None:
    """In Connect's JSON, which is the same message."""
    signer = signer_of()
    add(mailbox, signer)
    notification = one(mailbox)
    call = "/restante.v1.Delivery/Settle"
    for value, problem in ((bytes(64), "signature_invalid"), (None, None)):
        signed = to_json(signer.sign(notification))
        if value is not None:
            signed["value"] = base64.b64encode(value).decode()
        members = {"bodySha256" if k == "body_sha256" else k: v for k, v in signed.items()}
        item = {"lease": notification.lease, "ack": {}, "signature": members}
        answer = mailbox.client.post(call, json={"settle": [item]})
        (result,) = answer.json()["results"]
        assert result.get("problem", {}).get("code") == problem, answer.text
    assert verify_signature(last(mailbox), signer.public_pem)


async def test_a_webhook_signs_in_its_answer(server: Service, mailbox: Mailbox) -> None:
    """An unsigned answer is no ack where one is required: it comes again, with the reason in the ledger."""
    signer = signer_of()
    add(mailbox, signer)
    mailbox.settings(signature="required", backoff_base_seconds=0)
    receiver = Receiver()
    url = await receiver.open()
    try:
        hook = f"/v1/queues/{mailbox.name}/webhook"
        answer = await asyncio.to_thread(
            mailbox.client.put, hook, json={"url": url, "payload": "json"}
        )
        assert answer.is_success, answer.text
        mailbox.publish()
        for number in range(3):
            async with asyncio.timeout(20):
                call = await receiver.requests.get()
            notification = msgspec.convert(json.loads(call.body), Notification)
            signed = to_header(signer.sign(notification, said=b"<ok/>"))
            more = {0: {}, 1: {"restante-signature": "nonsense"}, 2: {"restante-signature": signed}}
            lines = "".join(f"{name}: {value}\r\n" for name, value in more[number].items())
            call.writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n{lines}\r\n<ok/>".encode())
            await call.writer.drain()
        async with asyncio.timeout(20), server.async_caller(mailbox.key) as caller:
            path = f"/v1/queues/{mailbox.name}/receipts"
            while not (await caller.get(path, params={"outcome": "acked"})).json()["receipts"]:
                pass
    finally:
        await receiver.close()
    reasons = [receipt["reason"] for receipt in mailbox.receipts(outcome="nacked")]
    assert reasons[0].startswith("signature_required: ")
    assert reasons[1].startswith("HTTP 200, Restante-Signature ")
    assert verify_signature(last(mailbox), signer.public_pem)


async def test_with_the_sdk(server: Service, mailbox: Mailbox) -> None:
    signer, other = signer_of(), signer_of()
    mailbox.settings(signature="required", backoff_base_seconds=0)
    async with Client(server.url, ADMIN_KEY) as admin:
        made = await admin.add_signing_key(mailbox.name, signer.public_pem, label="first")
        assert [made] == await admin.signing_keys(mailbox.name)
        await admin.add_signing_key(mailbox.name, other.public_pem)
        revoked = await admin.revoke_signing_key(mailbox.name, other.key_id)
        assert revoked.revoked_at
    mailbox.publish(b"\xff")
    mailbox.publish(b"<two/>")
    async with Client(server.url, mailbox.key, signer=signer) as client:
        left = 4
        async for lease in client.collect(mailbox.name):
            match left:
                case 4:
                    with pytest.raises(SignatureRequired):
                        await client.ack(lease.notification.lease)
                    with pytest.raises(SignatureRefused):
                        await client.ack(
                            lease.notification.lease,
                            signature=other.sign(lease.notification),
                        )
                    with pytest.raises(ZeroDivisionError):
                        async with lease:
                            raise ZeroDivisionError("oops")
                case 3:
                    async with lease:
                        pass
                case 2:
                    await lease.ack(b"\xff", reply_content_type="image/png")
                    break
            left -= 1
        mailbox.publish()
        mailbox.publish()
        first, second = (await client.receive(mailbox.name)).notifications
        settles = [
            Settle(lease=first.lease, signature=signer.sign(first)),
            Settle(
                lease=second.lease,
                verb=Verb.REJECT,
                reason="bad",
                signature=signer.sign(second, Verb.REJECT, said=b"bad"),
            ),
        ]
        assert all(result.ok for result in await client.settle(mailbox.name, settles))
        page = await client.receipts(mailbox.name)
    signed = [receipt for receipt in page.receipts if receipt.signature]
    assert [receipt.outcome for receipt in signed] == [
        "nacked",
        "acked",
        "acked",
        "acked",
        "rejected",
    ]
    assert signed[0].reason == "ZeroDivisionError: oops"
    assert all(verify_signature(receipt, signer.public_pem) for receipt in signed)
    assert not any(verify_signature(receipt, other.public_pem) for receipt in signed)


def test_on_the_command_line(mailbox: Mailbox, tmp_path: Path) -> None:
    signer, other = signer_of(), signer_of()
    for name, key in (("key.pem", signer), ("other.pem", other)):
        (tmp_path / name).write_text(key.public_pem)
    (tmp_path / "nothing.pem").write_bytes(b"\xff")

    def run(*words: str) -> tuple[int, str]:
        done = restante(
            *words, cwd=tmp_path, RESTANTE_URL=mailbox.service.url, RESTANTE_KEY=ADMIN_KEY
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    name = mailbox.name
    assert run("signing-keys", "list", name) == (0, f"Client {name} has no signing key.\n")
    code, told = run("signing-keys", "add", name, "key.pem", "--label", "first")
    assert (code, told) == (0, f"{name} signs with ed25519, key {signer.key_id}.\n")
    assert run("signing-keys", "add", name, "nothing.pem")[0] == 1
    listed = json.loads(run("signing-keys", "list", name, "--json")[1])
    assert [key["label"] for key in listed] == ["first"]
    notification = one(mailbox)
    ack = f"/v1/leases/{notification.lease}/ack"
    mailbox.client.post(ack, headers=header(signer.sign(notification)))
    receipt = last(mailbox).id
    assert "ed25519" in run("receipts", "show", receipt)[1]
    verify = ("receipts", "verify-signature", receipt)
    code, told = run(*verify, "key.pem")
    assert code == 0
    assert told.startswith(f"{name} signed acked with that key at ")
    assert run(*verify, "other.pem")[0] == 1
    assert run("receipts", "verify-signature", f"{name}~1", "key.pem")[0] == 1
    assert run("signing-keys", "revoke", name, signer.key_id)[0] == 0
    assert json.loads(run("signing-keys", "list", name, "--json")[1]) == []
    assert run("signing-keys", "list", name)[1].splitlines() == [
        f"Client {name} has no active signing key.",
        "Without those that were revoked (1): see --all.",
    ]
    everything = json.loads(run("signing-keys", "list", name, "--all", "--json")[1])
    assert [key["id"] for key in everything] == [signer.key_id]


# -- what has to hold ---------------------------------------------------------------------------


def test_everything_outlives_a_killed_server(own_server: Service, box: Mailbox) -> None:
    signer = signer_of()
    add(box, signer)
    first, second = one(box), one(box)
    ack = f"/v1/leases/{first.lease}/ack"
    signed = header(signer.sign(first))
    answered = box.client.post(ack, headers=signed)
    assert answered.status_code == 200
    own_server.end(signal.SIGKILL)
    own_server.start()
    assert box.client.post(ack, headers=signed).json() == answered.json()
    assert verify_signature(last(box), signer.public_pem)
    path = f"/v1/leases/{second.lease}/ack"
    assert box.client.post(path, headers=header(signer.sign(second))).status_code == 200
    assert box.client.delete(f"{keys_of(box)}/{signer.key_id}").is_success
    own_server.end(signal.SIGKILL)
    own_server.start()
    third = one(box)
    path = f"/v1/leases/{third.lease}/ack"
    answer = box.client.post(path, headers=header(signer.sign(third)))
    assert refused(answer) == (422, "signing_key_ended")
    (kept,) = box.client.get(keys_of(box)).json()["signing_keys"]
    receipts = [msgspec.convert(one, Receipt) for one in box.receipts(outcome="acked")]
    assert [verify_signature(receipt, kept["pem"]) for receipt in receipts] == [True, True]


async def test_on_two_nodes(nodes: tuple[Service, Service]) -> None:
    """What is revoked on one node verifies nothing on the other from that moment on; together they keep the bounds."""
    here, there = nodes
    box = Mailbox(here)
    signers = [signer_of() for _ in range(12)]
    async with here.async_caller(ADMIN_KEY) as one_admin, there.async_caller(ADMIN_KEY) as other:
        callers = (one_admin, other)

        def adding(number: int) -> Any:
            body = {"pem": signers[number].public_pem}
            return callers[number % 2].post(keys_of(box), json=body)

        answers = await asyncio.gather(*(adding(number) for number in range(12)))
        while again := [
            n for n, a in enumerate(answers) if a.json().get("code") == "changed_meanwhile"
        ]:
            for number in again:
                answers[number] = await adding(number)
    codes = [answer.json().get("code", "added") for answer in answers]
    assert sorted(codes) == ["added"] * 8 + ["too_many_signing_keys"] * 4
    signer = signers[codes.index("added")]
    settle = _settling(box, there)
    assert settle(signer) == (200, "acked")
    assert box.admin.delete(f"{keys_of(box)}/{signer.key_id}").is_success
    assert settle(signer) == (422, "signing_key_ended")
    box.close()


def _settling(box: Mailbox, node: Service) -> Callable[[Signer], tuple[int, str]]:
    def settle(signer: Signer) -> tuple[int, str]:
        notification = one(box)
        with node.caller(box.key) as caller:
            path = f"/v1/leases/{notification.lease}/ack"
            answer = caller.post(path, headers=header(signer.sign(notification)))
        return answer.status_code, answer.json().get("outcome") or answer.json()["code"]

    return settle
