"""Collects a queue by long poll, and signs each ack with a key of its own. Needs ``pip install restante``.

URL=http://127.0.0.1:7070 QUEUE=acme KEY=rst_... SIGNING_KEY=private.pem python collect_signed.py
"""

import asyncio
import os
from pathlib import Path

from restante.client import Client, Signer
from restante.errors import RestanteError

SIGNER = Signer.from_pem(Path(os.environ["SIGNING_KEY"]).read_bytes())


async def main() -> None:
    async with Client(os.environ["URL"], os.environ["KEY"], signer=SIGNER) as client:
        while True:
            try:
                async for lease in client.collect(os.environ["QUEUE"]):
                    # Process it here, and remember its id: it may come again.
                    print("booked", lease.notification.id, lease.notification.lease, flush=True)
                    await lease.ack(b"<booked/>", reply_content_type="application/xml")
            except RestanteError as error:
                print(error)
            await asyncio.sleep(2)


asyncio.run(main())
