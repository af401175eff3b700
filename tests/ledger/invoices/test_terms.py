"""When a customer has to pay: a term that the operator sets and the customer sees."""

from __future__ import annotations

import pytest
from tests.api.conftest import Service
from tests.api.conftest import service as service


@pytest.mark.parametrize("role", ["customer_admin", "customer_billing"])
def test_a_customer_gives_itself_no_other_payment_term(service: Service, role: str) -> None:
    service.keys["mine"] = service.system.accounts.create_key("acme", role, role=role)[1]
    path = f"/v1/billing-profiles/{service.organizations['acme']}"
    assert service.ask("operator", "PUT", path, {"country": "DE", "payment_days": 14}).status_code == 200
    for days in (365, 30, 15):
        refused = service.ask("mine", "PUT", path, {"country": "FR", "payment_days": days})
        assert refused.status_code == 403 and "14 days to pay" in refused.json()["error"]["message"]
    assert service.ask("mine", "GET", path).json()["country"] == "DE", "what is refused changes nothing"
    for body in ({"legal_name": "Acme"}, {"legal_name": "Acme", "payment_days": 14}):
        kept = service.ask("mine", "PUT", path, body)
        assert (kept.status_code, kept.json()["payment_days"], kept.json()["country"]) == (200, 14, "")
    assert service.ask("operator", "PUT", path, {"payment_days": 7}).json()["payment_days"] == 7
