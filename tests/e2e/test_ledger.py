"""The log of receipts over HTTP, with the SDK and the command line, on servers that are killed, and on two nodes.

What the service says is checked by a verifier that was written from RFC 9162 alone and shares nothing with it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service

from restante.client import Client, NotProved, VerifierKey, verify_heads
from restante.errors import LogEmpty, OutOfBounds, ReceiptNotFound

pytestmark = pytest.mark.timeout(120)
NODE_VERIFIER = Path(__file__).parents[2] / "examples/node/verify-receipt.mjs"
GUIDE = Path(__file__).parents[2] / "docs/ledger.md"
SECONDS = 20.0
KILLS = 4
MOST_ROUNDS = 20


# -- a verifier from RFC 9162, sections 2.1.1, 2.1.3.2 and 2.1.4.2, and from C2SP's signed-note ------------


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def is_included(entry: bytes, index: int, path: list[bytes], size: int, root: bytes) -> bool:
    fn, sn, r = index, size - 1, sha(b"\0" + entry)
    for p in path:
        if sn == 0:
            return False
        if fn % 2 or fn == sn:
            r = sha(b"\1" + p + r)
            while not (fn % 2 or fn == 0):
                fn, sn = fn >> 1, sn >> 1
        else:
            r = sha(b"\1" + r + p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def is_consistent(old: int, new: int, path: list[bytes], first: bytes, second: bytes) -> bool:
    if old == new:
        return not path and first == second
    if old & (old - 1) == 0:
        path = [first, *path]
    fn, sn = old - 1, new - 1
    while fn % 2:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn % 2 or fn == sn:
            fr, sr = sha(b"\1" + c + fr), sha(b"\1" + c + sr)
            while not (fn % 2 or fn == 0):
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = sha(b"\1" + sr + c)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == first and sr == second


def head_of(note: str, key: str) -> tuple[int, bytes]:
    """The size and the root that the key has signed."""
    text, _, signatures = note.rpartition("\n\n")
    name, id, public = key.split("+", 2)
    for line in signatures.splitlines():
        _, signer, encoded = line.split(" ")
        data = base64.b64decode(encoded)
        if signer == name and data[:4].hex() == id:
            verifier = Ed25519PublicKey.from_public_bytes(base64.b64decode(public)[1:])
            verifier.verify(data[4:], f"{text}\n".encode())
            _, size, root = text.split("\n")[:3]
            return int(size), base64.b64decode(root)
    raise AssertionError("that key has not signed it")


def assert_proved(proof: dict[str, Any], receipt: dict[str, Any], key: str) -> None:
    size, root = head_of(proof["checkpoint"], key)
    entry = base64.b64decode(proof["entry"])
    assert is_included(
        entry, proof["index"], [bytes.fromhex(one) for one in proof["path"]], size, root
    )
    told = {name: value for name, value in receipt.items() if name not in {"id", "digest"}}
    assert json.loads(entry) == told


# ----------------------------------------------------------------------------------------------------------


def key_of(caller: httpx.Client) -> str:
    key: str = caller.get("/v1/ledger/keys").json()["keys"][0]["key"]
    return key


def live(box: Mailbox, count: int) -> None:
    for number in range(count):
        box.publish(b"<n>%d</n>" % number)
    leases = [one["lease"] for one in box.receive(max=count)]
    body = {"settle": [{"lease": lease, "outcome": "ack"} for lease in leases]}
    assert box.client.post(f"/v1/queues/{box.name}/settle", json=body).status_code == 200


def proof_of(caller: httpx.Client, receipt: dict[str, Any]) -> dict[str, Any]:
    answer = caller.get(f"/v1/receipts/{receipt['id']}/proof", params={"wait": 10})
    assert answer.status_code == 200, answer.text
    proof: dict[str, Any] = answer.json()
    return proof


def restante(*arguments: str, code: int = 0, of: Service | None = None) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RESTANTE_")}
    if of is not None:
        environment |= {"RESTANTE_URL": of.url, "RESTANTE_KEY": ADMIN_KEY}
    done = subprocess.run(
        [sys.executable, "-m", "restante", "ledger", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_each_receipt_is_proved_to_the_client_it_is_of(mailbox: Mailbox, tmp_path: Path) -> None:
    live(mailbox, 5)
    key = key_of(mailbox.client)
    receipts = mailbox.receipts()
    for receipt in receipts:
        assert_proved(proof_of(mailbox.client, receipt), receipt, key)
    receipt, proof = receipts[-1], proof_of(mailbox.client, receipts[-1])
    file = tmp_path / "proof.json"
    file.write_text(json.dumps(proof))
    done = subprocess.run(
        ["node", str(NODE_VERIFIER), str(file), key], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = restante("verify", "--proof", str(file), "--trust", key)
    assert f"proved: receipt {receipt['id']}" in told
    shown = json.loads(restante("verify", "--proof", str(file), "--trust", key, "--json"))
    _, size, root, at, *_ = proof["checkpoint"].split("\n")
    assert shown["head"] == {"size": int(size), "root": root, "at": at}
    assert (shown["index"], shown["receipt"]["number"]) == (proof["index"], receipt["number"])
    file.write_text(json.dumps(proof | {"index": proof["index"] + 1}))
    assert "the receipt is not number" in restante(
        "verify", "--proof", str(file), "--trust", key, code=1
    )


def test_the_log_only_grows(mailbox: Mailbox, tmp_path: Path) -> None:
    live(mailbox, 1)
    proof_of(mailbox.client, mailbox.receipts()[-1])
    key, first = key_of(mailbox.client), mailbox.client.get("/v1/ledger/head")
    assert first.headers["content-type"] == "text/plain; charset=utf-8"
    older = first.text
    live(mailbox, 3)
    proof_of(mailbox.client, mailbox.receipts()[-1])
    newer = mailbox.client.get("/v1/ledger/head").text
    old, new = (head_of(note, key) for note in (older, newer))
    answer = mailbox.client.get(
        "/v1/ledger/consistency", params={"from": old[0], "to": new[0]}
    ).json()
    path = [bytes.fromhex(one) for one in answer["path"]]
    assert new[0] >= old[0] + 6
    assert is_consistent(old[0], new[0], path, old[1], new[1])
    assert not is_consistent(old[0], new[0], path, new[1], old[1])
    heads = mailbox.client.get("/v1/ledger/heads").json()["heads"]
    # The first of all was signed before there was anything.
    assert head_of(heads[0], key)[0] == 0
    # The same with the command line: of heads in files and the server's, or of two with the proof in a file.
    files = {name: tmp_path / name for name in ("older", "newer", "proof", "all")}
    known = {"older": older, "newer": newer, "all": f"{heads[0]}\n{newer}\n{older}"}
    for name, text in known.items():
        files[name].write_text(text)
    files["proof"].write_text(json.dumps(answer))
    trust = ("consistency", "--trust", key)
    live(mailbox, 1)
    proof_of(mailbox.client, mailbox.receipts()[-1])
    told = restante(*trust, "--head", str(files["all"]), of=mailbox.service)
    assert "proved: the log of 0 receipts" in told
    assert "and so is each of the 2 between them" in told
    two = ("--head", str(files["older"]), "--head", str(files["newer"]))
    offline = (*trust, "--proof", str(files["proof"]))
    assert f"proved: the log of {old[0]:,} receipts" in restante(*offline, *two)
    (shown,) = json.loads(restante(*offline, *two[:2], "--json"))
    assert (shown["old"]["size"], shown["new"]["size"]) == (old[0], new[0])
    # The one for the other; a hash that is another; a key that is; what is no proof.
    assert "the proof is of logs of" in restante(*offline, *two[2:], *two[:2], code=1)
    files["proof"].write_text(json.dumps(answer | {"path": [*answer["path"][1:], "00" * 32]}))
    assert "is not the beginning of that of" in restante(*offline, *two, code=1)
    stranger = restante("new-key", "receipts.example").splitlines()[1].rpartition(" ")[2]
    told = restante("consistency", "--trust", stranger, *two, of=mailbox.service, code=1)
    assert "no key that is trusted has signed it" in told
    files["proof"].write_text("{}")
    assert "it is no proof" in restante(*offline, *two, code=1)
    assert "--head names 3" in restante(*offline, "--head", str(files["all"]), code=2)
    assert "give heads that were kept" in restante(*offline, code=2)


def test_who_may_have_what(mailbox: Mailbox, server: Service) -> None:
    other = Mailbox(server)
    live(mailbox, 1)
    receipt = mailbox.receipts()[0]["id"]
    for caller in (other.client, mailbox.publisher):
        answer = caller.get(f"/v1/receipts/{receipt}/proof")
        assert (answer.status_code, answer.json()["code"]) in {
            (404, "receipt_not_found"),
            (403, "forbidden"),
        }
    for path in ("/v1/ledger/head", "/v1/ledger/heads", "/v1/ledger/keys"):
        for caller in (mailbox.admin, mailbox.client, mailbox.publisher):
            assert caller.get(path).status_code == 200
    assert mailbox.client.get("/v1/ledger/export").status_code == 403
    for path, status in (
        ("/v1/ledger/consistency?from=9&to=8", 422),
        ("/v1/ledger/consistency?to=999999999", 422),
        ("/v1/ledger/consistency?to=x", 400),
        (f"/v1/receipts/{mailbox.name}~99/proof", 404),
        ("/v1/receipts/nobody~1/proof", 404),
        (f"/v1/receipts/{receipt}/proof?wait=31", 422),
        ("/v1/ledger/export?after=nonsense", 400),
    ):
        assert mailbox.admin.get(path).status_code == status, path
    other.close()


async def test_with_the_sdk(mailbox: Mailbox, server: Service) -> None:
    live(mailbox, 2)
    async with Client(server.url, mailbox.key) as client:
        key = (await client.ledger_keys()).keys[0].key
        receipt = mailbox.receipts()[-1]
        assert_proved(json.loads(await client.proof(receipt["id"], wait_seconds=10)), receipt, key)
        size, _ = head_of(await client.ledger_head(), key)
        assert len((await client.ledger_consistency(1, size)).path) > 0
        assert (await client.ledger_heads(limit=1)).next == 0
        known = (await client.ledger_heads()).heads
        shown = await verify_heads(client, known, [VerifierKey.parse(key)])
        assert (len(shown), shown[0].old.size) == (len(known), 0)
        with pytest.raises(NotProved, match="head 1 of those that were kept does not hold"):
            await verify_heads(client, known, [])
        with pytest.raises(ReceiptNotFound):
            await client.proof(f"{mailbox.name}~77")
        with pytest.raises(OutOfBounds):
            await client.ledger_consistency(1, size + 100)


def test_checking_a_server_an_export_and_a_store(own_server: Service, tmp_path: Path) -> None:
    box = Mailbox(own_server)
    live(box, 30)
    proof_of(box.client, box.receipts()[-1])
    known, trust = tmp_path / "head.txt", tmp_path / "key.pub"
    restante("head", "--out", str(known), of=own_server)
    trust.write_text(f"{key_of(box.admin)}\n")
    live(box, 3)
    proof_of(box.client, box.receipts()[-1])
    judged = ("--trust", str(trust), "--head", str(known))
    assert "nothing is wrong" in restante("verify", *judged, of=own_server)
    export = tmp_path / "log.jsonl"
    restante("export", "--out", str(export), of=own_server)
    assert "looked at 66 receipts" in restante("verify", str(export), *judged)
    parquet = tmp_path / "log.parquet"
    told = restante("export", "--format", "parquet", "--out", str(parquet), of=own_server)
    assert "66 receipts" in told
    assert_parquet(parquet)
    box.close()
    own_server.end(signal.SIGTERM)
    store = f"sqlite:///{own_server.data}"
    assert "nothing is wrong" in restante("verify", "--store", store, *judged)
    # An export that somebody has edited, in one place after the other.
    lines = export.read_text().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if '"acked"' in line)
    for what, edited in (
        (
            "edit: receipt",
            [*lines[:at], lines[at].replace('"acked"', '"nacked"'), *lines[at + 1 :]],
        ),
        ("deletion: receipt ", [*lines[:at], *lines[at + 1 :]]),
        ("insertion: receipt", [*lines[: at + 1], lines[at], *lines[at + 1 :]]),
        ("truncation: the export", lines[:-1]),
    ):
        export.write_text("".join(edited))
        assert what in restante("verify", str(export), *judged, code=1)
    stranger = f"restante/0+00000000+{base64.b64encode(bytes(33)).decode()}"
    assert "not a key" in restante("verify", str(export), "--trust", stranger, code=2)


def assert_parquet(path: Path) -> None:
    from pyarrow import parquet

    rows = parquet.read_table(path).to_pylist()
    assert sorted(row["place"] for row in rows) == list(range(66))
    assert {row["outcome"] for row in rows} == {"published", "acked"}


def test_a_store_that_was_set_back_is_found_out(own_server: Service, tmp_path: Path) -> None:
    box = Mailbox(own_server)
    live(box, 2)
    proof_of(box.client, box.receipts()[-1])
    key = key_of(box.admin)
    box.close()
    own_server.end(signal.SIGTERM)
    before = {file.name: file.read_bytes() for file in own_server.data.iterdir() if file.is_file()}
    own_server.start()
    box = Mailbox(own_server)
    live(box, 2)
    proof_of(box.client, box.receipts()[-1])
    known = tmp_path / "head.txt"
    restante("head", "--out", str(known), of=own_server)
    box.close()
    own_server.end(signal.SIGTERM)
    for file in own_server.data.iterdir():
        file.unlink() if file.is_file() else None
    for name, content in before.items():
        own_server.data.joinpath(name).write_bytes(content)
    store = f"sqlite:///{own_server.data}"
    assert "nothing is wrong" in restante("verify", "--store", store, "--trust", key)
    told = restante("verify", "--store", store, "--trust", key, "--head", str(known), code=1)
    assert "truncation: a head that was kept elsewhere" in told
    own_server.start()
    grown = ("consistency", "--trust", key, "--head", str(known))
    assert "it was truncated" in restante(*grown, code=1, of=own_server)
    # Served again, it grows past that size, with something else in it.
    box = Mailbox(own_server)
    live(box, 9)
    proof_of(box.client, box.receipts()[-1])
    told = restante("verify", "--trust", key, "--head", str(known), code=1, of=own_server)
    assert "fork: a head that was kept elsewhere" in told
    assert "it is a fork" in restante(*grown, code=1, of=own_server)
    box.close()


def test_killed_between_receipts_and_their_sealing_it_seals_them_once(
    own_server: Service, tmp_path: Path
) -> None:
    known = tmp_path / "heads.txt"
    box = Mailbox(own_server)
    live(box, 1)
    proof_of(box.client, box.receipts()[-1])
    judged = ("--trust", key_of(box.client), "--head", str(known))
    box.close()
    killed = rounds = 0
    while killed < KILLS:
        rounds += 1
        assert rounds <= MOST_ROUNDS, f"{killed} of {rounds} kills came before the sealing"
        box = Mailbox(own_server)
        live(box, 1)
        # All is in the log now, and the next look at what is not comes half a second later.
        proof_of(box.client, box.receipts()[-1])
        with known.open("a") as heads:
            heads.write(box.client.get("/v1/ledger/head").text)
        live(box, 20)
        box.close()
        own_server.end(signal.SIGKILL)
        told = restante("verify", "--store", f"sqlite:///{own_server.data}", *judged)
        killed += unsealed(told) > 0
        own_server.start()
    box = Mailbox(own_server)
    live(box, 1)
    proof_of(box.client, box.receipts()[-1])
    told = restante("verify", *judged, of=own_server)
    assert f"looked at {42 * rounds + 4} receipts" in told
    assert unsealed(told) == 0
    box.close()


def unsealed(told: str) -> int:
    """How many receipts there were that are not in the log, as an audit told."""
    (count,) = re.findall(r" ([0-9]+) too new for the log", told)
    return int(count)


def test_heads_go_to_a_file_and_a_queue(tmp_path: Path) -> None:
    service = Service(
        tmp_path / "data",
        *("--ledger-head-seconds", "1", "--ledger-head-file", str(tmp_path / "heads.txt")),
        *("--ledger-head-queue", "auditor"),
    )
    service.data.mkdir()
    service.start()
    with service.caller() as admin:
        made = admin.post("/v1/clients", json={"name": "auditor"}).json()
        with service.caller(made["key"]) as auditor:
            # The first head was signed before its queue was there; the next is sent a second later.
            box = Mailbox(service)
            got: list[dict[str, Any]] = []
            while not got:
                box.publish()
                answer = auditor.post("/v1/queues/auditor/receive", json={"wait": 1})
                got = answer.json()["notifications"]
            assert got[0]["content_type"] == "text/plain; charset=utf-8"
            size, _ = head_of(got[0]["body"], key_of(admin))
            assert size > 0
            assert got[0]["body"] in (tmp_path / "heads.txt").read_text()
            box.close()
    told = restante("verify", "--head", str(tmp_path / "heads.txt"), of=service)
    assert "nothing is wrong" in told
    assert service.end(signal.SIGTERM) == 0


async def test_two_nodes_seal_one_log(nodes: tuple[Service, Service]) -> None:
    one, two = nodes
    boxes = [Mailbox(one), Mailbox(two)]
    for _ in range(3):
        async with asyncio.TaskGroup() as group:
            for box in boxes:
                group.create_task(asyncio.to_thread(live, box, 30))
        one.end(signal.SIGKILL)
        # The other goes on with it.
        receipt = boxes[1].receipts()[-1]
        assert_proved(proof_of(boxes[1].client, receipt), receipt, key_of(boxes[1].admin))
        one.start()
    receipt = boxes[0].receipts()[-1]
    assert_proved(proof_of(boxes[0].client, receipt), receipt, key_of(boxes[1].admin))
    told = restante("verify", of=two)
    assert "looked at 360 receipts" in told
    assert "nothing is wrong" in told
    for box in boxes:
        box.close()


def test_the_guide_can_be_pasted_into_a_shell(mailbox: Mailbox, tmp_path: Path) -> None:
    live(mailbox, 1)
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    receipt = mailbox.receipts()[-1]
    given = {"URL": mailbox.service.url, "KEY": mailbox.key, "RECEIPT": receipt["id"]}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "".join(blocks)],
        check=False,
        env=given | {"PATH": os.environ["PATH"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    key = key_of(mailbox.client)
    assert_proved(json.loads((tmp_path / "proof.json").read_text()), receipt, key)
    heads = [str(tmp_path / name) for name in ("head.txt", "newer.txt")]
    for head in heads:
        head_of(Path(head).read_text(), key)
    grown = str(tmp_path / "consistency.json")
    offline = ("--proof", grown, "--head", heads[0], "--head", heads[1])
    assert "proved" in restante("consistency", "--trust", key, *offline)
    command = ["node", str(NODE_VERIFIER), "--consistency", *heads, grown, key]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_new_key_takes_the_place_of_the_old_one(own_server: Service) -> None:
    file = own_server.data / "ledger.key"
    keys = [file.read_text().strip(), restante("new-key", "receipts.example/2").splitlines()[0]]
    box = Mailbox(own_server)
    for lines in (keys[::-1], keys[1:]):
        own_server.end(signal.SIGTERM)
        file.write_text("\n".join(lines))
        own_server.start()
        live(box, 1)
        receipt = box.receipts()[-1]
        proof = proof_of(box.client, receipt)
        told = [one["key"] for one in box.client.get("/v1/ledger/keys").json()["keys"]]
        (key,) = (one for one in told if one.startswith("receipts.example/2+"))
        assert_proved(proof, receipt, key)
    box.close()
    # Heads of before are signed with the old key alone, which the log tells of.
    assert "nothing is wrong" in restante("verify", of=own_server)
    assert "cannot be the name" in restante("new-key", "a b", code=2)


async def test_an_empty_log(tmp_path: Path) -> None:
    service = Service(tmp_path / "data")
    service.data.mkdir()
    service.start()
    async with Client(service.url, ADMIN_KEY) as client:
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    assert (await client.ledger_head()).split("\n")[1] == "0"
                    break
                except LogEmpty:
                    continue
    assert "looked at 0 receipts" in restante("verify", of=service)
    assert service.end(signal.SIGTERM) == 0
