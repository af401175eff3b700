"""Invite people, take them in, change what they may do, and let them set their passwords."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection

from sublet.accounts import store as accounts_sql
from sublet.accounts.model import Organization, secret_sha256
from sublet.accounts.people import attempts, passwords
from sublet.accounts.people import store as sql
from sublet.accounts.people.letters import write_letter
from sublet.accounts.people.model import (
    INVITATION_LIFE,
    INVITATIONS_OPEN_MAX,
    PEOPLE_MAX,
    RESET_LIFE,
    Invitation,
    InvitationOverError,
    IssuedInvitation,
    LastPersonError,
    Member,
    Offer,
    Person,
    ResetOverError,
    WrongPasswordError,
    checked_language,
    checked_member_role,
    checked_person_name,
    new_link_secret,
)
from sublet.accounts.people.sessions import EMAIL_MAX, LISTED_MAX, end_wider_keys, leave, revoke_all
from sublet.accounts.permissions import ROLES_BY_KIND
from sublet.accounts.service import Accounts
from sublet.store.paging import Page, PageRequest
from sublet.store.sealing import Sealing
from sublet.values.emails import checked_email
from sublet.values.errors import ConflictError, InvalidInputError, LimitExceededError, NotFoundError
from sublet.values.ids import new_id

_JOIN_SUBJECT = "You are invited to {organization} on Sublet"
_JOIN_TEXT = """{organization} invites you to join it on Sublet as {role}.

Open this link within 7 days to accept:
{link}

If you don't expect this, do nothing: without the link, nothing happens.
"""
_RESET_SUBJECT = "Reset your password on Sublet"
_RESET_TEXT = """Somebody, most likely you, asked to reset the password of {email} on Sublet.

Open this link within an hour to set a new one:
{link}

