"""What is taken for a secret in a URL, and what of it is shown."""

from __future__ import annotations

import pytest

from restante.redaction import holds_secret, shown

SECRET = "open-sesame"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"postgresql://ann:{SECRET}@db/restante", "postgresql://...@db/restante"),
        (f"postgresql://ann:{SECRET}/@db,standby/restante", "postgresql://...@db,standby/restante"),
        (f"postgresql://ann:{SECRET}?@db/restante", "postgresql://...@db/restante"),
        (f"postgresql://ann:p@{SECRET}@db/restante", "postgresql://...@db/restante"),
        (f"postgresql://db/restante?user=ann&password={SECRET}", "postgresql://db/restante"),
        (f"postgresql://db/restante?password=a@{SECRET}", "postgresql://..."),
        (f"postgresql://ann:x?y={SECRET}@db/restante", "postgresql://..."),
        (f"redis://:{SECRET}@redis:6379", "redis://...@redis:6379"),
        (f"nats://{SECRET}@nats:4222", "nats://...@nats:4222"),
        (f"tls://{SECRET}@nats:4222", "tls://...@nats:4222"),
    ],
)
def test_a_secret_is_seen_and_not_shown(url, expected):
    assert holds_secret(url)
    assert shown(url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///restante-data", "sqlite:///restante-data"),
        ("postgresql://ann@db:5432/restante", "postgresql://...@db:5432/restante"),
        ("postgresql://db/restante?sslmode=require", "postgresql://db/restante"),
        ("rediss://redis:6379?ssl_ca_certs=/etc/ca.pem", "rediss://redis:6379"),
        ("nats://nats:4222", "nats://nats:4222"),
        ("no URL at all", "..."),
    ],
)
def test_what_holds_none(url, expected):
    assert not holds_secret(url)
    assert shown(url) == expected
