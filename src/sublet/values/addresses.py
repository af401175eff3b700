"""Who calls from this machine itself."""

from __future__ import annotations

import ipaddress
from collections.abc import Container

FORWARDED = ("x-forwarded-for", "x-real-ip", "forwarded")


def is_direct(host: str, headers: Container[str]) -> bool:
    """Whether a request comes from this machine itself. One that a proxy passes on comes from here no matter who sent it, and says so
    in a header; `headers` are the names of the request's own."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback) and not any(name in headers for name in FORWARDED)
