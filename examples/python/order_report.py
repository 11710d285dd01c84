"""Orders a report that takes long and waits for it, however often the service is restarted meanwhile.

SERVICE=http://127.0.0.1:8000 python order_report.py

The service is slow_reports.py. Needs ``httpx``, and nothing of Restante's: this is HTTP as RFC 7240 has it.
"""

import asyncio
import os

import httpx

PREFER = {"Prefer": "respond-async, wait=1"}


async def answer_to(client: httpx.AsyncClient, method: str, place: str) -> httpx.Response:
    """The answer, when the service is there to give one."""
    while True:
        try:
            answer = await client.request(method, place, headers=PREFER)
        except httpx.TransportError as error:
            print("away", type(error).__name__, flush=True)
        else:
            if answer.status_code != 503:
                return answer
        await asyncio.sleep(1)


async def main() -> None:
    async with httpx.AsyncClient(base_url=os.environ["SERVICE"], timeout=60) as client:
        while True:
            answer = await answer_to(client, "POST", "/reports/may")
            while answer.status_code == 202:
                print("waiting", answer.headers["location"], flush=True)
                answer = await answer_to(client, "GET", f"{answer.headers['location']}?wait=30")
            if answer.status_code == 200:
                print("report", answer.text, flush=True)
                return
            # It was interrupted, or had no room: order another.
            print("failed", answer.text, flush=True)
            await asyncio.sleep(1)


asyncio.run(main())
