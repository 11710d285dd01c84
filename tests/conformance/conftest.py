"""The suite asserts in its own modules: have pytest explain those assertions as it does a test's."""

import pytest

pytest.register_assert_rewrite("restante.testing.conformance")
