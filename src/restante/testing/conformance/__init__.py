"""The suite that every store passes. Run it on your own:

    import pytest
    from restante.testing.conformance import store_scenarios

    @pytest.mark.parametrize("scenario", store_scenarios(durable=True), ids=str)
    def test_my_store(scenario, tmp_path):
        scenario.run(open_my_store, tmp_path)

``open_my_store(folder, clock, jitter)`` returns an async context manager whose value is the open store. It keeps
what it keeps in ``folder``, an empty directory; it takes the time from ``clock``, which stands still until a scenario
advances it; and it multiplies backoff by ``jitter()``. ``durable`` says that what was written is there again when
the store is opened a second time.

The stores that come with Restante are found by themselves (``shipped_stores``): each module or package in
``restante.stores`` has ``open_for_tests``, which is such a function, and ``DURABLE``.

``wakers`` has the suite of wakers.
"""

from restante.testing.conformance.adapters import Adapter, Opener, shipped_stores
from restante.testing.conformance.stage import Scenario, Stage
from restante.testing.conformance.suite import store_scenarios

__all__ = ["Adapter", "Opener", "Scenario", "Stage", "shipped_stores", "store_scenarios"]
