"""Who is signed in to the console: sessions in memory, each opened with an operator's key that is not kept."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sublet.accounts.model import Actor
from sublet.values.clock import Clock
from sublet.values.errors import ForbiddenError, LimitExceededError, SubletError

SESSION_HOURS = 12
SESSIONS_MAX = 1_000
FAILURES_MAX = 10
FAILURE_WINDOW_S = 60
ADDRESSES_MAX = 10_000


class ConsoleForOperatorsError(ForbiddenError):
    """This key lacks the scope operate, and the console is for the operator so far; sign in with the operator's key, and use
    the API and the `sublet` command with this one."""

    code = "console_for_operators"


class SignInLimitError(LimitExceededError):
    """Too many invalid keys came from this address; wait a minute and sign in with a valid key."""

    code = "sign_in_limit"


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in operator. `form_token` must come back with every form that changes something."""

    actor: Actor
    form_token: str
    expires_at: datetime

    def owns_form(self, token: str) -> bool:
        """Whether `token` is this session's, compared in constant time."""
        return hmac.compare_digest(self.form_token.encode(), token.encode())


class Sessions:
    """Sessions by the SHA-256 of an opaque 256-bit token. They end by sign-out, after SESSION_HOURS, when the key behind
    them is revoked, and when the control plane restarts. Safe from several threads."""

    def __init__(
        self, clock: Clock, authenticate: Callable[[str], Actor], still_valid: Callable[[Actor], bool]
    ) -> None:
        """`authenticate` tells who holds a key or raises; `still_valid` whether that key still opens anything."""
        self._clock = clock
        self._authenticate = authenticate
        self._still_valid = still_valid
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._failures: OrderedDict[str, list[datetime]] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, key: str, address: str) -> str:
        """Sign in with `key` from a network `address`; the token for the cookie.

        Raises UnauthenticatedError, ConsoleForOperatorsError, or SignInLimitError after FAILURES_MAX failures within
        FAILURE_WINDOW_S from one address (an IPv6 /64 counts as one).
        """
        source = _source(address)
        self._refuse_flood(source)
        try:
            actor = self._authenticate(key.strip())
            if not actor.is_operator:
                raise ConsoleForOperatorsError()
        except SubletError as error:
            if error.status in (401, 403):
                self._note_failure(source)
            raise
        token = secrets.token_urlsafe(32)
        expires_at = self._clock.now() + timedelta(hours=SESSION_HOURS)
        with self._lock:
            self._failures.pop(source, None)
            self._sessions[_digest(token)] = Session(actor, secrets.token_urlsafe(32), expires_at)
            while len(self._sessions) > SESSIONS_MAX:
                self._sessions.popitem(last=False)
        return token

    def find(self, token: str | None) -> Session | None:
        """The session of a cookie, None where it is over, unknown, or its key was revoked."""
        if not token:
            return None
        digest = _digest(token)
        with self._lock:
            session = self._sessions.get(digest)
        if session is None:
            return None
        if self._clock.now() >= session.expires_at or not self._still_valid(session.actor):
            self._drop(digest)
            return None
        return session

    def close(self, token: str | None) -> None:
        """Sign out; the token opens nothing from now on."""
        if token:
            self._drop(_digest(token))

    def _drop(self, digest: str) -> None:
        with self._lock:
            self._sessions.pop(digest, None)

    def _refuse_flood(self, source: str) -> None:
        since = self._clock.now() - timedelta(seconds=FAILURE_WINDOW_S)
        with self._lock:
            recent = [moment for moment in self._failures.get(source, []) if moment > since]
            if recent:
                self._failures[source] = recent
            else:
                self._failures.pop(source, None)
        if len(recent) >= FAILURES_MAX:
            raise SignInLimitError(retry_after_s=FAILURE_WINDOW_S)

    def _note_failure(self, source: str) -> None:
        with self._lock:
            self._failures.setdefault(source, []).append(self._clock.now())
            self._failures.move_to_end(source)
            while len(self._failures) > ADDRESSES_MAX:
                self._failures.popitem(last=False)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _source(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
