import pytest
from tests.unit.desk import compiled
from tests.unit.desk.house import ADMIN_KEY, Browser
from tests.unit.engine.conftest import broker, clock, store
from tests.unit.engine.house import OPERATOR

from restante.engine.administration import Administration
from restante.http.api import Api, Routes
from restante.http.authentication import Authenticator
from restante.model import Role
from restante.portal import composition

__all__ = ["broker", "clock", "store"]


class Portal:
    """The clients' page over a broker: acme and bob have a queue and a key each."""

    def __init__(self, broker):
        self.broker = broker
        routes = Routes()
        composition.add_routes(routes, broker, Authenticator(broker, ADMIN_KEY), "1.2.3")
        self.routes = routes
        self.app = Api(routes, None)
        self.keys = {}

    async def furnish(self):
        for name in ("acme", "bob"):
            _, self.keys[name] = await Administration(self.broker, OPERATOR).add_key(
                Role.CLIENT, name, None, ""
            )
            await self.broker.monitor.refresh(name)

    def browser(self, **options):
        return Browser(self.app, **options)

    async def signed_in(self, name):
        browser = self.browser()
        answer = await browser.post("/portal/sign-in", data={"key": self.keys[name]})
        assert answer.headers["location"] == "/portal/"
        return browser


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch):
    compiled.use(monkeypatch)


@pytest.fixture
async def portal(broker):
    portal = Portal(broker)
    await portal.furnish()
    return portal


@pytest.fixture
async def acme(portal):
    return await portal.signed_in("acme")
