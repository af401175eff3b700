"""People over the API: an organization's admin manages its own, and nobody else's."""

from __future__ import annotations

from tests.api.conftest import Service

GOOD = "a long walk by the sea"


def test_an_admin_invites_changes_and_removes_people(service: Service) -> None:
    service.keys["admin"] = service.system.accounts.create_key("acme", "admin", role="customer_admin")[1]
    body = {"email": "ada@example.com", "role": "customer_admin"}
    made = service.ask("admin", "POST", "/v1/organizations/acme/invitations", body)
    assert made.status_code == 201, made.text
    assert made.json()["link"].endswith(f"/join?secret={made.json()['secret']}") and made.json()["mailed"] is False
    listed = service.ask("admin", "GET", "/v1/organizations/acme/invitations").json()["invitations"]
    assert [(item["email"], item["state"]) for item in listed] == [("ada@example.com", "open")]
    assert "secret" not in listed[0] and "link" not in listed[0]
    ada = service.system.people.accept(made.json()["secret"], "Ada", GOOD, "").id
    body = {"email": "bob@example.com", "role": "customer_developer"}
    secret = service.ask("operator", "POST", "/v1/organizations/acme/invitations", body).json()["secret"]
    bob = service.system.people.accept(secret, "Bob", GOOD, "").id
    people = service.ask("admin", "GET", "/v1/organizations/acme/people").json()["people"]
    assert {(item["person_id"], item["role"]) for item in people} == {
        (ada, "customer_admin"),
        (bob, "customer_developer"),
    }
    path = f"/v1/organizations/acme/people/{bob}"
    assert (
        service.ask("admin", "PUT", f"{path}/role", {"role": "customer_billing"}).json()["role"] == "customer_billing"
    )
    refused = service.ask("admin", "PUT", f"{path}/role", {"role": "operator"})
    assert refused.status_code == 400 and "customer_admin" in refused.json()["error"]["message"]
    last = service.ask("admin", "DELETE", f"/v1/organizations/acme/people/{ada}")
    assert (last.status_code, last.json()["error"]["code"]) == (409, "last_person")
    assert service.ask("admin", "DELETE", path).status_code == 204
    assert service.ask("acme", "GET", "/v1/organizations/acme/people").status_code == 403


def test_a_link_is_answered_again_only_to_who_asked_first(service: Service) -> None:
    body = {"email": "ada@example.com", "role": "customer_admin"}
    path, headers = "/v1/organizations/acme/invitations", {"Idempotency-Key": "once"}
    first = service.ask("operator", "POST", path, body, headers=headers)
    assert service.ask("operator", "POST", path, body, headers=headers).json() == first.json()
    service.keys["other"] = service.system.accounts.create_key("operator")[1]
    assert service.ask("other", "POST", path, body, headers=headers).status_code == 409
