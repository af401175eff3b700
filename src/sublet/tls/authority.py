"""A small certificate authority in a folder, for services without a public certificate (X.509, RFC 5280).

The folder holds `ca.pem`, which clients trust; `ca.key`, which signs; `server.pem` and `server.key`, which the service uses. Keys are
P-256 (RFC 5480) and their owner's alone. The authority may sign for the names that it was made with and no others (name constraints,
RFC 5280, section 4.2.1.10), so that a client that trusts it trusts nothing else.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sublet.tls.files import TRUSTED, CertificateError
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError

AUTHORITY_DAYS = 3_650
SERVER_DAYS = 397
"""Browsers accept no certificate that is valid for much longer."""
BACKDATED = timedelta(hours=1)
"""Clocks of clients may be behind."""
NAMES_MAX = 50
SOON = timedelta(days=30)
_HOST = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says. `sha256` is its fingerprint, in hexadecimal."""

    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    issuer: str
    sha256: str

    def expires_soon(self, now: datetime) -> bool:
        """Whether it is time to renew it."""
        return self.not_after - now < SOON


class Authority:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trusted, self._key = folder / TRUSTED, folder / "ca.key"
        self.certificate, self.private_key = folder / "server.pem", folder / "server.key"

    def create(self, names: Sequence[str], now: datetime) -> Certificate:
        """A new authority for `names` (host names and addresses), and a certificate of the server that it signed. What was killed
        on the way is finished. Raises InvalidInputError, ConflictError where there is one already or the folder can't be
        written."""
        wanted = _names(names)
        if self.certificate.exists() and (self._key.exists() or self.trusted.exists()):
            raise ConflictError(
                f"{self.folder} has an authority already; `sublet tls renew` signs a new certificate with it"
            )
        if self.trusted.exists():
            return self._finish(wanted, now)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sublet authority")])
        constraints = x509.NameConstraints([_constraint(name) for name in wanted], None)
        built = (
            _builder(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(constraints, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        self._make_folder()
        trusted = built.sign(key, hashes.SHA256())
        _write(self._key, _pem(key), private=True)
        _write(self.trusted, trusted.public_bytes(serialization.Encoding.PEM))
        return self._sign(wanted, now)

    def _finish(self, wanted: Sequence[str | _Address], now: datetime) -> Certificate:
        """The certificate of an authority that has none, as clients may trust that authority by now."""
        constraints = self._load()[0].extensions.get_extension_for_class(x509.NameConstraints).value
        if set(constraints.permitted_subtrees or ()) != {_constraint(name) for name in wanted}:
            raise ConflictError(
                f"{self.folder} has an authority for other names; move the folder away, or use its names"
            )
        return self._sign(wanted, now)

    def renew(self, now: datetime) -> Certificate:
        """A new certificate and key of the server, for the same names. Raises NotFoundError, CertificateError, ConflictError."""
        current = self.current()
        return self._sign(_names(current.names), now)

    def current(self) -> Certificate:
        """The server's certificate. Raises NotFoundError, CertificateError."""
        return read(self.certificate)

    def _sign(self, names: Sequence[str | _Address], now: datetime) -> Certificate:
        issuer, signing = self._load()
        if issuer.not_valid_after_utc <= now:
            raise CertificateError(
                f"the authority in {self.folder} has expired; move the folder away and run `sublet tls init`"
            )
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sublet")])
        built = (
            _builder(subject, issuer.subject, key.public_key(), now, SERVER_DAYS)
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)  # type: ignore[arg-type]
        )
        signed = built.sign(signing, hashes.SHA256())
        # A server that reads between the two finds no pair, keeps the last one and looks again.
        _write(self.private_key, _pem(key), private=True)
        _write(self.certificate, signed.public_bytes(serialization.Encoding.PEM))
        return read(self.certificate)

    def _load(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        if not self._key.exists():
            raise NotFoundError(f"there is no authority in {self.folder}; create it with `sublet tls init`")
        try:
            key = serialization.load_pem_private_key(self._key.read_bytes(), None)
            found = x509.load_pem_x509_certificate(self.trusted.read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise CertificateError(f"the authority in {self.folder} can't be read: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != found.public_key():
            raise CertificateError(f"{self._key} is not the key of {self.trusted}")
        return found, key

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConflictError(f"{self.folder} can't be created ({error.strerror})") from error


def read(path: Path) -> Certificate:
    """What the first certificate of a PEM file says. Raises NotFoundError, CertificateError."""
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no certificate at {path}; create one with `sublet tls init`") from error
    except (OSError, ValueError) as error:
        raise CertificateError(f"{path} is not a certificate in PEM form: {error}") from error
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        listed = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    except x509.ExtensionNotFound:
        listed = []
    return Certificate(
        tuple(listed),
        found.not_valid_before_utc,
        found.not_valid_after_utc,
        found.issuer.rfc4514_string(),
        found.fingerprint(hashes.SHA256()).hex(),
    )


def _names(names: Sequence[str]) -> list[str | _Address]:
    """Each name once. Raises InvalidInputError."""
    found: list[str | _Address] = []
    for name in names:
        try:
            parsed: str | _Address = ipaddress.ip_address(name)
        except ValueError:
            parsed = name.strip().lower().rstrip(".")
            looks_like_address = parsed.replace(".", "").isdigit()
            if len(parsed) > 253 or looks_like_address or not _HOST.fullmatch(parsed):
                raise InvalidInputError(
                    f"{name!r} is neither a host name nor an address; use such as sublet.example.com or 10.0.0.5"
                ) from None
        if parsed not in found:
            found.append(parsed)
    if not 0 < len(found) <= NAMES_MAX:
        raise InvalidInputError(f"give 1 to {NAMES_MAX} names")
    return found


def _general(name: str | _Address) -> x509.GeneralName:
    return x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name)


def _constraint(name: str | _Address) -> x509.GeneralName:
    if isinstance(name, str):
        return x509.DNSName(name.removeprefix("*."))
    return x509.IPAddress(ipaddress.ip_network(name))


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    built = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    built = built.serial_number(x509.random_serial_number())
    return built.not_valid_before(now - BACKDATED).not_valid_after(now + timedelta(days=days))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, *, private: bool = False) -> None:
    """Replace a file at once. Raises ConflictError."""
    made = path.with_name(f".{path.name}.new")
    try:
        made.unlink(missing_ok=True)
        handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
    except OSError as error:
        raise ConflictError(f"{path} can't be written ({error.strerror})") from error
