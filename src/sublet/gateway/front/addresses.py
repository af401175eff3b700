"""Who is at the other end: the address that connected, or, behind a trusted proxy, the one that the proxy names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

from sublet.values.errors import InvalidInputError

HOPS_MAX = 32
_LISTED = b"x-forwarded-for"
_FORWARDED = b"forwarded"
# One pair of an element of RFC 7239: a token, or a quoted string with its escapes.
_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*("(?:[^"\\]|\\.)*"|[^;,"]*)', re.IGNORECASE)
_ELEMENTS = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxies:
    """The proxies whose `X-Forwarded-For` or `Forwarded` (RFC 7239) is believed; nobody else's is."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        """`networks` are addresses or CIDR blocks. Raises InvalidInputError."""
        self._networks = tuple(parse_network(text) for text in networks)
        self.trusts = lru_cache(maxsize=1024)(self._trusts)

    def client(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """The client's address: the right-most hop that is not a trusted proxy.

        Each proxy appends the address that connected to it, so only what trusted ones appended counts; whatever a client
        wrote stands further left. A hop that is not an address ends the search at the proxy that passed it on. A proxy that
        writes one of the two headers passes on what a client wrote into the other: where they disagree, neither is believed.
        """
        if not self._networks or not self.trusts(peer):
            return peer
        listed = [value.decode("latin-1") for name, value in headers if name == _LISTED]
        forwarded = [value.decode("latin-1") for name, value in headers if name == _FORWARDED]
        found = set()
        if listed:
            found.add(self._last(peer, ",".join(listed).split(",")))
        if forwarded:
            found.add(self._last(peer, [_hop_of(element) for element in _ELEMENTS.findall(",".join(forwarded))]))
        return found.pop() if len(found) == 1 else peer

    def _last(self, peer: str, hops: Sequence[str]) -> str:
        client = peer
        for hop in reversed(hops[-HOPS_MAX:]):
            address = parse_hop(hop)
            if address is None:
                return client
            client = str(address)
            if not self.trusts(client):
                return client
        return client

    def _trusts(self, address: str) -> bool:
        parsed = parse_hop(address)
        return parsed is not None and any(parsed in network for network in self._networks)


def _hop_of(element: str) -> str:
    """The `for` of an element of Forwarded; empty where it has none."""
    found = _FOR.search(element)
    return found[1] if found else ""


def parse_network(text: str) -> Network:
    """An address or a CIDR block. Raises InvalidInputError."""
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise InvalidInputError(f"{text!r} is neither an address nor a network such as 10.0.0.0/8") from error


def parse_hop(text: str) -> Address | None:
    """The address of a hop, without a port or zone; None where there is none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
