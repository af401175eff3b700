"""A certificate and its private key in files, and the TLS context made of them. Loads fast: it needs the standard library alone."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from sublet.values.errors import InvalidInputError

log = structlog.get_logger(__name__)

TRUSTED = "ca.pem"
"""The file of an authority of one's own, beside the certificates that it signed."""
LOOK_S = 5.0
"""The files are looked at again after so long."""
_FIRST = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class CertificateError(InvalidInputError):
    """The certificate or its key can't be used; the message names the file. `sublet tls init` creates a pair."""

    code = "certificate"


def address(host: str, port: int, *, secured: bool) -> str:
    """The address of a listener, such as `https://[::1]:8080`."""
    return f"{'https' if secured else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files: the certificate with those that signed it, the server's own first, and its private key."""

    certificate: Path
    private_key: Path

    def context(self) -> ssl.SSLContext:
        """A server's TLS context: TLS 1.2 or newer, HTTP/1.1. Raises CertificateError."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.set_alpn_protocols(["http/1.1"])
        for path in (self.certificate, self.private_key):
            _text_of(path)
        try:
            made.load_cert_chain(self.certificate, self.private_key, password=_no_password)
        except ssl.SSLError as error:
            mismatch = error.reason == "KEY_VALUES_MISMATCH"
            reason = "they are not a pair" if mismatch else (error.reason or "not PEM").lower().replace("_", " ")
            raise CertificateError(f"{self.certificate} and {self.private_key} can't be used: {reason}") from error
        return made

    def trust(self) -> ssl.SSLContext:
        """A client's TLS context that trusts the holder of this certificate's key, under any name, and nobody else: for a process of
        this machine that calls another by a loopback address. Raises CertificateError."""
        found = _FIRST.search(_text_of(self.certificate))
        if found is None:
            raise CertificateError(f"{self.certificate} is not a certificate in PEM form")
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname = False
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        made.load_verify_locations(cadata=found[0])
        return made

    def stamp(self) -> tuple[int, ...]:
        """Changes when a file is written or replaced. Raises OSError."""
        found = [path.stat() for path in (self.certificate, self.private_key)]
        return tuple(number for each in found for number in (each.st_ino, each.st_mtime_ns, each.st_size))


class Secured:
    """The TLS context of a server, made again when its files change; files that can't be used leave the last one in force.

    For one thread.
    """

    def __init__(self, files: CertificateFiles, monotonic: Callable[[], float]) -> None:
        """Raises CertificateError."""
        self._files = files
        self._monotonic = monotonic
        self._context = files.context()
        self._stamp = files.stamp()
        self._looked_at = monotonic()

    def context(self) -> ssl.SSLContext:
        """The context for the next connection."""
        now = self._monotonic()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._look()
        return self._context

    def _look(self) -> None:
        try:
            stamp = self._files.stamp()
            if stamp == self._stamp:
                return
            self._context = self._files.context()
            self._stamp = stamp
        except (OSError, CertificateError) as error:
            log.warning("the changed certificate can't be used, so the last one stays in force", reason=str(error))
        else:
            log.info("the certificate was read again", certificate=str(self._files.certificate))


def _text_of(path: Path) -> str:
    try:
        return path.read_text("ascii", errors="replace")
    except OSError as error:
        raise CertificateError(f"{path} can't be read ({error.strerror}); see tls.certificate") from error


def _no_password() -> str:
    raise CertificateError("the private key is encrypted; store it without a password, readable by its owner alone")
