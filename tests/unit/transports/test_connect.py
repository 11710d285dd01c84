"""Connect and gRPC-Web: forms of requests and answers, errors, deadlines. In this process, without a socket."""

import asyncio
import base64
import gzip
import json

import httpx
import pytest
from google.protobuf import json_format
from tests.unit.engine.house import SHOP, letter, settings, turns

from restante.app import build_api
from restante.engine.broker import Broker
from restante.queries import FiguresOf
from restante.testing.transports.drivers.connect import InBinary, InJson, Web, envelope, split
from restante.wire.proto import restante_pb2 as pb

ADMIN = "the-administrators-key"
KEY = {"authorization": f"Bearer {ADMIN}"}
CALL = "/restante.v1.Delivery/"
SINGLE = ["application/json", "application/proto"]
STREAMED = ["application/connect+json", "application/connect+proto"]
WEB = ["application/grpc-web", "application/grpc-web+proto"]


@pytest.fixture
async def http(broker):
    transport = httpx.ASGITransport(build_api(broker, ADMIN))
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=KEY) as http:
        yield http


async def post(http, name, content, media="application/json", **headers):
    if isinstance(content, dict):
        content = json.dumps(content)
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return await http.post(CALL + name, content=content, headers={"content-type": media, **named})


def told(answer):
    """Code and stable code of an error of a call that is answered once."""
    problem = answer.json()
    code = ""
    if "details" in problem:
        (detail,) = problem["details"]
        assert detail["type"] == "restante.v1.Problem"
        value = base64.b64decode(detail["value"] + "==")
        code = pb.Problem.FromString(value).code
        assert answer.headers["restante-code"] == code
    return answer.status_code, problem["code"], code


def ended(content):
    """The last envelope of a Connect stream."""
    envelopes, rest = split(content)
    assert rest == b""
    assert [flag for flag, _ in envelopes] == [0] * (len(envelopes) - 1) + [2]
    return json.loads(envelopes[-1][1])


def trailers(content):
    """Those of gRPC-Web."""
    envelopes, rest = split(content)
    assert rest == b""
    flag, text = envelopes[-1]
    assert flag == 0x80
    return dict(line.split(": ", 1) for line in text.decode().split("\r\n") if line)


# -- forms --------------------------------------------------------------------------------------


async def test_json_is_as_people_write_it_and_as_generators_do(broker, http):
    await broker.publish(letter(b"\xff"), SHOP)
    answer = await post(http, "Pull", {"queue": "acme", "wait_seconds": 0})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    (notification,) = answer.json()["notifications"]
    assert (notification["body"], notification["seq"]) == ("/w==", "1")
    assert (await post(http, "Pull", {"queue": "acme", "waitSeconds": 0})).json() == {}
    lease = notification["lease"]
    answer = await post(http, "Settle", {"settle": [{"lease": lease, "ack": {"reply": "_w"}}]})
    assert answer.json()["results"][0] == {
        "outcome": "acked",
        "state": "acked",
        "receipt": "acme~2",
    }


@pytest.mark.parametrize("protocol", [InBinary, InJson, Web])
async def test_every_form_carries_the_same(broker, http, protocol):
    await broker.publish(letter(b"<a/>"), SHOP)
    request = pb.PullRequest(queue="acme", wait_seconds=0)
    answer = await post(http, "Pull", protocol.request(request), protocol.single)
    assert answer.headers["content-type"] == protocol.single
    response = protocol.response(pb.PullResponse, answer.content)
    assert [one.body for one in response.notifications] == [b"<a/>"]


@pytest.mark.parametrize("media", ["application/json; charset=utf-8", "Application/JSON"])
async def test_media_types_have_parameters_and_no_case(http, media):
    answer = await post(http, "Pull", {"queue": "acme", "wait_seconds": 0}, media)
    assert answer.status_code == 200


@pytest.mark.parametrize("protocol", [InBinary, InJson, Web])
async def test_a_stream_ends_by_an_envelope_that_says_how(broker, http, protocol):
    await broker.publish(letter(b"<a/>"), SHOP)
    request = pb.SubscribeRequest(queue="acme", credit=pb.Credit(messages=1))
    call = asyncio.create_task(
        post(http, "Subscribe", envelope(protocol.encode(request)), protocol.streamed)
    )
    await turns(50)
    broker.drain()
    answer = await call
    assert (answer.status_code, answer.headers["content-type"]) == (200, protocol.streamed)
    assert answer.headers["x-accel-buffering"] == "no"
    envelopes, rest = split(answer.content)
    assert rest == b""
    messages = [protocol.decode(pb.SubscribeResponse, data) for _, data in envelopes[:-1]]
    assert messages[0].attached.resume
    assert [one.body for one in messages[1].notifications] == [b"<a/>"]
    assert messages[2].HasField("drain")
    if protocol is Web:
        assert trailers(answer.content)["grpc-status"] == "14"
        assert trailers(answer.content)["restante-code"] == "shutting_down"
    else:
        end = ended(answer.content)
        assert end["error"]["code"] == "unavailable"
        assert end["metadata"] == {"restante-code": ["shutting_down"]}


