"""The suite that every transport passes, against a service that runs.

Each scenario says what holds for a consumer, whatever it speaks; a driver is a client that speaks one transport. The
transports are found by themselves: each module in ``restante.transports`` has a module of its name in
``restante.testing.transports.drivers``, whose ``DRIVERS`` are the clients to run. What a driver cannot do it does not
name in ``offers``, and the scenarios that need it are not run with it.

    @pytest.mark.parametrize(("driver", "scenario"), transport_cases())
    async def test_transport(driver, scenario, service):
        await scenario.run(Target(url=service.url, admin_key=service.key, ...), driver)
"""

from restante.testing.transports.driver import Driver, Target, Want
from restante.testing.transports.finding import all_drivers, transport_cases
from restante.testing.transports.stage import Scenario

__all__ = ["Driver", "Scenario", "Target", "Want", "all_drivers", "transport_cases"]
