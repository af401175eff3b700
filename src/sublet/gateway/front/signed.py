"""Requests that are signed with a secret instead of carrying it: whose key they name, and whether they are theirs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import structlog

from sublet.gateway.model import KeyGrant, Snapshot
from sublet.gateway.refusals import SignatureMismatchError, UnknownAccessKeyError
from sublet.gateway.surfaces.sigv4 import UNSIGNED, Headers, Signature, check_signature, signing_key
from sublet.values.clock import Clock
from sublet.values.errors import ForbiddenError, SubletError

SIGNING_KEYS_MAX = 10_000

log = structlog.get_logger(__name__)

OpenSecret = Callable[[str, str], str]
"""Opens a sealed secret of the key with the id that follows. Raises SubletError where it can't be opened."""


class Signers:
    """The keys that may sign. Signing keys of a day are kept: making one costs more than checking a signature with it."""

    def __init__(self, clock: Clock, open_secret: OpenSecret | None) -> None:
        """Without `open_secret` no key may sign."""
        self._clock = clock
        self._open = open_secret
        self._grants: dict[str, KeyGrant] = {}
        self._keys: dict[tuple[str, str, bytes], bytes] = {}

    def adopt(self, snapshot: Snapshot) -> None:
        """Know the keys of `snapshot` alone."""
        if self._open is None:
            return
        self._grants = {grant.id: grant for grant in snapshot.keys.values() if grant.signing_secret}
        self._keys = {
            key: value
            for key, value in self._keys.items()
            if (grant := self._grants.get(key[0])) is not None and grant.signing_secret == key[1]
        }

    def grant(self, key_id: str) -> KeyGrant:
        """Whose key this is. Raises UnknownAccessKeyError, the same for every reason, or ForbiddenError."""
        grant = self._grants.get(key_id)
        if grant is None or (grant.expires_at is not None and self._clock.now() >= grant.expires_at):
            raise UnknownAccessKeyError
        if not grant.may_call:
            raise ForbiddenError("this key lacks the scope 'models' (call the model API); ask the operator for one")
        return grant

    def begin(self, signature: Signature, method: bytes, target: bytes, headers: Headers) -> SignedRequest:
        """A request whose headers are there. Raises what refuses it by its key and its time."""
        grant = self.grant(signature.key_id)
        signature.check_time(self._clock.now())
        return SignedRequest(grant, signature, self._key(grant, signature.scope), (method, target, headers))

    def _key(self, grant: KeyGrant, scope: bytes) -> bytes:
        named = grant.id, grant.signing_secret, scope
        found = self._keys.get(named)
        if found is None:
            assert self._open is not None
            try:
                secret = self._open(grant.signing_secret, grant.id)
            except SubletError as error:
                log.error(
                    "a signing secret can't be opened; its key can only be sent", key=grant.id, error=error.message
                )
                raise UnknownAccessKeyError from error
            if len(self._keys) >= SIGNING_KEYS_MAX:
                self._keys.clear()
            found = self._keys[named] = signing_key(secret, scope)
        return found


class SignedRequest:
    """A request that is being received, and is not proved to be its key's before `prove`."""

    __slots__ = ("_asked", "_hash", "_key", "_signature", "grant")

    def __init__(self, grant: KeyGrant, signature: Signature, key: bytes, asked: tuple[bytes, bytes, Headers]) -> None:
        self.grant = grant
        self._signature = signature
        self._key = key
        self._asked = asked
        self._hash = hashlib.sha256()

    @property
    def states_body(self) -> bool:
        """Whether the headers say what the body is, so that the signature can be checked before that is there."""
        return self._signature.payload != b""

    def prove(self) -> KeyGrant:
        """Check the signature: of the headers where these state the body, else of all. Raises SignatureMismatchError."""
        payload = self._signature.payload or self._hash.hexdigest().encode()
        check_signature(self._signature, self._key, *self._asked, payload)
        return self.grant

    def feed(self, body: bytes) -> None:
        """A part of the body as it came."""
        self._hash.update(body)

    def check_body(self) -> None:
        """The body is there. Raises SignatureMismatchError where it is not the one that the headers state."""
        stated = self._signature.payload
        if stated not in (b"", UNSIGNED) and stated != self._hash.hexdigest().encode():
            raise SignatureMismatchError("The body is not the one that was signed")
