"""What the catalog tells of its models."""

from __future__ import annotations

from fastapi.testclient import TestClient
from sqlalchemy import select, update
from tests.permissions import everybody

from sublet.api.http import frame
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
