"""The specification of the streams is true: every frame and event that really goes is as it says, and no other goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import typing
from pathlib import Path
from typing import Any, Final

import jsonschema
import msgspec
import pytest
import yaml
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service, bearer
from tests.e2e.recording import Record
from tests.e2e.test_openapi import SCHEMAS as CALLS

import restante.web
from restante.engine import attachments, stream
from restante.http import events, protocol, server
from restante.http.api import Routes
from restante.model import BATCH, LEASE_SECONDS_MAXIMUM, REASON_CHARACTERS, REPLY_BYTES
from restante.testing.transports import Target, transport_cases
from restante.testing.transports.drivers.events import Events
from restante.testing.transports.drivers.websocket import Binary, Text
from restante.testing.transports.stage import Stage, ack, one
from restante.transports import events as server_sent
from restante.transports import websocket
from restante.web import operation_socket
from restante.wire import frames, operation_messages
from restante.wire.messages import NotificationOut, PublishedItem, SettledItem

SPECIFICATION: Final = Path(restante.web.__file__).with_name("asyncapi.yaml")
DOCUMENT: Final[dict[str, Any]] = yaml.safe_load(SPECIFICATION.read_text())
SCHEMAS: Final[dict[str, Any]] = DOCUMENT["components"]["schemas"]
MESSAGES: Final[dict[str, Any]] = DOCUMENT["components"]["messages"]
WORDS: Final[str] = " ".join(DOCUMENT["info"]["description"].split())
ASYNCAPI: Final = Path(__file__).parents[1] / "vendor" / "asyncapi" / "3.0.0.json"
STREAMING: Final = (Text, Binary, Events)
# These need no lease to run out, and the others have the same frames; one sends what is out of bounds on purpose.
PLAYED: Final = [
    (driver, scenario)
    for driver, scenario in transport_cases()
    if scenario.name.startswith("settling-") and "out_of_bounds" not in scenario.name
]
NOBODY: Final[Any] = None
ROOT: Final = {"components": DOCUMENT["components"]}


# Whichever test comes first waits for the whole play.
pytestmark = pytest.mark.timeout(180)


def validator(schema: dict[str, Any]) -> jsonschema.Draft7Validator:
    """AsyncAPI's own dialect is JSON Schema draft 7, and some."""
    return jsonschema.Draft7Validator(
        ROOT | schema, format_checker=jsonschema.Draft7Validator.FORMAT_CHECKER
    )


def is_described(frame: dict[str, Any]) -> bool:
    message = MESSAGES.get(frame["type"])
    return message is not None and validator(message["payload"]).is_valid(frame)