# -- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "asked", "failed"),
    [
        ("Pull", {"queue": "nowhere"}, (404, "not_found", "queue_not_found")),
        ("Pull", {"queue": "acme", "max": 0}, (400, "invalid_argument", "out_of_bounds")),
        ("Pull", {"queue": "acme", "waitSeconds": 61}, (400, "invalid_argument", "out_of_bounds")),
        (
            "Pull",
            {"queue": "acme", "waitSeconds": "NaN"},
            (400, "invalid_argument", "out_of_bounds"),
        ),
        ("Pull", {"queue": 7}, (400, "invalid_argument", "malformed")),
        ("Pull", {"cue": "acme"}, (400, "invalid_argument", "malformed")),
        ("Settle", {"settle": []}, (400, "invalid_argument", "out_of_bounds")),
        ("Settle", {"settle": [{"lease": "x"}]}, (400, "invalid_argument", "malformed")),
        ("Extend", {"leases": "x"}, (400, "invalid_argument", "malformed")),
        *[
            ("Publish", {"notifications": [{"body": body}]}, (400, "invalid_argument", "malformed"))
            for body in ("%", "<order/>", "PGEv Pg==", "PGE=Pg==", "P", 7, ["PGEvPg=="])
        ],
        ("Settle", {"settle": [{"ack": {"reply": "?"}}]}, (400, "invalid_argument", "malformed")),
    ],
)
async def test_errors_are_those_of_http(http, name, asked, failed):
    assert told(await post(http, name, asked)) == failed


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'"x"', b"[" * 100_000, b'{"settle":' * 5_000, b'{"max":1e400}'],
)
async def test_what_is_no_json(http, content):
    assert told(await post(http, "Pull", content)) == (400, "invalid_argument", "malformed")


async def test_what_is_no_message(http):
    answer = await post(http, "Pull", b"\xff\xff", "application/proto")
    assert told(answer) == (400, "invalid_argument", "malformed")


@pytest.mark.parametrize("key", [{}, {"authorization": "Bearer x"}, {"authorization": "Basic x"}])
async def test_without_a_key_each_says_so_in_its_own_words(broker, key):
    transport = httpx.ASGITransport(build_api(broker, ADMIN))
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=key) as http:
        assert told(await post(http, "Pull", {})) == (401, "unauthenticated", "unauthenticated")
        answer = await post(http, "Subscribe", b"", "application/connect+json")
        assert answer.status_code == 200
        assert ended(answer.content)["error"]["code"] == "unauthenticated"
        answer = await post(http, "Pull", b"", "application/grpc-web")
        assert trailers(answer.content)["grpc-status"] == "16"


@pytest.mark.parametrize(
    ("name", "media"),
    [
        ("Pull", "text/plain"),
        ("Pull", ""),
        *[("Pull", media) for media in STREAMED],
        *[("Subscribe", media) for media in SINGLE],
        ("Pull", "application/grpc"),
        ("Pull", "application/grpc-web-text"),
        ("Subscribe", "application/grpc-web+json"),
    ],
)
async def test_other_media_types_are_refused(http, name, media):
    answer = await post(http, name, b"{}", media)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert "application/grpc-web" in answer.json()["detail"]


async def test_nothing_compressed_is_unfolded(http):
    bomb = gzip.compress(b" " * 10_000_000)
    answer = await post(http, "Pull", bomb, content_encoding="gzip")
    assert told(answer) == (501, "unimplemented", "unsupported_media_type")
    folded = b"\x01" + envelope(bomb)[1:]
    for media, header in (
        ("application/connect+proto", "connect_content_encoding"),
        ("application/grpc-web", "grpc_encoding"),
    ):
        # Said in the head, and not said.
        for headers in ({header: "gzip"}, {}):
            answer = await post(http, "Subscribe", folded, media, **headers)
            if media in STREAMED:
                assert ended(answer.content)["error"]["code"] == "unimplemented"
            else:
                assert trailers(answer.content)["grpc-status"] == "12"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\0\x05ab",
        envelope(b"") + b"x",
        envelope(b"{}") * 2,
        b"\0\xff\xff\xff\xff",
    ],
)
async def test_envelopes_that_do_not_hold_together(http, content):
    answer = await post(http, "Subscribe", content, "application/connect+json")
    end = ended(answer.content)
    assert end["error"]["code"] == "invalid_argument"
    assert end["metadata"] == {"restante-code": ["malformed"]}


async def test_a_request_that_is_too_large(http):
    answer = await post(http, "Publish", b" " * (24 * 1024 * 1024 + 1))
    assert told(answer) == (400, "invalid_argument", "body_too_large")
    assert answer.headers["connection"] == "close"


