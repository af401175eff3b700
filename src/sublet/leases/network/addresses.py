"""Which addresses a lease may reach, whatever name led there: public ones, and never this machine, private networks, other
tenants, or the metadata services of clouds.

Special ranges: IANA's IPv4 and IPv6 special-purpose address registries. IPv6 is open where it is global unicast (2000::/3, RFC
4291) and is not one of the forms that carry an IPv4 address inside: those would reach what is refused as IPv4.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        # A public address at which one cloud serves metadata to its own machines.
        "168.63.129.16/32",
        "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
    )
)  # fmt: skip


def may_reach(address: str, permitted: Sequence[Network] = (), denied: Sequence[Network] = ()) -> bool:
    """Whether a lease may be connected to `address`. `permitted` are networks of the operator's own that it may reach all the
    same, as those of a mirror; `denied` are others that it may not."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if getattr(found, "scope_id", None):
        return False
    if any(found in network for network in denied):
        return False
    if any(found in network for network in permitted):
        return True
    if found.version == 6 and found not in _GLOBAL_V6:
        return False
    return not any(found in network for network in _NEVER) and not _of_this_machine(found)


def _of_this_machine(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """A machine may have public addresses: what can be bound here is this machine, whatever its interfaces are called."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            trial.bind((str(address), 0))
    except OSError:
        return False
    return True
