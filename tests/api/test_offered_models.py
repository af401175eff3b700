"""What a customer is told of the models: prices, tiers, limits, state; and the feed for aggregators."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.api.answers import same
from tests.api.conftest import Service
from tests.commands.conftest import Say
from tests.commands.conftest import say as say

from sublet.models.catalog import BUILT_IN
from sublet.store.tables.models import replicas

MODEL = BUILT_IN.name
BOOK = """
name = "ours"
[[prices]]
id = "input"
meter = "tokens.input"
kind = "per_unit"
from = 2020-01-01T00:00:00Z
amount = "0.05"
currency = "USD"
per = 1000000
[[prices]]
id = "output"
meter = "tokens.output"
kind = "per_unit"
from = 2020-01-01T00:00:00Z
amount = "0.20"
currency = "USD"
per = 1000000
[[prices]]
id = "output-flex"
meter = "tokens.output"
match = { tier = "flex" }
kind = "per_unit"
from = 2020-01-01T00:00:00Z
amount = "0.10"
currency = "USD"
per = 1000000
[[prices]]
id = "cached"
meter = "tokens.input_cached"
kind = "graduated"
from = 2020-01-01T00:00:00Z
currency = "USD"
per = 1000000
tiers = [{ up_to = 1000, amount = "0.02" }, { amount = "0.01" }]
"""


@pytest.fixture
def selling(service: Service) -> Service:
    headers = {"Authorization": f"Bearer {service.keys['operator']}", "content-type": "application/toml"}
    priced = service.client.put("/v1/prices", content=BOOK, headers=headers)
    assert priced.status_code == 200, priced.text
    order = {"model": MODEL, "pool_id": service.world.pool.id}
    assert service.ask("operator", "POST", "/v1/deployments", order).status_code == 201
    route = {"name": "chat", "upstreams": [{"model": MODEL}]}
    assert service.ask("operator", "POST", "/v1/model-routes", route).status_code == 201
    return service


def models(service: Service, who: str = "acme") -> dict[str, Any]:
    answer = service.ask(who, "GET", "/v1/models")
    assert answer.status_code == 200, answer.text
    same(service.answers[("GET", "/v1/models")], answer.json(), "models")
    return {item["name"]: item for item in answer.json()["models"]}


def test_a_customer_sees_prices_tiers_and_limits(selling: Service) -> None:
    found = models(selling)
    assert set(found) == {MODEL, "chat"}
    own = found[MODEL]
    assert (own["state"], own["currency"], own["context_tokens"]) == ("unavailable", "USD", BUILT_IN.context_tokens)
    assert own["capabilities"] == sorted(BUILT_IN.capabilities)
    tiers = {tier["tier"]: tier for tier in own["tiers"]}
    assert list(tiers) == ["default", "flex", "batch"]
    assert (tiers["default"]["input"], tiers["default"]["output"], tiers["flex"]["output"]) == ("0.05", "0.2", "0.1")
    assert (tiers["default"]["input_cached"], tiers["default"]["at_most"]) == ("0.02", True)
    gateway = selling.system.settings.gateway
    assert own["limits"] == {
        "requests_per_minute": gateway.requests_per_minute_max,
        "concurrency": gateway.concurrency_max,
        "input_tokens_per_minute": None,
        "output_tokens_per_minute": None,
    }


def test_the_smallest_limit_that_covers_the_key_is_told_and_what_it_may_not_call_is_left_out(selling: Service) -> None:
    acme = selling.organizations["acme"]
    for limit in (
        {"organization_id": acme, "requests_per_minute": 5000, "output_tokens_per_minute": 900},
        {"organization_id": acme, "model": "chat", "output_tokens_per_minute": 70},
        {"scope": "model", "model": MODEL, "concurrency": 3},
    ):
        assert selling.ask("operator", "POST", "/v1/limits", limit).status_code == 201
    found = models(selling)
    assert found["chat"]["limits"]["output_tokens_per_minute"] == 70
    assert found[MODEL]["limits"]["output_tokens_per_minute"] == 900
    assert found[MODEL]["limits"]["requests_per_minute"] == 5000, "the operator's own limit replaces the settings'"
    assert (found[MODEL]["limits"]["concurrency"], models(selling, "bolt")[MODEL]["limits"]["concurrency"]) == (3, 3)
    assert models(selling, "bolt")["chat"]["limits"]["output_tokens_per_minute"] is None, "another's is not shown"
    [listed] = [
        item
        for item in selling.ask("operator", "GET", f"/v1/limits?organization_id={acme}").json()["limits"]
        if not item["model"]
    ]
    only = {"models": ["chat"], "requests_per_minute": 5000}
    assert selling.ask("operator", "PUT", f"/v1/limits/{listed['id']}", only).status_code == 200
    assert set(models(selling)) == {"chat"} and set(models(selling, "bolt")) == {MODEL, "chat"}


def test_the_state_follows_the_replicas(selling: Service) -> None:
    store = selling.system.store
    deployment = selling.system.models.deployment(MODEL)
    row = {"id": "rep_1", "deployment_id": deployment.id, "model": MODEL, "pool_id": selling.world.pool.id}
    more = {"accelerators": 0, "state": "starting", "slots": 4, "restarts": 0, "reason": ""}
    at = selling.world.clock.now()
    store.write(lambda connection: connection.execute(replicas.insert().values(**row, **more, created_at=at)))
    assert {item["state"] for item in models(selling).values()} == {"starting"}
    store.write(lambda connection: connection.execute(replicas.update().values(state="ready", endpoint="http://one")))
    assert {item["state"] for item in models(selling).values()} == {"available"}


def test_the_feed_has_prices_for_one_token(selling: Service) -> None:
    answer = selling.ask("acme", "GET", "/v1/model-feed")
    same(selling.answers[("GET", "/v1/model-feed")], answer.json(), "feed")
    [chat, own] = answer.json()["data"]
    assert (chat["id"], own["id"]) == ("chat", MODEL)
    assert own["pricing"] == {
        "prompt": "0.00000005",
        "completion": "0.0000002",
        "input_cache_read": "0.00000002",
        "image": "0",
        "request": "0",
    }
    assert Decimal(own["pricing"]["completion"]) * 10**6 == Decimal("0.20")
    assert (own["input_modalities"], own["output_modalities"], own["is_ready"]) == (["text"], ["text"], False)
    assert own["supported_features"] == ["structured_outputs"] and "temperature" in own["supported_sampling_parameters"]


def test_customers_list_models_by_command(selling: Service, say: Say) -> None:
    shown = say("models", "ls", who="acme")
    assert MODEL in shown and "0.2 USD" in shown and "flex" in shown and "replicas" not in shown
    assert {item["name"] for item in say("models", "ls", "--json", who="acme")["models"]} == {MODEL, "chat"}
    assert "0.2 USD" in say("models", "ls", "--offered"), "the operator sees what customers see"
    assert "replicas" in say("models", "ls")


def test_a_key_without_the_model_api_sees_no_models(selling: Service) -> None:
    made = selling.system.accounts.create_key("acme", scopes=("billing",))[1]
    headers = {"Authorization": f"Bearer {made}"}
    for path in ("/v1/models", "/v1/model-feed"):
        assert selling.client.get(path, headers=headers).status_code == 403
        assert selling.client.get(path).status_code == 401
