"""A key of one project changes nothing that another project, or the organization itself, pays for; all of it may be seen."""

from __future__ import annotations

from typing import Any

from tests.api.conftest import Service
from tests.leases.world import KEY

OTHERS = ("red", "blue", "")


class Team:
    """One organization with a key for each of two projects, and one without a project."""

    def __init__(self, service: Service) -> None:
        self.service, self.pool = service, service.world.pool.name
        for project in OTHERS:
            service.keys[f"key of {project}"] = service.system.accounts.create_key("acme", "k", project=project)[1]

    def ask(self, project: str, method: str, path: str, body: Any = None) -> Any:
        return self.service.ask(f"key of {project}", method, path, body)

    def made(self, project: str, path: str, body: Any) -> Any:
        answer = self.ask(project, "POST", path, body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def quote(self, project: str, **more: Any) -> str:
        order = {"pool": self.pool, "class": "spot", "duration_s": 3600, **more}
        return str(self.made(project, "/v1/quotes", order)["id"])

    def lease(self, project: str) -> str:
        taken = {"quote_id": self.quote(project), "ssh_public_keys": [KEY]}
        return str(self.made(project, "/v1/leases", taken)["id"])


def refused(answer: Any) -> bool:
    return answer.status_code == 403 and answer.json()["error"]["code"] == "other_project"


def test_leases_of_other_projects_are_seen_and_left_alone(service: Service) -> None:
    team = Team(service)
    leases = {project: f"/v1/leases/{team.lease(project)}" for project in OTHERS}
    acts: list[tuple[str, str, Any]] = [
        ("POST", "/changes", {"end": "2030-01-01T00:00:00Z"}),
        ("POST", "/changes/preview", {"accelerators": 1}),
        ("POST", "/changes", {"project": "red"}),
        ("PUT", "/name", {"name": "mine"}),
        ("PUT", "/ssh-keys", {"ssh_public_keys": [KEY]}),
        ("POST", "/end/preview", None),
        ("POST", "/end", None),
    ]
    for owner in ("blue", ""):
        assert team.ask("red", "GET", leases[owner]).status_code == 200
        for method, path, body in acts:
            assert refused(team.ask("red", method, leases[owner] + path, body)), f"{owner} {path}"
        assert team.ask("red", "GET", leases[owner]).json()["state"] != "ended"
    assert team.ask("red", "PUT", f"{leases['red']}/name", {"name": "mine"}).status_code == 200
    for project in OTHERS:
        assert team.ask("", "PUT", f"{leases[project]}/name", {"name": "ours"}).status_code == 200
    moved = team.ask("", "POST", f"{leases['blue']}/changes", {"project": "red"})
    assert moved.status_code == 201, moved.text
    assert team.ask("red", "POST", f"{leases['blue']}/end").status_code == 200, (
        "what pays for it counts, not who took it"
    )
    assert refused(team.ask("blue", "POST", f"{leases['red']}/end"))


def test_quotes_jobs_and_volumes_of_other_projects_are_left_alone(service: Service) -> None:
    team = Team(service)
    quote = team.quote("blue")
    assert refused(team.ask("red", "POST", f"/v1/quotes/{quote}/cancel"))
    assert refused(team.ask("red", "POST", "/v1/leases", {"quote_id": quote, "ssh_public_keys": [KEY]}))
    assert team.ask("blue", "POST", f"/v1/quotes/{quote}/cancel").status_code == 200
    order = {"pool": team.pool, "class": "spot", "duration_s": 3600}
    shared = service.ask("acme", "POST", "/v1/quotes", order).json()["id"]
    assert refused(team.ask("red", "POST", f"/v1/quotes/{shared}/cancel"))
    taken = {"quote_id": shared, "ssh_public_keys": [KEY]}
    assert team.ask("red", "POST", "/v1/leases", taken).status_code == 201, "red pays for it"
    order = {"pool": team.pool, "class": "spot", "duration_s": 3600, "command": ["true"]}
    job = team.made("blue", "/v1/jobs", order)["jobs"][0]["id"]
    array = team.made("blue", "/v1/jobs", order | {"array": [1, 2]})["array_id"]
    for one in (job, array):
        assert refused(team.ask("red", "POST", f"/v1/jobs/{one}/cancel"))
        assert team.ask("blue", "POST", f"/v1/jobs/{one}/cancel").status_code == 200
    for project in ("blue", ""):
        team.made(project, "/v1/volumes", {"name": f"of-{project or 'all'}", "size_mib": 16, "pool": team.pool})
    service.world.pass_time(120)
    assert refused(team.ask("red", "DELETE", "/v1/volumes/of-blue"))
    assert refused(team.ask("red", "DELETE", "/v1/volumes/of-all"))
    attached = team.ask(
        "red", "POST", "/v1/quotes", {"pool": team.pool, "class": "spot", "duration_s": 3600, "volumes": ["of-blue"]}
    )
    assert refused(attached)
    team.quote("red", volumes=["of-all"])
    assert team.ask("blue", "DELETE", "/v1/volumes/of-blue").status_code == 200
    team.made("blue", "/v1/images", {"name": "of-blue", "size_bytes": 5, "sha256": "0" * 64})
    assert refused(team.ask("red", "DELETE", "/v1/images/of-blue"))
    assert team.ask("blue", "DELETE", "/v1/images/of-blue").status_code == 200


def test_a_key_of_a_project_makes_no_way_around_it(service: Service) -> None:
    team = Team(service)
    keys = "/v1/organizations/acme/keys"
    for project in ("blue", ""):
        _, secret = service.system.accounts.create_key("acme", "admin", project=project, role="customer_admin")
        service.keys[f"key of {project}"] = secret
    own = team.made("blue", keys, {"name": "one more", "project": "blue"})
    whole = team.made("", keys, {"name": "of all"})
    for project in ("", "red"):
        refused_key = team.ask("blue", "POST", keys, {"name": "a way out", "project": project})
        assert refused_key.status_code == 403 and "of that project only" in refused_key.text
    assert team.ask("blue", "DELETE", f"/v1/keys/{whole['id']}").status_code == 403
    assert [key["revoked_at"] for key in team.ask("", "GET", keys).json()["keys"] if key["id"] == whole["id"]] == [None]
    assert team.ask("blue", "DELETE", f"/v1/keys/{own['id']}").status_code == 204
    invitation = {"email": "friend@example.com", "role": "customer_admin"}
    for path, body in (
        ("/v1/organizations/acme/invitations", invitation),
        ("/v1/limits", {"scope": "project", "subject": "blue", "requests_per_minute": 1_000}),
    ):
        barred = team.ask("blue", "POST", path, body)
        assert barred.status_code == 403 and "concerns the whole organization" in barred.text, barred.text
    assert (
        team.ask("blue", "GET", "/v1/whoami").json()["permissions"].keys().isdisjoint({"people:write", "limits:write"})
    )


def test_the_operator_acts_on_everything(service: Service) -> None:
    team = Team(service)
    lease = team.lease("blue")
    assert service.ask("operator", "POST", f"/v1/leases/{lease}/end").status_code == 200
