"""The shipped suite, over every transport that comes with Restante, against a real server."""

import pytest
from tests.e2e.conftest import ADMIN_KEY

from restante.testing.transports import Target, all_drivers, transport_cases

CASES = [
    pytest.param(driver, scenario, id=f"{driver.name}-{scenario}")
    for driver, scenario in transport_cases()
]
ALL = all_drivers()


@pytest.fixture(scope="session")
def target(server):
    return Target(url=server.url, admin_key=ADMIN_KEY, grpc=server.grpc)


@pytest.mark.parametrize(("driver", "scenario"), CASES)
async def test_transport(driver, scenario, target):
    # Where two transports meet, it is each with the next.
    other = ALL[(ALL.index(driver) + 1) % len(ALL)]
    await scenario.run(target, driver, other)
