"""The other ends of connections, without any network."""

import asyncio
import json
from typing import Any

from restante.app import build_api


class Socket:
    """A WebSocket's other end, as ASGI has it."""

    def __init__(self, broker, key, path="/v1/queues/acme/socket", subprotocol="restante.v1"):
        scope = {
            "type": "websocket",
            "path": path,
            "headers": [(b"authorization", f"Bearer {key}".encode())],
            "query_string": b"",
            "subprotocols": [subprotocol],
            "extensions": {"websocket.http.response": {}},
        }
        self.sent = []
        self._said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._said.put_nowait({"type": "websocket.connect"})
        self.serving = asyncio.create_task(build_api(broker)(scope, self._said.get, self._send))

    async def _send(self, message):
        self.sent.append(message)

    def say(self, **frame):
        self._said.put_nowait({"type": "websocket.receive", "text": json.dumps(frame)})

    async def leave(self):
        self._said.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(self.serving, 5)

    @property
    def frames(self):
        return [json.loads(one["text"]) for one in self.sent if one["type"] == "websocket.send"]
