"""Add, use, list and remove passkeys: alone, after a password, and to prove again who one is (WebAuthn level 3).

`webauthn` is imported when the first passkey is used: most processes never see one.
"""

from __future__ import annotations

import json
from typing import Any

import structlog
from sqlalchemy import Connection

from sublet.accounts.model import secret_sha256
from sublet.accounts.passkeys import store as sql
from sublet.accounts.passkeys.model import (
    ADD,
    CHALLENGE_LIFE,
    CREDENTIAL_CHARACTERS_MAX,
    NAME_LENGTH_MAX,
    PASSKEYS_MAX,
    SECOND,
    SIGN_IN,
    VERIFY,
    Asked,
    Challenge,
    LastPasskeyError,
    Passkey,
    PasskeyRefusedError,
    Place,
)
from sublet.accounts.people import attempts
from sublet.accounts.people import store as people_sql
from sublet.accounts.people.model import Person, Session, SignInLimitError, new_link_secret
from sublet.accounts.people.sessions import Sessions, revoke_all
from sublet.accounts.service import Accounts
from sublet.store.audit import unrecorded
from sublet.values.errors import ConflictError, LimitExceededError, NotFoundError
from sublet.values.ids import new_id
from sublet.values.text import checked_line

STARTS_MAX = 60
"""Challenges that one source may get and not use within CHALLENGE_LIFE."""

log = structlog.get_logger("sublet.accounts")


