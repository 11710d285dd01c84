"""Where what Restante logs goes inside another program, and what becomes of what that program logs itself."""

import logging

import pytest
import structlog
from structlog.testing import capture_logs

import restante
from restante.logs import get_logger

NAME = "restante.engine.x"


@pytest.fixture(autouse=True)
def _as_it_comes():
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


async def test_a_program_that_has_configured_nothing_goes_on_as_it_did(capsys):
    log = structlog.get_logger()
    log.info("before")
    async with restante.open("memory://"):
        log.info("within")
        assert not structlog.is_configured()
    log.debug("after")
    said = capsys.readouterr().out
    assert [word for word in ("before", "within", "after") if word in said] == [
        "before",
        "within",
        "after",
    ]
    assert len(said.splitlines()) == 3


def test_where_nobody_says_it_goes_to_the_standard_library(caplog, capsys):
    with caplog.at_level("INFO", "restante"):
        log = get_logger(NAME)
        log.debug("too.little")
        log.info("something.odd", place="x")
    assert caplog.record_tuples == [(NAME, logging.INFO, "something.odd place=x")]
    assert capsys.readouterr().out == ""


def test_a_traceback_shows_no_variables(caplog):
    def fail(key):
        raise RuntimeError("it broke")

    try:
        fail("canary-" + "7f3a")
    except RuntimeError:
        get_logger(NAME).exception("http.failed")
    assert "it broke" in caplog.text
    assert "canary-7f3a" not in caplog.text


def test_a_program_that_configures_structlog_later_is_heard_from_then_on(caplog, capsys):
    log = get_logger(NAME)
    log.warning("first")
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    log.debug("too.little")
    log.info("second", place="x")
    assert [message for _, _, message in caplog.record_tuples] == ["first"]
    assert capsys.readouterr().out == "place='x' event='second'\n"


def test_what_it_logged_before_does_not_keep_its_lines_from_a_test():
    log = get_logger(NAME)
    log.warning("first")
    with capture_logs() as lines:
        log.warning("second", place="x")
    assert lines == [{"event": "second", "place": "x", "log_level": "warning"}]
