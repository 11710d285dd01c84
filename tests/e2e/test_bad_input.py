"""Bad input gets a clear error and costs nothing."""

from __future__ import annotations

import gzip
import socket

import httpx
import pytest
from tests.e2e.conftest import Mailbox, Service, bearer, raw_post

from restante.app import build_api
from restante.http.protocol import LEFTOVER_BYTES
from restante.portal.composition import ROOT as PORTAL
from restante.rpc.service import NAME

JSON = {"content-type": "application/json"}
FORGED = "A" * 50


def _check(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, object] = answer.json()
    assert found["status"] == status
    assert found["type"] == f"urn:restante:error:{code}"
    assert "Traceback" not in answer.text
    return found


RECEIVES = [
    ({"max": 0}, 422, "out_of_bounds", "max must be between 1 and 1000"),
    ({"max": 1001}, 422, "out_of_bounds", "max must be between 1 and 1000"),
    ({"wait": 61}, 422, "out_of_bounds", "wait must be between 0 and 60"),
    ({"wait": -1}, 422, "out_of_bounds", "wait must be between 0 and 60"),
    ({"lease": 0}, 422, "out_of_bounds", "lease must be between 1 and 43200"),
    ({"lease": 43_201}, 422, "out_of_bounds", "lease must be between 1 and 43200"),
    ({"max": "ten"}, 400, "malformed", "$.max"),
    ({"maximum": 3}, 400, "malformed", "maximum"),
    ({"settle": []}, 200, "", ""),
    ({"settle": [{"lease": "x"}]}, 400, "malformed", "outcome"),
    ({"settle": [{"lease": "x", "outcome": "eat"}]}, 400, "malformed", "eat"),
]


@pytest.mark.parametrize(("asked", "status", "code", "says"), RECEIVES)
def test_receive(
    mailbox: Mailbox, asked: dict[str, object], status: int, code: str, says: str
) -> None:
    answer = mailbox.client.post(f"/v1/queues/{mailbox.name}/receive", json={"wait": 0, **asked})
    if status == 200:
        assert answer.status_code == 200
    else:
        assert says in str(_check(answer, status, code)["detail"])


def test_bounds_are_named_for_machines_too(mailbox: Mailbox) -> None:
    answer = mailbox.client.post(f"/v1/queues/{mailbox.name}/receive", json={"max": 0})
    assert answer.json()["bounds"] == {"name": "max", "minimum": 1, "maximum": 1000}


@pytest.mark.parametrize(
    ("content", "headers", "status", "code", "says"),
    [
        (b'{"max":1', JSON, 400, "malformed", "byte"),
        (b'["max"]', JSON, 400, "malformed", "object"),
        (b"\xff\xfe", JSON, 400, "malformed", "JSON"),
        (b"max=1", {"content-type": "application/x-www-form-urlencoded"}, 415, "", "json"),
        (b'{"max":1}', {"content-type": "text/plain"}, 415, "", "json"),
        (b"<receive><max>1</receive>", {"content-type": "application/xml"}, 400, "", "line"),
        (b"<!DOCTYPE a><receive/>", {"content-type": "application/xml"}, 400, "", "document type"),
        (b"[" * 100_000, JSON, 400, "malformed", ""),
    ],
)
def test_envelopes(
    mailbox: Mailbox, content: bytes, headers: dict[str, str], status: int, code: str, says: str
) -> None:
    answer = mailbox.client.post(
        f"/v1/queues/{mailbox.name}/receive", content=content, headers=headers
    )
    code = code or {415: "unsupported_media_type", 400: "malformed"}[status]
    assert says in str(_check(answer, status, code)["detail"])


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"restante-deliver-after": "soon"}, 422, "invalid_header"),
        ({"restante-deliver-after": "nan"}, 422, "invalid_header"),
        ({"restante-deliver-after": "-1"}, 422, "out_of_bounds"),
        ({"restante-deliver-after": "1e99"}, 422, "out_of_bounds"),
        ({"restante-expires-after": "0"}, 422, "out_of_bounds"),
        ({"idempotency-key": ""}, 422, "invalid_header"),
        ({"idempotency-key": "k" * 256}, 422, "invalid_header"),
        ({"restante-ordering-key": "a\tb"}, 422, "invalid_header"),
        ({"restante-orderingkey": "a"}, 422, "invalid_header"),
        ({"ce-big": "x" * 16_385}, 422, "invalid_header"),
        ({"content-type": "xml"}, 422, "invalid_header"),
    ],
)
def test_publish_headers(mailbox: Mailbox, headers: dict[str, str], status: int, code: str) -> None:
    answer = mailbox.publisher.post(f"/v1/queues/{mailbox.name}/notifications", headers=headers)
    _check(answer, status, code)
    assert mailbox.figures()["published"] == 0


