"""The SQL of sign-ins at providers."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from sublet.accounts.oidc.model import Attempt
from sublet.store.tables.accounts import memberships, oidc_attempts, oidc_identities, sessions

FORGOTTEN_MAX = 1_000
_ATTEMPT = (
    oidc_attempts.c.provider,
    oidc_attempts.c.purpose,
    oidc_attempts.c.state,
    oidc_attempts.c.nonce,
    oidc_attempts.c.verifier,
    oidc_attempts.c.next_path,
    oidc_attempts.c.session_id,
    oidc_attempts.c.started_at,
)


def insert_attempt(connection: Connection, attempt: Attempt, sha256: str, source: str) -> None:
    connection.execute(
        insert(oidc_attempts).values(
            sha256=sha256,
            source=source,
            provider=attempt.provider,
            purpose=attempt.purpose,
            state=attempt.state,
            nonce=attempt.nonce,
            verifier=attempt.verifier,
            next_path=attempt.next_path,
            session_id=attempt.session_id,
            started_at=attempt.started_at,
        )
    )


def count_attempts(connection: Connection, source: str, since: datetime) -> int:
    """How many sign-ins that source began and did not end."""
    mine = (oidc_attempts.c.source == source) & (oidc_attempts.c.started_at > since)
    return connection.execute(select(func.count()).select_from(oidc_attempts).where(mine)).scalar_one()


def take_attempt(connection: Connection, sha256: str) -> Attempt | None:
    """The attempt, which is gone from then on: of two that come at once, one gets it."""
    row = connection.execute(select(*_ATTEMPT).where(oidc_attempts.c.sha256 == sha256)).first()
    if row is None:
        return None
    done = connection.execute(delete(oidc_attempts).where(oidc_attempts.c.sha256 == sha256))
    return Attempt(*row) if done.rowcount == 1 else None


def forget_attempts(connection: Connection, before: datetime) -> None:
    old = select(oidc_attempts.c.sha256).where(oidc_attempts.c.started_at < before).limit(FORGOTTEN_MAX)
    connection.execute(delete(oidc_attempts).where(oidc_attempts.c.sha256.in_(old)))


def person_of(connection: Connection, issuer: str, subject: str) -> str | None:
    """The id of the person that the provider knows as `subject`."""
    mine = (oidc_identities.c.issuer == issuer) & (oidc_identities.c.subject == subject)
    row = connection.execute(select(oidc_identities.c.person_id).where(mine)).first()
    return str(row.person_id) if row else None


def is_known_at(connection: Connection, issuer: str, person_id: str) -> bool:
    """Whether the provider knows that person under some subject already."""
    mine = (oidc_identities.c.issuer == issuer) & (oidc_identities.c.person_id == person_id)
    return connection.execute(select(oidc_identities.c.subject).where(mine).limit(1)).first() is not None


def insert_identity(connection: Connection, issuer: str, subject: str, person_id: str, now: datetime) -> None:
    connection.execute(
        insert(oidc_identities).values(issuer=issuer, subject=subject, person_id=person_id, created_at=now)
    )


def given_by(connection: Connection, person_id: str) -> dict[str, str]:
    """By organization that the person is a member of: which provider made it so, empty for an invitation."""
    rows = connection.execute(
        select(memberships.c.organization_id, memberships.c.provider).where(memberships.c.person_id == person_id)
    )
    return {row.organization_id: row.provider for row in rows}


def mark_given(connection: Connection, person_id: str, organization_id: str, provider: str) -> None:
    """The membership follows that provider's rules from now on."""
    mine = (memberships.c.person_id == person_id) & (memberships.c.organization_id == organization_id)
    connection.execute(update(memberships).where(mine).values(provider=provider))


def session_provider(connection: Connection, session_id: str) -> tuple[str, str | None]:
    """Where the session's person signed in, and the sealed token that ends it there; empty where it was here."""
    row = connection.execute(
        select(sessions.c.provider, sessions.c.id_token).where(sessions.c.id == session_id)
    ).first()
    return (row.provider, row.id_token) if row else ("", None)


def end_sessions(connection: Connection, provider: str, person_id: str | None, session: str, now: datetime) -> int:
    """End the sessions that began at that provider: those of its session, or else all of the person; how many there were."""
    mine = (sessions.c.provider == provider) & sessions.c.revoked_at.is_(None)
    if person_id is not None:
        mine &= sessions.c.person_id == person_id
    if session:
        mine &= sessions.c.provider_session == session
    return connection.execute(update(sessions).where(mine).values(revoked_at=now)).rowcount