If it was not you, do nothing: your password stays as it is.
"""


class People:
    """The use cases of people. Links lead to `public_url`; mail is sent where `sealing` is given, which keeps it until then."""

    def __init__(self, accounts: Accounts, public_url: str = "", sealing: Callable[[], Sealing] | None = None) -> None:
        self._accounts = accounts
        self._store = accounts.store
        self._public_url = public_url.rstrip("/")
        self._sealing = sealing

    # -- invitations

    def invite(self, organization: Organization, email: str, role: str, invited_by: str) -> IssuedInvitation:
        """Invite an address. An open invitation of the same address is replaced. The answer holds the link, this once; another
        link goes out by mail where Sublet sends mail. Raises InvalidInputError, ConflictError, LimitExceededError."""
        email, role = checked_email(email), checked_member_role(organization.kind, role)
        link, mailed = new_link_secret(), new_link_secret()

        def write(connection: Connection) -> IssuedInvitation:
            self._store.lock(connection, f"people {organization.id}")
            now = self._store.clock.now()
            person = sql.person_by(connection, email=email)
            if person is not None and sql.member(connection, organization.id, person.id) is not None:
                raise ConflictError(f"{email} is already a member of {organization.name}; change the role there")
            sql.revoke_open(connection, organization.id, email, now)
            if sql.count_open(connection, organization.id, now) >= INVITATIONS_OPEN_MAX:
                raise LimitExceededError(
                    f"{organization.name} has {INVITATIONS_OPEN_MAX} open invitations; revoke some first"
                )
            made = Invitation(new_id("ivt"), organization.id, email, role, invited_by[:40], now, now + INVITATION_LIFE)
            sql.insert_invitation(connection, made, secret_sha256(link), secret_sha256(mailed))
            self._mail(
                connection,
                email,
                (
                    _JOIN_SUBJECT.format(organization=organization.name),
                    _JOIN_TEXT.format(organization=organization.name, role=role, link=self._link("join", mailed)),
                ),
            )
            return IssuedInvitation(made, link, self._link("join", link), self._mails)

        return self._store.write(write)

    def invitation_page(self, organization_id: str, wanted: PageRequest) -> Page[Invitation]:
        """A page of an organization's invitations, the newest first."""
        with self._store.read() as connection:
            return sql.invitation_page(connection, organization_id, wanted)

    def revoke_invitation(self, invitation_id: str, organization_id: str | None = None) -> None:
        """Its links open nothing from now on. Raises NotFoundError where there is no such open one, or it is another's."""

        def write(connection: Connection) -> None:
            found = sql.invitation(connection, invitation_id)
            mine = found is not None and organization_id in (None, found.organization_id)
            now = self._store.clock.now()
            if not mine or not sql.end_invitation(connection, invitation_id, revoked_at=now):
                raise NotFoundError(f"there is no open invitation {invitation_id[:40]!r}")

        self._store.write(write)

    def offer(self, secret: str) -> Offer:
        """What a link offers. Raises InvitationOverError, the same for one that never was."""
        with self._store.read() as connection:
            return self._offer(connection, secret)

    def accept(self, secret: str, name: str, password: str, address: str) -> Person:
        """Join by a link. A new person takes a name and a password; who has an account gives its password.

        Raises InvitationOverError, InvalidInputError, WrongPasswordError, SignInLimitError, UnavailableError.
        """
        now, source = self._store.clock.now(), attempts.source_of(address)
        with self._store.read() as connection:
            offer = self._offer(connection, secret)
            email = offer.invitation.email
            stored = sql.password_of(connection, email)
            account = attempts.account_of(email)
            attempts.refuse_flood(connection, source, account, stored[0] if stored else None, now)
        fresh: str | None = None
        if stored is None or (stored[1] is None and offer.mailed):
            fresh = passwords.hashed(checked_password_of(password, email, name))
            name = checked_person_name(name) if stored is None else name
        elif not passwords.fits(password, stored[1]):
            self._store.write(lambda connection: attempts.note(connection, attempts.FAILED, source, account, now))
            raise WrongPasswordError(
                f"{email} already has an account and the password is wrong; use that account's password or reset it"
            )
        return self._store.write(lambda connection: self._join(connection, secret, name, fresh))

    def _join(self, connection: Connection, secret: str, name: str, password: str | None) -> Person:
        now = self._store.clock.now()
        offer = self._offer(connection, secret)
        made = offer.invitation
        self._store.lock(connection, f"people {made.organization_id}")
        if not sql.end_invitation(connection, made.id, accepted_at=now):
            raise InvitationOverError()
        if sql.count_members(connection, made.organization_id) >= PEOPLE_MAX:
            raise LimitExceededError(f"{offer.organization.name} has {PEOPLE_MAX} people; remove some first")
        self._store.lock(connection, f"person {made.email}")
        person = sql.person_by(connection, email=made.email)
        if person is None:
            person = Person(new_id("per"), made.email, name, now, now if offer.mailed else None, True)
            sql.insert_person(connection, person, password)
        elif password is not None:
            if person.has_password:
                raise InvitationOverError("a password was set for this address in the meantime; open the link again")
            sql.set_password(connection, person.id, password, now, verified=offer.mailed)
        if offer.mailed:
            sql.mark_verified(connection, person.id, now)
        if sql.member(connection, made.organization_id, person.id) is None:
            sql.add_member(connection, person.id, made.organization_id, made.role, now)
        return person

    def _offer(self, connection: Connection, secret: str) -> Offer:
        found = sql.invitation_by(connection, secret_sha256(secret)) if secret and len(secret) <= 256 else None
        if found is None or found[0].state(self._store.clock.now()) != "open":
            raise InvitationOverError()
        made, mailed = found
        owner = accounts_sql.organization_by(connection, id=made.organization_id)
        if owner is None or owner.status != "active":
            raise InvitationOverError()
        person = sql.person_by(connection, email=made.email)
        # A person with the mailed link controls the mailbox, and can set a password if there is none.
        return Offer(made, owner, person is not None and (person.has_password or not mailed), mailed)

    # -- members

    def member_page(self, organization_id: str, wanted: PageRequest) -> Page[Member]:
        """A page of who is in an organization."""
        with self._store.read() as connection:
            return sql.member_page(connection, organization_id, wanted)

    def memberships(self, person_id: str) -> list[tuple[Member, Organization]]:
        """Where a person is a member."""
        with self._store.read() as connection:
            found = [
                (member, accounts_sql.organization_by(connection, id=member.organization_id))
                for member in sql.memberships_of(connection, person_id, LISTED_MAX)
            ]
        return [(member, owner) for member, owner in found if owner is not None]

    def set_role(self, organization: Organization, person_id: str, role: str) -> Member:
        """What a member may do from the next request on. Raises InvalidInputError, NotFoundError, LastPersonError."""
        role = checked_member_role(organization.kind, role)

        def write(connection: Connection) -> Member:
            self._refuse_leaderless(connection, organization, person_id, role)
            sql.set_role(connection, organization.id, person_id, role)
            end_wider_keys(connection, organization.id, person_id, role, self._store.clock.now())
            found = sql.member(connection, organization.id, person_id)
            assert found is not None
            return found

        return self._store.write(write)

    def remove(self, organization: Organization, person_id: str) -> None:
        """Take a member out of an organization; their sessions and own keys there end. Raises NotFoundError, LastPersonError."""

        def write(connection: Connection) -> None:
            self._refuse_leaderless(connection, organization, person_id, None)
            leave(connection, organization.id, person_id, self._store.clock.now())

        self._store.write(write)

    def _refuse_leaderless(
        self, connection: Connection, organization: Organization, person_id: str, role: str | None
    ) -> None:
        """Raises LastPersonError where nobody would be left with the kind's first role, which may manage people."""
        self._store.lock(connection, f"people {organization.id}")
        member = sql.member(connection, organization.id, person_id)
        if member is None:
            raise NotFoundError(f"there is no person {person_id[:40]!r} in {organization.name}")
        first = ROLES_BY_KIND[organization.kind][0]
        leaves = member.role == first and role != first
        if leaves and sql.count_members(connection, organization.id, first) <= 1:
            raise LastPersonError()

    # -- passwords

    def set_language(self, person: Person, language: str) -> None:
        """Choose the language of the console, empty for the one that the browser asks for. Raises InvalidInputError."""
        tag = checked_language(language)
        self._store.write(lambda connection: sql.set_language(connection, person.id, tag))

    def change_password(self, person: Person, new: str) -> None:
        """Set another password; that person's other sessions are signed out, and links to reset it end. The caller
        proved who they are. Raises InvalidInputError."""
        stored = passwords.hashed(checked_password_of(new, person.email, person.name))
        self._store.write(lambda connection: self._set(connection, person, stored, verified=False))

    def ask_reset(self, email: str, address: str) -> None:
        """Mail a link to set a new password, if there is such a person. Says nothing, to nobody, about whether there is."""
        email = email.strip().lower()[:EMAIL_MAX]
        secret = new_link_secret()
        source, account = attempts.source_of(address), attempts.account_of(email)

        def write(connection: Connection) -> None:
            now = self._store.clock.now()
            wanted = attempts.may_reset(connection, source, account, now)
            attempts.note(connection, attempts.RESET, source, account, now)
            person = sql.person_by(connection, email=email)
            if person is None or not wanted:
                return
            sql.insert_reset(connection, secret_sha256(secret), person.id, now, now + RESET_LIFE)
            text = _RESET_TEXT.format(email=person.email, link=self._link("reset", secret))
            self._mail(connection, person.email, (_RESET_SUBJECT, text))

        self._store.write(write)

    def reset_person(self, secret: str) -> Person:
        """Whose password a link may set. Raises ResetOverError."""
        with self._store.read() as connection:
            found = sql.reset_person(connection, secret_sha256(secret), self._store.clock.now())
        if found is None:
            raise ResetOverError()
        return found

    def reset(self, secret: str, password: str) -> Person:
        """Set a new password by a link, which proves the address; every session of the person ends. Raises ResetOverError,
        InvalidInputError."""
        person = self.reset_person(secret)
        stored = passwords.hashed(checked_password_of(password, person.email, person.name))

        def write(connection: Connection) -> Person:
            if sql.reset_person(connection, secret_sha256(secret), self._store.clock.now()) is None:
                raise ResetOverError()
            self._set(connection, person, stored, verified=True)
            return person

        return self._store.write(write)

    def _set(self, connection: Connection, person: Person, stored: str, *, verified: bool) -> None:
        now: datetime = self._store.clock.now()
        sql.set_password(connection, person.id, stored, now, verified=verified)
        sql.use_resets(connection, person.id, now)
        revoke_all(connection, person.id, now)

    # -- mail

    @property
    def _mails(self) -> bool:
        return self._sealing is not None and bool(self._public_url)

    def _mail(self, connection: Connection, address: str, content: tuple[str, str]) -> None:
        if self._sealing is not None and self._public_url:
            write_letter(connection, self._sealing(), address, content, self._store.clock.now())

    def _link(self, page: str, secret: str) -> str:
        return f"{self._public_url}/{page}?secret={secret}"


def checked_password_of(password: str, email: str, name: str) -> str:
    """A new password of that person. Raises InvalidInputError."""
    if not isinstance(password, str):
        raise InvalidInputError("a password must be text")
    return passwords.checked_password(password, email=email, name=name)
