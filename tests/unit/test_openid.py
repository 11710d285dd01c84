"""What is agreed with an OpenID provider, and what its claims mean."""

import pytest

from restante.openid import OpenId, is_safe, name_of


def openid(**fields):
    agreed = {"issuer": "https://a.test", "client_id": "c", "client_secret": None}
    return OpenId(**agreed | {"page_url": "https://b.test", "admin": ("root",)} | fields)


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"preferred_username": "ada", "email": "a@b.test", "sub": "1"}, "openid:ada"),
        ({"preferred_username": " ", "email": "a@b.test", "sub": "1"}, "openid:a@b.test"),
        ({"sub": "1"}, "openid:1"),
        ({"sub": 1}, "openid:?"),
        ({"sub": "a\x00\u202eb" + "c" * 200}, "openid:a__b" + "c" * 96),
    ],
)
def test_names(claims, name):
    assert name_of(claims) == name


def test_a_claim_may_lie_deeper():
    agreed = openid(role_claim="realm_access.roles")
    assert agreed.level({"realm_access": {"roles": ["root"]}}) == "admin"
    assert agreed.level({"realm_access.roles": ["root"]}) == "admin"
    for claims in ({}, {"realm_access": ["root"]}, {"realm_access": {"roles": {"root": 1}}}):
        assert agreed.level(claims) is None


def test_what_was_agreed_has_a_stamp():
    assert openid().stamp == openid(client_secret="s", page_url="https://c.test").stamp
    others = (
        {"issuer": "https://c.test"},
        {"client_id": "d"},
        {"role_claim": "r"},
        {"viewer": ("root",)},
    )
    assert len({openid(**other).stamp for other in others} | {openid().stamp}) == 5


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://login.test/a", True),
        ("http://127.0.0.1:9000", True),
        ("http://[::1]/", True),
        ("http://localhost/", True),
        ("http://login.test/", False),
        ("http://127.0.0.1.evil.test/", False),
        ("https://user:password@login.test/", False),
        ("https:///nowhere", False),
        ("https://login.test:port/", False),
        ("file:///etc/passwd", False),
        ("", False),
    ],
)
def test_where_nothing_can_be_read_on_its_way(url, safe):
    assert is_safe(url) is safe
