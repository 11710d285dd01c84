import pytest
from tests.unit.desk import compiled
from tests.unit.desk.house import Site
from tests.unit.engine.conftest import broker, clock, store

from restante.operators import Level

__all__ = ["broker", "clock", "store"]


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch):
    compiled.use(monkeypatch)


@pytest.fixture
async def site(broker):
    site = Site(broker)
    for level in Level:
        await site.add(level.value, level)
    for queue in ("acme", "bob"):
        await broker.monitor.refresh(queue)
    return site
