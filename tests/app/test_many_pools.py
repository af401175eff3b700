"""A deployment on two pools: floors, room and reclaims of each, and what is left when one pool's node does not answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, update

from sublet.config.settings import Settings
from sublet.control.loops import Loop
from sublet.control.metrics import ControlMetrics, Requests
from sublet.demand.model import Sample
from sublet.fleet.node_model import UNREACHABLE_S
from sublet.fleet.node_store import save_node, see_node, set_pools
from sublet.fleet.reach import unreachable_pools
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.leases.reclaim.victims import Occupant
from sublet.models.model import LOST
from sublet.reporting.overview import Overviews
from sublet.simulation.world import settings_for
from sublet.store import Store
from sublet.store.tables.fleet import pools as pool_rows
from sublet.store.tables.models import deployments, replicas
from sublet.values.clock import SimulatedClock
from sublet.values.windows import Window
from sublet.wiring.system import Sublet

MODEL = "smollm2-135m-instruct"


class Owner:
    """Two pools of four accelerators that their owner does not use, and an engine host that starts and stops at once."""

    def __init__(self, folder: Path, clock: SimulatedClock) -> None:
        stated = settings_for(folder, 4).model_dump(include={"data_dir", "models", "pools"})
        first = {name: value for name, value in stated["pools"][0].items() if value is not None}
        pools = [first | {"name": name} for name in ("near", "far")]
        self.clock = clock
        self.system = Sublet(Settings.model_validate(stated | {"pools": pools}), clock)
        self.pools = {pool.name: pool.id for pool in self.system.sync_fleet()}
        self.away: dict[str, str] = {}
        self.system.models.away = self._away
        for pool_id in self.pools.values():
            hours = [Sample(clock.now() - timedelta(hours=hour), 4, 0) for hour in range(10 * 24, -1, -1)]
            self.system.demand.record_samples(pool_id, hours)

    def _away(self, connection: Connection) -> Mapping[str, str]:
        return self.away

    def go(self, seconds: int) -> None:
        for _ in range(0, seconds, 2):
            self.clock.advance(2)
            now = self.clock.now()
            for pool_id in self.pools.values():
                self.system.demand.record_samples(pool_id, [Sample(now, 4, 0)])
            self.system.leases.tick()
            plan = self.system.models.plan(*self.system.room(), reach=self.system.reach)
            self.system.models.carry_out(plan, self.system.capacity.model_spare)
            answering = replicas.c.pool_id.not_in(self.away)
            for states, values in (
                (("starting", "ready"), {"state": "ready", "ready_at": now, "healthy_at": now}),
                (("draining",), {"state": "stopped", "stopped_at": now}),
            ):
                change = update(replicas).where(replicas.c.state.in_(states), answering).values(**values)
                self.system.store.write(lambda connection, change=change: connection.execute(change))

    def serving(self) -> Counter[str]:
        names = {pool_id: name for name, pool_id in self.pools.items()}
        return Counter(names[replica.pool_id] for replica in self.system.models.serving())

    def take_back(self, pool: str, count: int, ahead_s: int = 0, force: bool = False) -> None:
        window = Window.starting(self.clock.now() + timedelta(seconds=ahead_s), 4 * 3600)
        self.system.leases.reclaim(ReclaimOrder(self.pools[pool], count, window, "training run", force), "team")


@pytest.fixture
def owner(tmp_path: Path, clock: SimulatedClock) -> Iterator[Owner]:
    made = Owner(tmp_path, clock)
    yield made
    made.system.close()


def test_a_reclaim_of_one_pool_takes_its_replicas_and_they_go_on_elsewhere(owner: Owner) -> None:
    owner.system.models.deploy(MODEL, [owner.pools["near"], owner.pools["far"]], scale=2)
    owner.go(6)
    assert owner.serving() == {"near": 2}
    owner.take_back("near", 4, ahead_s=150)
    owner.go(6)
    assert owner.serving() == {"near": 2, "far": 2}, "successors answer before those under notice drain"
    owner.go(200)
    assert owner.serving() == {"far": 2}


def test_a_forced_reclaim_moves_the_floor_and_what_is_kept_for_it(owner: Owner) -> None:
    near, far = owner.pools["near"], owner.pools["far"]
    owner.system.models.deploy(MODEL, [near, far], floor=1, scale=1)

    def kept() -> tuple[int, int]:
        return owner.system.capacity.pool_facts(near).never_sell, owner.system.capacity.pool_facts(far).never_sell

    assert kept() == (1, 0), "the preferred pool keeps the floor that nothing fills yet"
    owner.go(6)
    assert owner.serving() == {"near": 1} and kept() == (1, 0)
    owner.take_back("near", 4, force=True)
    owner.go(200)
    assert owner.serving() == {"far": 1} and kept() == (0, 1)
    assert [item.protected for item in _occupants(owner, far)] == [True]


def test_a_dead_nodes_replica_is_lost_and_replaced_where_another_pool_may_hold_it(owner: Owner) -> None:
    near, far = owner.pools["near"], owner.pools["far"]
    owner.system.models.deploy(MODEL, [near, far], floor=1, scale=1)
    owner.go(6)
    owner.away = {near: "rack-7"}
    owner.go(10)
    assert owner.serving() == {"near": 1}, "its engine was heard of lately, so its control plane alone is away"
    owner.go(round(UNREACHABLE_S) + 4)
    (row,) = (row for row in owner.system.models.rows() if row.deployment)
    told = {item["pool_id"]: (item["state"], item["lost_node"]) for item in row.as_dict()["replicas"]}
    assert told == {near: (LOST, "rack-7"), far: ("ready", None)}
    assert owner.serving() == {"far": 1} and not _occupants(owner, near)
    assert owner.system.capacity.pool_facts(far).never_sell == 1
    (shown,) = Overviews(owner.system, lambda: {"ok": True, "failing": [], "backends": []}).now().models
    assert (shown.replicas, shown.pools, shown.lost) == (1, (("near", 0), ("far", 1)), (("rack-7", 1),))
    figures = ControlMetrics(owner.system, list[Loop](), Requests()).exposition().decode()
    assert 'sublet_replicas{state="lost"} 1.0' in figures and 'sublet_replicas{state="ready"} 1.0' in figures
    owner.away = {}
    owner.go(6)
    assert owner.serving() == {"near": 1}, "it is back, and one is wanted: that on the preferred pool"


def test_a_model_that_only_a_dead_node_serves_can_be_removed(owner: Owner) -> None:
    near = owner.pools["near"]
    owner.system.models.deploy(MODEL, near, floor=1, scale=1)
    owner.go(6)
    heard = owner.clock.now()
    owner.away = {near: "rack-7"}
    owner.go(round(UNREACHABLE_S) + 4)
    owner.system.models.remove(MODEL)
    owner.go(4)
    assert owner.system.models.replicas() == [], "what its node can't be asked to end is written down as ended"
    with owner.system.store.read() as connection:
        row = connection.execute(replicas.select()).one()
    assert (row.state, row.stopped_at) == ("stopped", heard) and "does not answer" in row.reason


def test_a_row_of_an_older_version_names_its_one_pool(owner: Owner) -> None:
    made = owner.system.models.deploy(MODEL, owner.pools["far"], scale=1)
    owner.system.store.write(
        lambda connection: connection.execute(update(deployments).values(pool_ids=None, state="active"))
    )
    found = owner.system.models.deployment(MODEL)
    assert found.pool_ids == (owner.pools["far"],) and found == made


def test_whose_node_does_not_answer(store: Store, clock: SimulatedClock) -> None:
    def write(connection: Connection) -> None:
        now = clock.now()
        for name, backend in (("mine", "local"), ("theirs", "local"), ("both", "slurm"), ("orphan", "local")):
            connection.execute(
                insert(pool_rows).values(
                    id=name, name=name, site="s", generation="g", backend=backend, watts_mw=1, updated_at=now, watts_source="",
                    price_nano=1, tenure="", currency="USD", online_at=now, stated={},
                )
            )  # fmt: skip
        for node, pools in (("here", ["mine", "both"]), ("there", ["theirs", "both"])):
            save_node(connection, node, node, "1", now)
            set_pools(connection, node, pools)
            see_node(connection, node, now)

    store.write(write)
    mine = frozenset({"mine"})

    def away() -> dict[str, str]:
        with store.read() as connection:
            return unreachable_pools(connection, mine, clock.now())

    assert away() == {"orphan": ""}
    clock.advance(UNREACHABLE_S + 1)
    assert away() == {"theirs": "there", "both": "here, there", "orphan": ""}, "its own pool is never away to itself"
    store.write(lambda connection: see_node(connection, "here", clock.now()))
    assert away() == {"theirs": "there", "orphan": ""}


def _occupants(owner: Owner, pool_id: str) -> list[Occupant]:
    with owner.system.store.read() as connection:
        return list(owner.system.capacity.occupants(connection, pool_id))
