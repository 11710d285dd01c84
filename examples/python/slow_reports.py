"""A service whose reports take long: who prefers that is answered at once with 202, and waits for the report.

URL=http://127.0.0.1:7070 KEY=rst_... PORT=8000 RUNNER=reports-1 python slow_reports.py

Needs ``pip install restante``. KEY is a publisher's. What was under way when it crashed fails as ``interrupted`` when
it starts again under the same RUNNER.
"""

import asyncio
import os
import socket
from typing import Any

import uvicorn

import restante
from restante.client import Client

SECONDS = float(os.environ.get("SECONDS", "30"))


async def reports(scope: Any, receive: Any, send: Any) -> None:
    """Your own application, which knows nothing of all this."""
    await receive()
    await asyncio.sleep(SECONDS)
    body = f"<report on='{scope['path'].rpartition('/')[2]}'/>".encode()
    headers = [(b"content-type", b"application/xml")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def main() -> None:
    listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
    async with (
        Client(os.environ["URL"], os.environ["KEY"]) as client,
        restante.RespondAsync(
            reports, client, runner=os.environ["RUNNER"], paths=("/reports",)
        ) as application,
    ):
        print("listening", listener.getsockname()[1], flush=True)
        config = uvicorn.Config(application, lifespan="off", log_level="warning")
        await uvicorn.Server(config).serve(sockets=[listener])


asyncio.run(main())
