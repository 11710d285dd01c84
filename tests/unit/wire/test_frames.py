"""The frames of both subprotocols: what is written is read again, and what is no frame is told from one."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.errors import OutOfBounds, QueueNotFound
from restante.model import Verb
from restante.wire import frames
from restante.wire.frames import BINARY, TEXT, Unreadable
from restante.wire.messages import PlaceOut, PublishedItem, SettledItem

BOTH = pytest.mark.parametrize("subprotocol", [TEXT, BINARY])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
parts_of_items = st.lists(st.none() | st.binary(max_size=60), min_size=1, max_size=8)


def packed(head: bytes, rest: bytes = b"") -> bytes:
    return len(head).to_bytes(4, "big") + head + rest


def message(frame: Any, subprotocol: str, rest: bytes = b"") -> str | bytes:
    text = json.dumps(frame)
    return text if subprotocol == TEXT else packed(text.encode(), rest)


def unpacked(data: str | bytes) -> tuple[dict[str, Any], bytes]:
    if isinstance(data, str):
        return json.loads(data), b""
    end = 4 + int.from_bytes(data[:4], "big")
    return json.loads(data[4:end]), data[end:]


def with_parts(
    items: list[dict[str, Any]], name: str, parts: list[bytes | None], subprotocol: str
) -> bytes:
    """Put each part where the subprotocol has it; what stands behind the frame."""
    for item, part in zip(items, parts, strict=True):
        if part is None:
            continue
        if subprotocol == BINARY:
            item[f"{name}_bytes"] = len(part)
            continue
        try:
            item[name] = part.decode()
        except UnicodeDecodeError:
            item[f"{name}_base64"] = base64.b64encode(part).decode()
    return b"".join(part or b"" for part in parts) if subprotocol == BINARY else b""


# -- what a client sends ------------------------------------------------------------------------


@BOTH
@given(parts=parts_of_items, lease=texts, ref=texts)
def test_replies_are_read_as_they_were_sent(subprotocol, parts, lease, ref):
    items = [{"lease": lease, "reply_content_type": "a/b"} for _ in parts]
    rest = with_parts(items, "reply", parts, subprotocol)
    incoming = frames.read(
        message({"type": "ack", "ref": ref, "items": items}, subprotocol, rest), subprotocol
    )
    assert isinstance(incoming.frame, frames.Ack)
    assert incoming.frame.ref == ref
    assert [item.lease for item in incoming.frame.items] == [lease] * len(parts)
    assert incoming.parts == parts


@BOTH
@given(parts=parts_of_items, attributes=st.dictionaries(texts, texts, max_size=3))
def test_bodies_are_read_as_they_were_sent(subprotocol, parts, attributes):
    items: list[dict[str, Any]] = [{"queue": "q", "attributes": attributes} for _ in parts]
    rest = with_parts(items, "body", parts, subprotocol)
    incoming = frames.read(
        message({"type": "publish", "notifications": items}, subprotocol, rest), subprotocol
    )
    assert isinstance(incoming.frame, frames.Publish)
    assert [item.attributes for item in incoming.frame.notifications] == [attributes] * len(parts)
    assert incoming.parts == parts


@BOTH
@pytest.mark.parametrize("verb", [Verb.NACK, Verb.REJECT, Verb.EXTEND, Verb.RELEASE])
def test_frames_without_bodies_have_no_parts(subprotocol, verb):
    frame = {"type": verb.value, "items": [{"lease": "a"}, {"lease": "b"}]}
    incoming = frames.read(message(frame, subprotocol), subprotocol)
    assert [item.lease for item in incoming.frame.items] == ["a", "b"]  # type: ignore[union-attr]
    assert list(incoming.parts) == []


@BOTH
def test_what_is_left_out_has_its_default(subprotocol):
    incoming = frames.read(message({"type": "credit", "messages": 5}, subprotocol), subprotocol)
    assert incoming.frame == frames.Credit(messages=5)
    assert incoming.frame.ref == ""


@BOTH
def test_an_empty_body_is_a_body(subprotocol):
    item: dict[str, Any] = {"queue": "q"}
    rest = with_parts([item], "body", [b""], subprotocol)
    frame = {"type": "publish", "notifications": [item]}
    assert frames.read(message(frame, subprotocol, rest), subprotocol).parts == [b""]


# -- what the service sends ---------------------------------------------------------------------

notifications = st.builds(
    frames.FramedNotification,
    id=texts,
    queue=texts,
    seq=st.integers(1, 2**53),
    lease=texts,
    attempt=st.integers(1, 1_000),
    topic=texts,
    content_type=texts,
    attributes=st.dictionaries(texts, texts, max_size=3),
    ordering_key=texts,
    published_at=texts,
    lease_until=texts,
    body=st.none() | texts,
)


@given(items=st.lists(notifications, max_size=5))
def test_notifications_are_written_as_they_are(items):
    frame = frames.Notifications(queue="q", notifications=items)
    head, rest = unpacked(frames.write(frame, TEXT))
    assert rest == b""
    assert msgspec.convert(head["notifications"], list[frames.FramedNotification]) == items


@given(bodies=st.lists(st.binary(max_size=60), max_size=6))
def test_bodies_stand_behind_a_binary_frame(bodies):
    frame = frames.Settled(ref="r", items=[])
    head, rest = unpacked(frames.write(frame, BINARY, bodies))
    assert head == {"type": "settled", "ref": "r", "items": []}
    assert rest == b"".join(bodies)


@BOTH
@pytest.mark.parametrize(
    ("frame", "members"),
    [
        (frames.Drain(reconnect_after_seconds=2.5), {"reconnect_after_seconds": 2.5}),
        (
            frames.Settled(items=[SettledItem(ok=True, lease="l", outcome="acked", state="acked")]),
            {"items": [{"ok": True, "lease": "l", "outcome": "acked", "state": "acked"}]},
        ),
        (
            frames.Published(
                ref="p",
                results=[
                    PublishedItem(ok=True, id="i", deliveries=[PlaceOut(queue="q", seq=1)]),
                ],
            ),
            {
                "ref": "p",
                "results": [{"ok": True, "id": "i", "deliveries": [{"queue": "q", "seq": 1}]}],
            },
        ),
    ],
)
def test_members_at_their_default_are_left_out(subprotocol, frame, members):
    head, _ = unpacked(frames.write(frame, subprotocol))
    assert head.pop("type") == type(frame).__struct_config__.tag
    assert head == members


def test_an_error_has_the_codes_of_http_and_its_bounds():
    frame = frames.error_of(OutOfBounds("credit", -1, 0, 10), "r")
    assert (frame.ref, frame.code, frame.status) == ("r", "out_of_bounds", 422)
    assert frame.bounds == {"name": "credit", "minimum": 0, "maximum": 10}
    assert frames.error_of(QueueNotFound("none here"), "").bounds is None


# -- what is no frame ---------------------------------------------------------------------------

ACK = {"type": "ack", "ref": "r"}
PUBLISH = {"type": "publish", "ref": "r"}
MALFORMED = [
    ({"type": "eat", "ref": "r"}, "eat"),
    ({"ref": "r"}, "type"),
    ({"type": "credit", "ref": "r"}, "messages"),
    ({"type": "credit", "ref": "r", "messages": "1"}, "messages"),
    ({"type": "credit", "ref": "r", "messages": 1.5}, "messages"),
    ({"type": "credit", "ref": "r", "messages": True}, "messages"),
    ({"type": "credit", "ref": "r", "messages": 1, "credits": 1}, "credits"),
    ({**ACK}, "items"),
    ({**ACK, "items": {}}, "items"),
    ({**ACK, "items": [{}]}, "lease"),
    ({**ACK, "items": [{"lease": 1}]}, "lease"),
    ({**ACK, "items": [{"lease": "l", "reason": "?"}]}, "reason"),
    ({**PUBLISH, "notifications": [{"queue": "q", "body": 1}]}, "body"),
    ({**PUBLISH, "notifications": [{"queue": "q", "attributes": {"a": 1}}]}, "attributes"),
    ({**PUBLISH, "notifications": None}, "notifications"),
]
TEXT_ONLY = [
    ({**ACK, "items": [{"lease": "l", "reply_base64": "?"}]}, "base64"),
    ({**ACK, "items": [{"lease": "l", "reply": "a", "reply_base64": "YQ=="}]}, "not both"),
    ({**ACK, "items": [{"lease": "l", "reply_bytes": 1}]}, "reply_bytes is for"),
    ({**PUBLISH, "notifications": [{"queue": "q", "body_bytes": 1}]}, "body_bytes is for"),
]
BINARY_ONLY = [
    ({**ACK, "items": [{"lease": "l", "reply": "a"}]}, "stands behind"),
    ({**ACK, "items": [{"lease": "l", "reply_base64": "YQ=="}]}, "stands behind"),
    ({**ACK, "items": [{"lease": "l", "reply_bytes": 1}]}, "0 bytes are left"),
    ({**ACK, "items": [{"lease": "l", "reply_bytes": -1}]}, "reply_bytes is -1"),
    ({**ACK, "items": [{"lease": "l", "reply_bytes": 2**70}]}, "are left"),
    ({**PUBLISH, "notifications": [{"queue": "q", "body": "a"}]}, "stands behind"),
    ({**PUBLISH, "notifications": [{"queue": "q", "body_bytes": 9}]}, "are left"),
]
CASES = [
    *((TEXT, frame, says) for frame, says in [*MALFORMED, *TEXT_ONLY]),
    *((BINARY, frame, says) for frame, says in [*MALFORMED, *BINARY_ONLY]),
]


@pytest.mark.parametrize(("subprotocol", "frame", "says"), CASES)
def test_a_malformed_frame_is_told_of_by_its_ref(subprotocol, frame, says):
    with pytest.raises(Unreadable) as refused:
        frames.read(message(frame, subprotocol), subprotocol)
    assert says in refused.value.error.detail
    assert refused.value.ref == "r"
    assert (refused.value.error.code, refused.value.error.status) == ("malformed", 400)


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "null", "7", '"text"', "[]", "NaN", '{"type":"ack","items":[],}', "{}{}"),
        *('{"type":"credit","messages":1e999}', '{"type":"credit","messages":NaN}'),
        *('{"type":"ack","items":[{"lease":"\\ud800"}]}', "[" * 100_000),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_not_json_or_no_object_is_told_of(subprotocol, text):
    data = text if subprotocol == TEXT else packed(text.encode())
    with pytest.raises(Unreadable) as refused:
        frames.read(data, subprotocol)
    assert refused.value.ref == ""


def test_a_ref_too_long_is_refused_and_is_cut_where_the_frame_is_wrong_too():
    long = {"type": "credit", "messages": 1, "ref": "r" * 129}
    with pytest.raises(Unreadable, match="128"):
        frames.read(message(long, TEXT), TEXT)
    with pytest.raises(Unreadable) as refused:
        frames.read(message({**long, "type": "eat"}, TEXT), TEXT)
    assert refused.value.ref == "r" * 128


def test_each_subprotocol_has_messages_of_its_own_kind_only():
    with pytest.raises(Unreadable, match="text messages only"):
        frames.read(message({"type": "credit", "messages": 1}, BINARY), TEXT)
    with pytest.raises(Unreadable, match="binary messages only"):
        frames.read(message({"type": "credit", "messages": 1}, TEXT), BINARY)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\0", b"\0\0\0", b"\0\0\0\1", b"\xff\xff\xff\xff{}", b"\0\0\0\3{}"),
        packed(b"\xff\xfe"),
    ],
)
def test_lying_lengths_are_told_of(data):
    with pytest.raises(Unreadable):
        frames.read(data, BINARY)


def test_what_is_left_over_behind_a_frame_is_told_of():
    frame = {"type": "release", "ref": "r", "items": [{"lease": "l"}]}
    with pytest.raises(Unreadable, match="3 bytes are left over") as refused:
        frames.read(message(frame, BINARY, b"abc"), BINARY)
    assert refused.value.ref == "r"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
somewhat_like_frames = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["credit", "ack", "nack", "publish", "drain"]) | json_values,
        "ref": json_values,
        "messages": json_values,
        "items": st.lists(
            st.fixed_dictionaries(
                {}, optional={"lease": texts, "reply": json_values, "reply_bytes": json_values}
            )
        ),
        "notifications": st.lists(st.dictionaries(st.just("body_bytes"), json_values)),
    },
)


@BOTH
@given(frame=somewhat_like_frames, rest=st.binary(max_size=20))
def test_whatever_comes_it_is_a_frame_or_it_is_told_of(subprotocol, frame, rest):
    with contextlib.suppress(Unreadable):
        incoming = frames.read(message(frame, subprotocol, rest), subprotocol)
        assert incoming.frame.ref == frame.get("ref", "")


@given(data=st.binary(max_size=200))
def test_no_bytes_do_any_harm(data):
    with contextlib.suppress(Unreadable):
        frames.read(data, BINARY)
