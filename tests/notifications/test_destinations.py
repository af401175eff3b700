"""No URL leads a webhook to an address that is not public, however it is written or looked up."""

from __future__ import annotations

import ipaddress

import pytest

from sublet.notifications.destinations import DestinationRefusedError, Destinations, is_public
from sublet.values.errors import InvalidInputError

PUBLIC = ("93.184.216.34", "8.8.8.8", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e")
NOT_PUBLIC = (
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
)


@pytest.mark.parametrize("text", PUBLIC)
def test_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))
    host = f"[{text}]" if ":" in text else text
    with pytest.raises(DestinationRefusedError):
        Destinations().parse(f"https://{host}/x")
    with pytest.raises(DestinationRefusedError):
        Destinations(resolve=lambda host, port: [text]).resolve("https://hooks.example.com/x")


@pytest.mark.parametrize(
    "url",
    [
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.0.0.1./",
        "https://localhost/",
        "https://LOCALHOST/",
        "https://localhost./",
        "https://app.localhost/",
        "https://metadata.google.internal/",
        "https://printer.local/",
        "https://intranet/",
        "https://[::ffff:7f00:1]/",
        "http://hooks.example.com/",
    ],
)
def test_disguises(url: str) -> None:
    with pytest.raises(DestinationRefusedError):
        Destinations(resolve=lambda host, port: ["8.8.8.8"]).resolve(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "gopher://hooks.example.com/",
        "https://",
        "https:///x",
        "https://user:secret@hooks.example.com/",
        "https://user@hooks.example.com/",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:port/",
        "https://hooks.example.com/#part",
        "https://hooks.example.com/ x",
        "https://hooks.example.com/\r\nhost: other",
        "https://hooks.example.com\\@127.0.0.1/",
        "https://hooks.example.com%00.other.com/",
        "https://[fe80::1%25eth0]/",
        "https://hööks.example.com/",
        "https://hooks.example.com/" + "x" * 2_000,
    ],
)
def test_what_is_no_url_for_a_webhook(url: str) -> None:
    with pytest.raises(InvalidInputError):
        Destinations(resolve=lambda host, port: ["8.8.8.8"]).resolve(url)


def test_a_public_name_is_pinned_to_its_address() -> None:
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["93.184.216.34", "2606:4700:4700::1111"]

    found = Destinations(resolve=resolve).resolve("https://Hooks.Example.com:8443/a/b?c=d")
    assert (found.address, found.host, found.port, found.target) == (
        "93.184.216.34",
        "hooks.example.com",
        8443,
        "/a/b?c=d",
    )
    assert asked == [("hooks.example.com", 8443)], "one look-up, so that no second answer can differ"
    assert found.host_header == "hooks.example.com:8443"
    assert Destinations(resolve=resolve).resolve("https://hooks.example.com").target == "/"


def test_one_private_address_among_public_ones_is_enough() -> None:
    with pytest.raises(DestinationRefusedError):
        Destinations(resolve=lambda host, port: ["8.8.8.8", "10.0.0.1"]).resolve("https://hooks.example.com/")


def test_what_the_operator_allows() -> None:
    inside = Destinations(
        ["127.0.0.0/8", "10.0.0.0/8", "chat.corp", "*.intranet.example"], lambda host, port: ["10.0.0.9"]
    )
    for url in ("http://127.0.0.1:8000/x", "https://10.1.1.1/", "http://chat.corp/", "http://a.b.intranet.example/"):
        assert inside.resolve(url).address in ("127.0.0.1", "10.1.1.1", "10.0.0.9")
    assert inside.resolve("http://[::ffff:10.0.0.1]/").host == "::ffff:10.0.0.1"
    for url in ("http://192.168.0.1/", "https://192.168.0.1/", "https://intranet.example.evil.com:1/x\\"):
        with pytest.raises(InvalidInputError):
            inside.resolve(url)
    outside = Destinations(["10.0.0.0/8"], lambda host, port: ["8.8.8.8"])
    assert outside.resolve("https://hooks.example.com/").address == "8.8.8.8"
    with pytest.raises(DestinationRefusedError, match="use https"):
        outside.resolve("http://hooks.example.com/")
    mixed = Destinations(["10.0.0.0/8"], lambda host, port: ["10.0.0.1", "192.168.0.1"])
    with pytest.raises(DestinationRefusedError):
        mixed.resolve("https://hooks.example.com/")
