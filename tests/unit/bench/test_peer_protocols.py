"""The peers' protocols, written as their specifications say and read byte by byte."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from restante.bench.peers import amqp, beanstalkd, nats, redis


def byte_by_byte(reader: Any, stream: bytes) -> list[Any]:
    return [item for byte in stream for item in reader.feed(bytes([byte]))]


class TestRedis:
    def test_a_command_is_an_array_of_bulk_strings(self):
        written = redis.command(b"XACK", b"lane-1", b"g", b"5-0")
        assert written == b"*4\r\n$4\r\nXACK\r\n$6\r\nlane-1\r\n$1\r\ng\r\n$3\r\n5-0\r\n"

    def test_replies(self):
        entry = b"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nb\r\n$4\r\na\r\nb\r\n"
        stream = b"+OK\r\n:1\r\n" + entry + b"$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n"
        replies = [b"OK", 1, [[b"s", [[b"1-0", [b"b", b"a\r\nb"]]]]], None, None, [], b""]
        assert redis.ReplyReader().feed(stream) == replies
        assert byte_by_byte(redis.ReplyReader(), stream) == replies

    def test_an_error_reply_is_raised(self):
        with pytest.raises(redis.RedisError, match="NOGROUP"):
            redis.ReplyReader().feed(b"-NOGROUP no such group\r\n")


class TestBeanstalkd:
    def test_replies(self):
        stream = b"USING lane-1\r\nINSERTED 4\r\nRESERVED 4 6\r\nab\r\ncd\r\nDELETED\r\n"
        replies = [
            ([b"USING", b"lane-1"], b""),
            ([b"INSERTED", b"4"], b""),
            ([b"RESERVED", b"4", b"6"], b"ab\r\ncd"),
            ([b"DELETED"], b""),
        ]
        assert beanstalkd.ReplyReader().feed(stream) == replies
        assert byte_by_byte(beanstalkd.ReplyReader(), stream) == replies


class TestNats:
    def test_messages(self):
        stream = (
            b'INFO {"a":1}\r\nMSG lane.1 1 $JS.ACK.x 4\r\n\r\nab\r\n'
            b"MSG _INBOX.a 2 0\r\n\r\nPING\r\n"
        )
        messages = [
            ([b"INFO", b'{"a":1}'], b""),
            ([b"MSG", b"lane.1", b"1", b"$JS.ACK.x", b"4"], b"\r\nab"),
            ([b"MSG", b"_INBOX.a", b"2", b"0"], b""),
            ([b"PING"], b""),
        ]
        assert nats.MessageReader().feed(stream) == messages
        assert byte_by_byte(nats.MessageReader(), stream) == messages

    def test_a_publish_asks_for_an_answer(self):
        assert nats.publish(b"a", b"b", b"+ACK") == b"PUB a b 4\r\n+ACK\r\n"


class TestAmqp:
    def test_a_frame(self):
        assert amqp.frame(8, 0, b"") == b"\x08\x00\x00\x00\x00\x00\x00\xce"
        assert amqp.ack(5) == bytes.fromhex("01 0001 0000000d 003c 0050 0000000000000005 00 ce")

    def test_frames(self):
        stream = amqp.publish("lane-1", b"\xce<a/>") + amqp.ack(7) + amqp.frame(8, 0, b"")
        frames = byte_by_byte(amqp.FrameReader(), stream)
        assert frames == amqp.FrameReader().feed(stream)
        assert [kind for kind, _ in frames] == [1, 2, 3, 1, 8]
        assert amqp.split_method(frames[0][1])[0] == amqp.BASIC_PUBLISH
        assert struct.unpack_from(">HHQH", frames[1][1]) == (60, 0, 5, 0x9000)
        assert frames[2][1] == b"\xce<a/>"
        assert amqp.split_method(frames[3][1]) == (amqp.BASIC_ACK, b"\0\0\0\0\0\0\0\x07\0")

    def test_a_frame_without_its_end_is_refused(self):
        with pytest.raises(amqp.AmqpError, match="without its end"):
            amqp.FrameReader().feed(amqp.ack(1)[:-1] + b"\x00")

    def test_another_version_is_refused(self):
        with pytest.raises(amqp.AmqpError, match="another version"):
            amqp.FrameReader().feed(b"AMQP\x00\x01\x00\x00")

    def test_a_queue_is_declared_durable_and_quorum(self):
        payload = amqp.declare_quorum_queue("q")[7:-1]
        assert payload == (
            bytes.fromhex("0032 000a 0000 01") + b"q"
            b"\x02" + bytes.fromhex("00000018 0c") + b"x-queue-typeS" + b"\0\0\0\x06quorum"
        )

    def test_the_delivery_tag_is_found(self):
        deliver = amqp.short_string("c") + struct.pack(">QB", 2**40, 0) + b"\0\x06lane-1"
        assert amqp.delivery_tag(deliver) == 2**40

    def test_the_reason_for_a_close_is_found(self):
        arguments = struct.pack(">H", 406) + amqp.short_string("PRECONDITION_FAILED") + b"\0\0\0\0"
        assert amqp.close_reason(arguments) == "406 PRECONDITION_FAILED"

    def test_a_body_must_fit_in_one_frame(self):
        with pytest.raises(ValueError, match="one frame"):
            amqp.publish("q", b"x" * amqp.FRAME_MAX_BYTES)
