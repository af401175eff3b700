"""Whose budget a changed lease counts against: over HTTP, with keys that count toward a project."""

from __future__ import annotations

import pytest
from tests.api.conftest import Service
from tests.api.conftest import service as service
from tests.leases.world import KEY


@pytest.mark.parametrize("target", ["", "search", " "])
@pytest.mark.parametrize("path", ["changes", "changes/preview"])
def test_a_key_of_a_project_lets_no_other_project_pay(service: Service, target: str, path: str) -> None:
    for who, project in (("trial", "trial"), ("whole", "")):
        service.keys[who] = service.system.accounts.create_key("acme", who, project=project)[1]
    wanted = {"pool": service.world.pool.name, "class": "spot", "duration_s": 600}
    quote = service.ask("trial", "POST", "/v1/quotes", wanted).json()
    lease = service.ask("trial", "POST", "/v1/leases", {"quote_id": quote["id"], "ssh_public_keys": [KEY]}).json()
    changes = f"/v1/leases/{lease['id']}/{path}"
    refused = service.ask("trial", "POST", changes, {"project": target})
    assert refused.status_code == 403 and "'trial'" in refused.json()["error"]["message"]
    assert service.ask("trial", "POST", changes, {"project": "trial"}).status_code < 300
    assert service.ask("whole", "POST", changes, {"project": target}).status_code < 300
