"""Under one idempotency key a request takes effect once, and every repetition gets the same answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from tests.api.conftest import Service
from tests.leases.world import KEY

from sublet.accounts.service import Accounts
from sublet.store import Store, once
from sublet.store.once import AnsweredError, Effect, Once, current, forget, request_digest
from sublet.store.tables.accounts import organizations
from sublet.store.tables.idempotency import idempotent_answers
from sublet.values.clock import SimulatedClock, format_time
from sublet.values.errors import ConflictError

ONCE = {"Idempotency-Key": "k1"}


def _claim(service: Service) -> dict[str, Any]:
    start = service.world.clock.now() + timedelta(hours=2)
    return {"pool": service.world.pool.id, "accelerators": 2, "start": format_time(start),
            "end": format_time(start + timedelta(hours=1)), "reason": "training"}  # fmt: skip


POSTS: list[tuple[str, str, Callable[[Service], Any], dict[str, Any]]] = [
    ("operator", "/v1/organizations", lambda service: {"name": "Gamma"}, {"name": "Delta"}),
    ("operator", "/v1/organizations/acme/keys", lambda service: {"name": "ci"}, {"name": "cd"}),
    ("team", "/v1/claims", _claim, {"accelerators": 3}),
    ("team", "/v1/reclaims", lambda service: {"pool": service.world.pool.name, "accelerators": 1, "duration_s": 600,
                                              "reason": "x"}, {"reason": "y"}),
    ("acme", "/v1/quotes", lambda service: {"pool": service.world.pool.name, "class": "spot", "duration_s": 600},
     {"duration_s": 601}),
    ("operator", "/v1/credits", lambda service: {"organization_id": service.organizations["acme"], "amount": "5",
                                                 "source_id": "s1", "reason": "a"}, {"reason": "b"}),
    ("operator", "/v1/budgets", lambda service: {"organization_id": service.organizations["acme"], "limit": "5"},
     {"hard": False}),
    ("acme", "/v1/subscriptions", lambda service: {"address": "https://hooks.example.com/x", "kinds": ["lease.*"]},
     {"kinds": ["*"]}),
]  # fmt: skip


@pytest.mark.parametrize(("who", "path", "body", "changed"), POSTS, ids=[path for _, path, _, _ in POSTS])
def test_the_same_key_and_body_give_the_same_answer_and_another_body_is_refused(
    service: Service, who: str, path: str, body: Callable[[Service], Any], changed: dict[str, Any]
) -> None:
    sent = body(service)
    first = service.ask(who, "POST", path, sent, headers=ONCE)
    assert first.status_code == 201, first.text
    service.world.clock.advance(2)
    again = service.ask(who, "POST", path, dict(reversed(sent.items())), headers=ONCE)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true" and "idempotency-replayed" not in first.headers
    other = service.ask(who, "POST", path, {**sent, **changed}, headers=ONCE)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")
    assert (
        service.ask(who, "POST", "/v1/leases/lse_1/end" if who == "acme" else f"{path}?x=1", headers=ONCE).status_code
        >= 400
    )


def test_an_event_in_headers_is_part_of_the_request(service: Service) -> None:
    body = {"organization": service.organizations["acme"], "meter": "tokens.output", "quantity": 5,
            "dimensions": {"model": "toy"}}  # fmt: skip
    event = {"ce-specversion": "1.0", "ce-id": "u1", "ce-source": "/x", "ce-type": "sublet.usage.v1",
             "ce-time": format_time(service.world.clock.now())}  # fmt: skip
    first = service.ask("operator", "POST", "/v1/usage", body, headers={**ONCE, **event})
    assert (first.status_code, first.json()["accepted"]) == (200, 1), first.text
    again = service.ask("operator", "POST", "/v1/usage", body, headers={**ONCE, **event})
    assert again.headers["idempotency-replayed"] == "true"
    # Answered as if it had been taken, this event would never have been billed.
    other = service.ask("operator", "POST", "/v1/usage", body, headers={**ONCE, **event, "ce-id": "u2"})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")


def test_a_refused_request_is_not_remembered(service: Service) -> None:
    assert service.ask("operator", "POST", "/v1/organizations", {"name": "acme"}, headers=ONCE).status_code == 409
    assert service.ask("operator", "POST", "/v1/organizations", {"name": "fresh"}, headers=ONCE).status_code == 201


def test_a_key_is_its_organizations_own(service: Service) -> None:
    body = {"pool": service.world.pool.name, "class": "spot", "duration_s": 600}
    answers = [service.ask(who, "POST", "/v1/quotes", body, headers=ONCE).json() for who in ("acme", "bolt")]
    assert answers[0]["id"] != answers[1]["id"]


def test_a_lease_is_accepted_once_and_other_ssh_keys_are_refused(service: Service) -> None:
    quote_body = {"pool": service.world.pool.name, "class": "spot", "duration_s": 600}
    quote = service.ask("acme", "POST", "/v1/quotes", quote_body).json()["id"]
    lease = service.ask("acme", "POST", "/v1/leases", {"quote_id": quote, "ssh_public_keys": [KEY]}, headers=ONCE)
    assert lease.status_code == 201, lease.text
    other = {"quote_id": quote, "ssh_public_keys": [KEY, KEY]}
    assert (
        service.ask("acme", "POST", "/v1/leases", other, headers=ONCE).json()["error"]["code"]
        == "idempotency_key_reused"
    )
    refused = service.ask("acme", "POST", "/v1/leases", other)
    assert refused.status_code == 409 and lease.json()["id"] in refused.json()["error"]["message"]
    again = service.ask("acme", "POST", "/v1/leases", {"quote_id": quote, "ssh_public_keys": [KEY]})
    assert again.json()["id"] == lease.json()["id"]


def test_what_may_be_repeated_is_remembered_too(service: Service) -> None:
    quote_body = {"pool": service.world.pool.name, "class": "spot", "duration_s": 600}
    quote = service.ask("acme", "POST", "/v1/quotes", quote_body).json()["id"]
    lease = service.ask("acme", "POST", "/v1/leases", {"quote_id": quote, "ssh_public_keys": [KEY]}).json()["id"]
    first = service.ask("acme", "POST", f"/v1/leases/{lease}/end", headers=ONCE)
    service.world.pass_time(300)
    again = service.ask("acme", "POST", f"/v1/leases/{lease}/end", headers=ONCE)
    assert again.json() == first.json() and again.headers["idempotency-replayed"] == "true"


def test_a_secret_is_kept_so_that_only_who_asked_reads_it(service: Service) -> None:
    made = service.ask("operator", "POST", "/v1/organizations/acme/keys", {}, headers=ONCE).json()
    with service.system.store.read() as connection:
        row = connection.execute(select(idempotent_answers)).one()
    assert row.sealed and made["secret"] not in row.answer and made["id"] not in row.answer
    service.keys["other"] = service.system.accounts.create_key("operator")[1]
    refused = service.ask("other", "POST", "/v1/organizations/acme/keys", {}, headers=ONCE)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "idempotency_key_reused")
    assert made["secret"] not in refused.text


@pytest.mark.parametrize("key", ["", "x" * 129, "a\tb", "é"])
def test_a_key_that_is_none_is_refused(service: Service, key: str) -> None:
    headers: dict[str, Any] = {"Idempotency-Key": key.encode("latin-1")}
    answer = service.client.post(
        "/v1/organizations", json={"name": "n"}, headers={"Authorization": f"Bearer {service.keys['operator']}", **headers}
    )  # fmt: skip
    assert answer.status_code == 400 and "Idempotency-Key" in answer.json()["error"]["message"]


def _once(store: Store, body: bytes = b"{}") -> Once:
    return Once(store, "org_1", "k", request_digest("POST", "/x", "", body), 201, Effect(dict, dict), "sublet_secret")


def _organizations(store: Store) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(organizations)).scalar_one()


def test_effect_and_answer_stand_or_fall_together(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a crash at the last step: the answer could not be written, so nothing happened, and it may be tried again."""
    accounts = Accounts(store)
    token = current.set(Once(store, "org_1", "k", "0" * 64, 201, Effect(object), "s"))
    try:
        with monkeypatch.context() as patch:
            patch.setattr(once.Once, "_insert", lambda *rest: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                accounts.create_organization("acme")
        assert _organizations(store) == 0
        accounts.create_organization("acme")
        with pytest.raises(AnsweredError) as answered:
            accounts.create_organization("acme2")
        assert answered.value.answer["name"] == "acme"
        assert _organizations(store) == 1
    finally:
        current.reset(token)


def test_of_many_at_once_one_takes_effect_and_all_get_its_answer(any_store: Store) -> None:
    made: list[int] = []
    answers: list[Any] = []
    gate = threading.Barrier(8)

    def ask(number: int) -> None:
        current.set(_once(any_store))
        gate.wait()
        try:
            answers.append(any_store.write(lambda connection: {"number": number}))
            made.append(number)
        except AnsweredError as error:
            answers.append(error.answer)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and answers == [{"number": made[0]}] * 8


def test_another_request_under_the_key_is_refused_inside_the_write_too(any_store: Store) -> None:
    for body, expected in ((b'{"a": 1}', None), (b'{ "a":1 }', AnsweredError), (b'{"a": 2}', ConflictError)):
        token = current.set(_once(any_store, body))
        try:
            if expected is None:
                any_store.write(lambda connection: {"ok": True})
            else:
                with pytest.raises(expected):
                    any_store.write(lambda connection: {"ok": False})
        finally:
            current.reset(token)


def test_answers_are_forgotten_when_their_time_is_over(any_store: Store, clock: SimulatedClock) -> None:
    token = current.set(_once(any_store))
    any_store.write(lambda connection: {"ok": True})
    current.reset(token)
    clock.advance(once.KEPT.total_seconds())
    assert forget(any_store, clock.now()) == 0
    clock.advance(1)
    assert forget(any_store, clock.now()) == 1
    _once(any_store).refuse_or_replay()
