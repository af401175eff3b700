"""The SQL of people, memberships, invitations and resets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from sublet.accounts.people.model import Invitation, Member, Person
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.accounts import invitations, memberships, password_resets, persons

MEMBERS = Listing("people", (memberships.c.created_at, memberships.c.person_id))
INVITATIONS = Listing("invitations", (invitations.c.created_at, invitations.c.id), descending=True)
_MEMBER = (
    memberships.c.person_id,
    memberships.c.organization_id,
    memberships.c.role,
    memberships.c.created_at,
    persons.c.email,
    persons.c.name,
    persons.c.email_verified_at,
    persons.c.password.is_not(None).label("has_password"),
    persons.c.created_at.label("person_created_at"),
    persons.c.language,
)


def insert_person(connection: Connection, person: Person, password: str | None) -> None:
    connection.execute(
        insert(persons).values(
            id=person.id,
            email=person.email,
            name=person.name,
            password=password,
            created_at=person.created_at,
            email_verified_at=person.email_verified_at,
            password_changed_at=person.created_at if password else None,
        )
    )


def person_by(connection: Connection, *, id: str | None = None, email: str | None = None) -> Person | None:
    """The person with that id, or with that address."""
    condition = persons.c.id == id if id is not None else persons.c.email == email
    row = connection.execute(select(persons).where(condition)).first()
    return person_of(row) if row else None


def password_of(connection: Connection, email: str) -> tuple[str, str | None] | None:
    """The id of the person with that address, and the stored password."""
    row = connection.execute(select(persons.c.id, persons.c.password).where(persons.c.email == email)).first()
    return (row.id, row.password) if row else None


def set_password(connection: Connection, person_id: str, password: str, now: datetime, *, verified: bool) -> None:
    """`verified` says that the address was proved with it."""
    values: dict[str, Any] = {"password": password, "password_changed_at": now}
    if verified:
        values["email_verified_at"] = now
    connection.execute(update(persons).where(persons.c.id == person_id).values(**values))


def set_language(connection: Connection, person_id: str, language: str) -> None:
    connection.execute(update(persons).where(persons.c.id == person_id).values(language=language))


def mark_verified(connection: Connection, person_id: str, now: datetime) -> None:
    """The person has opened a link that was mailed to the address."""
    where = (persons.c.id == person_id) & persons.c.email_verified_at.is_(None)
    connection.execute(update(persons).where(where).values(email_verified_at=now))


def add_member(connection: Connection, person_id: str, organization_id: str, role: str, now: datetime) -> None:
    connection.execute(
        insert(memberships).values(person_id=person_id, organization_id=organization_id, role=role, created_at=now)
    )


def member(connection: Connection, organization_id: str, person_id: str) -> Member | None:
    row = connection.execute(
        _members().where(memberships.c.organization_id == organization_id, memberships.c.person_id == person_id)
    ).first()
    return _member(row) if row else None


def member_page(connection: Connection, organization_id: str, wanted: PageRequest) -> Page[Member]:
    """Who is in an organization, who came first before."""
    query = _members().where(memberships.c.organization_id == organization_id)
    return MEMBERS.read(connection, query, wanted).map(_member)


def memberships_of(connection: Connection, person_id: str, limit: int) -> list[Member]:
    """Where a person is a member, the oldest membership first."""
    query = _members().where(memberships.c.person_id == person_id)
    rows = connection.execute(query.order_by(memberships.c.created_at, memberships.c.organization_id).limit(limit))
    return [_member(row) for row in rows]


def count_members(connection: Connection, organization_id: str, role: str | None = None) -> int:
    found = select(func.count()).select_from(memberships).where(memberships.c.organization_id == organization_id)
    return connection.execute(found if role is None else found.where(memberships.c.role == role)).scalar_one()


def set_role(connection: Connection, organization_id: str, person_id: str, role: str) -> None:
    connection.execute(
        update(memberships)
        .where(memberships.c.organization_id == organization_id, memberships.c.person_id == person_id)
        .values(role=role)
    )


def remove_member(connection: Connection, organization_id: str, person_id: str) -> None:
    connection.execute(
        delete(memberships).where(
            memberships.c.organization_id == organization_id, memberships.c.person_id == person_id
        )
    )


def insert_invitation(connection: Connection, made: Invitation, link_sha256: str, mail_sha256: str) -> None:
    connection.execute(
        insert(invitations).values(
            id=made.id,
            organization_id=made.organization_id,
            email=made.email,
            role=made.role,
            link_sha256=link_sha256,
            mail_sha256=mail_sha256,
            invited_by=made.invited_by,
            created_at=made.created_at,
            expires_at=made.expires_at,
        )
    )


def invitation(connection: Connection, invitation_id: str) -> Invitation | None:
    row = connection.execute(select(invitations).where(invitations.c.id == invitation_id)).first()
    return _invitation(row) if row else None


def invitation_by(connection: Connection, sha256: str) -> tuple[Invitation, bool] | None:
    """The invitation that a link with that hash belongs to, and whether the link is the one that was mailed."""
    mine = (invitations.c.link_sha256 == sha256) | (invitations.c.mail_sha256 == sha256)
    row = connection.execute(select(invitations).where(mine)).first()
    return (_invitation(row), row.mail_sha256 == sha256) if row else None


def invitation_page(connection: Connection, organization_id: str, wanted: PageRequest) -> Page[Invitation]:
    """The newest first."""
    query = select(invitations).where(invitations.c.organization_id == organization_id)
    return INVITATIONS.read(connection, query, wanted).map(_invitation)


def count_open(connection: Connection, organization_id: str, now: datetime) -> int:
    """How many invitations of an organization are open."""
    found = (
        select(func.count())
        .select_from(invitations)
        .where(
            invitations.c.organization_id == organization_id,
            invitations.c.accepted_at.is_(None),
            invitations.c.revoked_at.is_(None),
            invitations.c.expires_at > now,
        )
    )
    return connection.execute(found).scalar_one()


def revoke_open(connection: Connection, organization_id: str, email: str, now: datetime) -> None:
    """Revoke what is open for that address there."""
    connection.execute(
        update(invitations)
        .where(
            invitations.c.organization_id == organization_id,
            invitations.c.email == email,
            invitations.c.accepted_at.is_(None),
            invitations.c.revoked_at.is_(None),
        )
        .values(revoked_at=now)
    )


def end_invitation(connection: Connection, invitation_id: str, **values: datetime) -> bool:
    """Set `accepted_at` or `revoked_at`; False where one of them stands already."""
    done = connection.execute(
        update(invitations)
        .where(
            invitations.c.id == invitation_id,
            invitations.c.accepted_at.is_(None),
            invitations.c.revoked_at.is_(None),
        )
        .values(**values)
    )
    return done.rowcount == 1


def insert_reset(connection: Connection, sha256: str, person_id: str, now: datetime, expires_at: datetime) -> None:
    connection.execute(
        insert(password_resets).values(sha256=sha256, person_id=person_id, created_at=now, expires_at=expires_at)
    )


def reset_person(connection: Connection, sha256: str, now: datetime) -> Person | None:
    """Whose password a link with that hash may set now."""
    row = connection.execute(
        select(persons)
        .join(password_resets, password_resets.c.person_id == persons.c.id)
        .where(
            password_resets.c.sha256 == sha256,
            password_resets.c.used_at.is_(None),
            password_resets.c.expires_at > now,
        )
    ).first()
    return person_of(row) if row else None


def use_resets(connection: Connection, person_id: str, now: datetime) -> None:
    """No link of that person's works from now on."""
    mine = (password_resets.c.person_id == person_id) & password_resets.c.used_at.is_(None)
    connection.execute(update(password_resets).where(mine).values(used_at=now))


def forget_resets(connection: Connection, before: datetime) -> None:
    connection.execute(delete(password_resets).where(password_resets.c.expires_at < before))


def person_of(row: Row[Any]) -> Person:
    """The person in a row of all columns of `persons`."""
    return Person(
        row.id, row.email, row.name, row.created_at, row.email_verified_at, row.password is not None, row.language
    )


def _members() -> Any:
    return select(*_MEMBER).join(persons, persons.c.id == memberships.c.person_id)


def _member(row: Row[Any]) -> Member:
    person = Person(
        row.person_id,
        row.email,
        row.name,
        row.person_created_at,
        row.email_verified_at,
        bool(row.has_password),
        row.language,
    )
    return Member(person, row.organization_id, row.role, row.created_at)


def _invitation(row: Row[Any]) -> Invitation:
    return Invitation(
        row.id,
        row.organization_id,
        row.email,
        row.role,
        row.invited_by,
        row.created_at,
        row.expires_at,
        row.accepted_at,
        row.revoked_at,
    )
