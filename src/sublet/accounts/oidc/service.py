"""Sign people in by what a provider says: begin, come back, join by the rules, prove again, sign out there too."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx2
import structlog
from sqlalchemy import Connection

from sublet.accounts import store as accounts_sql
from sublet.accounts.model import NAME_LENGTH_MAX, Organization, secret_sha256
from sublet.accounts.oidc import store as sql
from sublet.accounts.oidc.model import (
    ATTEMPT_LIFE,
    SIGN_IN,
    SKEW_S,
    STARTS_MAX,
    STARTS_WINDOW,
    VERIFY,
    Attempt,
    Choice,
    Identity,
    ProviderRefusedError,
    Signed,
)
from sublet.accounts.oidc.provider import Provider
from sublet.accounts.people import attempts
from sublet.accounts.people import store as people_sql
from sublet.accounts.people.model import PEOPLE_MAX, Person, Session, SignInLimitError, new_link_secret
from sublet.accounts.people.sessions import Origin, Sessions, end_wider_keys, leave
from sublet.accounts.permissions import ROLES_BY_KIND
from sublet.accounts.service import Accounts
from sublet.config.identity import OidcProvider
from sublet.store.audit import Acting, acting, unrecorded
from sublet.store.sealing import Sealing
from sublet.values.emails import checked_email
from sublet.values.errors import InvalidInputError, NotFoundError, SubletError
from sublet.values.ids import new_id
from sublet.values.text import checked_line

CALLBACK = "/oidc/{provider}/callback"
VERIFIED_S = 300
"""How long ago somebody may have signed in at the provider to count as having proved again who they are."""

log = structlog.get_logger("sublet.accounts")


class SignInElsewhere:
    """The use cases. The providers and their rules are the settings'; `sealing` keeps what ends a provider's session."""

    def __init__(
        self,
        accounts: Accounts,
        sessions: Sessions,
        providers: Mapping[str, OidcProvider],
        public_url: str,
        sealing: Callable[[], Sealing],
        http: httpx2.Client | None = None,
    ) -> None:
        self._store, self._sessions, self._sealing = accounts.store, sessions, sealing
        self._public_url = public_url.rstrip("/")
        self._providers = {
            name: Provider(
                name, settings, self._public_url + CALLBACK.format(provider=name), accounts.store.clock, http
            )
            for name, settings in providers.items()
        }

    @property
    def choices(self) -> list[Choice]:
        """What the sign-in page offers."""
        return [Choice(name, provider.label) for name, provider in self._providers.items()]

    def provider(self, name: str) -> Provider:
        """Raises NotFoundError."""
        found = self._providers.get(name)
        if found is None:
            raise NotFoundError("there is no such identity provider; use one that the sign-in page offers")
        return found

    def choice_of(self, session: Session) -> Choice | None:
        """The provider where the session's person signed in, if it was one."""
        with self._store.read() as connection:
            name, _ = sql.session_provider(connection, session.id)
        found = self._providers.get(name)
        return Choice(name, found.label) if found is not None else None

    # -- there and back

    def begin(self, name: str, address: str, next_path: str, session: Session | None = None) -> tuple[str, str]:
        """Where to send the browser, and the secret that it must bring back. With `session`, to prove again who that is. Raises
        NotFoundError, SignInLimitError, ProviderAwayError, ProviderRefusedError."""
        provider, source = self.provider(name), attempts.source_of(address)
        with self._store.read() as connection:
            begun = sql.count_attempts(connection, source, self._store.clock.now() - STARTS_WINDOW)
        if begun >= STARTS_MAX:
            raise SignInLimitError(retry_after_s=round(STARTS_WINDOW.total_seconds()))
        purpose = SIGN_IN if session is None else VERIFY
        url, attempt = provider.begin(purpose, next_path, session.id if session else "")
        secret = new_link_secret()
        self._store.write(lambda connection: sql.insert_attempt(connection, attempt, secret_sha256(secret), source))
        return url, secret

    def finish(self, name: str, secret: str, answer: Mapping[str, str], address: str, user_agent: str) -> Signed:
        """Sign in the person who came back. `secret` is what the browser brought, which works once. Raises ProviderRefusedError,
        ProviderAwayError, NotFoundError."""
        provider = self.provider(name)
        taken = self._taken(secret)
        if taken is None:
            raise ProviderRefusedError(
                "this sign-in is over or began in another browser; start again from the sign-in page",
                reason="no_attempt",
            )
        try:
            identity = provider.finish(taken, answer)
            who = acting.get()
            if taken.purpose == VERIFY:
                if who is not None:
                    who.operation = "console.verify"
                self._store.write(lambda connection: self._prove(connection, taken, identity, who))
                return Signed("", taken.next_path)
            person = self._store.write(lambda connection: self._member(connection, provider, identity, who))
        except ProviderRefusedError:
            # Only where the browser began it: a link on somebody's page can't use up the attempts of who follows it.
            self._sessions.refused(attempts.source_of(address), attempts.account_of(""), None)
            raise
        session_id = new_id("ses")
        sealed = self._sealing().seal(identity.id_token, session_id)
        origin = Origin(session_id, name, identity.session, sealed)
        return Signed(self._sessions.open_person(person.id, address, user_agent, origin), taken.next_path)

    def _member(self, connection: Connection, provider: Provider, identity: Identity, who: Acting | None) -> Person:
        """The person, with the memberships that the rules give now. Nobody is remembered who may not come in at all; who may
        not come in any longer loses what was given."""
        person, is_new = self._person(connection, provider, identity)
        if who is not None:
            who.actor_id = person.id
        self._join(connection, provider, person, identity.groups)
        if is_new and not sql.given_by(connection, person.id):
            raise ProviderRefusedError(
                "you are not a member of any organization here; ask your administrator to add you to a group, or for an "
                "invitation",
                reason="no_membership",
            )
        return person

    def _taken(self, secret: str) -> Attempt | None:
        if not secret or len(secret) > 256:
            return None
        with unrecorded():
            return self._store.write(lambda connection: sql.take_attempt(connection, secret_sha256(secret)))

    def _prove(self, connection: Connection, attempt: Attempt, identity: Identity, who: Acting | None) -> None:
        now, at = self._store.clock.now(), identity.signed_in_at
        person_id = sql.person_of(connection, identity.issuer, identity.subject)
        if who is not None:
            who.actor_id = person_id or ""
        fresh = at is not None and -SKEW_S <= (now - at).total_seconds() <= VERIFIED_S
        if (
            person_id is None
            or not fresh
            or not self._sessions.mark_verified(connection, attempt.session_id, person_id)
        ):
            raise ProviderRefusedError(
                "the provider did not confirm just now that it is you; try again, or sign out and in again",
                reason="not_verified",
            )

    # -- who it is

    def _person(self, connection: Connection, provider: Provider, identity: Identity) -> tuple[Person, bool]:
        """The person behind an identity, and whether they are new: on the first time, the one with that address, or a new one."""
        self._store.lock(connection, f"identity {secret_sha256(f'{identity.issuer} {identity.subject}')}")
        person_id = sql.person_of(connection, identity.issuer, identity.subject)
        if person_id is not None:
            known = people_sql.person_by(connection, id=person_id)
            assert known is not None
            return known, False
        email = self._vouched(provider, identity)
        now = self._store.clock.now()
        self._store.lock(connection, f"person {email}")
        person = people_sql.person_by(connection, email=email)
        is_new = person is None
        if person is None:
            person = Person(new_id("per"), email, _name(identity, email), now, now, False)
            people_sql.insert_person(connection, person, None)
        elif sql.is_known_at(connection, identity.issuer, person.id):
            # An address that was given to somebody new does not hand over the account of who had it before.
            raise ProviderRefusedError(
                f"{email} already belongs to another account of {provider.label}; ask your Sublet operator",
                reason="address_taken",
            )
        people_sql.mark_verified(connection, person.id, now)
        sql.insert_identity(connection, identity.issuer, identity.subject, person.id, now)
        return person, is_new

    def _vouched(self, provider: Provider, identity: Identity) -> str:
        """The address, where the provider may vouch for it. Raises ProviderRefusedError."""
        try:
            email = checked_email(identity.email)
        except InvalidInputError as error:
            raise ProviderRefusedError(
                f"{provider.label} did not state your e-mail address; ask its administrator", reason="no_address"
            ) from error
        if not identity.email_verified:
            raise ProviderRefusedError(
                f"{provider.label} has not confirmed your e-mail address; confirm it there first", reason="unverified"
            )
        if email.rpartition("@")[2] not in provider.settings.domains:
            raise ProviderRefusedError(
                f"{provider.label} may not sign in addresses of that domain; ask your Sublet operator", reason="domain"
            )
        return email

    def _join(self, connection: Connection, provider: Provider, person: Person, groups: tuple[str, ...]) -> None:
        """Make the person's memberships what the provider's rules say. Those made by invitation stay as they are."""
        now, given = self._store.clock.now(), sql.given_by(connection, person.id)
        wanted = self._wanted(connection, provider, groups)
        for organization_id, (owner, role) in wanted.items():
            if organization_id not in given:
                self._store.lock(connection, f"people {organization_id}")
                if people_sql.count_members(connection, organization_id) >= PEOPLE_MAX:
                    log.warning("not_joined", provider=provider.name, organization=owner.name, reason="too many people")
                    continue
                people_sql.add_member(connection, person.id, organization_id, role, now)
                sql.mark_given(connection, person.id, organization_id, provider.name)
            elif given[organization_id] == provider.name:
                people_sql.set_role(connection, organization_id, person.id, role)
                end_wider_keys(connection, organization_id, person.id, role, now)
        for organization_id, by in given.items():
            if by == provider.name and organization_id not in wanted:
                leave(connection, organization_id, person.id, now)

    def _wanted(
        self, connection: Connection, provider: Provider, groups: tuple[str, ...]
    ) -> dict[str, tuple[Organization, str]]:
        """By organization: the role that the first rule that fits gives."""
        found: dict[str, tuple[Organization, str]] = {}
        for rule in provider.settings.rules:
            if rule.group and rule.group not in groups:
                continue
            owner = accounts_sql.organization_by(connection, name=rule.organization)
            if owner is None or rule.role not in ROLES_BY_KIND[owner.kind]:
                log.warning(
                    "rule_without_effect", provider=provider.name, organization=rule.organization, role=rule.role
                )
                continue
            found.setdefault(owner.id, (owner, rule.role))
        return found

    # -- signing out

    def logout_url(self, session: Session) -> str:
        """Where the browser goes on to sign out at the provider too; empty where there is nothing to sign out of."""
        with self._store.read() as connection:
            name, sealed = sql.session_provider(connection, session.id)
        provider = self._providers.get(name)
        if provider is None:
            return ""
        try:
            id_token = self._sealing().open(sealed, session.id) if sealed else ""
        except SubletError:
            id_token = ""
        return provider.logout_url(id_token, f"{self._public_url}/login")

    def logged_out(self, name: str, token: str) -> int:
        """A provider says that somebody signed out there; how many sessions ended. Raises ProviderRefusedError,
        ProviderAwayError, NotFoundError."""
        provider = self.provider(name)
        subject, session = provider.logged_out(token)

        def write(connection: Connection) -> int:
            person_id = sql.person_of(connection, provider.settings.issuer, subject) if subject else None
            if subject and person_id is None:
                return 0
            return sql.end_sessions(connection, name, person_id, session, self._store.clock.now())

        return self._store.write(write)

    def forget(self) -> None:
        """Delete attempts that are over."""
        before = self._store.clock.now() - ATTEMPT_LIFE
        self._store.write(lambda connection: sql.forget_attempts(connection, before))


def _name(identity: Identity, email: str) -> str:
    """The person's name as the provider has it, or what stands before the @ where it can't be one."""
    try:
        return checked_line(identity.name, "name", NAME_LENGTH_MAX, 1)
    except InvalidInputError:
        return email.partition("@")[0][:NAME_LENGTH_MAX]