# -- what really goes to and fro --------------------------------------------------------------------


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Everything that the suite's clients and the service said to one another, to the service's end."""
    service = Service(tmp_path_factory.mktemp("asyncapi") / "data")
    service.start()
    record = Record()
    try:
        with pytest.MonkeyPatch.context() as patch:
            record.clients(patch)
            asyncio.run(_play(service, record))
    finally:
        with contextlib.suppress(ProcessLookupError):
            service.end(signal.SIGKILL)
    assert "Traceback" not in service.log()
    return record


async def _play(service: Service, record: Record) -> None:
    target = Target(url=service.url, admin_key=ADMIN_KEY)
    for driver, scenario in PLAYED:
        if driver in STREAMING:
            await scenario.run(target, driver)
    for driver in (Text, Binary):
        async with Stage(target, driver) as stage:
            await _go_wrong(stage, record, driver.subprotocol)
    stages = [Stage(target, driver) for driver in STREAMING]
    async with stages[0], stages[1], stages[2]:
        await _drain(service, stages)


async def _go_wrong(stage: Stage, record: Record, subprotocol: str) -> None:
    """Every error that has a place in a frame, from frames that are well formed and from others."""
    url = stage.target.url.replace("http", "ws", 1) + "/v1/socket"
    as_client, as_publisher = bearer(stage.key), bearer(stage.publisher_key)
    good: list[tuple[dict[str, str], dict[str, Any]]] = [
        (as_client, {"type": "credit", "messages": 1, "ref": "no queue"}),
        (as_client, {"type": "credit", "messages": 1, "queue": "nobody-s", "ref": "unknown"}),
        (as_client, {"type": "publish", "notifications": [{"queue": stage.queue, "body": "x"}]}),
        (as_publisher, {"type": "ack", "items": [{"lease": "x"}]}),
        (as_publisher, {"type": "credit", "queue": stage.queue, "messages": 1}),
        (as_publisher, {"type": "publish", "notifications": [{"queue": "nobody-s", "body": "x"}]}),
    ]
    for verb in ("ack", "nack", "reject", "extend", "release"):
        good.append((as_client, {"type": verb, "items": [{"lease": "forged"}], "ref": "f"}))
    for headers, frame in good:
        parts = b""
        if subprotocol == frames.BINARY and frame["type"] == "publish":
            frame["notifications"][0] = {"queue": "nobody-s", "body_bytes": 1}
            parts = b"x"
        async with record.connect(
            url, subprotocols=[subprotocol], additional_headers=headers, proxy=None
        ) as connection:
            await connection.send(written(frame, subprotocol, parts))
            await asyncio.wait_for(connection.recv(), 20)
    async with record.connect(
        url, subprotocols=[subprotocol], additional_headers=as_client, proxy=None
    ) as connection:
        for frame in BAD:
            await connection.send_what_is_no_frame(written(frame, subprotocol))
            await asyncio.wait_for(connection.recv(), 20)


async def _drain(service: Service, stages: list[Stage]) -> None:
    consumers = [await stage.attach() for stage in stages]
    for stage, consumer in zip(stages, consumers, strict=True):
        await stage.publish(b"<held/>")
        delivered = await one(consumer)
        if stage.driver.name != "sse":
            stage.held = (consumer, delivered)  # type: ignore[attr-defined]
    stopping = asyncio.create_task(asyncio.to_thread(service.end, signal.SIGTERM))
    for stage in stages[:2]:
        consumer, delivered = stage.held  # type: ignore[attr-defined]
        frame = await asyncio.wait_for(consumer.link.frames.get(), 20)
        assert frame["type"] == "drain"
        await ack(consumer, delivered)
        await consumer.close()
    await asyncio.wait_for(consumers[2].ended(), 20)
    assert await stopping == 0


def written(frame: Any, subprotocol: str, parts: bytes = b"") -> str | bytes:
    text = json.dumps(frame)
    if subprotocol == frames.TEXT:
        return text
    return len(text).to_bytes(4, "big") + text.encode() + parts


LEASE: Final = {"lease": "x"}
BAD: Final[list[dict[str, Any]]] = [
    {"type": "eat"},
    {"type": "credit"},
    {"type": "credit", "messages": "ten"},
    {"type": "credit", "messages": 1.5},
    {"type": "credit", "messages": -1, "queue": "q"},
    {"type": "credit", "messages": 1, "credit": 1},
    {"type": "credit", "messages": 1, "queue": 7},
    {"type": "credit", "messages": 1, "ref": "r" * 129},
    {"type": "credit", "messages": 1, "ref": 5},
    {"type": "ack"},
    {"type": "ack", "items": []},
    {"type": "ack", "items": [{}]},
    {"type": "ack", "items": [LEASE] * 1_001},
    {"type": "ack", "items": [{**LEASE, "reason": "an ack has none"}]},
    {"type": "ack", "items": [{**LEASE, "reply_bytes": -1}]},
    {"type": "ack", "items": [{**LEASE, "reply": 1}]},
    {"type": "nack", "items": [{**LEASE, "retry_after": "soon"}]},
    {"type": "nack", "items": [{**LEASE, "reply": "a nack has none"}]},
    {"type": "reject", "items": [{**LEASE, "retry_after": 1}]},
    {"type": "extend", "items": [{**LEASE, "lease": None}]},
    {"type": "release", "items": [{**LEASE, "lease_seconds": 1}]},
    {"type": "publish", "notifications": []},
    {"type": "publish", "notifications": [{"queue": "q", "body": "b", "urgent": True}]},
    {"type": "notifications", "queue": "q", "notifications": []},
]


def test_every_frame_that_goes_is_as_described(record: Record) -> None:
    assert len(record.frames) > 150
    for frame in record.frames:
        message = MESSAGES[frame.head["type"]]
        errors = [error.message for error in validator(message["payload"]).iter_errors(frame.head)]
        assert not errors, (frame, errors)


def test_a_body_stands_where_its_subprotocol_says(record: Record) -> None:
    for frame in record.frames:
        items = frame.head.get("notifications") or frame.head.get("items") or []
        lengths = [item.get("body_bytes", item.get("reply_bytes")) for item in items]
        texts = {"body", "body_base64", "reply", "reply_base64"}
        if frame.subprotocol == frames.TEXT:
            assert lengths == [None] * len(items), frame
            assert frame.rest == b""
        else:
            assert not any(texts & set(item) for item in items), frame
            assert sum(length or 0 for length in lengths) == len(frame.rest)


def test_every_frame_that_is_described_goes(record: Record) -> None:
    described = {
        name for channel in ("socket", "queueSocket") for name in channel_messages(channel)
    }
    for subprotocol in (frames.TEXT, frames.BINARY):
        gone = {frame.head["type"] for frame in record.frames if frame.subprotocol == subprotocol}
        assert gone == described


def test_every_event_that_goes_is_as_described_and_every_one_described_goes(record: Record) -> None:
    by_name = {MESSAGES[name]["name"]: MESSAGES[name] for name in channel_messages("events")}
    assert {event.headers["event"] for event in record.events} == set(by_name)
    for event in record.events:
        message = by_name[event.headers["event"]]
        validator(message["headers"]).validate(event.headers)
        validator(message["payload"]).validate(event.data)
        assert set(event.headers) <= set(message["headers"]["properties"])


@pytest.mark.parametrize("frame", BAD, ids=lambda frame: json.dumps(frame)[:60])
def test_what_the_service_refuses_is_not_described(frame: dict[str, Any]) -> None:
    """That it refuses each, the recording has seen: it waited for an answer to each."""
    of_a_client = frame["type"] in {kind.__struct_config__.tag for kind in CLIENT}
    assert not (of_a_client and is_described(frame))


def test_refused_frames_were_answered_with_errors(record: Record) -> None:
    errors = [frame.head for frame in record.frames if frame.head["type"] == "error"]
    assert len(errors) >= 2 * len(BAD)
    known = set(CALLS["Problem"]["properties"]["code"]["enum"])
    assert {error["code"] for error in errors} <= known
    assert {"malformed", "out_of_bounds", "forbidden", "queue_not_found"} <= {
        error["code"] for error in errors
    }


# -- the file against the code ----------------------------------------------------------------------


def channel_messages(name: str) -> set[str]:
    return set(DOCUMENT["channels"][name]["messages"])


CLIENT: Final = typing.get_args(frames.AnyClientFrame)
SERVER: Final = typing.get_args(frames.AnyServerFrame)
WATCHING: Final = typing.get_args(operation_messages.WatchFrame)
OF_OPERATIONS: Final = (*WATCHING, operation_messages.OperationFrame)
STRUCTS: Final[dict[str, Any]] = {
    **{kind.__name__: kind for kind in (*CLIENT, *SERVER)},
    "AckItem": frames.AckItem,
    "ExtendItem": frames.ExtendItem,
    "LeaseItem": frames.LeaseItem,
    "NackItem": frames.NackItem,
    "RejectItem": frames.RejectItem,
    "Publication": frames.FramedPublication,
    "Notification": frames.FramedNotification,
    "SettledItem": SettledItem,
    "PublishedItem": PublishedItem,
    **{kind.__name__: kind for kind in OF_OPERATIONS},
    "Operation": operation_messages.OperationOut,
}


def test_every_frame_of_the_code_is_described() -> None:
    tags = {kind.__struct_config__.tag for kind in (*CLIENT, *SERVER)}
    assert channel_messages("socket") == channel_messages("queueSocket") == tags
    watching = {kind.__struct_config__.tag for kind in OF_OPERATIONS}
    assert channel_messages("operationSocket") == watching | {"error", "drain"}
    for kind in (*CLIENT, *SERVER, *OF_OPERATIONS):
        tag = kind.__struct_config__.tag
        assert MESSAGES[tag]["name"] == tag
        assert MESSAGES[tag]["payload"] == {"$ref": f"#/components/schemas/{kind.__name__}"}
        assert SCHEMAS[kind.__name__]["properties"]["type"] == {"const": tag}


def test_the_service_sends_and_receives_what_the_code_says() -> None:
    ways: dict[str, set[str]] = {"send": set(), "receive": set()}
    for operation in DOCUMENT["operations"].values():
        references = [*operation["messages"]]
        ways[operation["action"]] |= {reference["$ref"].split("/")[-1] for reference in references}
        for reference in operation.get("reply", {}).get("messages", ()):
            ways["send"].add(reference["$ref"].split("/")[-1])
    assert ways["receive"] == {kind.__struct_config__.tag for kind in (*CLIENT, *WATCHING)}
    sent = {kind.__struct_config__.tag for kind in (*SERVER, operation_messages.OperationFrame)}
    assert ways["send"] == sent | channel_messages("events") | channel_messages("operationEvents")


@pytest.mark.parametrize("name", STRUCTS)
def test_members_are_those_of_the_code(name: str) -> None:
    described, struct = SCHEMAS[name], STRUCTS[name]
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    assert set(described["properties"]) - {"type"} == set(fields)
    required = {field.name for field in fields.values() if field.required}
    assert set(described.get("required", ())) - {"type"} == required
    closed = described.get("additionalProperties", True) is False
    assert closed == struct.__struct_config__.forbid_unknown_fields
    if closed:
        for field in fields.values():
            if not field.required:
                assert default_of(described["properties"][field.name]) == default_in(field)


def default_of(schema: dict[str, Any]) -> Any:
    while "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rpartition("/")[2]]
    return schema["default"]


def default_in(field: Any) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def test_what_an_event_holds_is_a_notification() -> None:
    own = {field.name for field in msgspec.structs.fields(NotificationOut)}
    assert own | {"body_bytes"} == set(SCHEMAS["Notification"]["properties"])


def test_bounds_are_those_of_the_code() -> None:
    credit = SCHEMAS["Credit"]["properties"]
    query = DOCUMENT["operations"]["streamEvents"]["bindings"]["http"]["query"]["properties"]
    assert credit["messages"]["minimum"] == 0
    assert credit["bytes"]["minimum"] == query["credit_bytes"]["minimum"] == 1
    for described in (credit["messages"], query["credit"]):
        assert described["maximum"] == stream.CREDIT_MESSAGES_MAXIMUM
    for described in (credit["bytes"], query["credit_bytes"]):
        assert described["maximum"] == stream.CREDIT_BYTES_MAXIMUM
    assert str(stream.CREDIT_BYTES) in credit["bytes"]["description"]
    assert query["credit"]["default"] == stream.CREDIT_MESSAGES
    assert query["credit_bytes"]["default"] == stream.CREDIT_BYTES
    for described in (SCHEMAS["LeaseSeconds"], query["lease"]):
        assert (described["minimum"], described["maximum"]) == (1, LEASE_SECONDS_MAXIMUM)
    for name in ("Ack", "Nack", "Reject", "Extend", "Release"):
        items = SCHEMAS[name]["properties"]["items"]
        assert (items["minItems"], items["maxItems"]) == (1, BATCH)
    notifications = SCHEMAS["Publish"]["properties"]["notifications"]
    assert (notifications["minItems"], notifications["maxItems"]) == (1, BATCH)
    ack = SCHEMAS["AckItem"]["properties"]
    assert ack["reply"]["maxLength"] == ack["reply_bytes"]["maximum"] == REPLY_BYTES
    assert SCHEMAS["Reason"]["maxLength"] == REASON_CHARACTERS
    assert SCHEMAS["Ref"]["maxLength"] == frames.REF_CHARACTERS


def test_the_words_have_the_numbers_of_the_code() -> None:
    mib = 1024 * 1024
    for words in (
        f"{websocket.CLIENT_MESSAGE_BYTES // mib} MiB (of a publisher",
        f"an administrator {websocket.PUBLISHER_MESSAGE_BYTES // mib} MiB)",
        f"| {BATCH:,} |",
        f"| {websocket.ITEMS_UNDER_WAY:,} on a connection, "
        f"with {websocket.BYTES_UNDER_WAY // mib} MiB of bodies |",
        f"at most {protocol.FRAGMENTS:,} fragments |",
        f"queues on a connection | {websocket.QUEUES:,} |",
        f"{stream.CREDIT_MESSAGES_MAXIMUM:,} notifications, {stream.CREDIT_BYTES_MAXIMUM // mib} MiB",
        f"client or publisher | {attachments.CONNECTIONS_PER_PRINCIPAL:,}, unless",
        f"waits for you | {protocol.WRITE_SECONDS:.0f} s |",
        f"a ping every {server.PING_SECONDS:.0f} seconds",
        f"no pong comes within {server.PONG_SECONDS:.0f};",
        f"comes every {events.HEARTBEAT_SECONDS:.0f} seconds",
        f"{events.RETRY_MS:,}, and in an event",
        f"up to {frames.REF_CHARACTERS} characters",
    ):
        assert words in WORDS, words


def test_it_is_valid_asyncapi() -> None:
    official = jsonschema.Draft7Validator(json.loads(ASYNCAPI.read_text()))
    official.validate(DOCUMENT)
    assert not official.is_valid(DOCUMENT | {"channels": {"socket": {"adress": "/v1/socket"}}})


def test_every_schema_is_one_and_every_example_fits() -> None:
    for schema in SCHEMAS.values():
        jsonschema.Draft7Validator.check_schema(schema)
    for name, message in MESSAGES.items():
        assert message["examples"], name
        for example in message["examples"]:
            validator(message["payload"]).validate(example["payload"])
            if "headers" in message:
                validator(message["headers"]).validate(example["headers"])


def test_every_reference_leads_somewhere_and_everything_is_referred_to() -> None:
    text = SPECIFICATION.read_text()
    for path in set(re.findall(r"\$ref: '#/([^']+)'", text)):
        found: Any = DOCUMENT
        for part in path.split("/"):
            found = found[part]
    referred = set(re.findall(r"\$ref: '#/components/(\w+/\w+)", text))
    assert referred == {
        f"{kind}/{name}" for kind, named in DOCUMENT["components"].items() for name in named
    }


def test_what_both_specifications_describe_they_describe_alike() -> None:
    """The names differ where the words do: HTTP has a Delivery where a frame has a Notification."""
    for here, there in {
        "Name": "Name",
        "SettledItem": "SettledItem",
        "PublishedItem": "PublishedItem",
        "Notification": "Delivery",
        "Publication": "Publication",
    }.items():
        own, calls = SCHEMAS[here], CALLS[there]
        framed = {"body_bytes"} & set(own.get("properties", ()))
        assert set(own.get("properties", ())) - framed == set(calls.get("properties", ()))
        assert set(own.get("required", ())) == set(calls.get("required", ()))
        for bound in ("pattern", "minLength", "maxLength"):
            assert own.get(bound) == calls.get(bound)
    assert SCHEMAS["State"]["enum"] == CALLS["State"]["enum"]
    assert (
        SCHEMAS["SettledItem"]["properties"]["outcome"]
        == (CALLS["SettledItem"]["properties"]["outcome"])
    )


def test_the_addresses_are_those_of_the_code() -> None:
    routes = Routes()
    for transport in (websocket, server_sent, operation_socket):
        transport.add_routes(routes, NOBODY)
    addresses = {channel["address"] for channel in DOCUMENT["channels"].values()}
    # The cookie is a call like others: openapi.yaml has it. The events of operations stand among calls.
    streams = {path for _, path in routes} - {"/v1/cookie"} | {"/v1/operations/{id}/events"}
    assert addresses == streams


def test_anyone_may_read_it(mailbox: Mailbox) -> None:
    answer = mailbox.client.get("/asyncapi.yaml", headers={"authorization": ""})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/yaml"
    assert answer.content == SPECIFICATION.read_bytes()
