"""Who is signed in on the console: sessions in the database, so that they hold on every control plane and after a restart."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from sublet.accounts import store as accounts_sql
from sublet.accounts.model import Actor, Organization, secret_sha256
from sublet.accounts.people import attempts, passwords
from sublet.accounts.people import store as sql
from sublet.accounts.people.model import (
    SecondStepError,
    Session,
    SessionRecord,
    VerificationNeededError,
    WrongPasswordError,
    new_link_secret,
)
from sublet.accounts.permissions import covers
from sublet.accounts.service import Accounts
from sublet.store.audit import Acting, acting
from sublet.store.tables.accounts import persons, session_tokens, sessions
from sublet.values.errors import NotFoundError, UnauthenticatedError
from sublet.values.ids import new_id

LIFE = timedelta(hours=12)
IDLE = timedelta(hours=2)
ROTATION = timedelta(minutes=15)
GRACE = timedelta(seconds=30)
"""For how long a replaced token still opens its session: two tabs, or an answer that was lost."""
VERIFIED_FOR = timedelta(minutes=10)
SEEN_EVERY = timedelta(minutes=1)
LISTED_MAX = 100
OPEN_MAX = 50
"""Per person or key; a further sign-in ends the one that was idle longest."""
KEPT = timedelta(days=90)
FORGOTTEN_MAX = 1_000
EMAIL_MAX = 254
_REFUSED = "_refused"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a person signed in who did not sign in here: the provider, the id of its own session, and, sealed, the token that
    ends it. `session_id` is what the new session is called."""

    session_id: str
    provider: str
    provider_session: str
    sealed_id_token: str

    def as_row(self) -> dict[str, Any]:
        return {
            "id": self.session_id,
            "provider": self.provider,
            "provider_session": self.provider_session,
            "id_token": self.sealed_id_token,
        }


@dataclass(frozen=True, slots=True)
class _Arrival:
    """Somebody at the door: from where, with which browser, signed in elsewhere or not; and who the audit log says it is."""

    source: str
    user_agent: str
    origin: Origin | None = None
    acting: Acting | None = None


