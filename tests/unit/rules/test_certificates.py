"""Names of certificates: which count, when two are the same, and what they are found by."""

import re

import hypothesis.strategies as st
import pytest
from hypothesis import given

from restante.certificates import SAN_CHARACTERS, SAN_PATTERN, canonical, key_id
from restante.errors import InvalidName


@pytest.mark.parametrize(
    ("san", "kept"),
    [
        ("dns:backend.acme.example", "dns:backend.acme.example"),
        ("dns:Backend.ACME.example", "dns:backend.acme.example"),
        ("dns:xn--bcher-kva.example", "dns:xn--bcher-kva.example"),
        ("dns:_service.host", "dns:_service.host"),
        ("uri:spiffe://acme.example/Backend", "uri:spiffe://acme.example/Backend"),
        ("uri:urn:uuid:f81d4fae-7dec", "uri:urn:uuid:f81d4fae-7dec"),
        ("email:Ops.Team@ACME.example", "email:Ops.Team@acme.example"),
    ],
)
def test_a_name_is_kept_as_it_is_compared(san, kept):
    assert canonical(san) == kept
    assert canonical(kept) == kept


@pytest.mark.parametrize(
    "san",
    [
        *("", "dns:", "uri:", "email:", "backend.acme.example", "ip:10.0.0.1", "DNS:a.example"),
        *("dns:*.acme.example", "dns:a..b", "dns:.a", "dns:a.", "dns:-a", "dns:a-", "dns:a b"),
        *("dns:a.example\n", "dns:a.example\x00.b", "dns:bücher.example", f"dns:{'a' * 64}"),
        *("uri:acme", "uri://acme", "uri:spiffe://a b", "uri:spiffe://a/\u00e4", "uri:1a:b"),
        *("email:ops", "email:@acme.example", "email:a@b@", "email:a b@acme.example"),
        "email:ops@*.example",
        "uri:a:" + "b" * SAN_CHARACTERS,
    ],
)
def test_any_other_is_refused(san):
    with pytest.raises(InvalidName, match="dns:, uri: or email:"):
        canonical(san)


@given(st.from_regex(SAN_PATTERN, fullmatch=True).filter(lambda san: len(san) <= SAN_CHARACTERS))
def test_what_is_found_by_its_id_is_found_whatever_its_case(san):
    kept = canonical(san)
    assert canonical(kept) == kept
    assert re.fullmatch(r"san-[a-z2-7]{24}", key_id(kept))
    if san.startswith("dns:"):
        assert key_id(canonical(f"dns:{san[4:].upper()}")) == key_id(kept)


def test_another_name_has_another_id():
    names = ["dns:a.example", "dns:b.example", "uri:a:example", "email:a@example"]
    assert len({key_id(name) for name in names}) == len(names)