def test_raw_control_characters_in_a_header_never_reach_a_notification(
    server: Service, mailbox: Mailbox
) -> None:
    for poison in (b"a\x00b", b"a\x01b", b"a\x7fb"):
        with socket.create_connection(server.address, 10) as connection:
            connection.sendall(
                f"POST /v1/queues/{mailbox.name}/notifications HTTP/1.1\r\nHost: x\r\n"
                f"Authorization: Bearer {mailbox.publisher_key}\r\nContent-Length: 0\r\n"
                "Connection: close\r\nRestante-Attribute-A: ".encode()
                + poison
                + b"\r\n\r\n"
            )
            status = connection.makefile("rb").readline().split()[1]
        assert status in (b"400", b"422")
    assert mailbox.figures()["published"] == 0


def test_a_body_over_the_limit_is_refused_before_it_is_read(mailbox: Mailbox) -> None:
    mailbox.settings(max_body_bytes=1000)
    assert mailbox.publish(b"x" * 1000).status_code == 201
    _check(mailbox.publish(b"x" * 1001), 413, "body_too_large")

    def endless() -> object:
        while True:
            yield b"x" * 65_536

    try:
        answer = mailbox.publisher.post(
            f"/v1/queues/{mailbox.name}/notifications",
            content=endless(),  # type: ignore[arg-type]
        )
        _check(answer, 413, "body_too_large")
    except httpx.TransportError:
        # Closed on us while we were still sending: as good an answer.
        pass
    assert mailbox.figures()["published"] == 1


def test_who_sends_a_too_large_body_to_its_end_is_told_and_may_go_on(
    server: Service, mailbox: Mailbox
) -> None:
    """As nginx does: it looks for the answer when all has been sent."""
    mailbox.settings(max_body_bytes=1_000)
    path = f"/v1/queues/{mailbox.name}/notifications"
    with socket.create_connection(server.address, 10) as connection:
        for body in (b"x" * 8_000_000, b"<a/>"):
            connection.sendall(raw_post(path, mailbox.publisher_key, body))
        answers = connection.makefile("rb")
        assert answers.readline().split()[1] == b"413"
        assert any(b"HTTP/1.1 201" in line for line in answers)
    assert mailbox.figures()["published"] == 1


def test_a_body_without_end_is_cut_off(server: Service, mailbox: Mailbox) -> None:
    path = f"/v1/queues/{mailbox.name}/notifications"
    head = raw_post(path, mailbox.publisher_key).replace(b"Length: 0", b"Length: 999999999")
    with socket.create_connection(server.address, 10) as connection:
        connection.sendall(head)
        # What it announces is more than would be thrown away: nobody waits for it.
        with pytest.raises(ConnectionError):
            connection.sendall(b"x" * LEFTOVER_BYTES)


def test_a_reply_over_64_kib_is_refused_and_the_lease_stands(mailbox: Mailbox) -> None:
    mailbox.publish()
    (notification,) = mailbox.receive()
    path = f"/v1/leases/{notification['lease']}/ack"
    _check(mailbox.client.post(path, content=b"x" * 65_537), 413, "body_too_large")
    assert mailbox.client.post(path, content=b"x" * 65_536).status_code == 200


