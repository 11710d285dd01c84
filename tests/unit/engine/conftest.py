import pytest
from tests.unit.engine.house import GatedStore, furnish

from restante.engine.broker import Broker
from restante.testing.clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def store(clock):
    async with GatedStore(clock, jitter=lambda: 0.5) as store:
        await furnish(store)
        yield store


@pytest.fixture
async def broker(store, clock):
    async with Broker(store, clock) as broker:
        yield broker
