"""For every route and every role: allowed or 403, as the table says; and another organization's ids are 404."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from tests.api.conftest import Service
from tests.leases.world import KEY

from sublet.accounts.model import Actor
from sublet.accounts.permissions import ALL, OWN, PERMISSIONS, ROLES, ROLES_BY_KIND, SCOPES, reach
from sublet.api.http import check_permissions, permission_of

KIND_OF = {role: kind for kind, roles in ROLES_BY_KIND.items() for role in roles}


def _key(service: Service, role: str) -> None:
    owner = {"operator": "operator", "internal": "team", "customer": "acme"}[KIND_OF[role]]
    service.keys[role] = service.system.accounts.create_key(owner, role, role=role)[1]


def _path(route: APIRoute) -> str:
    path = route.path
    for name in route.param_convertors:
        path = path.replace("{" + name + "}", "nothing").replace("{" + name + ":path}", "nothing")
    return path


@pytest.mark.parametrize("role", ROLES)
def test_every_route_lets_in_whom_the_table_names(service: Service, role: str) -> None:
    _key(service, role)
    for route in service.routes():
        if not route.path.startswith("/v1/"):
            continue
        permission = permission_of(route)
        assert permission in PERMISSIONS
        for method in route.methods or ():
            # An unknown parameter: anyone who is let in is told so, and nothing happens.
            answer = service.ask(role, method, f"{_path(route)}?nobody_reads_this=1")
            allowed = bool(ROLES[role].reach(permission))
            assert answer.status_code == (400 if allowed else 403), f"{method} {route.path}: {answer.text}"
            if not allowed:
                assert answer.json()["error"]["details"]["permission"] == permission


def test_who_may_only_read_does_not_read_what_is_in_a_volume_or_what_a_job_printed(service: Service) -> None:
    by_path = {route.path: permission_of(route) for route in service.routes() if "GET" in (route.methods or ())}
    assert by_path["/v1/volumes/{volume}/content"] == "leases:write" and by_path["/v1/volumes"] == "leases:read"
    assert by_path["/v1/jobs/{job_id}/log"] == "leases:write" and by_path["/v1/jobs"] == "leases:read"
    assert {name for name, role in ROLES.items() if role.reach("leases:write")} == {
        "operator", "customer_admin", "customer_developer"
    }  # fmt: skip


def test_auditors_see_that_a_job_ran_and_not_its_command_or_output(service: Service) -> None:
    body = {
        "pool": service.world.pool.name, "class": "spot", "duration_s": 600, "command": ["train", "--token", "hunter2"]
    }  # fmt: skip
    made = service.ask("acme", "POST", "/v1/jobs", body).json()["jobs"][0]["id"]
    assert "hunter2" in service.ask("acme", "GET", f"/v1/jobs/{made}").text
    for role in ("auditor", "operator_read_only"):
        _key(service, role)
        for path in ("/v1/jobs", f"/v1/jobs/{made}"):
            answer = service.ask(role, "GET", path)
            assert answer.status_code == 200 and made in answer.text and "hunter2" not in answer.text
        refused = service.ask(role, "GET", f"/v1/jobs/{made}/log")
        assert refused.status_code == 403 and refused.json()["error"]["details"]["permission"] == "leases:write"


def test_a_route_without_a_permission_is_found() -> None:
    api = FastAPI()
    api.get("/health")(lambda: None)
    check_permissions(api)
    api.get("/v1/open")(lambda: None)
    with pytest.raises(RuntimeError, match="/v1/open names no permission"):
        check_permissions(api)


def test_another_organizations_ids_are_as_if_there_were_none(service: Service) -> None:
    _key(service, "customer_admin")
    theirs = service.organizations["bolt"]
    key = service.system.accounts.create_key("bolt")[0].id
    robot = {"name": "ci", "role": "customer_developer"}
    service_account = service.ask("operator", "POST", f"/v1/organizations/{theirs}/service-accounts", robot).json()[
        "id"
    ]
    people = service.system.people
    owner = service.system.accounts.organization("bolt")
    joining = people.invite(owner, "bob@example.com", "customer_admin", "k")
    person = people.accept(joining.secret, "Bob", "a long walk by the sea", "").id
    invited = people.invite(owner, "eve@example.com", "customer_admin", "k")
    quote_body = {"pool": service.world.pool.name, "class": "spot", "duration_s": 600}
    quote = service.ask("bolt", "POST", "/v1/quotes", quote_body).json()["id"]
    lease = service.ask("bolt", "POST", "/v1/leases", {"quote_id": quote, "ssh_public_keys": [KEY]}).json()["id"]
    asked: list[tuple[str, str, Any]] = [
        ("GET", f"/v1/leases/{lease}", None),
        ("POST", f"/v1/leases/{lease}/end", None),
        ("POST", "/v1/leases", {"quote_id": quote, "ssh_public_keys": [KEY]}),
        ("POST", f"/v1/quotes/{quote}/cancel", None),
        ("GET", f"/v1/organizations/{theirs}/keys", None),
        ("GET", "/v1/organizations/bolt/keys", None),
        ("POST", f"/v1/organizations/{theirs}/keys", {}),
        ("DELETE", f"/v1/keys/{key}", None),
        ("GET", f"/v1/organizations/{theirs}/service-accounts", None),
        ("POST", f"/v1/organizations/{theirs}/service-accounts", {"name": "x", "role": "customer_admin"}),
        ("POST", "/v1/organizations/acme/keys", {"service_account": service_account}),
        ("DELETE", f"/v1/service-accounts/{service_account}", None),
        ("GET", f"/v1/organizations/{theirs}/people", None),
        ("PUT", f"/v1/organizations/{theirs}/people/{person}/role", {"role": "customer_billing"}),
        ("DELETE", f"/v1/organizations/{theirs}/people/{person}", None),
        ("DELETE", f"/v1/organizations/acme/people/{person}", None),
        ("GET", f"/v1/organizations/{theirs}/invitations", None),
        ("POST", f"/v1/organizations/{theirs}/invitations", {"email": "x@example.com", "role": "customer_admin"}),
        ("DELETE", f"/v1/invitations/{invited.invitation.id}", None),
        ("PUT", f"/v1/billing-profiles/{theirs}", {}),
        ("GET", f"/v1/billing-profiles/{theirs}", None),
        ("POST", f"/v1/ledger/prove?organization_id={theirs}", None),
    ]
    for name in ("credits", "balances", "invoices", "invoices/draft", "budgets", "statements", "exports/usage"):
        asked.append(("GET", f"/v1/{name}?organization_id={theirs}", None))
    for method, path, body in asked:
        answer = service.ask("customer_admin", method, path, body)
        assert answer.status_code == 404, f"{method} {path}: {answer.status_code} {answer.text}"


def test_a_customers_admin_runs_its_own_keys_and_sees_its_own_organization(service: Service) -> None:
    _key(service, "customer_admin")
    listed = service.ask("customer_admin", "GET", "/v1/organizations").json()["organizations"]
    assert [item["name"] for item in listed] == ["acme"]
    made = service.ask("customer_admin", "POST", "/v1/organizations/acme/keys", {"role": "customer_developer"}).json()
    service.keys["developer"] = made["secret"]
    assert service.ask("developer", "GET", "/v1/whoami").json()["permissions"]["leases:write"] == OWN
    assert service.ask("developer", "GET", "/v1/invoices").status_code == 403
    assert service.ask("customer_admin", "DELETE", f"/v1/keys/{made['id']}").status_code == 204
    assert service.ask("developer", "GET", "/v1/whoami").status_code == 401
    refused = service.ask("customer_admin", "POST", "/v1/organizations/acme/keys", {"role": "operator"})
    assert refused.status_code == 400 and "customer_admin" in refused.json()["error"]["message"]


def test_a_key_from_before_roles_may_do_what_its_scopes_say(service: Service) -> None:
    """A default key is narrowed to the scopes of its kind: no admin's rights come with them."""
    assert service.ask("acme", "GET", "/v1/organizations/acme/keys").status_code == 403
    assert service.ask("acme", "GET", "/v1/leases").status_code == 200
    service.keys["models"] = service.system.accounts.create_key("acme", scopes=["models"])[1]
    assert service.ask("models", "GET", "/v1/leases").status_code == 403


@pytest.mark.parametrize("permission", PERMISSIONS)
def test_scopes_narrow_a_role_and_never_widen_it(permission: str) -> None:
    order = ["", OWN, ALL]
    for role, grant in ROLES.items():
        assert reach(role, (), permission) == grant.reach(permission)
        for scope in SCOPES:
            assert order.index(reach(role, (scope,), permission)) <= order.index(grant.reach(permission))
    assert Actor("k", "o", "customer", frozenset()).may(permission) == ""
