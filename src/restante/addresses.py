"""Which addresses a webhook may be sent to: the public Internet, and what the operator allows beside it.

A client chooses its webhook's URL, so whoever can set one could have the service knock at doors that only it can reach:
the machine itself, its network, the cloud's metadata. The table below names every range that is not the public
Internet's, from the special-purpose registries of IANA (RFC 6890) and from what cloud providers use. It is a table of
our own, since Python's ``is_global`` lets several of these pass (multicast, NAT64, 6to4 and Teredo among them).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_DENIED: Final[tuple[tuple[str, str], ...]] = (
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by a provider's customers"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "metadata"),  # a public address that a cloud answers on from inside
    ("169.254.0.0/16", "link-local"),  # metadata of most clouds among them
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),  # metadata of one cloud among them
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "reserved"),
    ("192.52.193.0/24", "reserved"),
    ("192.88.99.0/24", "6to4"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "reserved"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::/96", "IPv4-compatible"),
    ("64:ff9b::/96", "NAT64"),
    ("64:ff9b:1::/48", "NAT64"),
    ("100::/64", "discarded"),
    ("100:0:0:1::/64", "reserved"),
    ("2001::/32", "Teredo"),
    ("2001:2::/48", "benchmarking"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("2620:4f:8000::/48", "reserved"),
    ("3ffe::/16", "reserved"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "segment routing"),
    ("fc00::/7", "unique-local"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)
DENIED: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ipaddress.ip_network(network), what) for network, what in _DENIED
)
_GLOBAL: Final = ipaddress.IPv6Network("2000::/3")
"""All that has been given out of IPv6 so far (RFC 4291, section 2.4). The rest is reserved."""


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """The networks of CIDRs such as ``10.0.0.0/8`` or ``::1``; ``ValueError`` for what is none or has host bits."""
    return tuple(ipaddress.ip_network(text.strip()) for text in texts)


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether one of the operator's networks holds it. An IPv4-mapped address is the IPv4 address within it."""
    address = _embedded(address)
    return any(address in network for network in allowed)


def denial(address: Address, allowed: Sequence[Network] = ()) -> str | None:
    """Why nothing may be sent to the address, in a word or two; None where it may.

    ``allowed`` are the operator's own networks, which come before the table.
    """
    address = _embedded(address)
    if is_allowed(address, allowed):
        return None
    for network, what in DENIED:
        if address in network:
            return what
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return "scoped"
        if address not in _GLOBAL:
            return "reserved"
    return None


def _embedded(address: Address) -> Address:
    """The IPv4 address that the system would connect to for an IPv4-mapped one (RFC 4291, section 2.5.5.2)."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