class Sessions:
    """Opens, finds and ends sessions. A session has a row; its cookie is one of its tokens, which is replaced every ROTATION.
    A replaced token that comes back after GRACE was copied by somebody, and ends the session."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._store = accounts.store

    # -- signing in

    def open_with_password(self, email: str, password: str, address: str, user_agent: str = "") -> str:
        """Sign in as a person; the token for the cookie. Raises WrongPasswordError, the same and after the same time for
        everybody, SignInLimitError, UnavailableError; SecondStepError where a passkey must follow."""
        email = email.strip().lower()[:EMAIL_MAX]
        source, account = attempts.source_of(address), attempts.account_of(email)
        with self._store.read() as connection:
            known = sql.password_of(connection, email)
            person_id, stored = known or (None, None)
            attempts.refuse_flood(connection, source, account, person_id, self._store.clock.now())
        if not passwords.fits(password, stored) or person_id is None:
            self.refused(source, account, person_id)
            raise WrongPasswordError()
        self.refuse_without_second(person_id)
        better = passwords.hashed(password) if passwords.is_outdated(stored or "") else None

        arrival = _Arrival(source, user_agent, None, acting.get())

        def write(connection: Connection) -> str:
            now = self._store.clock.now()
            if better is not None:
                sql.set_password(connection, person_id, better, now, verified=False)
            return self._open_person(connection, person_id, arrival)

        return self._store.write(write)

    def open_person(self, person_id: str, address: str, user_agent: str = "", origin: Origin | None = None) -> str:
        """Sign in somebody whose identity was proved otherwise, by an invitation, a passkey, or at the provider in `origin`."""
        arrival = _Arrival(attempts.source_of(address), user_agent, origin, acting.get())
        return self._store.write(lambda connection: self._open_person(connection, person_id, arrival))

    def refuse_without_second(self, person_id: str) -> None:
        """Raises SecondStepError for a person whose password alone does not sign in."""
        with self._store.read() as connection:
            required = connection.execute(select(persons.c.passkey_required).where(persons.c.id == person_id)).scalar()
        if required:
            raise SecondStepError(person_id)

    def mark_verified(self, connection: Connection, session_id: str, person_id: str) -> bool:
        """The person of the session has proved again who they are; False where it is not their session, or over."""
        mine = (sessions.c.id == session_id) & (sessions.c.person_id == person_id) & sessions.c.revoked_at.is_(None)
        done = connection.execute(update(sessions).where(mine).values(verified_at=self._store.clock.now()))
        return done.rowcount == 1

    def open_with_key(self, key: str, address: str, user_agent: str = "") -> str:
        """Sign in with a key; the session ends with it. Raises UnauthenticatedError, SignInLimitError."""
        source = attempts.source_of(address)
        with self._store.read() as connection:
            attempts.refuse_flood(connection, source, "", None, self._store.clock.now())
        try:
            actor = self._accounts.authenticate(key.strip())
        except UnauthenticatedError:
            self.refused(source, attempts.account_of(""), None)
            raise
        held = {"person_id": None, "key_id": actor.key_id, "organization_id": actor.organization_id}
        arrival = _Arrival(source, user_agent, None, acting.get())
        _call(arrival.acting, actor.key_id, actor.organization_id, actor.role)
        return self._store.write(lambda connection: self._insert(connection, held, arrival))

    def refused(self, source: str, account: str, person_id: str | None) -> None:
        """Count a failed attempt, and enter it in the audit log, where the person's first organization sees it."""
        now, who = self._store.clock.now(), acting.get()
        if who is not None and not who.operation.endswith(_REFUSED):
            who.operation += _REFUSED

        def write(connection: Connection) -> None:
            attempts.note(connection, attempts.FAILED, source, account, now)
            members = sql.memberships_of(connection, person_id, 1) if person_id else []
            if person_id and who is not None and not who.actor_id:
                _call(who, person_id, members[0].organization_id if members else "", "")

        self._store.write(write)

    def _open_person(self, connection: Connection, person_id: str, arrival: _Arrival) -> str:
        members = sql.memberships_of(connection, person_id, LISTED_MAX)
        for member in members:
            owner = accounts_sql.organization_by(connection, id=member.organization_id)
            if owner is not None and owner.status == "active":
                held = {"person_id": person_id, "key_id": None, "organization_id": member.organization_id}
                if arrival.origin is not None:
                    held |= arrival.origin.as_row()
                _call(arrival.acting, person_id, member.organization_id, member.role)
                return self._insert(connection, held, arrival)
        raise WrongPasswordError(
            "you are not a member of an active organization; ask your Sublet operator for an invitation"
        )

    def _insert(self, connection: Connection, held: dict[str, Any], arrival: _Arrival) -> str:
        now, token = self._store.clock.now(), new_link_secret()
        session_id = held.get("id") or new_id("ses")
        whose = "person_id" if held["person_id"] else "key_id"
        live = self._live(connection, sessions.c[whose] == held[whose], now)
        for row in live[OPEN_MAX - 1 :]:
            _revoke(connection, sessions.c.id == row.id, now)
        connection.execute(
            insert(sessions).values(
                **{**held, "id": session_id},
                form_secret=secrets.token_hex(32),
                created_at=now,
                expires_at=now + LIFE,
                seen_at=now,
                verified_at=now,
                user_agent=_printable(arrival.user_agent),
                address=arrival.source,
            )
        )
        _insert_token(connection, token, session_id, now)
        return token

    # -- each request

    def find(self, token: str | None) -> Session | None:
        """The session of a cookie; None if it is over or unknown, or if the person no longer has access."""
        if not token or len(token) > 256:
            return None
        now = self._store.clock.now()
        with self._store.read() as connection:
            row = connection.execute(
                select(sessions, session_tokens.c.issued_at, session_tokens.c.replaced_at)
                .join(session_tokens, session_tokens.c.session_id == sessions.c.id)
                .where(session_tokens.c.sha256 == secret_sha256(token))
            ).first()
            if row is None or row.revoked_at is not None or now >= row.expires_at or now - row.seen_at > IDLE:
                return None
            who = self._who(connection, row, now)
        if who is None:
            return None
        if row.replaced_at is not None and now - row.replaced_at > GRACE:
            self._store.write(lambda connection: _revoke(connection, sessions.c.id == row.id, now))
            return None
        fresh = None
        if row.replaced_at is None and now - row.issued_at > ROTATION:
            fresh = self._store.write(lambda connection: _rotated(connection, token, row.id, now))
        if now - row.seen_at > SEEN_EVERY:
            self._store.write(lambda connection: _seen(connection, row.id, now))
        actor, person, organization = who
        return Session(row.id, actor, person, organization, _form_token(row.form_secret), row.verified_at, fresh)

    def _who(self, connection: Connection, row: Row[Any], now: datetime) -> tuple[Actor, Any, Organization] | None:
        owner = accounts_sql.organization_by(connection, id=row.organization_id)
        if owner is None or owner.status != "active":
            return None
        if row.key_id is not None:
            key = accounts_sql.key_by_id(connection, row.key_id)
            if key is None or not key.usable(now):
                return None
            actor = Actor(key.id, owner.id, owner.kind, frozenset(key.scopes), key.project, key.role)
            return actor, None, owner
        member = sql.member(connection, owner.id, row.person_id)
        if member is None:
            return None
        actor = Actor("", owner.id, owner.kind, frozenset(), "", member.role, person_id=member.person.id)
        return actor, member.person, owner

    # -- what a signed-in person does with sessions

    def verify(self, session: Session, secret: str, address: str) -> None:
        """Prove again who one is, with the password or the key. Raises WrongPasswordError, SignInLimitError."""
        now, source = self._store.clock.now(), attempts.source_of(address)
        email = session.person.email if session.person else ""
        account = attempts.account_of(email)
        with self._store.read() as connection:
            person_id = session.person.id if session.person else None
            attempts.refuse_flood(connection, source, account if email else "", person_id, now)
            known = sql.password_of(connection, email) if email else None
            key = accounts_sql.key_by_sha256(connection, secret_sha256(secret.strip())) if not email else None
        if email:
            fits = passwords.fits(secret, known[1] if known else None)
        else:
            fits = key is not None and key[0].id == session.actor.key_id
        if not fits:
            self.refused(source, account, person_id)
            raise WrongPasswordError("the password is wrong" if email else "the key is not the one you signed in with")
        self._store.write(lambda connection: _update(connection, session.id, verified_at=self._store.clock.now()))

    def require_verified(self, session: Session) -> None:
        """For dangerous acts. Raises VerificationNeededError."""
        if self._store.clock.now() - session.verified_at > VERIFIED_FOR:
            raise VerificationNeededError()

    def switch(self, session: Session, organization_id: str) -> None:
        """Act for another organization of one's own from now on. Raises NotFoundError."""

        def write(connection: Connection) -> None:
            person = session.person
            owner = accounts_sql.organization_by(connection, id=organization_id)
            member = sql.member(connection, organization_id, person.id) if person else None
            if owner is None or member is None or owner.status != "active":
                raise NotFoundError(f"you are not a member of organization {organization_id[:40]!r}")
            _update(connection, session.id, organization_id=organization_id)

        self._store.write(write)

    def close(self, token: str | None) -> None:
        """Sign out; no token of the session opens anything from now on."""
        if not token:
            return
        now = self._store.clock.now()
        mine = select(session_tokens.c.session_id).where(session_tokens.c.sha256 == secret_sha256(token))
        self._store.write(lambda connection: _revoke(connection, sessions.c.id.in_(mine), now))

    def listed(self, session: Session) -> list[SessionRecord]:
        """One's own sessions that are open, the last used first."""
        now = self._store.clock.now()
        with self._store.read() as connection:
            rows = self._live(connection, _same(session), now)
        return [
            SessionRecord(
                row.id,
                row.organization_id,
                row.created_at,
                row.seen_at,
                min(row.expires_at, row.seen_at + IDLE),
                row.user_agent,
                row.address,
            )
            for row in rows[:LISTED_MAX]
        ]

    def revoke(self, session: Session, session_id: str) -> None:
        """End one of one's own sessions. Raises NotFoundError."""
        now = self._store.clock.now()
        mine = _same(session) & (sessions.c.id == session_id)
        if not self._store.write(lambda connection: _revoke(connection, mine, now)):
            raise NotFoundError(f"you have no open session {session_id[:40]!r}")

    def revoke_others(self, session: Session) -> int:
        """End one's own other sessions; how many there were."""
        now = self._store.clock.now()
        others = _same(session) & (sessions.c.id != session.id)
        return self._store.write(lambda connection: _revoke(connection, others, now))

    def _live(self, connection: Connection, whose: Any, now: datetime) -> list[Row[Any]]:
        found = select(sessions).where(
            whose, sessions.c.revoked_at.is_(None), sessions.c.expires_at > now, sessions.c.seen_at > now - IDLE
        )
        return list(connection.execute(found.order_by(sessions.c.seen_at.desc(), sessions.c.id).limit(2 * OPEN_MAX)))

    def forget(self) -> None:
        """Delete sessions that are long over, and old attempts and links."""
        now = self._store.clock.now()

        def write(connection: Connection) -> None:
            old = select(sessions.c.id).where(sessions.c.expires_at < now - KEPT).limit(FORGOTTEN_MAX)
            ids = [row.id for row in connection.execute(old)]
            connection.execute(delete(session_tokens).where(session_tokens.c.session_id.in_(ids)))
            connection.execute(delete(sessions).where(sessions.c.id.in_(ids)))
            attempts.forget(connection, now)
            sql.forget_resets(connection, now - attempts.KEPT)

        self._store.write(write)


