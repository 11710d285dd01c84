"""The suite asserts in its own modules: have pytest explain those assertions as it does a test's."""

import os

import pytest

from restante.stores.postgresql import TEST_URL
from restante.testing.servers.postgresql import PostgresqlServer

pytest.register_assert_rewrite("restante.testing.conformance")


@pytest.fixture(scope="session", autouse=True)
def postgresql():
    """A database for the suite, one for each process that runs it."""
    with PostgresqlServer() as server:
        os.environ[TEST_URL] = server.create_database()
        yield server
        del os.environ[TEST_URL]
