"""The SQL of passkeys."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from sublet.accounts.passkeys.model import Challenge, Passkey
from sublet.store.tables.accounts import passkey_challenges, passkeys, persons

FORGOTTEN_MAX = 1_000
_CHALLENGE = (
    passkey_challenges.c.purpose,
    passkey_challenges.c.person_id,
    passkey_challenges.c.session_id,
    passkey_challenges.c.challenge,
    passkey_challenges.c.next_path,
    passkey_challenges.c.created_at,
)


def insert_challenge(connection: Connection, made: Challenge, sha256: str, source: str) -> None:
    """In the place of an older one with the same hash: of a session's pages, the newest counts."""
    connection.execute(delete(passkey_challenges).where(passkey_challenges.c.sha256 == sha256))
    connection.execute(
        insert(passkey_challenges).values(
            sha256=sha256,
            source=source,
            purpose=made.purpose,
            person_id=made.person_id,
            session_id=made.session_id,
            challenge=made.challenge,
            next_path=made.next_path,
            created_at=made.created_at,
        )
    )


def count_challenges(connection: Connection, source: str, since: datetime) -> int:
    """How many that source got and did not use."""
    mine = (passkey_challenges.c.source == source) & (passkey_challenges.c.created_at > since)
    return connection.execute(select(func.count()).select_from(passkey_challenges).where(mine)).scalar_one()


def challenge(connection: Connection, sha256: str) -> Challenge | None:
    row = connection.execute(select(*_CHALLENGE).where(passkey_challenges.c.sha256 == sha256)).first()
    return Challenge(*row) if row is not None else None


def take_challenge(connection: Connection, sha256: str) -> Challenge | None:
    """The challenge, which is gone from then on."""
    found = challenge(connection, sha256)
    if found is None:
        return None
    done = connection.execute(delete(passkey_challenges).where(passkey_challenges.c.sha256 == sha256))
    return found if done.rowcount == 1 else None


def forget_challenges(connection: Connection, before: datetime) -> None:
    old = select(passkey_challenges.c.sha256).where(passkey_challenges.c.created_at < before).limit(FORGOTTEN_MAX)
    connection.execute(delete(passkey_challenges).where(passkey_challenges.c.sha256.in_(old)))


def passkeys_of(connection: Connection, person_id: str) -> list[Passkey]:
    """The oldest first."""
    query = select(passkeys).where(passkeys.c.person_id == person_id).order_by(passkeys.c.created_at, passkeys.c.id)
    return [_passkey(row) for row in connection.execute(query)]


def credential_ids(connection: Connection, person_id: str) -> list[str]:
    query = select(passkeys.c.credential_id).where(passkeys.c.person_id == person_id).order_by(passkeys.c.created_at)
    return [row.credential_id for row in connection.execute(query)]


def by_credential(connection: Connection, sha256: str) -> Row[Any] | None:
    """The whole row of the passkey with that hash of its credential id."""
    return connection.execute(select(passkeys).where(passkeys.c.credential_sha256 == sha256)).first()


def insert_passkey(connection: Connection, made: Passkey, credential: dict[str, Any]) -> None:
    connection.execute(
        insert(passkeys).values(
            id=made.id,
            person_id=made.person_id,
            name=made.name,
            created_at=made.created_at,
            is_synced=made.is_synced,
            **credential,
        )
    )


def used(connection: Connection, passkey_id: str, sign_count: int, now: datetime) -> None:
    mine = passkeys.c.id == passkey_id
    connection.execute(update(passkeys).where(mine).values(sign_count=sign_count, last_used_at=now))


def remove(connection: Connection, person_id: str, passkey_id: str) -> bool:
    mine = (passkeys.c.person_id == person_id) & (passkeys.c.id == passkey_id)
    return connection.execute(delete(passkeys).where(mine)).rowcount == 1


def remove_all(connection: Connection, person_id: str) -> int:
    """How many there were."""
    return connection.execute(delete(passkeys).where(passkeys.c.person_id == person_id)).rowcount


def is_required(connection: Connection, person_id: str) -> bool:
    """Whether that person's password alone does not sign in."""
    query = select(persons.c.passkey_required).where(persons.c.id == person_id)
    return bool(connection.execute(query).scalar())


def set_required(connection: Connection, person_id: str, required: bool) -> None:
    connection.execute(update(persons).where(persons.c.id == person_id).values(passkey_required=required))


def _passkey(row: Row[Any]) -> Passkey:
    return Passkey(row.id, row.person_id, row.name, row.created_at, row.last_used_at, bool(row.is_synced))
