"""HTTP/2 by hand (RFC 9113), for a client that does what no library would do."""

from __future__ import annotations

import socket
from typing import Final

DATA: Final = 0x0
HEADERS: Final = 0x1
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PING: Final = 0x6
GOAWAY: Final = 0x7
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
ACK: Final = 0x1
INITIAL_WINDOW_SIZE: Final = 0x4
CANCEL: Final = 0x8


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame (section 4.1)."""
    length = len(payload).to_bytes(3, "big")
    return length + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def headers(fields: dict[str, str]) -> bytes:
    """Header fields, each as a literal without indexing or Huffman coding (RFC 7541, section 6.2.2)."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())


def message(data: bytes) -> bytes:
    """A message of gRPC's, not compressed."""
    return b"\0" + len(data).to_bytes(4, "big") + data


def _text(value: str) -> bytes:
    length = len(value)
    # An integer with a prefix of seven bits (section 5.1).
    head = bytes((length,)) if length < 127 else bytes((127, length - 127))
    return head + value.encode()


class Connection:
    """A connection on which frames go out as told."""

    def __init__(self, address: str, settings: dict[int, int] | None = None) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        given = (settings or {}).items()
        payload = b"".join(k.to_bytes(2, "big") + v.to_bytes(4, "big") for k, v in given)
        self.send(frame(SETTINGS, 0, 0, payload))
        self._rest = b""

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def call(self, stream: int, method: str, key: str) -> bytes:
        """The frame that opens a call."""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": f"/restante.v1.Delivery/{method}",
            ":authority": "x",
            "content-type": "application/grpc",
            "te": "trailers",
            "authorization": f"Bearer {key}",
        }
        return frame(HEADERS, END_HEADERS, stream, headers(fields))

    def next(self) -> tuple[int, int, int, bytes]:
        """The next frame: kind, flags, stream, payload. Raises ``EOFError`` when the other side has closed."""
        head = self._take(9)
        length = int.from_bytes(head[:3], "big")
        return head[3], head[4], int.from_bytes(head[5:], "big"), self._take(length)

    def until(self, kind: int, flags: int = 0) -> bytes:
        """Read on to a frame of that kind, with these flags; its payload."""
        while True:
            found, its, _, payload = self.next()
            if found == kind and its & flags == flags:
                return payload

    def close(self) -> None:
        self.socket.close()

    def _take(self, count: int) -> bytes:
        while len(self._rest) < count:
            data = self.socket.recv(65_536)
            if not data:
                raise EOFError
            self._rest += data
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken
