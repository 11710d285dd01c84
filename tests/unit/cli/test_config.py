"""Settings: where they come from, which wins, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from restante.config import SETTINGS, Address, Config, load, parse_address
from restante.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7070", Address("127.0.0.1", 7070)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:0", Address("::1", 0)),
        ("[::]:65535", Address("::", 65535)),
        ("[0:0:0:0:0:0:0:1]:80", Address("::1", 80)),
    ],
)
def test_addresses_are_read(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "7070", ":7070", "host:", "host:x", "host:-1", "host:65536", "::1:7070"),
        *("[::1]", "[host]:1", "[::1:7", " host:1", "host:1 ", "host:²", "[]:1"),
    ],
)
def test_no_address(text):
    with pytest.raises(ValueError):  # noqa: PT011  # which words it uses is nobody's business
        parse_address(text)


def test_an_address_is_text_again():
    assert str(Address("::1", 7070)) == "[::1]:7070"
    assert str(Address("127.0.0.1", 0)) == "127.0.0.1:0"


def test_defaults():
    config = load(None, {}, {})
    assert config == Config()
    assert config.listen == Address("127.0.0.1", 7070)
    assert config.data == Path("restante-data")


def test_grpc_is_nowhere_unless_it_is_said_where():
    assert load(None, {}, {}).grpc_listen is None
    # Any two may have port 0: these will be different ones.
    config = load(None, {"RESTANTE_GRPC_LISTEN": "h:0"}, {"grpc_admin_listen": "h:0"})
    assert config.grpc_listen == config.grpc_admin_listen == Address("h", 0)


def test_file_then_environment_then_flags(tmp_path):
    file = tmp_path / "restante.toml"
    file.write_text('log_level = "debug"\npoll_interval_seconds = 3\nreserve_bytes = 7\n')
    environment = {"RESTANTE_POLL_INTERVAL_SECONDS": "2.5", "RESTANTE_RESERVE_BYTES": "8"}
    config = load(file, environment, {"reserve_bytes": "9", "data": None})
    assert config.log_level == "debug"
    assert config.poll_interval_seconds == 2.5
    assert config.reserve_bytes == 9


def test_a_relative_folder_in_a_file_is_relative_to_the_file(tmp_path):
    file = tmp_path / "restante.toml"
    file.write_text('data = "mail"\n')
    assert load(file, {}, {}).data == tmp_path / "mail"
    file.write_text('data = "/var/mail"\n')
    assert load(file, {}, {}).data == Path("/var/mail")
    assert load(file, {"RESTANTE_DATA": "here"}, {}).data == Path("here")


def test_so_are_the_files_of_tls(tmp_path):
    file = tmp_path / "restante.toml"
    file.write_text('tls_certificate = "a.pem"\ntls_key = "/keys/a.key"\n')
    config = load(file, {"RESTANTE_TLS_CLIENT_AUTHORITY": "b.pem"}, {})
    assert config.tls_certificate == tmp_path / "a.pem"
    assert config.tls_key == Path("/keys/a.key")
    assert config.tls_client_authority == Path("b.pem")
    assert not config.tls_client_required
    file.write_text('tls_certificate = "a"\ntls_key = "b"\ntls_client_authority = "c"\n')
    assert load(file, {"RESTANTE_TLS_CLIENT_REQUIRED": "true"}, {}).tls_client_required
    assert load(file, {}, {"tls_client_required": True}).tls_client_required


def test_networks_are_a_list_or_text_with_commas(tmp_path):
    file = tmp_path / "restante.toml"
    file.write_text('webhook_allow = ["10.0.0.0/8", "::1"]\nsecrets_key_file = "keys"\n')
    config = load(file, {}, {})
    assert config.webhook_allow == ("10.0.0.0/8", "::1/128")
    assert config.secrets_key_file == tmp_path / "keys"
    config = load(file, {"RESTANTE_WEBHOOK_ALLOW": "127.0.0.0/8, fd00::/8"}, {})
    assert config.webhook_allow == ("127.0.0.0/8", "fd00::/8")
    assert load(None, {}, {}).webhook_allow == ()
    assert load(file, {}, {"webhook_allow": ""}).webhook_allow == ()


@pytest.mark.parametrize(
    ("environment", "flags", "told"),
    [
        ({"RESTANTE_WEBHOOK_ALLOW": "10.0.0.1/8"}, {}, ["RESTANTE_WEBHOOK_ALLOW", "10.0.0.0/8"]),
        ({}, {"webhook_allow": "localhost"}, ["--webhook-allow", "'localhost'"]),
        ({"RESTANTE_LISTEN": "7070"}, {}, ["RESTANTE_LISTEN", "'7070'", "HOST:PORT"]),
        ({"RESTANTE_LOG_LEVEL": "loud"}, {}, ["RESTANTE_LOG_LEVEL", "debug or info"]),
        ({"RESTANTE_RESERVE_BYTES": "1.5"}, {}, ["RESTANTE_RESERVE_BYTES", "whole number"]),
        ({"RESTANTE_RESERVE_BYTES": "64MiB"}, {}, ["RESTANTE_RESERVE_BYTES"]),
        ({"RESTANTE_POLL_INTERVAL_SECONDS": "nan"}, {}, ["0.01 to 3,600"]),
        ({"RESTANTE_POLL_INTERVAL_SECONDS": "inf"}, {}, ["0.01 to 3,600"]),
        ({}, {"reserve_bytes": "-1"}, ["--reserve-bytes", "'-1'"]),
        ({}, {"log_format": "xml"}, ["--log-format", "console or json"]),
        ({}, {"data": ""}, ["--data", "folder"]),
        ({}, {"listen": "h:1", "admin_listen": "h:1"}, ["listen", "admin_listen", "h:1"]),
        ({}, {"tls_certificate": "a.pem"}, ["tls_certificate is set and tls_key is not"]),
        ({}, {"tls_key": "a.key"}, ["tls_key is set and tls_certificate is not"]),
        ({}, {"tls_client_authority": "a"}, ["tls_client_authority", "tls_certificate is not"]),
        ({}, {"tls_client_required": True}, ["tls_client_authority is not"]),
        ({"RESTANTE_TLS_CLIENT_REQUIRED": "yes"}, {}, ["'yes'", "true or false"]),
        ({"RESTANTE_TLS_KEY": "a\0"}, {}, ["RESTANTE_TLS_KEY", "path of a file"]),
        ({}, {"admin_listen": "h:1", "grpc_listen": "h:1"}, ["admin_listen", "grpc_listen", "h:1"]),
        ({}, {"grpc_admin_listen": "h"}, ["--grpc-admin-listen", "HOST:PORT"]),
        ({}, {"tracing_endpoint": "grpc://h:4317"}, ["--tracing-endpoint", "http:// or https://"]),
        ({"RESTANTE_TRACING_SAMPLE_RATIO": "1.1"}, {}, ["RESTANTE_TRACING_SAMPLE_RATIO", "0 to 1"]),
    ],
)
def test_what_is_wrong_names_setting_source_and_bounds(environment, flags, told):
    with pytest.raises(ConfigurationError) as refused:
        load(None, environment, flags)
    for words in told:
        assert words in refused.value.detail


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('lisen = "h:1"', ["lisen", "did you mean listen?"]),
        ("zzz = 1", ["zzz", "there is no such setting", "log_level"]),
        ("reserve_bytes = true", ["reserve_bytes in", "whole number"]),
        ("reserve_bytes = 1.5", ["reserve_bytes"]),
        ("listen = 7070", ["listen in", "HOST:PORT"]),
        ("trusted_proxies = [7]", ["trusted_proxies in", "networks"]),
        ("trusted_proxies = 7", ["trusted_proxies in", "networks"]),
        ('tls_client_required = "maybe"', ["tls_client_required in", "true or false"]),
        ('data = ""', ["data in"]),
        ("[log]\nlevel = 1", ["log in"]),
        ('admin_key = "0123456789abcdef"', ["RESTANTE_ADMIN_KEY"]),
        ("listen =", ["not TOML"]),
    ],
)
def test_what_is_wrong_in_a_file(tmp_path, content, told):
    file = tmp_path / "restante.toml"
    file.write_text(content)
    with pytest.raises(ConfigurationError) as refused:
        load(file, {}, {})
    for words in [*told, "restante.toml"]:
        assert words in refused.value.detail


def test_trusted_proxies_are_a_list_or_text_with_commas(tmp_path):
    file = tmp_path / "restante.toml"
    file.write_text('trusted_proxies = ["10.0.0.0/8", "::1"]\n')
    assert load(file, {}, {}).trusted_proxies == ("10.0.0.0/8", "::1/128")
    environment = {"RESTANTE_TRUSTED_PROXIES": " 127.0.0.1 ,192.0.2.0/24,"}
    assert load(file, environment, {}).trusted_proxies == ("127.0.0.1/32", "192.0.2.0/24")
    assert load(None, {}, {}).trusted_proxies == ()


@pytest.mark.parametrize("value", ["10.0.0.1/8", "proxy.example", "0.0.0.0/0", "::/0", "10.0.0"])
def test_who_cannot_be_a_trusted_proxy(value):
    with pytest.raises(ConfigurationError) as refused:
        load(None, {}, {"trusted_proxies": value})
    for words in ("--trusted-proxies", value, "10.0.0.0/8"):
        assert words in refused.value.detail


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot read"):
        load(tmp_path / "none.toml", {}, {})


@pytest.mark.parametrize("key", ["short", "x" * 256, "with a space in it", "ümlaut-in-the-key"])
def test_a_refused_admin_key_is_not_told(key):
    with pytest.raises(ConfigurationError) as refused:
        load(None, {"RESTANTE_ADMIN_KEY": key}, {})
    assert key not in refused.value.detail
    assert "16 to 255" in refused.value.detail


def test_the_admin_key_is_never_shown():
    config = load(None, {"RESTANTE_ADMIN_KEY": "0123456789abcdef"}, {})
    assert config.admin_key == "0123456789abcdef"
    assert "0123456789abcdef" not in repr(config)
    assert "0123456789abcdef" not in f"{config}"


def test_variables_of_others_are_let_be():
    kubernetes = {"RESTANTE_PORT": "tcp://10.0.0.1:7070", "RESTANTE_SERVICE_HOST": "10.0.0.1"}
    assert load(None, kubernetes | {"RESTANTE_LOG_LEVEL": ""}, {}) == Config()


def test_every_setting_is_described():
    assert set(SETTINGS) == set(Config.__struct_fields__)
