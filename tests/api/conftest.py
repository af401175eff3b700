"""The whole API of a control plane on a simulated pool, with the keys of the operator and of two customers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from httpx2 import Response

from sublet.api.contract import answers_of
from sublet.api.http import api_routes
from sublet.control.plane import ControlPlane, build_api
from sublet.simulation.world import World


class Service:
    """A control plane that answers in this process, and who may ask it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.system = world.system
        self.api = build_api(world.system, ControlPlane(world.system))
        self.client = TestClient(self.api, raise_server_exceptions=False)
        accounts = world.system.accounts
        self.keys = {"operator": accounts.ensure_operator() or ""}
        self.organizations: dict[str, str] = {}
        self.subscription = ""
        for name, kind in (("acme", "customer"), ("bolt", "customer"), ("team", "internal")):
            self.organizations[name] = accounts.create_organization(name, kind).id
            self.keys[name] = accounts.create_key(name)[1]

    def ask(self, who: str, method: str, path: str, body: Any = None, **more: Any) -> Response:
        headers = {"Authorization": f"Bearer {self.keys[who]}"} | more.pop("headers", {})
        return self.client.request(method, path, json=body, headers=headers, **more)

    @property
    def answers(self) -> dict[tuple[str, str], type]:
        """The type of each operation's answer."""
        return answers_of(self.api)

    def routes(self) -> list[APIRoute]:
        """Every route of the API proper; the console's are not."""
        found = [route for route in api_routes(self.api) if f"{route.path}".startswith("/v1/")]
        assert len(found) > 60
        return found


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    world = World(tmp_path / "w")
    world.remember(days=8, need=0.3, spread=0.05)
    yield Service(world)
    world.close()
