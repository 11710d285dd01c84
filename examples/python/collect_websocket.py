"""Collects a queue over a WebSocket. Needs ``pip install websockets``.

URL=http://127.0.0.1:7070 QUEUE=acme KEY=rst_... python collect_websocket.py
"""

import asyncio
import contextlib
import json
import os

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

ADDRESS = f"{os.environ['URL'].replace('http', 'ws', 1)}/v1/queues/{os.environ['QUEUE']}/socket"
HEADERS = {"Authorization": f"Bearer {os.environ['KEY']}"}


async def main() -> None:
    # Iterated over, it connects again, after a growing pause while it cannot.
    async for socket in connect(
        ADDRESS, subprotocols=["restante.v1"], additional_headers=HEADERS, proxy=None
    ):
        with contextlib.suppress(ConnectionClosed):
            await socket.send(json.dumps({"type": "credit", "messages": 10}))
            async for message in socket:
                frame = json.loads(message)
                if frame["type"] == "drain":
                    break
                for notification in frame.get("notifications", ()):
                    # Process it here, and remember its id: it may come again.
                    print("booked", notification["id"], notification["lease"], flush=True)
                    item = {"lease": notification["lease"], "reply": "<booked/>"}
                    await socket.send(json.dumps({"type": "ack", "items": [item]}))


asyncio.run(main())