@pytest.mark.parametrize(
    "key",
    [
        "nonsense",
        "rst_aaaaaaaaaa_" + "a" * 38,
        "rst_abcdefghij_abcdefghijklmnopqrstuvwxyz234567aaaaaa",
        "\u00e4\u00f6",
    ],
)
def test_a_wrong_key_is_no_key(server: Service, mailbox: Mailbox, key: str) -> None:
    answer = httpx.post(
        f"{server.url}/v1/queues/{mailbox.name}/receive",
        headers=[(b"authorization", f"Bearer {key}".encode("latin-1"))],
    )
    _check(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_key_works_until_it_is_revoked(server: Service, mailbox: Mailbox) -> None:
    made = mailbox.admin.post("/v1/keys", json={"role": "client", "name": mailbox.name}).json()
    path = f"{server.url}/v1/queues/{mailbox.name}"
    assert httpx.get(path, headers=bearer(made["key"])).status_code == 200
    third = mailbox.admin.post("/v1/keys", json={"role": "client", "name": mailbox.name})
    _check(third, 409, "too_many_keys")
    assert mailbox.admin.delete(f"/v1/keys/{made['id']}").status_code == 204
    _check(httpx.get(path, headers=bearer(made["key"])), 401, "unauthenticated")
    listed = mailbox.admin.get("/v1/keys", params={"limit": 1000})
    assert made["id"] in listed.text
    assert made["key"].split("_")[2] not in listed.text


HANDSHAKE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-protocol": "restante.v1",
}


def _routes() -> list[tuple[str, str]]:
    class Nothing:
        directory = clock = rates = retiring = jobs = alerts = monitor = acts = webhooks = None
        log = proofs = groups = waiting = signing_keys = None
        operations = None
        requests = None

        class store:  # noqa: N801
            browse = None
            token_secret = b""

    routes = build_api(Nothing()).routes  # type: ignore[arg-type]
    # The clients' page knows no keys but its own sign-in: tests/unit/portal have its matrix.
    return sorted(route for route in routes if not route[1].startswith(f"{PORTAL}/"))


def test_no_client_sees_anything_of_another(server: Service, mailbox: Mailbox) -> None:
    """The two-client matrix over every route: what is not the caller's own answers as if it were not there."""
    other = Mailbox(server)
    published = mailbox.publish().json()
    (notification,) = mailbox.receive()
    (receipt,) = mailbox.receipts()
    subscription = mailbox.admin.post(
        "/v1/subscriptions", json={"pattern": mailbox.name, "queue": mailbox.name}
    ).json()
    webhook_path = f"/v1/queues/{mailbox.name}/webhook"
    made = mailbox.client.put(webhook_path, json={"url": "https://127.0.0.1:1024/"})
    assert made.status_code == 201, made.text
    mailbox.client.post(f"{webhook_path}/disable", headers={"idempotency-key": "disabling"})
    assert mailbox.client.get("/v1/requests/disabling").status_code == 200
    webhook = mailbox.client.get(webhook_path).json()
    operation = mailbox.publisher.post("/v1/operations", json={"client": mailbox.name}).json()
    before = (mailbox.receipts(), mailbox.figures()["leased"])
    # The cookie is the caller's own, and opens what its key opens; test_events.py has that.
    open_to_all = {"/openapi.yaml", "/asyncapi.yaml", "/restante.proto", "/docs", "/docs/{file}"}
    open_to_all |= {"/v1/cookie", "/v1/socket", "/v1/operations/socket"}
    # What these are for stands in their bodies: test_connect.py and test_grpc.py have them.
    calls = {path for _, path in _routes() if path.startswith(f"/{NAME}/")}
    assert len(calls) == 5
    # What the log is signed over tells nothing of anybody; its export is the administrator's.
    of_the_log = ("head", "heads", "keys", "consistency")
    open_to_all |= {f"/v1/ledger/{name}" for name in of_the_log}
    only_own = {"/v1/queues", "/v1/alerts", "/v1/alerts/history"}
    seen = 0
    for method, path in _routes():
        if path in open_to_all | calls or (method == "GET" and path in only_own):
            continue
        seen += 1
        filled = (
            path.replace("{queue}", mailbox.name)
            .replace("{seq}", "1")
            .replace("{lease}", str(notification["lease"]))
            .replace("{topic}", "t")
            .replace("{name}", mailbox.name)
            .replace("{key}", "disabling")
        )
        for placeholder, id in (
            ("/v1/notifications/{id}", published["id"]),
            ("/v1/notifications/{id}/receipts", published["id"]),
            ("/v1/notifications/{id}/receipt", published["id"]),
            ("/v1/notifications/{id}/body", published["id"]),
            ("/v1/receipts/{id}", receipt["id"]),
            ("/v1/receipts/{id}/proof", receipt["id"]),
            ("/v1/keys/{id}", mailbox.key.split("_")[1]),
            ("/v1/subscriptions/{id}", subscription["id"]),
            ("/v1/operations/{id}", operation["id"]),
            ("/v1/operations/{id}/events", operation["id"]),
            ("/v1/queues/{queue}/webhook/secrets/{id}", webhook["secrets"][0]["id"]),
        ):
            if path == placeholder:
                filled = filled.replace("{id}", str(id))
        if method == "WEBSOCKET":
            answer = other.client.get(filled, headers=HANDSHAKE)
        else:
            answer = other.client.request(method, filled)
        scoped = any(part in path for part in ("{queue}", "{lease}", "{id}", "{name}", "{key}"))
        administrators = (
            path.endswith(("/redrive", "/discard", "/replace", "/open", "/links"))
            or path.startswith(("/v1/jobs", "/v1/operators", "/v1/groups"))
            or (method == "POST" and path.endswith("/signing-keys"))
            or (method in ("PUT", "DELETE") and "/webhook" not in path and "/signing" not in path)
        )
        expected = 404 if scoped and not administrators else 403
        assert answer.status_code in (403, 404), (method, path, answer.text)
        assert answer.status_code == expected, (method, path, answer.text)
    assert seen > 20
    for path in only_own:
        assert mailbox.name not in other.client.get(path).text
    assert (mailbox.receipts(), mailbox.figures()["leased"]) == before
    assert mailbox.client.get(webhook_path).json() == webhook
    # A lease of one's own queue, settled in another's name, and the other way round.
    answer = other.client.post(
        f"/v1/queues/{other.name}/settle",
        json={"settle": [{"lease": notification["lease"], "outcome": "ack"}]},
    ).json()
    assert answer["settled"][0]["code"] == "lease_not_found"
    assert mailbox.settle(notification["lease"], "ack").status_code == 200
    other.close()