async def test_the_largest_body_gets_through_in_json(broker, http):
    await settings(broker, max_body_bytes=16_777_216)
    body = base64.b64encode(bytes(16_777_216)).decode()
    answer = await post(http, "Publish", {"notifications": [{"queue": "acme", "body": body}]})
    assert answer.json()["results"][0]["queues"] == 1


async def test_another_version_of_the_protocol_is_not_spoken(http):
    asked = {"queue": "acme", "wait_seconds": 0}
    answer = await post(http, "Pull", asked, connect_protocol_version="2")
    assert told(answer) == (400, "invalid_argument", "malformed")
    answer = await post(http, "Pull", asked, connect_protocol_version="1")
    assert answer.status_code == 200


@pytest.mark.parametrize("name", ["Receive", "PublishStream", "Destroy"])
async def test_calls_that_need_grpc_are_not_here(http, name):
    answer = await post(http, name, b"", "application/connect+json")
    assert (answer.status_code, answer.json()["code"]) == (404, "route_not_found")


async def test_only_posts(http):
    answer = await http.get(f"{CALL}Pull")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


async def test_what_goes_wrong_inside_is_not_told(broker, http, monkeypatch):
    async def broken(*_):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(Broker, "session", broken)
    answer = await post(http, "Pull", {"queue": "acme"})
    assert told(answer) == (500, "internal", "internal")
    assert "secret" not in answer.text


# -- deadlines ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media", "header"),
    [
        ("application/json", {"connect_timeout_ms": "1500"}),
        ("application/grpc-web", {"grpc_timeout": "1500m"}),
    ],
)
async def test_a_call_ends_with_its_deadline_and_leaves_no_lease(
    broker, http, clock, media, header
):
    request = pb.PullRequest(queue="acme", wait_seconds=60)
    data = b'{"queue":"acme","wait_seconds":60}'
    if media in WEB:
        data = envelope(request.SerializeToString())
    call = asyncio.create_task(post(http, "Pull", data, media, **header))
    await turns(50)
    clock.advance(1.4)
    await turns(50)
    assert not call.done()
    clock.advance(0.1)
    answer = await call
    if media in WEB:
        assert trailers(answer.content) == {
            "grpc-status": "4",
            "grpc-message": "the time set for the call is up",
        }
    else:
        assert told(answer) == (504, "deadline_exceeded", "")
    await broker.publish(letter(), SHOP)
    await turns()
    assert (await broker.store.browse(FiguresOf("acme"))).ready == 1


async def test_a_stream_ends_with_its_deadline(http, clock):
    request = envelope(b'{"queue":"acme","credit":{"messages":1}}')
    call = asyncio.create_task(
        post(http, "Subscribe", request, "application/connect+json", connect_timeout_ms="1000")
    )
    await turns(50)
    clock.advance(1)
    answer = await call
    assert ended(answer.content)["error"]["code"] == "deadline_exceeded"


@pytest.mark.parametrize(
    ("media", "header"),
    [
        *[
            ("application/json", {"connect_timeout_ms": value})
            for value in ("", "-1", "1.5", "x", "12345678901", "²")
        ],
        *[
            ("application/grpc-web", {"grpc_timeout": value})
            for value in ("", "5", "S", "123456789S", "5s")
        ],
    ],
)
async def test_deadlines_that_are_none(http, media, header):
    data = envelope(b"") if media in WEB else b"{}"
    headers = {key: value.encode() for key, value in header.items()}
    answer = await post(http, "Pull", data, media, **headers)
    if media in WEB:
        assert trailers(answer.content)["restante-code"] == "malformed"
    else:
        assert told(answer) == (400, "invalid_argument", "malformed")


async def test_messages_of_grpc_web_are_percented(http):
    asked = pb.PullRequest(queue="ü%\r\n")
    answer = await post(http, "Pull", envelope(asked.SerializeToString()), "application/grpc-web")
    end = trailers(answer.content)
    assert end["grpc-message"] == "there is no queue %C3%BC%25%0D%0A here"
    assert (end["grpc-status"], end["restante-code"]) == ("5", "queue_not_found")


# -- too much -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        '{"notifications": [' + ",".join(["{}"] * 1_001) + "]}",
        '{"notifications": [' + ",".join(["{}"] * 200_000) + "]}",
        '{"notifications": [1' + ",1" * 1_001 + "]}",
        json.dumps({"notifications": [{"attributes": {str(n): "" for n in range(20_000)}}]}),
    ],
    ids=["batch", "objects", "numbers", "attributes"],
)
async def test_json_of_too_many_values_is_refused_before_it_is_read(http, content, monkeypatch):
    def never(*_):
        raise AssertionError("it was read")

    monkeypatch.setattr(json_format, "ParseDict", never)
    answer = await post(http, "Publish", content)
    assert told(answer) == (400, "invalid_argument", "out_of_bounds")