class Passkeys:
    """The use cases. A challenge works once, for five minutes, in the browser or the session that got it."""

    def __init__(self, accounts: Accounts, sessions: Sessions) -> None:
        self._store, self._sessions = accounts.store, sessions

    # -- one's own

    def listed(self, person_id: str) -> list[Passkey]:
        with self._store.read() as connection:
            return sql.passkeys_of(connection, person_id)

    def is_required(self, person_id: str) -> bool:
        """Whether the person's password alone does not sign in."""
        with self._store.read() as connection:
            return sql.is_required(connection, person_id)

    def begin_add(self, session: Session, place: Place) -> Asked:
        """Options to make a passkey with, for the session's person."""
        import webauthn
        from webauthn.helpers.structs import (
            AuthenticatorSelectionCriteria,
            PublicKeyCredentialDescriptor,
            ResidentKeyRequirement,
            UserVerificationRequirement,
        )

        person = _person(session)
        with self._store.read() as connection:
            known = sql.credential_ids(connection, person.id)
        options = webauthn.generate_registration_options(
            rp_id=place.host,
            rp_name="Sublet",
            user_id=person.id.encode(),
            user_name=person.email,
            user_display_name=person.name,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
            exclude_credentials=[
                PublicKeyCredentialDescriptor(id=webauthn.base64url_to_bytes(credential)) for credential in known
            ],
        )
        return self._asked(
            Challenge(ADD, person.id, session.id, _text(options.challenge), "", self._now()), options, ""
        )

    def add(self, session: Session, place: Place, name: str, credential: str) -> Passkey:
        """Keep a new passkey. Raises PasskeyRefusedError, InvalidInputError, LimitExceededError, ConflictError."""
        import webauthn

        person, name = _person(session), checked_line(name, "the passkey's name", NAME_LENGTH_MAX, 1)
        taken = self._taken(_of_session(session, ADD), (ADD,))
        found = self._verified(
            lambda: webauthn.verify_registration_response(
                credential=_checked(credential),
                expected_challenge=webauthn.base64url_to_bytes(taken.challenge),
                expected_rp_id=place.host,
                expected_origin=place.origin,
                require_user_verification=True,
            )
        )
        credential_id = _text(found.credential_id)
        kept = {
            "credential_id": credential_id,
            "credential_sha256": secret_sha256(credential_id),
            "public_key": _text(found.credential_public_key),
            "sign_count": found.sign_count,
        }

        def write(connection: Connection) -> Passkey:
            self._store.lock(connection, f"person {person.email}")
            if len(sql.passkeys_of(connection, person.id)) >= PASSKEYS_MAX:
                raise LimitExceededError(f"you have {PASSKEYS_MAX} passkeys, the maximum; remove one first")
            if sql.by_credential(connection, kept["credential_sha256"]) is not None:
                raise ConflictError("this passkey is registered already; use another device")
            made = Passkey(new_id("psk"), person.id, name, self._now(), None, bool(found.credential_backed_up))
            sql.insert_passkey(connection, made, kept)
            return made

        return self._store.write(write)

    def remove(self, session: Session, passkey_id: str) -> None:
        """Raises NotFoundError, and LastPasskeyError while one's password alone does not sign in."""
        person = _person(session)

        def write(connection: Connection) -> None:
            self._store.lock(connection, f"person {person.email}")
            mine = sql.passkeys_of(connection, person.id)
            if len(mine) == 1 and mine[0].id == passkey_id and sql.is_required(connection, person.id):
                raise LastPasskeyError()
            if not sql.remove(connection, person.id, passkey_id):
                raise NotFoundError(f"you have no passkey {passkey_id[:40]!r}")

        self._store.write(write)

    def require(self, session: Session, required: bool) -> None:
        """Whether one's password must be followed by a passkey from now on. Raises ConflictError without a passkey."""
        person = _person(session)

        def write(connection: Connection) -> None:
            self._store.lock(connection, f"person {person.email}")
            if required and not sql.passkeys_of(connection, person.id):
                raise ConflictError("add a passkey first; without one you could not sign in any more")
            sql.set_required(connection, person.id, required)

        self._store.write(write)

    def forget_all(self, email: str) -> int:
        """Remove the passkeys of somebody who lost them, let the password sign in alone, and end every session; how many there
        were. Raises NotFoundError."""

        def write(connection: Connection) -> int:
            person = people_sql.person_by(connection, email=email.strip().lower())
            if person is None:
                raise NotFoundError(f"there is no person {email[:80]!r}")
            count = sql.remove_all(connection, person.id)
            sql.set_required(connection, person.id, False)
            revoke_all(connection, person.id, self._now())
            return count

        return self._store.write(write)

    # -- signing in and proving again

    def begin(self, place: Place, address: str, next_path: str) -> Asked:
        """Options to sign in with any passkey that the browser has. Raises SignInLimitError."""
        return self._begin(place, Challenge(SIGN_IN, "", "", "", next_path, self._now()), new_link_secret(), address)

    def begin_second(self, person_id: str, address: str, next_path: str) -> str:
        """For somebody whose password was right: the secret with which the browser asks for the options."""
        secret, source = new_link_secret(), attempts.source_of(address)
        waiting = Challenge(SECOND, person_id, "", "", next_path, self._now())
        self._store.write(lambda connection: sql.insert_challenge(connection, waiting, secret_sha256(secret), source))
        return secret

    def options_of(self, secret: str, place: Place, address: str) -> Asked:
        """Options for the sign-in that waits for its second step. Raises PasskeyRefusedError."""
        with self._store.read() as connection:
            waiting = sql.challenge(connection, secret_sha256(secret)) if 0 < len(secret) <= 256 else None
        if waiting is None or waiting.purpose != SECOND or self._now() - waiting.created_at > CHALLENGE_LIFE:
            raise PasskeyRefusedError("this sign-in took too long; start again")
        return self._begin(place, waiting, secret, address)

    def begin_verify(self, session: Session, place: Place) -> Asked | None:
        """Options to prove again who one is; None for somebody without passkeys."""
        if session.person is None:
            return None
        with self._store.read() as connection:
            if not sql.credential_ids(connection, session.person.id):
                return None
        waiting = Challenge(VERIFY, session.person.id, session.id, "", "", self._now())
        return self._begin(place, waiting, "", "")

    def finish(self, secret: str, place: Place, credential: str, address: str, user_agent: str) -> tuple[str, str]:
        """Sign in: the token of the new session, and where to go on. Raises PasskeyRefusedError, SignInLimitError."""
        source = attempts.source_of(address)
        with self._store.read() as connection:
            attempts.refuse_flood(connection, source, "", None, self._now())
        try:
            if not 0 < len(secret) <= 256:
                raise PasskeyRefusedError("this sign-in began in another browser or took too long; start again")
            taken = self._taken(secret_sha256(secret), (SIGN_IN, SECOND))
            person_id = self._used(taken, place, credential)
        except PasskeyRefusedError:
            self._sessions.refused(source, attempts.account_of(""), None)
            raise
        return self._sessions.open_person(person_id, address, user_agent), taken.next_path

    def verify(self, session: Session, place: Place, credential: str) -> None:
        """Prove again who one is. Raises PasskeyRefusedError."""
        taken = self._taken(_of_session(session, VERIFY), (VERIFY,))
        person_id = self._used(taken, place, credential)
        self._store.write(lambda connection: self._sessions.mark_verified(connection, session.id, person_id))

    def forget(self) -> None:
        """Delete challenges that are over."""
        before = self._now() - CHALLENGE_LIFE
        self._store.write(lambda connection: sql.forget_challenges(connection, before))

    # -- inside

    def _begin(self, place: Place, waiting: Challenge, secret: str, address: str) -> Asked:
        import webauthn
        from webauthn.helpers.structs import PublicKeyCredentialDescriptor, UserVerificationRequirement

        with self._store.read() as connection:
            known = sql.credential_ids(connection, waiting.person_id) if waiting.person_id else []
        options = webauthn.generate_authentication_options(
            rp_id=place.host,
            user_verification=UserVerificationRequirement.REQUIRED,
            allow_credentials=[PublicKeyCredentialDescriptor(id=webauthn.base64url_to_bytes(each)) for each in known],
        )
        made = Challenge(
            waiting.purpose,
            waiting.person_id,
            waiting.session_id,
            _text(options.challenge),
            waiting.next_path,
            waiting.created_at,
        )
        return self._asked(made, options, secret, address)

    def _asked(self, made: Challenge, options: Any, secret: str, address: str = "") -> Asked:
        import webauthn

        source = attempts.source_of(address) if address else "session"
        sha256 = secret_sha256(secret) if secret else _hash_of(made.session_id, made.purpose)

        def write(connection: Connection) -> None:
            if address and sql.count_challenges(connection, source, self._now() - CHALLENGE_LIFE) >= STARTS_MAX:
                raise SignInLimitError(retry_after_s=round(CHALLENGE_LIFE.total_seconds()))
            sql.insert_challenge(connection, made, sha256, source)

        self._store.write(write)
        return Asked(webauthn.options_to_json(options), secret)

    def _taken(self, sha256: str, purposes: tuple[str, ...]) -> Challenge:
        with unrecorded():
            taken = self._store.write(lambda connection: sql.take_challenge(connection, sha256))
        late = taken is not None and self._now() - taken.created_at > CHALLENGE_LIFE
        if taken is None or late or taken.purpose not in purposes or not taken.challenge:
            raise PasskeyRefusedError("this page was used or is too old; open it again")
        return taken

    def _used(self, taken: Challenge, place: Place, credential: str) -> str:
        """Whose passkey signed the challenge: the person that it is for, where it is for one."""
        import webauthn

        said = _checked(credential)
        with self._store.read() as connection:
            row = sql.by_credential(connection, secret_sha256(str(said.get("id", ""))))
        if row is None or taken.person_id not in ("", row.person_id):
            raise PasskeyRefusedError("this passkey is not registered here; sign in another way")
        found = self._verified(
            lambda: webauthn.verify_authentication_response(
                credential=said,
                expected_challenge=webauthn.base64url_to_bytes(taken.challenge),
                expected_rp_id=place.host,
                expected_origin=place.origin,
                credential_public_key=webauthn.base64url_to_bytes(row.public_key),
                credential_current_sign_count=row.sign_count,
                require_user_verification=True,
            )
        )
        with unrecorded():
            self._store.write(lambda connection: sql.used(connection, row.id, found.new_sign_count, self._now()))
        return str(row.person_id)

    def _verified(self, check: Any) -> Any:
        from webauthn.helpers.exceptions import WebAuthnException

        try:
            return check()
        except (WebAuthnException, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("passkey_refused", reason=str(error)[:200])
            raise PasskeyRefusedError() from error

    def _now(self) -> Any:
        return self._store.clock.now()


def _person(session: Session) -> Person:
    if session.person is None:
        raise ConflictError("you signed in with a key; passkeys belong to people")
    return session.person


def _of_session(session: Session, purpose: str) -> str:
    return _hash_of(session.id, purpose)


def _hash_of(session_id: str, purpose: str) -> str:
    return secret_sha256(f"{session_id} {purpose}")


def _checked(credential: str) -> dict[str, Any]:
    """What the browser's script sent. Raises PasskeyRefusedError."""
    if len(credential) > CREDENTIAL_CHARACTERS_MAX:
        raise PasskeyRefusedError()
    try:
        found = json.loads(credential)
    except (ValueError, RecursionError) as error:
        raise PasskeyRefusedError("no passkey was sent; press the button on the page, and allow scripts") from error
    if not isinstance(found, dict):
        raise PasskeyRefusedError()
    return found


def _text(raw: bytes) -> str:
    from webauthn.helpers import bytes_to_base64url

    return str(bytes_to_base64url(raw))
