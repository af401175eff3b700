"""What a provider says about somebody, and a sign-in that is under way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sublet.values.errors import UnauthenticatedError, UnavailableError

ATTEMPT_LIFE = timedelta(minutes=10)
"""How long somebody may take at the provider."""
SKEW_S = 60
"""By how much the provider's clock may differ from ours, either way."""
STARTS_MAX = 30
"""Sign-ins that one source may begin in STARTS_WINDOW."""
STARTS_WINDOW = timedelta(minutes=1)
SIGN_IN, VERIFY = "sign_in", "verify"


class ProviderRefusedError(UnauthenticatedError):
    """The sign-in with this provider was not accepted; start again from the sign-in page."""

    code = "provider_refused"


class ProviderAwayError(UnavailableError):
    """The identity provider does not answer; try again in a minute, or sign in with your password."""

    code = "provider_away"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in under way: the browser holds a secret whose hash finds it, once. `session_id` is the session that proves again
    who it belongs to, where `purpose` is VERIFY."""

    provider: str
    purpose: str
    state: str
    nonce: str
    verifier: str
    next_path: str
    session_id: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is at a provider: `issuer` and `subject` identify them, and nothing else does."""

    issuer: str
    subject: str
    email: str
    email_verified: bool
    name: str
    groups: tuple[str, ...]
    session: str
    signed_in_at: datetime | None
    id_token: str


@dataclass(frozen=True, slots=True)
class Signed:
    """Somebody who came back from a provider: the token of a new session, or of none where they only proved who they are."""

    token: str
    next_path: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A provider as the sign-in page offers it."""

    name: str
    label: str