def revoke_all(connection: Connection, person_id: str, now: datetime, organization_id: str | None = None) -> None:
    """End a person's sessions, those in one organization alone where it is named."""
    mine = sessions.c.person_id == person_id
    _revoke(
        connection, mine if organization_id is None else mine & (sessions.c.organization_id == organization_id), now
    )


def _call(who: Acting | None, actor_id: str, organization_id: str, role: str) -> None:
    """Say in the audit log's entry who it was that signed in, which nobody knew when the request came."""
    if who is not None:
        who.actor_id, who.organization_id, who.role = actor_id, organization_id, role


def leave(connection: Connection, organization_id: str, person_id: str, now: datetime) -> None:
    """Somebody is a member no longer: their sessions there end, and the keys that belong to them."""
    sql.remove_member(connection, organization_id, person_id)
    revoke_all(connection, person_id, now, organization_id)
    accounts_sql.revoke_held(connection, person_id, organization_id, now)


def end_wider_keys(connection: Connection, organization_id: str, person_id: str, role: str, now: datetime) -> None:
    """Somebody has another role: the keys that belong to them and may do more than it allows end."""
    for key in accounts_sql.personal_keys(connection, person_id, organization_id):
        if not covers(role, key.role):
            accounts_sql.revoke(connection, key.id, now)


