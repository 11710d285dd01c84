"""Places orders, each with a key of its own, and sends again what was not answered.

SERVICE=http://127.0.0.1:8000 ORDERS="tea coffee" python place_orders.py

The service is count_once.py. Needs ``httpx``, and nothing of Restante's. Who sends the same ``Authorization`` is the
same caller to that service.
"""

import asyncio
import os

import httpx


async def answer_to(client: httpx.AsyncClient, order: str) -> httpx.Response:
    """The answer, when the service is there to give one."""
    while True:
        try:
            answer = await client.post(
                "/orders", content=order, headers={"Idempotency-Key": f"order-{order}"}
            )
        except httpx.TransportError as error:
            print("away", type(error).__name__, flush=True)
        else:
            if answer.status_code != 503 and "Retry-After" not in answer.headers:
                return answer
        await asyncio.sleep(1)


async def main() -> None:
    headers = {"Authorization": "Bearer shop"}
    async with httpx.AsyncClient(
        base_url=os.environ["SERVICE"], headers=headers, timeout=60
    ) as client:
        for order in os.environ["ORDERS"].split():
            answer = await answer_to(client, order)
            if answer.status_code == 201:
                again = "Idempotency-Replayed" in answer.headers
                print("again" if again else "first", answer.text, flush=True)
                continue
            # The service died in the middle of it: whether it was booked, somebody has to look.
            told = (await client.get(f"/requests/order-{order}")).json()
            print(told["state"], order, answer.json()["code"], flush=True)


asyncio.run(main())
