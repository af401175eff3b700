"""Where a webhook may go. A subscriber chooses the URL, and Sublet's machine must not become their way into its network."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from sublet.values.errors import InvalidInputError
from sublet.values.text import refuse_unsafe

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]

URL_CHARS_MAX = 2_000
ADDRESSES_MAX = 16
_UNICAST_V6 = ipaddress.ip_network("2000::/3")
# Inside the globally routed range, and still other addresses in disguise or nobody's: Teredo, ORCHID and other protocol
# assignments, 6to4, and both ranges for documentation.
_NOT_V6 = tuple(
    ipaddress.ip_network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16")
)
_NOT_V4 = tuple(
    ipaddress.ip_network(text) for text in ("192.88.99.0/24", "192.0.0.0/24", "100.64.0.0/10", "168.63.129.16/32")
)


class DestinationRefusedError(InvalidInputError):
    """A webhook may only go to a public https address; the operator can allow others in notifications.internal_hosts."""

    code = "destination_refused"


@dataclass(frozen=True, slots=True)
class Destination:
    """A URL taken apart, and the one address that is connected to."""

    host: str
    port: int
    https: bool
    target: str
    address: str = ""

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.https else 80) else f"{host}:{self.port}"


class Destinations:
    """Checks URLs. `internal` are hosts (`*.example.com` stands for all below) and networks that may be reached though they
    are not public, by http too."""

    def __init__(self, internal: Sequence[str] = (), resolve: Resolve | None = None) -> None:
        self._hosts: list[str] = []
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in internal:
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                self._hosts.append(entry.lower())
        self._resolve = resolve or _resolved

    def parse(self, url: str) -> Destination:
        """The parts of `url`, as far as they can be judged without a look-up. Raises InvalidInputError,
        DestinationRefusedError."""
        refuse_unsafe(url, "address")
        if len(url) > URL_CHARS_MAX or any(sign.isspace() or not sign.isascii() for sign in url) or "\\" in url:
            raise InvalidInputError(f"address must be a URL of at most {URL_CHARS_MAX} ASCII characters without spaces")
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError as error:
            raise InvalidInputError(f"address is not a URL ({error})") from error
        if parts.scheme not in ("https", "http") or not host or "%" in host:
            raise InvalidInputError("address must be a URL such as https://hooks.example.com/sublet")
        if parts.username is not None or parts.password is not None:
            raise InvalidInputError(
                "the address must not contain a user name or password; verify the signature instead"
            )
        if parts.fragment:
            raise InvalidInputError("the address must not contain a fragment (the part after #)")
        https = parts.scheme == "https"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        made = Destination(host, port or (443 if https else 80), https, target)
        literal = _literal(host)
        if literal is not None:
            self._check(made, [literal])
        elif host == "localhost" or host.endswith((".localhost", ".internal", ".local")) or "." not in host:
            self._check(made, None)
        elif not https and not self._internal_host(host) and not self._networks:
            raise DestinationRefusedError(f"{host}: use https")
        return made

    def resolve(self, url: str) -> Destination:
        """The same, with the address to connect to: looked up once, and every address that the name has must be allowed.

        Raises InvalidInputError, DestinationRefusedError, and OSError where the name can't be looked up.
        """
        made = self.parse(url)
        literal = _literal(made.host)
        texts = [str(literal)] if literal is not None else list(self._resolve(made.host, made.port))[:ADDRESSES_MAX]
        found = [ipaddress.ip_address(text.partition("%")[0]) for text in texts]
        if not found:
            raise OSError(f"{made.host} has no address")
        self._check(made, found)
        return Destination(made.host, made.port, made.https, made.target, str(found[0]))

    def _check(self, made: Destination, addresses: Sequence[Address] | None) -> None:
        if self._internal_host(made.host):
            return
        internal = addresses is not None and all(self._internal_address(address) for address in addresses)
        if internal:
            return
        if addresses is None or not all(is_public(address) for address in addresses):
            raise DestinationRefusedError(f"{made.host} is not a public address; {DestinationRefusedError.__doc__}")
        if not made.https:
            raise DestinationRefusedError(f"{made.host}: use https")

    def _internal_host(self, host: str) -> bool:
        name = host.lower()
        return any(name == entry or (entry.startswith("*.") and name.endswith(entry[1:])) for entry in self._hosts)

    def _internal_address(self, address: Address) -> bool:
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        plain = mapped or address
        return any(plain.version == network.version and plain in network for network in self._networks)


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet itself: none of a private, shared, link-local, loopback, multicast or
    reserved range, and none that stands for another address (IPv4-mapped, NAT64, 6to4, Teredo)."""
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_V4)
    return address in _UNICAST_V6 and not any(address in network for network in _NOT_V6)


def _literal(host: str) -> Address | None:
    """The address that `host` is, however it is written: `127.1`, `0x7f000001` and `2130706433` are 127.0.0.1."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def _resolved(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(item[4][0]) for item in found]