def _same(session: Session) -> Any:
    if session.person is not None:
        return sessions.c.person_id == session.person.id
    return sessions.c.key_id == session.actor.key_id


def _revoke(connection: Connection, which: Any, now: datetime) -> int:
    return connection.execute(
        update(sessions).where(which, sessions.c.revoked_at.is_(None)).values(revoked_at=now)
    ).rowcount


def _rotated(connection: Connection, token: str, session_id: str, now: datetime) -> str | None:
    """A new token; None where another tab was first, which goes on with the old one for GRACE."""
    done = connection.execute(
        update(session_tokens)
        .where(session_tokens.c.sha256 == secret_sha256(token), session_tokens.c.replaced_at.is_(None))
        .values(replaced_at=now)
    )
    if done.rowcount != 1:
        return None
    fresh = new_link_secret()
    _insert_token(connection, fresh, session_id, now)
    return fresh


def _insert_token(connection: Connection, token: str, session_id: str, now: datetime) -> None:
    connection.execute(insert(session_tokens).values(sha256=secret_sha256(token), session_id=session_id, issued_at=now))


def _seen(connection: Connection, session_id: str, now: datetime) -> None:
    _update(connection, session_id, seen_at=now)


def _update(connection: Connection, session_id: str, **values: Any) -> None:
    connection.execute(update(sessions).where(sessions.c.id == session_id).values(**values))


def _form_token(secret: str) -> str:
    return hmac.new(secret.encode(), b"form", hashlib.sha256).hexdigest()


def _printable(user_agent: str) -> str:
    return "".join(sign for sign in user_agent if sign.isascii() and sign.isprintable())[:200]
