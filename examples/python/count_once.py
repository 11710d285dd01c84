"""A service whose orders count once, however often its callers send them, and however often it is killed meanwhile.

PORT=8000 FOLDER=/var/lib/orders python count_once.py

Needs ``pip install restante``. Orders are written to a file in FOLDER, and what is remembered of requests beside it.
"""

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import uvicorn

import restante

FOLDER = Path(os.environ["FOLDER"]).absolute()
SECONDS = float(os.environ.get("SECONDS", "0"))


async def orders(scope: Any, receive: Any, send: Any) -> None:
    """Your own application, which knows nothing of all this: it books what is ordered, and takes its time."""
    order = (await receive())["body"]
    with (FOLDER / "orders.txt").open("ab") as file:
        file.write(order + b"\n")
    print("booking", order.decode(), flush=True)
    await asyncio.sleep(SECONDS)
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": b"booked " + order})


async def main() -> None:
    listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
    async with restante.IdempotencyMiddleware(
        orders, f"sqlite:///{FOLDER}/requests", requests_path="/requests", required=True
    ) as application:
        print("listening", listener.getsockname()[1], flush=True)
        config = uvicorn.Config(application, lifespan="off", log_level="warning")
        await uvicorn.Server(config).serve(sockets=[listener])


asyncio.run(main())
