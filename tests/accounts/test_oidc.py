"""Sign-in with an OpenID Connect provider: who comes in with which role, and what a provider that lies gets by it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import select
from tests.accounts.lying_provider import ISSUER, LyingProvider

from sublet.accounts.model import Organization
from sublet.accounts.oidc.model import STARTS_MAX, ProviderAwayError, ProviderRefusedError
from sublet.accounts.oidc.provider import AWAY_S
from sublet.accounts.oidc.service import SignInElsewhere
from sublet.accounts.people.model import Session, SignInLimitError, VerificationNeededError, WrongPasswordError
from sublet.accounts.people.service import People
from sublet.accounts.people.sessions import Sessions
from sublet.accounts.service import Accounts
from sublet.config.identity import OidcProvider
from sublet.config.settings import SettingsError, load
from sublet.store import Store, audit
from sublet.store.paging import PageRequest
from sublet.store.sealing import sealing_of
from sublet.store.tables.accounts import memberships, oidc_attempts, persons
from sublet.store.tables.accounts import sessions as session_table
from sublet.values.clock import SimulatedClock
from sublet.values.errors import NotFoundError

HERE, THERE = "192.0.2.7", "198.51.100.9"
SECRET = "a secret: with/signs"
SETTINGS = {
    "issuer": ISSUER,
    "client_id": "sublet",
    "client_secret": SECRET,
    "domains": ["acme.test"],
    "rules": [
        {"group": "admins", "organization": "acme", "role": "customer_admin"},
        {"group": "", "organization": "acme", "role": "customer_developer"},
        {"group": "admins", "organization": "not made yet", "role": "customer_admin"},
        {"group": "admins", "organization": "bolt", "role": "operator"},
        {"group": "finance", "organization": "bolt", "role": "customer_billing"},
    ],
}


class House:
    """A console that trusts one provider, and a browser that signs in through it."""

    def __init__(self, store: Store, folder: Path, **changes: Any) -> None:
        self.store, self.accounts = store, Accounts(store)
        self.acme = self.accounts.create_organization("acme")
        self.bolt = self.accounts.create_organization("bolt")
        self.sessions, self.provider = Sessions(self.accounts), LyingProvider(store.clock)
        settings = OidcProvider.model_validate({**SETTINGS, **changes})
        providers = {"acme-sso": settings, "other": settings}
        self.elsewhere = SignInElsewhere(
            self.accounts,
            self.sessions,
            providers,
            "https://sublet.test/",
            lambda: sealing_of(folder),
            self.provider.http,
        )

    def sign_in(self, address: str = HERE) -> Session:
        url, secret = self.elsewhere.begin("acme-sso", address, "/leases")
        signed = self.elsewhere.finish("acme-sso", secret, self.provider.sign_in(url), address, "Firefox")
        assert signed.next_path == "/leases"
        found = self.sessions.find(signed.token)
        assert found is not None
        return found

    def verify(self, session: Session) -> None:
        url, secret = self.elsewhere.begin("acme-sso", HERE, "/", session)
        assert "prompt=login" in url and "max_age=0" in url
        assert self.elsewhere.finish("acme-sso", secret, self.provider.sign_in(url), HERE, "").token == ""

    def roles(self) -> dict[str, str]:
        with self.store.read() as connection:
            rows = connection.execute(select(memberships.c.organization_id, memberships.c.role)).all()
        names = {self.acme.id: "acme", self.bolt.id: "bolt"}
        return {names[row.organization_id]: row.role for row in rows}


@pytest.fixture
def house(any_store: Store, tmp_path: Path) -> House:
    return House(any_store, tmp_path)


@pytest.fixture
def make(store: Store, tmp_path: Path) -> Callable[..., House]:
    return lambda **changes: House(store, tmp_path, **changes)


def invited(house: House, owner: Organization, email: str, role: str) -> str:
    people = People(house.accounts)
    made = people.invite(owner, email, role, "k")
    return people.accept(made.secret, "Ada", "a long walk by the sea", HERE).id


def test_a_new_person_joins_by_the_rules_and_follows_them_from_then_on(house: House) -> None:
    session = house.sign_in()
    assert session.person is not None and session.person.email == "ada@acme.test"
    assert session.person.email_verified_at is not None and not session.person.has_password
    assert session.actor.role == "customer_admin" and house.roles() == {"acme": "customer_admin"}
    house.provider.person["groups"] = ["finance"]
    again = house.sign_in()
    assert again.person is not None and again.person.id == session.person.id
    assert house.roles() == {"acme": "customer_developer", "bolt": "customer_billing"}
    house.provider.person |= {"email": "ada.renamed@elsewhere.test", "groups": []}
    assert house.sign_in().person == again.person, "who somebody is does not depend on the address"
    assert house.roles() == {"acme": "customer_developer"}


def test_who_lost_every_group_does_not_come_in_and_older_sessions_end(make: Callable[..., House]) -> None:
    house = make(rules=[{"group": "admins", "organization": "acme", "role": "customer_admin"}])
    session = house.sign_in()
    house.provider.person["groups"] = []
    with pytest.raises(WrongPasswordError, match="not a member"):
        house.sign_in()
    assert house.roles() == {}
    with house.store.read() as connection:
        (row,) = connection.execute(select(session_table).where(session_table.c.id == session.id)).all()
    assert row.revoked_at is not None


def test_the_log_tells_who_came_in_and_that_a_sign_in_was_refused(make: Callable[..., House]) -> None:
    house = make()

    def came() -> None:
        with audit.act(audit.Acting("", "", "", "console.sign_in", "/oidc/acme-sso/callback", HERE)):
            url, secret = house.elsewhere.begin("acme-sso", HERE, "/")
            audit.acting.get().told = False  # type: ignore[union-attr]
            house.elsewhere.finish("acme-sso", secret, house.provider.sign_in(url), HERE, "")

    def told() -> list[tuple[str, bool, list[str]]]:
        with house.store.read() as connection:
            found = audit.page(connection, audit.Wanted(), PageRequest(20)).items
        return [
            (item["operation"], item["actor"]["id"] == person_id, [change["kind"] for change in item["changes"]])
            for item in found
            if item["changes"] or item["operation"] != "console.sign_in"
        ]

    came()
    with house.store.read() as connection:
        person_id = connection.execute(select(persons.c.id)).scalar_one()
    assert told() == [
        ("console.sign_in", True, ["sessions"]),
        ("console.sign_in", True, ["persons", "oidc_identities", "memberships"]),
    ]
    house.provider.lie = "nonce"
    with pytest.raises(ProviderRefusedError):
        came()
    assert told()[0] == ("console.sign_in_refused", False, [])
    with (
        audit.act(audit.Acting("", "", "", "console.sign_in", "/oidc/acme-sso/callback", HERE)),
        pytest.raises(ProviderRefusedError),
    ):
        house.elsewhere.finish("acme-sso", "x", {}, HERE, "")
    assert told()[0][0] == "console.sign_in_refused" and len(told()) == 3, "a callback out of nowhere is no attempt"


def test_a_stranger_is_not_remembered(make: Callable[..., House]) -> None:
    house = make(rules=[])
    with pytest.raises(ProviderRefusedError, match="not a member"):
        house.sign_in()
    with house.store.read() as connection:
        assert connection.execute(select(persons)).all() == []


def test_an_invited_person_is_recognized_by_a_confirmed_address_and_keeps_the_role(house: House) -> None:
    person_id = invited(house, house.acme, "ada@acme.test", "customer_billing")
    session = house.sign_in()
    assert session.person is not None and session.person.id == person_id and session.person.has_password
    assert house.roles() == {"acme": "customer_billing"}, "an invitation's role is not the provider's to change"
    house.provider.person["sub"] = "somebody new with a reused address"
    with pytest.raises(ProviderRefusedError, match="already belongs"):
        house.sign_in()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"email": "ada@other.test"}, "domain"),
        ({"email": "ada@acme.test.evil.test"}, "domain"),
        ({"email": "ada@other.test@acme.test"}, "no_address"),
        ({"email_verified": False}, "unverified"),
        ({"email_verified": "true"}, "unverified"),
        ({"email_verified": None}, "unverified"),
        ({"email": None}, "no_address"),
        ({"email": ["ada@acme.test"]}, "no_address"),
    ],
)
def test_an_address_counts_only_where_the_provider_may_vouch_for_it(
    make: Callable[..., House], changes: dict[str, Any], reason: str
) -> None:
    house = make()
    invited(house, house.acme, "ada@acme.test", "customer_admin")
    house.provider.person |= changes
    with pytest.raises(ProviderRefusedError) as refused:
        house.sign_in()
    assert refused.value.details["reason"] == reason


def test_a_provider_may_be_trusted_with_addresses_that_it_does_not_call_confirmed(make: Callable[..., House]) -> None:
    house = make(email_verified="always")
    del house.provider.person["email_verified"]
    assert house.sign_in().person is not None


LIES = {
    "discovery_issuer": "wrong_issuer",
    "no_pkce": "no_pkce",
    "plain_http": "discovery",
    "mix_up": "mixed_up",
    "no_iss": "mixed_up",
    "state": "state",
    "issuer": "wrong_issuer",
    "audience": "wrong_audience",
    "two_audiences": "wrong_audience",
    "no_audience": "wrong_audience",
    "authorized_party": "wrong_audience",
    "nonce": "nonce",
    "no_nonce": "nonce",
    "expired": "expired",
    "no_expiry": "expired",
    "expiry_text": "expired",
    "future": "issued_at",
    "subject": "no_subject",
    "subject_number": "no_subject",
    "none": "signature",
    "hs256": "signature",
    "foreign_key": "signature",
    "own_key": "signature",
    "userinfo": "userinfo_subject",
    "no_token": "no_id_token",
    "not_json": "answer",
    "endless": "answer",
}


@pytest.mark.parametrize(("lie", "reason"), LIES.items(), ids=list(LIES))
def test_a_lie_is_found_out_and_leaves_nothing(make: Callable[..., House], lie: str, reason: str) -> None:
    house = make()
    house.provider.lie = lie
    with pytest.raises(ProviderRefusedError) as refused:
        house.sign_in()
    assert refused.value.details["reason"] == reason and "https://other.test" not in refused.value.message
    with house.store.read() as connection:
        for table in (persons, memberships, session_table, oidc_attempts):
            left = [] if reason in ("discovery", "wrong_issuer", "no_pkce", "answer") else left_of(connection, table)
            assert left == [], table.name


def left_of(connection: Any, table: Any) -> list[Any]:
    return list(connection.execute(select(table)).all())


def test_groups_may_be_a_text_or_in_userinfo(make: Callable[..., House]) -> None:
    house = make()
    house.provider.person["groups"] = "admins"
    assert house.sign_in().actor.role == "customer_admin", "one group, and not six letters"
    house.provider.person["groups"] = ["admins"]
    house.provider.lie = "in_userinfo"
    assert house.sign_in().actor.role == "customer_admin"


@pytest.mark.parametrize(("skew_s", "accepted"), [(-50, True), (50, True), (90, False), (-400, False)])
def test_clocks_may_differ_by_a_minute(make: Callable[..., House], skew_s: int, accepted: bool) -> None:
    house = make()
    house.provider.skew_s = skew_s
    if accepted:
        house.sign_in()
    else:
        with pytest.raises(ProviderRefusedError, match="start again"):
            house.sign_in()


def test_keys_are_asked_for_again_when_one_is_unknown_and_not_more_often_than_every_ten_seconds(
    make: Callable[..., House], clock: SimulatedClock
) -> None:
    house = make()
    house.sign_in()
    house.provider.lie = "rolled"
    with pytest.raises(ProviderRefusedError, match="signature"):
        house.sign_in()
    clock.advance(11)
    house.sign_in()
    assert house.provider.asked.count("/jwks") == 2


def test_an_attempt_works_once_in_one_browser_at_one_provider_for_ten_minutes(
    make: Callable[..., House], clock: SimulatedClock
) -> None:
    house = make()
    url, secret = house.elsewhere.begin("acme-sso", HERE, "/")
    answer = house.provider.sign_in(url)
    for wrong in ("", "x", secret + "x", "x" * 300):
        with pytest.raises(ProviderRefusedError, match="another browser"):
            house.elsewhere.finish("acme-sso", wrong, answer, HERE, "")
    house.elsewhere.finish("acme-sso", secret, answer, HERE, "")
    with pytest.raises(ProviderRefusedError, match="over"):
        house.elsewhere.finish("acme-sso", secret, answer, HERE, "")
    url, secret = house.elsewhere.begin("acme-sso", HERE, "/")
    with pytest.raises(ProviderRefusedError, match="mixed_up"):
        house.elsewhere.finish("other", secret, house.provider.sign_in(url), HERE, "")
    # A code that somebody else got does not fit one's own attempt, whose challenge is another.
    stolen = house.provider.sign_in(house.elsewhere.begin("acme-sso", THERE, "/")[0])
    url, secret = house.elsewhere.begin("acme-sso", HERE, "/")
    with pytest.raises(ProviderRefusedError, match="code"):
        mine = house.provider.sign_in(url)
        house.elsewhere.finish("acme-sso", secret, {**mine, "code": stolen["code"]}, HERE, "")
    url, secret = house.elsewhere.begin("acme-sso", HERE, "/")
    clock.advance(601)
    with pytest.raises(ProviderRefusedError, match="too_late"):
        house.elsewhere.finish("acme-sso", secret, house.provider.sign_in(url), HERE, "")
    house.elsewhere.forget()
    with house.store.read() as connection:
        assert left_of(connection, oidc_attempts) == []


def test_two_answers_at_once_make_one_session(house: House) -> None:
    url, secret = house.elsewhere.begin("acme-sso", HERE, "/")
    answer, results = house.provider.sign_in(url), []

    def finish() -> None:
        try:
            results.append(bool(house.elsewhere.finish("acme-sso", secret, answer, HERE, "").token))
        except ProviderRefusedError:
            results.append(False)

    threads = [threading.Thread(target=finish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, False, True]


def test_a_provider_that_is_away_is_left_alone_for_a_while(make: Callable[..., House], clock: SimulatedClock) -> None:
    house = make()
    house.provider.lie = "away"
    for _ in range(3):
        with pytest.raises(ProviderAwayError, match="does not answer"):
            house.elsewhere.begin("acme-sso", HERE, "/")
    assert len(house.provider.asked) == 1
    house.provider.lie = ""
    clock.advance(AWAY_S + 1)
    house.sign_in()
    house.provider.lie = "broken"
    with pytest.raises(ProviderAwayError):
        house.sign_in()


def test_nobody_floods_the_database_with_beginnings(make: Callable[..., House], clock: SimulatedClock) -> None:
    house = make()
    for _ in range(STARTS_MAX):
        house.elsewhere.begin("acme-sso", HERE, "/")
    with pytest.raises(SignInLimitError):
        house.elsewhere.begin("acme-sso", HERE, "/")
    house.sign_in(THERE)
    clock.advance(61)
    house.sign_in()
    with pytest.raises(NotFoundError):
        house.elsewhere.begin("nobody", HERE, "/")


def test_who_signed_in_there_proves_again_there(make: Callable[..., House], clock: SimulatedClock) -> None:
    house = make()
    session = house.sign_in()
    choice = house.elsewhere.choice_of(session)
    assert choice is not None and choice.name == "acme-sso"
    clock.advance(700)
    with pytest.raises(VerificationNeededError):
        house.sessions.require_verified(session)
    for lie in ("old_sign_in", "no_sign_in_time"):
        house.provider.lie = lie
        with pytest.raises(ProviderRefusedError, match="did not confirm"):
            house.verify(session)
    house.provider.lie, ada = "", dict(house.provider.person)
    house.provider.person |= {"sub": "eve", "email": "eve@acme.test"}
    house.sign_in()
    with pytest.raises(ProviderRefusedError, match="did not confirm"):
        house.verify(session)
    house.provider.person = ada
    house.verify(session)
    with house.store.read() as connection:
        mine = select(session_table.c.verified_at).where(session_table.c.id == session.id)
        assert connection.execute(mine).scalar_one() == clock.now()


def test_signing_out_goes_on_at_the_provider_with_the_token_that_was_kept_sealed(make: Callable[..., House]) -> None:
    house = make()
    session = house.sign_in()
    url = house.elsewhere.logout_url(session)
    assert url.startswith(f"{ISSUER}/end?client_id=sublet&post_logout_redirect_uri=https%3A%2F%2Fsublet.test%2Flogin")
    token = url.rpartition("id_token_hint=")[2]
    with house.store.read() as connection:
        kept = connection.execute(select(session_table.c.id_token)).scalar_one()
    assert token.count(".") == 2 and token not in kept
    key = house.accounts.create_key(house.acme.id, "k")[1]
    with_key = house.sessions.find(house.sessions.open_with_key(key, HERE))
    assert with_key is not None and house.elsewhere.logout_url(with_key) == ""


def test_the_provider_ends_sessions_and_only_those_that_began_there(make: Callable[..., House]) -> None:
    house = make()
    house.sign_in()
    invited(house, house.acme, "bob@acme.test", "customer_developer")
    bob = house.sessions.open_with_password("bob@acme.test", "a long walk by the sea", HERE)
    lies: tuple[dict[str, Any], ...] = (
        {"events": {}},
        {"events": None},
        {"nonce": "n"},
        {"aud": "somebody"},
        {"iat": 0},
        {"sub": None},
        {"iss": "https://other.test"},
    )
    for changes in lies:
        with pytest.raises(ProviderRefusedError):
            house.elsewhere.logged_out("acme-sso", house.provider.logout_token(**changes))
    assert house.elsewhere.logged_out("acme-sso", house.provider.logout_token(sub="nobody")) == 0
    assert house.elsewhere.logged_out("acme-sso", house.provider.logout_token(sid="other", sub=None)) == 0
    assert house.elsewhere.logged_out("acme-sso", house.provider.logout_token(sid="there")) == 1
    assert house.sessions.find(bob) is not None


def test_the_client_secret_is_sent_escaped_and_read_at_each_sign_in(make: Callable[..., House], tmp_path: Path) -> None:
    file = tmp_path / "client-secret"
    file.write_text(f"{SECRET}\n")
    house = make(client_secret="", client_secret_file=str(file))
    house.sign_in()
    import base64

    assert base64.b64decode(house.provider.verified_by.removeprefix("Basic ")) == b"sublet:a%20secret%3A%20with%2Fsigns"
    file.write_text("another")
    house.sign_in()
    assert base64.b64decode(house.provider.verified_by.removeprefix("Basic ")) == b"sublet:another"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"issuer": "http://idp.test"}, "https"),
        ({"issuer": "file:///etc"}, "https"),
        ({"scopes": "email"}, "openid"),
        ({"domains": []}, "domains"),
        ({"domains": ["com"]}, "domain such as"),
        ({"client_secret_file": "/x"}, "not both"),
    ],
)
def test_settings_of_a_provider_are_checked(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        OidcProvider.model_validate({**SETTINGS, **changes})
    assert OidcProvider.model_validate({**SETTINGS, "issuer": "http://127.0.0.1:9"}).label == ""


def test_a_provider_needs_an_address_that_its_people_come_back_to(tmp_path: Path) -> None:
    file = tmp_path / "sublet.toml"
    section = f'[oidc.okta]\nissuer = "{ISSUER}"\nclient_id = "c"\ndomains = ["acme.test"]\n'
    file.write_text(section)
    with pytest.raises(SettingsError, match="public_url"):
        load(file)
    file.write_text(f'{section}[control]\npublic_url = "https://sublet.test"\n')
    assert load(file).oidc["okta"].client_secret.get_secret_value() == ""
    file.write_text(f'{section.replace("oidc.okta", "oidc.Okta SSO")}[control]\npublic_url = "https://sublet.test"\n')
    with pytest.raises(SettingsError):
        load(file)