def test_a_publisher_publishes_and_sees_its_own(server: Service, mailbox: Mailbox) -> None:
    other = Mailbox(server)
    id = mailbox.publish().json()["id"]
    assert mailbox.publisher.get(f"/v1/notifications/{id}").status_code == 200
    _check(other.publisher.get(f"/v1/notifications/{id}"), 404, "notification_not_found")
    for path in ("receive", "next", "settle"):
        answer = mailbox.publisher.post(f"/v1/queues/{mailbox.name}/{path}")
        _check(answer, 403, "forbidden")
    _check(mailbox.publisher.get(f"/v1/queues/{mailbox.name}"), 403, "forbidden")
    _check(
        mailbox.client.post(f"/v1/queues/{mailbox.name}/notifications", content=b"x"),
        403,
        "forbidden",
    )
    other.close()


@pytest.mark.parametrize("lease", [FORGED, "x", "%00", "ä", "a" * 4000])
def test_a_forged_lease_is_no_lease(mailbox: Mailbox, lease: str) -> None:
    for verb in ("ack", "nack", "reject", "release", "extend"):
        _check(mailbox.settle(lease, verb), 404, "lease_not_found")


def test_an_altered_lease_is_no_lease(mailbox: Mailbox) -> None:
    mailbox.publish()
    lease = str(mailbox.receive()[0]["lease"])
    for place in range(len(lease) - 1):
        altered = lease[:place] + ("B" if lease[place] == "A" else "A") + lease[place + 1 :]
        _check(mailbox.settle(altered, "ack"), 404, "lease_not_found")


@pytest.mark.parametrize("name", ["a b", "ä", "a/b", "", "x" * 129, "a~b", "..%2f"])
def test_names_are_checked_where_something_is_made(mailbox: Mailbox, name: str) -> None:
    _check(mailbox.admin.post("/v1/clients", json={"name": name}), 422, "invalid_name")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lease_seconds": 0}, "lease_seconds must be between 1 and 43200"),
        ({"max_attempts": 0}, "max_attempts must be between 1 and 1000"),
        ({"max_body_bytes": 16_777_217}, "max_body_bytes must be between 0 and 16777216"),
        ({"backoff_factor": 0.5}, "backoff_factor must be between 1 and 10"),
    ],
)
def test_settings_are_checked_and_keep_what_is_left_out(
    mailbox: Mailbox, settings: dict[str, object], says: str
) -> None:
    mailbox.settings(max_attempts=3)
    answer = mailbox.admin.put(f"/v1/queues/{mailbox.name}", json=settings)
    assert says in str(_check(answer, 422, "out_of_bounds")["detail"])
    kept = mailbox.client.get(f"/v1/queues/{mailbox.name}").json()["settings"]
    assert (kept["max_attempts"], kept["lease_seconds"]) == (3, 30)


