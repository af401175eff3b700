"""What a tenant says to the proxy is read strictly, or refused: no request means two things."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.leases.network.requests import ClientHello, RefusedError, read_request, server_name


def hello(host: str | None) -> bytes:
    """What OpenSSL really says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    if host is None:
        context.check_hostname = False
    client = context.wrap_bio(incoming, outgoing, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def fed(parts: Iterator[bytes] | list[bytes]) -> ClientHello:
    found = ClientHello()
    assert any([found.feed(part) for part in parts])
    return found


def records(message: bytes, size: int) -> bytes:
    """The message cut into records of `size`."""
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)


def test_connect_and_plain_requests_name_one_host() -> None:
    tunnel = read_request(b"CONNECT Example.org.:443 HTTP/1.1\r\nHost: other\r\n\r\n")
    assert (tunnel.host, tunnel.port, tunnel.head) == ("example.org", 443, None)
    plain = read_request(
        b"GET http://Example.org/a?b HTTP/1.1\r\nHost: evil\r\nUser-Agent: x\r\nProxy-Authorization: y\r\nConnection: close\r\n\r\n"
    )
    assert (plain.host, plain.port) == ("example.org", 80)
    assert plain.head == b"GET /a?b HTTP/1.1\r\nHost: example.org\r\nUser-Agent: x\r\nConnection: close\r\n\r\n"
    assert read_request(b"GET http://example.org:81?x HTTP/1.0\r\n\r\n").head == (
        b"GET /?x HTTP/1.1\r\nHost: example.org:81\r\nConnection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    "head",
    [
        b"", b"GET / HTTP/1.1", b"GET http://a.example/", b"CONNECT a.example HTTP/1.1", b"CONNECT a.example:0 HTTP/1.1",
        b"CONNECT a.example:99999 HTTP/1.1", b"CONNECT a.example:443:443 HTTP/1.1", b"CONNECT 127.0.0.1:443 HTTP/1.1",
        b"CONNECT [::1]:443 HTTP/1.1", b"CONNECT [::ffff:1.2.3.4]:443 HTTP/1.1", b"CONNECT 2130706433:443 HTTP/1.1",
        b"CONNECT me@a.example:443 HTTP/1.1", b"CONNECT a.example:443  HTTP/1.1", b"CONNECT a.example:443 HTTP/2.0",
        b"GET https://a.example/ HTTP/1.1", b"GET ftp://a.example/ HTTP/1.1", b"GET http://me:pw@a.example/ HTTP/1.1",
        b"GET http://a.example@b.example/ HTTP/1.1", b"GET http://a.example\\@b.example/ HTTP/1.1",
        b"GET http://a.example#@b/ HTTP/1.1",
        b"GET http:///x HTTP/1.1", b"POST http://a.example/ HTTP/1.1", b"GET http://a.example/ HTTP/1.1\r\nContent-Length: 3",
        b"GET http://a.example/ HTTP/1.1\r\nTransfer-Encoding: chunked", b"GET http://a.example/ HTTP/1.1\r\nA : b",
        b"GET http://a.example/ HTTP/1.1\r\nA: b\n c", b"GET http://a.example/ HTTP/1.1\r\n folded",
        b"GET http://a.example/ HTTP/1.1\r\nA: b\rC: d",
        b"GET http://a.example/ HTTP/1.1\nA: b", b"GET http://a.example/\xff HTTP/1.1", b"get http://a.example/ HTTP/1.1",
        b"GET http://a.example/ HTTP/1.1\r\nA: \x00",
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused(head: bytes) -> None:
    with pytest.raises(RefusedError):
        read_request(head + b"\r\n\r\n")


@given(st.binary(max_size=300))
def test_whatever_is_said_is_read_or_refused(content: bytes) -> None:
    for head in (
        content,
        b"GET http://" + content + b" HTTP/1.1\r\n\r\n",
        b"CONNECT " + content + b" HTTP/1.1\r\n\r\n",
    ):
        try:
            wanted = read_request(head)
        except RefusedError:
            continue
        assert wanted.head is None or wanted.head.count(b"\r\n\r\n") == 1
    for said in (content, records(b"\x01" + len(content).to_bytes(3, "big") + content, 7) if content else b"\x16"):
        try:
            read = ClientHello()
            if read.feed(said):
                read.require("a.example")
        except RefusedError:
            continue
        assert not read.raw or not read.feed(b"") or b"a.example" in said


@pytest.mark.parametrize("size", [1, 5, 40, 16_384])
def test_tls_is_held_to_the_host_however_it_is_cut(size: int) -> None:
    message = hello("files.example.org")[5:]
    assert server_name(message) == "files.example.org"
    whole = records(message, size)
    found = fed([whole[at : at + 11] for at in range(0, len(whole), 11)])
    found.require("files.example.org")
    assert found.raw == whole
    for other in ("example.org", "files.example.org.evil.net"):
        with pytest.raises(RefusedError, match=r"the TLS server name is files\.example\.org"):
            found.require(other)


def test_tls_without_a_host_and_what_is_no_tls_are_refused() -> None:
    with pytest.raises(RefusedError, match="server name is missing"):
        fed([hello(None)]).require("a.example")
    for said in (b"SSH-2.0-OpenSSH_9.2\r\n", b"GET / HTTP/1.1\r\n", b"\x80\x2e\x01\x00\x02", b"\x16\x03\x01\x00\x00",
                 b"\x16\x02\x01\x00\x05hello",
                 records(b"\x02\x00\x00\x01x", 99), b"\x17\x03\x03\x00\x01x"):  # fmt: skip
        with pytest.raises(RefusedError):
            fed([said])
    with pytest.raises(RefusedError, match="too long"):
        ClientHello().feed(b"\x16\x03\x01\x40\x00" + bytes(70_000))


def with_extensions(*extensions: tuple[int, bytes]) -> bytes:
    """A ClientHello with these extensions."""
    packed = b"".join(kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body for kind, body in extensions)
    content = (
        b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00" + len(packed).to_bytes(2, "big") + packed
    )
    return b"\x01" + len(content).to_bytes(3, "big") + content


def names(*hosts: str) -> tuple[int, bytes]:
    listed = b"".join(b"\x00" + len(host).to_bytes(2, "big") + host.encode() for host in hosts)
    return 0, len(listed).to_bytes(2, "big") + listed


@pytest.mark.parametrize(
    "extensions",
    [
        (names("a.example"), names("b.example")), (names("a.example", "b.example"),), (names("a.example\0b"),), (names("127.0.0.1"),),
        (names("a.example"), (0xFE0D, b"\x00")), ((0, b"\x00\x01"),), ((0, b""),),
    ],
)  # fmt: skip
def test_tls_that_says_two_things_or_hides_one_is_refused(extensions: tuple[tuple[int, bytes], ...]) -> None:
    with pytest.raises(RefusedError):
        server_name(with_extensions(*extensions))


def test_a_made_up_hello_is_read_as_openssls_is() -> None:
    assert server_name(with_extensions(names("A.example"))) == "a.example"
    assert server_name(with_extensions()) is None
