"""Answers its own caller only when B and C have both signed; where one does not, the other is told to undo it.

URL=http://127.0.0.1:7070 KEY=rst_... B=stock C=payments python all_or_compensate.py ORDER

Needs ``pip install restante``. KEY is a publisher's. Run it again with the same order and it answers the same.
"""

import asyncio
import os
import sys

from restante.client import Client, Compensation, GroupMember, Unreachable
from restante.errors import StoreError


def step(queue: str, order: str) -> GroupMember:
    return GroupMember(
        queue=queue,
        body=f"<reserve order='{order}'/>".encode(),
        content_type="application/xml",
        compensation=Compensation(
            body=f"<cancel order='{order}'/>".encode(), content_type="application/xml"
        ),
    )


async def main(order: str) -> int:
    async with Client(os.environ["URL"], os.environ["KEY"]) as client:
        while True:
            try:
                group = await client.publish_group(
                    [step(os.environ["B"], order), step(os.environ["C"], order)],
                    timeout_seconds=float(os.environ.get("TIMEOUT", "60")),
                    wait_seconds=30,
                    idempotency_key=f"order-{order}",
                )
            except (Unreachable, StoreError) as error:
                # It is being restarted, perhaps. With the key nothing is published twice.
                print("again:", error.detail, flush=True)
                await asyncio.sleep(1)
                continue
            if group.state != "pending":
                break
        print("group", group.id, flush=True)
    print(group.state, group.reason, flush=True)
    return 0 if group.state == "complete" else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
