"""An authority of one's own: what it signs is trusted for its names alone, its keys are its owner's, and a mistake changes nothing."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sublet.tls import authority as module
from sublet.tls.authority import NAMES_MAX, SERVER_DAYS, Authority, read
from sublet.tls.files import CertificateError, CertificateFiles
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "tls")
    made.create(["Sublet.Example.com.", "127.0.0.1", "::1", "sublet.example.com"], NOW)
    return made


def greets(authority: Authority, certificate: Path, key: Path, name: str) -> None:
    """A client that trusts the authority shakes hands with a server of that certificate, under `name`."""
    ours, theirs = socket.socketpair()
    server = CertificateFiles(certificate, key).context()

    def serve() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        client = ssl.create_default_context(cafile=str(authority.trusted))
        client.wrap_socket(ours, server_hostname=name).close()
    finally:
        ours.close()
        serving.join(10)


@pytest.mark.parametrize("name", ["sublet.example.com", "127.0.0.1", "::1"])
def test_its_certificate_is_trusted_under_its_names(authority: Authority, name: str) -> None:
    greets(authority, authority.certificate, authority.private_key, name)


class Killed:
    """Writes so many files, and no further one."""

    def __init__(self, left: int) -> None:
        self._left, self._whole = left, module._write

    def __call__(self, path: Path, content: bytes, *, private: bool = False) -> None:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        self._whole(path, content, private=private)


def test_an_authority_that_was_killed_on_the_way_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each of the four files: the same command again leaves a pair that clients trust, and keeps what they may trust."""
    whole = module._write
    for fatal in range(4):
        made = Authority(tmp_path / str(fatal))
        monkeypatch.setattr(module, "_write", Killed(fatal))
        with pytest.raises(KeyboardInterrupt):
            made.create(["a.example.com", "10.0.0.5"], NOW)
        monkeypatch.setattr(module, "_write", whole)
        before = made.trusted.read_bytes() if made.trusted.exists() else None
        if before is not None:
            with pytest.raises(ConflictError, match="for other names"):
                made.create(["b.example.com"], NOW)
        made.create(["a.example.com", "10.0.0.5"], NOW)
        assert before in (None, made.trusted.read_bytes())
        greets(made, made.certificate, made.private_key, "a.example.com")
        with pytest.raises(ConflictError, match="already"):
            made.create(["a.example.com", "10.0.0.5"], NOW)


def test_another_name_is_refused(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        greets(authority, authority.certificate, authority.private_key, "other.example.com")


@pytest.mark.parametrize("name", ["bank.example.org", "10.0.0.5"])
def test_it_can_vouch_for_no_other_name_even_with_its_key(authority: Authority, name: str) -> None:
    parsed: Any = ipaddress.ip_address(name) if name[0].isdigit() else name
    assert authority._sign([parsed], NOW).names == (name,), "the holder of its key can sign it"
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        greets(authority, authority.certificate, authority.private_key, name)


def test_keys_are_their_owners_alone_and_the_folder_is_closed(authority: Authority) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in authority.folder.iterdir()}
    assert modes == {"ca.pem": 0o644, "ca.key": 0o600, "server.pem": 0o644, "server.key": 0o600}
    assert authority.folder.stat().st_mode & 0o777 == 0o700


def test_renewing_keeps_names_and_authority_and_makes_a_new_key(authority: Authority) -> None:
    before, trusted, key = authority.current(), authority.trusted.read_bytes(), authority.private_key.read_bytes()
    later = NOW + timedelta(days=300)
    assert not before.expires_soon(NOW) and before.expires_soon(NOW + timedelta(days=SERVER_DAYS - 29))
    after = authority.renew(later)
    assert after.names == before.names and after.sha256 != before.sha256
    assert after.not_after == later + timedelta(days=SERVER_DAYS)
    assert authority.trusted.read_bytes() == trusted and authority.private_key.read_bytes() != key


def test_a_second_authority_in_the_same_place_is_refused(authority: Authority) -> None:
    before = {path.name: path.read_bytes() for path in authority.folder.iterdir()}
    with pytest.raises(ConflictError, match="tls renew"):
        authority.create(["localhost"], NOW)
    assert {path.name: path.read_bytes() for path in authority.folder.iterdir()} == before


@pytest.mark.parametrize(
    "name",
    ["", "a b", "-a.example", "a..b", "ünicode.example", "http://a", "a:8080", "300.1.1.1", "x" * 64, "*", "a.*"],
)
def test_what_is_no_name_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError):
        Authority(tmp_path / "tls").create(["localhost", name], NOW)
    assert not (tmp_path / "tls").exists()


def test_too_many_names_or_none(tmp_path: Path) -> None:
    for names in ([], [f"host{number}" for number in range(NAMES_MAX + 1)]):
        with pytest.raises(InvalidInputError, match=str(NAMES_MAX)):
            Authority(tmp_path / "tls").create(names, NOW)


def test_what_is_missing_or_broken_is_named(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="tls init"):
        Authority(tmp_path / "nothing").renew(NOW)
    with pytest.raises(CertificateError, match="expired"):
        authority.renew(NOW + timedelta(days=4_000))
    os.truncate(authority.certificate, 10)
    with pytest.raises(CertificateError, match=r"server\.pem is not a certificate"):
        read(authority.certificate)
