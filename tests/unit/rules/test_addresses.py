"""The table of addresses that no webhook is sent to."""

import ipaddress

import pytest

from restante.addresses import DENIED, denial, is_allowed, parse_networks

DENIED_ADDRESSES = [
    # unspecified, this network
    *("0.0.0.0", "0.0.0.1", "0.255.255.255", "::"),
    # private
    *("10.0.0.0", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255"),
    *("192.168.0.1", "192.168.255.255"),
    # shared by a provider's customers; a cloud's metadata among them
    *("100.64.0.1", "100.127.255.255", "100.100.100.200"),
    # loopback
    *("127.0.0.1", "127.0.0.53", "127.255.255.255", "::1"),
    # link-local; metadata
    *("169.254.0.1", "169.254.169.254", "169.254.170.2", "fe80::1", "fe80::a9fe:a9fe", "febf::1"),
    *("168.63.129.16", "192.0.0.192", "fd00:ec2::254"),
    # reserved, documentation, benchmarking
    *("192.0.0.1", "192.0.0.8", "192.0.0.170", "192.0.2.1", "198.51.100.7", "203.0.113.255"),
    *("192.31.196.1", "192.52.193.1", "192.175.48.1", "198.18.0.1", "198.19.255.255"),
    *("192.88.99.1", "240.0.0.1", "254.255.255.255", "255.255.255.255"),
    # multicast
    *("224.0.0.1", "239.255.255.250", "232.1.2.3", "ff02::1", "ff0e::1", "ff00::"),
    # unique-local, site-local
    *("fc00::1", "fdff::1", "fd12:3456:789a::1", "fec0::1", "feff::1"),
    # what carries an IPv4 address
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:a00:1"),
    *("::127.0.0.1", "::10.0.0.1", "::8.8.8.8", "::7f00:1"),
    *("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "64:ff9b:1:ffff::a00:1"),
    *("2002:7f00:1::", "2002:808:808::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    # the rest of IPv6's special purposes
    *("100::1", "100:0:0:1::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:1::1"),
    *("2001:db8::1", "3fff::1", "3fff:fff::1", "2620:4f:8000::1", "3ffe::1", "5f00::1"),
    # never given out
    *("1::1", "4000::1", "8000::1", "e000::1", "200::1", "::1:0:0:0"),
]
PUBLIC_ADDRESSES = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1"),
    *("126.255.255.255", "128.0.0.1", "168.63.129.15", "169.253.255.255", "169.255.0.1"),
    *("172.15.255.255", "172.32.0.1", "192.0.1.1", "192.0.3.1", "192.167.255.255"),
    *("192.169.0.1", "198.17.255.255", "198.20.0.1", "198.51.101.1", "203.0.112.1"),
    *("203.0.114.1", "223.255.255.255", "::ffff:8.8.8.8", "2000::1", "2001:200::1"),
    *("2001:4860:4860::8888", "2003::1", "2606:4700:4700::1111", "2a00:1450:4001::1", "3ffd::1"),
]


def at(text):
    return ipaddress.ip_address(text)


@pytest.mark.parametrize("text", DENIED_ADDRESSES)
def test_denied(text):
    assert denial(at(text)) is not None


@pytest.mark.parametrize("text", PUBLIC_ADDRESSES)
def test_public(text):
    assert denial(at(text)) is None


def test_the_table_is_long_enough_and_every_range_of_it_is_looked_at():
    assert len(DENIED_ADDRESSES) >= 60
    for network, what in DENIED:
        assert any(at(text) in network for text in DENIED_ADDRESSES), (network, what)
        assert denial(network[0]) is not None
        assert denial(network[-1]) is not None


def test_python_lets_some_of_them_pass():
    """Why there is a table of our own."""
    passed = {text for text in DENIED_ADDRESSES if at(text).is_global}
    assert {"224.0.0.1", "64:ff9b::7f00:1", "ff0e::1", "168.63.129.16"} <= passed


@pytest.mark.parametrize("text", ["fe80::1%eth0", "2606:4700::1%1"])
def test_an_address_with_a_zone_is_denied(text):
    assert denial(at(text)) is not None


def test_the_reason_is_the_nearest():
    assert denial(at("255.255.255.255")) == "broadcast"
    assert denial(at("::1")) == "loopback"
    assert denial(at("2001::1")) == "Teredo"
    assert denial(at("::ffff:127.0.0.1")) == "loopback"


def test_what_the_operator_allows_is_allowed_and_nothing_beside_it():
    allowed = parse_networks(["10.1.0.0/16", " ::1 ", "127.0.0.1"])
    for text in ("10.1.2.3", "::1", "127.0.0.1", "::ffff:10.1.2.3", "::ffff:127.0.0.1"):
        assert is_allowed(at(text), allowed)
        assert denial(at(text), allowed) is None
    for text in ("10.2.0.1", "127.0.0.2", "::", "::10.1.2.3", "64:ff9b::10.1.2.3"):
        assert not is_allowed(at(text), allowed)
        assert denial(at(text), allowed) is not None
    assert not is_allowed(at("8.8.8.8"), allowed)
    assert denial(at("8.8.8.8"), allowed) is None


@pytest.mark.parametrize("text", ["", "localhost", "10.0.0.1/8", "10.0.0.0/33", "::/129", "*"])
def test_no_network(text):
    with pytest.raises(ValueError):  # noqa: PT011 (the words are ipaddress's)
        parse_networks([text])
