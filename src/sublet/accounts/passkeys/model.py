"""A passkey, and what a browser is asked to sign."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from sublet.values.errors import ConflictError, UnauthenticatedError

CHALLENGE_LIFE = timedelta(minutes=5)
PASSKEYS_MAX = 20
"""Per person."""
NAME_LENGTH_MAX = 60
CREDENTIAL_CHARACTERS_MAX = 12_000
ADD, SIGN_IN, SECOND, VERIFY = "add", "sign_in", "second", "verify"


class PasskeyRefusedError(UnauthenticatedError):
    """This passkey was not accepted; try again, or sign in another way."""

    code = "passkey_refused"


class PasskeyPlaceError(ConflictError):
    """Passkeys need a host name; set control.public_url, or open the console at http://localhost instead of an IP address."""

    code = "passkey_place"


class LastPasskeyError(ConflictError):
    """This is your last passkey, and your password alone does not sign you in; turn that off first, or add another passkey."""

    code = "last_passkey"


@dataclass(frozen=True, slots=True)
class Place:
    """What a passkey is bound to: the host's name, and the whole origin of the pages."""

    host: str
    origin: str


@dataclass(frozen=True, slots=True)
class Passkey:
    """A passkey as its owner sees it; the private key never leaves the device."""

    id: str
    person_id: str
    name: str
    created_at: datetime
    last_used_at: datetime | None
    is_synced: bool


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a browser is asked to sign, once: for a person where one is known, in a session where there is one."""

    purpose: str
    person_id: str
    session_id: str
    challenge: str
    next_path: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Asked:
    """Options for the browser, as JSON, and the secret by which it finds the challenge again, empty in a session."""

    options: str
    secret: str


def place_of(public_url: str, asked_url: str) -> Place:
    """Where passkeys belong: at `control.public_url`, else at localhost where the browser asked for that. Raises
    PasskeyPlaceError."""
    address = public_url or asked_url
    parts = urlsplit(address)
    host = parts.hostname or ""
    known = bool(public_url) or host == "localhost"
    if not known or not host or host.replace(".", "").isdigit() or ":" in host:
        raise PasskeyPlaceError()
    return Place(host, f"{parts.scheme}://{parts.netloc}".lower())
