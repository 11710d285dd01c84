"""Which server and which key: flags, the environment, and the administrator's key on the same machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from restante.cli.remote import find_access
from restante.errors import ConfigurationError, Unauthenticated


@pytest.fixture
def data(tmp_path) -> Path:
    (tmp_path / "admin.key").write_text("rst_admin\n")
    return tmp_path


def test_flags_win_over_the_environment():
    environment = {"RESTANTE_URL": "http://b", "RESTANTE_KEY": "kb"}
    assert find_access("http://a", "ka", None, environment) == ("http://a", "ka")
    assert find_access(None, None, None, environment) == ("http://b", "kb")


def test_the_default_is_this_machine(data):
    assert find_access(None, None, None, {"RESTANTE_DATA": str(data)}) == (
        "http://127.0.0.1:7070",
        "rst_admin",
    )


@pytest.mark.parametrize("url", ["localhost:1", "http://[::1]:1", "127.8.0.1:7"])
def test_the_administrators_key_is_shown_on_this_machine(data, url):
    assert find_access(url, None, None, {"RESTANTE_DATA": str(data)}).key == "rst_admin"


def test_the_administrators_key_is_not_sent_elsewhere_unasked(data):
    with pytest.raises(Unauthenticated):
        find_access("http://example.test", None, None, {"RESTANTE_DATA": str(data)})
    assert find_access("http://example.test", None, data, {}).key == "rst_admin"


def test_a_folder_without_a_key(tmp_path):
    with pytest.raises(Unauthenticated, match="no key was given"):
        find_access(None, None, None, {"RESTANTE_DATA": str(tmp_path)})
    with pytest.raises(Unauthenticated, match="cannot read"):
        find_access(None, None, tmp_path, {})


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://[::1", "http://host:port"])
def test_no_url(url):
    with pytest.raises(ConfigurationError):
        find_access(url, "key", None, {})


@pytest.mark.parametrize("key", ["two words", "ümlaut", "line\nend"])
def test_no_key_at_all(key):
    with pytest.raises(Unauthenticated):
        find_access("http://a", key, None, {})
