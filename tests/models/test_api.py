"""What the catalog tells of its models."""

from __future__ import annotations

from decimal import Decimal

from fastapi.testclient import TestClient
from sqlalchemy import select, update
from tests.permissions import everybody

from sublet.api.http import frame
from sublet.fleet.model import PoolSpec
from sublet.fleet.service import Fleet
from sublet.models.api import router
from sublet.models.catalog import BUILT_IN
from sublet.models.service import Models
from sublet.store import Store
from sublet.store.tables.models import models as catalog

BOOK = '[[models]]\nname = "ours"\nengine = "openai_url"\nsource = {url = "http://one/v1"}\n'


def test_models_rent_by_the_class_that_the_settings_name(store: Store) -> None:
    models = Models(store, service_class="bronze")
    api = frame("test")
    api.include_router(router(models, everybody, Fleet(store)))
    client = TestClient(api)
    added = client.post("/v1/catalog", content=BOOK, headers={"content-type": "application/toml"})
    assert [item["surplus_class"] for item in added.json()["models"]] == ["bronze"]

    def as_0_1_wrote_it() -> None:
        with store.read() as connection:
            entry = connection.execute(select(catalog.c.entry)).scalar_one()
        assert "surplus_class" not in entry
        store.write(lambda writing: writing.execute(update(catalog).values(entry=entry | {"surplus_class": "spot"})))

    as_0_1_wrote_it()
    listed = client.get("/v1/deployments").json()["models"]
    assert {item["name"]: item["surplus_class"] for item in listed} == {"ours": "bronze", BUILT_IN.name: "bronze"}


def test_a_model_is_offered_on_several_pools_and_moved(store: Store) -> None:
    models, fleet = Models(store), Fleet(store)
    names = ("near", "far")
    specs = [
        PoolSpec(name, "s", "h100", "simulated", ("simulated:0",), Decimal(700), "stated", 10**9) for name in names
    ]
    near, far = (pool.id for pool in sorted(fleet.sync(specs), key=lambda pool: names.index(pool.name)))
    api = frame("test")
    api.include_router(router(models, everybody, fleet))
    client = TestClient(api)
    order = {"model": BUILT_IN.name, "pool_ids": ["near", far], "scale": 2}
    for wrong, field in (({"pool_ids": ["near", near]}, "pool_ids"), ({"pool_id": near}, "pool_ids")):
        refused = client.post("/v1/deployments", json=order | wrong)
        assert refused.status_code == 400 and refused.json()["error"]["details"]["field"] == field, wrong
    assert client.post("/v1/deployments", json=order | {"pool_ids": ["nowhere"]}).status_code == 404
    made = client.post("/v1/deployments", json=order).json()
    assert (made["pool_id"], made["pool_ids"]) == (near, [near, far])
    again = client.post("/v1/deployments", json=order | {"pool_ids": ["far"]})
    assert again.status_code == 409 and "models place" in again.json()["error"]["message"]
    path = f"/v1/deployments/{BUILT_IN.name}"
    tag = client.get(path).headers["etag"]
    moved = client.put(f"{path}/pools", json={"pool_ids": ["far"]}, headers={"if-match": tag})
    assert (moved.json()["pool_id"], moved.json()["pool_ids"]) == (far, [far])
    stale = client.put(f"{path}/pools", json={"pool_ids": ["near"]}, headers={"if-match": tag})
    assert stale.status_code == 412
    assert client.put(f"{path}/pools", json={"pool_ids": []}).status_code == 400
    assert client.put("/v1/deployments/nope/pools", json={"pool_ids": ["far"]}).status_code == 404
