"""As much of AMQP 0-9-1 as a publisher with confirms and a consumer with acks need. Pure.

Names and numbers are the specification's (amqp0-9-1.xml, and RabbitMQ's confirm extension).
"""

from __future__ import annotations

import struct

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT = 1, 2, 3, 8
_FRAME_END = b"\xce"
_FRAME_START = struct.Struct(">BHI")
_METHOD = struct.Struct(">HH")

CONNECTION_START, CONNECTION_START_OK = (10, 10), (10, 11)
CONNECTION_TUNE, CONNECTION_TUNE_OK = (10, 30), (10, 31)
CONNECTION_OPEN, CONNECTION_OPEN_OK = (10, 40), (10, 41)
CONNECTION_CLOSE = (10, 50)
CHANNEL_OPEN, CHANNEL_OPEN_OK = (20, 10), (20, 11)
CHANNEL_CLOSE = (20, 40)
QUEUE_DECLARE, QUEUE_DECLARE_OK = (50, 10), (50, 11)
BASIC_QOS, BASIC_QOS_OK = (60, 10), (60, 11)
BASIC_CONSUME, BASIC_CONSUME_OK = (60, 20), (60, 21)
BASIC_PUBLISH, BASIC_DELIVER, BASIC_ACK = (60, 40), (60, 60), (60, 80)
CONFIRM_SELECT, CONFIRM_SELECT_OK = (85, 10), (85, 11)

_DURABLE = 0b10
_CONTENT_TYPE_AND_DELIVERY_MODE = 0x8000 | 0x1000
_PERSISTENT = 2
# The specification's field `frame-max`: what one body frame may carry, its frame included.
FRAME_MAX_BYTES = 131_072


class AmqpError(Exception):
    """The bytes are no AMQP frames."""


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """One frame."""
    return _FRAME_START.pack(kind, channel, len(payload)) + payload + _FRAME_END


def method(channel: int, identifier: tuple[int, int], arguments: bytes = b"") -> bytes:
    """A method frame: class and method, and the arguments as encoded by the caller."""
    return frame(FRAME_METHOD, channel, _METHOD.pack(*identifier) + arguments)


def short_string(text: str) -> bytes:
    """At most 255 bytes, with their length in one."""
    data = text.encode()
    return struct.pack(">B", len(data)) + data


def long_string(data: bytes) -> bytes:
    """Bytes with their length in four."""
    return struct.pack(">I", len(data)) + data


def table(fields: dict[str, str]) -> bytes:
    """A field table, of long strings only."""
    entries = b"".join(
        short_string(name) + b"S" + long_string(value.encode()) for name, value in fields.items()
    )
    return long_string(entries)


def start_ok(user: str, password: str) -> bytes:
    """Log in by PLAIN (RFC 4616)."""
    response = f"\0{user}\0{password}".encode()
    arguments = table({}) + short_string("PLAIN") + long_string(response) + short_string("en_US")
    return method(0, CONNECTION_START_OK, arguments)


def tune_ok() -> bytes:
    """One channel is enough, and no heartbeats: both ends are on one machine."""
    return method(0, CONNECTION_TUNE_OK, struct.pack(">HIH", 1, FRAME_MAX_BYTES, 0))


def open_connection(virtual_host: str) -> bytes:
    return method(0, CONNECTION_OPEN, short_string(virtual_host) + short_string("") + b"\x00")


def open_channel() -> bytes:
    return method(1, CHANNEL_OPEN, short_string(""))


def declare_quorum_queue(queue: str) -> bytes:
    arguments = table({"x-queue-type": "quorum"})
    flags = struct.pack(">B", _DURABLE)
    return method(1, QUEUE_DECLARE, b"\x00\x00" + short_string(queue) + flags + arguments)


def confirm_select() -> bytes:
    return method(1, CONFIRM_SELECT, b"\x00")


def qos(prefetch_count: int) -> bytes:
    return method(1, BASIC_QOS, struct.pack(">IHB", 0, prefetch_count, 0))


def consume(queue: str) -> bytes:
    """Consume with acks; the consumer tag is `c`."""
    arguments = b"\x00\x00" + short_string(queue) + short_string("c") + b"\x00" + table({})
    return method(1, BASIC_CONSUME, arguments)


def publish(queue: str, body: bytes) -> bytes:
    """A persistent message to a queue through the default exchange. One body frame at most."""
    if len(body) > FRAME_MAX_BYTES - 8:
        raise ValueError(f"a body of {len(body)} bytes does not fit in one frame")
    arguments = b"\x00\x00" + short_string("") + short_string(queue) + b"\x00"
    header = struct.pack(">HHQH", 60, 0, len(body), _CONTENT_TYPE_AND_DELIVERY_MODE)
    header += short_string("application/xml") + struct.pack(">B", _PERSISTENT)
    return (
        method(1, BASIC_PUBLISH, arguments)
        + frame(FRAME_HEADER, 1, header)
        + frame(FRAME_BODY, 1, body)
    )


def ack(delivery_tag: int) -> bytes:
    return method(1, BASIC_ACK, struct.pack(">QB", delivery_tag, 0))


def delivery_tag(deliver_arguments: bytes) -> int:
    """The delivery tag out of the arguments of a basic.deliver."""
    tag_length = deliver_arguments[0]
    (tag,) = struct.unpack_from(">Q", deliver_arguments, 1 + tag_length)
    return int(tag)


def close_reason(close_arguments: bytes) -> str:
    """Code and text out of the arguments of a connection.close or channel.close."""
    (code,) = struct.unpack_from(">H", close_arguments)
    text = close_arguments[3 : 3 + close_arguments[2]]
    return f"{code} {text.decode(errors='replace')}"


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take bytes; return the frames now complete, each as (kind, payload).

        Raises AmqpError when a frame does not end as it must, or the server refuses the protocol.
        """
        buffer = self._buffer + data if self._buffer else data
        if buffer.startswith(b"AMQP"):
            raise AmqpError("the server speaks another version of AMQP")
        frames: list[tuple[int, bytes]] = []
        at = 0
        while len(buffer) - at >= _FRAME_START.size:
            kind, _, length = _FRAME_START.unpack_from(buffer, at)
            start = at + _FRAME_START.size
            stop = start + length
            if len(buffer) <= stop:
                break
            if buffer[stop : stop + 1] != _FRAME_END:
                raise AmqpError("a frame without its end")
            frames.append((kind, buffer[start:stop]))
            at = stop + 1
        self._buffer = buffer[at:]
        return frames


def split_method(payload: bytes) -> tuple[tuple[int, int], bytes]:
    """Class and method of a method frame, and the arguments."""
    class_id, method_id = _METHOD.unpack_from(payload)
    return (class_id, method_id), payload[_METHOD.size :]
