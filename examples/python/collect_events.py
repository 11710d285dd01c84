"""Collects a queue by server-sent events, and signs by HTTP calls. Needs ``pip install httpx``.

URL=http://127.0.0.1:7070 QUEUE=acme KEY=rst_... python collect_events.py
"""

import json
import os
import time

import httpx

HEADERS = {"Authorization": f"Bearer {os.environ['KEY']}"}
last_id = ""
# A comment comes every 15 seconds: after 40 of silence the connection is gone.
with httpx.Client(base_url=os.environ["URL"], headers=HEADERS, timeout=40) as http:
    while True:
        try:
            with http.stream(
                "GET",
                f"/v1/queues/{os.environ['QUEUE']}/events",
                headers={"Last-Event-ID": last_id},
            ) as events:
                for line in events.raise_for_status().iter_lines():
                    field, _, value = line.partition(": ")
                    if field == "id":
                        last_id = value
                    elif field == "data" and value != "{}":
                        notification = json.loads(value)
                        # Process it here, and remember its id: it may come again.
                        print("booked", notification["id"], notification["lease"], flush=True)
                        ack = f"/v1/leases/{notification['lease']}/ack"
                        http.post(ack, content="<booked/>").raise_for_status()
        except httpx.HTTPError as error:
            print(error)
        time.sleep(2)
