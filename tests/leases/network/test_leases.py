"""From the request to the backend: who may have which allow list, and what a lease with one is told and tells."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.leases.test_api import Site
from tests.leases.test_commands import Customer
from tests.leases.test_commands import alice as alice
from tests.leases.world import World

from sublet.leases.backends.base import Observation, StartOrder
from sublet.store import Store
from sublet.values.clock import SimulatedClock
from sublet.values.egress import EgressPolicy, parsed_list, shipped
from sublet.values.errors import ForbiddenError, InvalidInputError

LISTS = shipped() | {"pypi": parsed_list("pypi", ["packages.example.org:443"])}


@pytest.fixture
def world(store: Store, clock: SimulatedClock) -> World:
    policy = EgressPolicy(LISTS, frozenset({"pypi", "git"}), {"firm": frozenset()})
    return World(store, clock, egress=policy)


def test_a_lease_is_given_the_lists_that_its_quote_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(world)
    orders: list[StartOrder] = []
    start, observe = world.backend.start, world.backend._observation
    monkeypatch.setattr(world.backend, "start", lambda order: orders.append(order) or start(order))

    def counting(found: object, lease_id: str) -> Observation:
        counts = {"bytes_out": 10, "bytes_in": 20, "connections": 1, "refused": 2}
        return replace(observe(found, lease_id), traffic=counts)  # type: ignore[arg-type]

    monkeypatch.setattr(world.backend, "_observation", counting)
    lease = site.take("alice", world, network=["git", "pypi", "git"])
    assert lease["network"] == ["git", "pypi"] and lease["traffic"] == {}
    assert orders[0].egress == world.egress.rules(("git", "pypi"))
    world.run(120, 10)
    _, shown = site.call("alice", "GET", f"/v1/leases/{lease['id']}")
    assert shown["traffic"] == {"bytes_out": 10, "bytes_in": 20, "connections": 1, "refused": 2}
    assert world.leases.lease(lease["id"]).network == ("git", "pypi")


def test_without_a_list_a_lease_reaches_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[StartOrder] = []
    start = world.backend.start
    monkeypatch.setattr(world.backend, "start", lambda order: orders.append(order) or start(order))
    lease = world.sell()
    world.run(3)
    assert [order.egress for order in orders if order.lease_id == lease.id] == [()]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"network": ["huggingface"]}, 403),
        ({"network": ["apt"]}, 400),
        ({"network": ["x"]}, 400),
        ({"network": ["pypi"], "class": "firm"}, 403),
    ],
)
def test_what_is_not_open_is_refused_at_the_quote(world: World, asked: dict[str, object], status: int) -> None:
    body = {"pool": world.pool.name, "class": "notice", "duration_s": 600, **asked}
    code, answer = Site(world).call("alice", "POST", "/v1/quotes", body)
    assert (code == status and "network" in answer["error"]["message"]) or "reach" in answer["error"]["message"]


def test_a_pool_that_can_not_give_it_is_not_sold_with_it(world: World) -> None:
    request = replace(world.request(), network=("pypi",))
    ports = replace(world.leases._ports, features=lambda backend: frozenset())
    world.leases._admission._ports = ports
    with pytest.raises(InvalidInputError, match="does not support network"):
        world.leases.quote("org_customer", request)


def test_a_list_that_was_taken_from_the_organization_is_no_longer_sold(world: World) -> None:
    request = replace(world.request(), network=("pypi",))
    world.leases.quote("org_customer", request)
    world.egress = EgressPolicy(LISTS, frozenset({"pypi"}), {}, {"org_customer": frozenset()})
    world.restart()
    with pytest.raises(ForbiddenError):
        world.leases.quote("org_customer", request)


def test_a_person_sees_which_lists_are_open_and_what_a_lease_reaches(alice: Customer) -> None:
    said = alice.types("networks")
    assert "pypi" in said and "*.huggingface.co" in said
    lease = alice.take("--network", "pypi,git")
    assert "reaches: git, pypi" in alice.types("show", lease)
