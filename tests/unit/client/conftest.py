from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from tests.unit.client.house import Slow

import restante
from restante.client import Client
from restante.model import Role


@pytest.fixture
async def slow() -> Slow:
    return Slow()


@pytest.fixture
async def office() -> AsyncIterator[restante.embedding.Office]:
    async with restante.open("memory://") as office:
        await office.add_client("acme")
        yield office


@pytest.fixture
async def restante_client(office: restante.embedding.Office) -> AsyncIterator[Client]:
    key = await office.add_key(Role.PUBLISHER, "shop")
    transport = httpx.ASGITransport(app=office.asgi())
    async with Client(
        "http://restante", key, transport=transport, retry_delays_seconds=()
    ) as client:
        yield client