@pytest.mark.parametrize(
    ("asked", "status"),
    [({}, 400), ({"all": True, "seqs": [1]}, 400), ({"seqs": []}, 422), ({"seqs": [0]}, 422)],
)
def test_nobody_redrives_everything_by_a_slip(
    mailbox: Mailbox, asked: dict[str, object], status: int
) -> None:
    for act in ("redrive", "discard"):
        answer = mailbox.admin.post(f"/v1/queues/{mailbox.name}/dead/{act}", json=asked)
        assert answer.status_code == status, answer.text


def test_unknown_things_are_not_found(mailbox: Mailbox) -> None:
    admin = mailbox.admin
    for path, code in (
        ("/v1/queues/none", "queue_not_found"),
        ("/v1/queues/none/receipts", "queue_not_found"),
        ("/v1/notifications/none", "notification_not_found"),
        ("/v1/receipts/none~1", "receipt_not_found"),
        ("/v1/receipts/none", "receipt_not_found"),
        (f"/v1/receipts/{mailbox.name}~99", "receipt_not_found"),
        ("/v1/clients/none", "client_not_found"),
        ("/v2/queues", "route_not_found"),
        ("/", "route_not_found"),
        ("/v1/queues/", "route_not_found"),
    ):
        _check(admin.get(path), 404, code)
    _check(admin.delete("/v1/keys/none"), 404, "key_not_found")
    _check(admin.delete("/v1/subscriptions/none"), 404, "subscription_not_found")
    answer = admin.delete(f"/v1/queues/{mailbox.name}")
    _check(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, PUT"


def test_problems_come_in_xml_too(mailbox: Mailbox) -> None:
    answer = mailbox.admin.get("/v1/queues/none", headers={"accept": "application/xml"})
    assert answer.headers["content-type"] == "application/problem+xml"
    assert "<code>queue_not_found</code>" in answer.text


def test_no_key_and_no_body_stands_in_the_log(server: Service, mailbox: Mailbox) -> None:
    canary = "canary-7f3a"
    mailbox.publish(canary.encode(), ce_type=canary)
    mailbox.client.get(f"/v1/queues/{mailbox.name}?key={mailbox.key}")
    log = server.log()
    for secret in (mailbox.key.split("_")[2], mailbox.publisher_key.split("_")[2], canary):
        assert secret not in log


def test_a_refused_receive_settles_nothing(mailbox: Mailbox) -> None:
    mailbox.publish()
    (notification,) = mailbox.receive()
    asked = {"max": 0, "settle": [{"lease": notification["lease"], "outcome": "ack"}]}
    _check(
        mailbox.client.post(f"/v1/queues/{mailbox.name}/receive", json=asked), 422, "out_of_bounds"
    )
    assert mailbox.figures()["leased"] == 1


def test_a_lease_is_extended_within_its_bounds_or_not_at_all(mailbox: Mailbox) -> None:
    mailbox.publish()
    (notification,) = mailbox.receive()
    for seconds in (0, -1, 43_201):
        answer = mailbox.settle(notification["lease"], "extend", lease=seconds)
        _check(answer, 422, "out_of_bounds")


def test_a_compressed_body_is_refused(mailbox: Mailbox) -> None:
    """It would be kept as it is, and taken for what its content type says; a bomb never unfolds."""
    bomb = gzip.compress(bytes(10_000_000))
    for caller, path in (
        (mailbox.publisher, f"/v1/queues/{mailbox.name}/notifications"),
        (mailbox.client, f"/v1/queues/{mailbox.name}/receive"),
    ):
        answer = caller.post(
            path,
            content=bomb,
            headers={"content-encoding": "gzip", "content-type": "application/json"},
        )
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert mailbox.publish(b"x", content_encoding="identity").status_code == 201
