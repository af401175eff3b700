"""Several machines on one database: whose a pool is, who leads, and who is still there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import func, select
from tests.fleet.specs import spec

from sublet.fleet.leadership import HELD_S, STANDSTILL_S, Leadership
from sublet.fleet.node_model import UNREACHABLE_S
from sublet.fleet.nodes import (
    ControlPlaneRunningError,
    NodeReachableError,
    Nodes,
    Presence,
    node_id_in,
    own_node_id,
    take_control,
)
from sublet.fleet.reach import MachineReach, OwnReach, pool_lead
from sublet.fleet.service import Fleet, PoolElsewhereError
from sublet.store import Store
from sublet.store.tables.processes import processes
from sublet.values.clock import SimulatedClock
from sublet.values.errors import NotFoundError

A, B = "nod_a", "nod_b"


@pytest.fixture
def nodes(any_store: Store) -> Nodes:
    made = Nodes(any_store)
    made.register(A, "alpha")
    made.register(B, "beta")
    return made


class Candidate:
    """A control plane's leadership on a clock of its own."""

    def __init__(self, store: Store, node_id: str) -> None:
        self.at = 0.0
        self.leadership = Leadership(store, lambda: node_id, lambda: self.at)

    def stand(self, *names: str, after_s: float = 1.0) -> None:
        self.at += after_s
        self.leadership.stand(names)


def test_what_another_node_states_is_not_missing(any_store: Store, nodes: Nodes) -> None:
    fleet = Fleet(any_store)
    fleet.sync([spec("ours", backend="local"), spec("both", backend="simulated")], A)
    pools = {
        pool.name: pool for pool in fleet.sync([spec("theirs", backend="local"), spec("both", backend="simulated")], B)
    }
    assert {name: pool.node_ids for name, pool in pools.items()} == {"ours": {A}, "theirs": {B}, "both": {A, B}}
    assert not any(pool.offline_at for pool in pools.values())
    pools = {pool.name: pool for pool in fleet.sync([spec("ours", backend="local")], A)}
    assert pools["both"].offline_at is None and pools["both"].node_ids == {B}
    pools = {pool.name: pool for pool in fleet.sync([], B)}
    assert [name for name, pool in pools.items() if pool.offline_at] == ["both", "theirs"]


@pytest.mark.parametrize(("first", "second"), [("local", "local"), ("local", "simulated"), ("simulated", "local")])
def test_one_machines_pool_is_not_anothers(any_store: Store, nodes: Nodes, first: str, second: str) -> None:
    fleet = Fleet(any_store)
    before = fleet.sync([spec("a", backend=first)], A)
    with pytest.raises(PoolElsewhereError, match="node nod_a"):
        fleet.sync([spec("a", 7, backend=second)], B)
    assert fleet.pools() == before


def test_a_pool_of_before_there_were_nodes_is_taken_over(any_store: Store, nodes: Nodes) -> None:
    fleet = Fleet(any_store)
    fleet.sync([spec("a", backend="local")])
    (pool,) = fleet.sync([spec("a", backend="local")], B)
    assert pool.node_ids == {B}


def test_a_node_acts_on_its_own_pools_and_the_shared_ones_that_it_leads(any_store: Store, nodes: Nodes) -> None:
    fleet = Fleet(any_store)
    fleet.sync([spec("a", backend="local"), spec("both", backend="simulated"), spec("mine", backend="simulated")], A)
    found = fleet.sync([spec("b", backend="local"), spec("both", backend="simulated")], B)
    ids = {pool.name: pool.id for pool in found}
    one, two = Candidate(any_store, A), Candidate(any_store, B)
    reaches = [OwnReach(lambda: A, lambda: one.leadership), OwnReach(lambda: B, lambda: two.leadership)]
    beside = [MachineReach(lambda: A, alone=False), MachineReach(lambda: B, alone=False)]

    def acted() -> list[list[str]]:
        with any_store.read() as connection:
            both = [[reach.pools(connection) for reach in found] for found in (reaches, beside)]
        assert both[0] == both[1], "the engine host acts on what its control plane does"
        return [sorted(name for name, pool_id in ids.items() if pool_id in pools) for pools in both[0]]

    assert acted() == [["a"], ["b"]]
    with any_store.read() as connection:
        assert reaches[1].shared(connection) == [pool_lead(ids["both"])]
        stood_for = reaches[0].shared(connection)
    two.stand(pool_lead(ids["both"]))
    one.stand(*stood_for)
    assert acted() == [["a", "mine"], ["b", "both"]]
    assert reaches[1].claim(ids["both"]) and reaches[1].claim(ids["b"])
    assert not reaches[0].claim(ids["both"]), "no step is carried out by two"


def test_the_lead_moves_when_the_leader_gives_no_sign(any_store: Store) -> None:
    one, two = Candidate(any_store, A), Candidate(any_store, B)
    one.stand("rating")
    for _ in range(20):
        two.stand("rating")
        one.stand("rating")
        assert one.leadership.leads("rating") and not two.leadership.leads("rating")
    waited_s = 0.0
    while not two.leadership.leads("rating"):
        two.stand("rating")
        waited_s += 1
    assert waited_s <= STANDSTILL_S + 2 < 10
    one.at += waited_s
    assert not one.leadership.leads("rating"), "it stops by itself before another begins"
    assert not one.leadership.claim("rating") and two.leadership.claim("rating")
    one.stand("rating")
    assert not one.leadership.leads("rating")


def test_a_leader_that_was_asleep_finds_its_claim_refused(any_store: Store) -> None:
    one, two = Candidate(any_store, A), Candidate(any_store, B)
    one.stand("rating")
    for _ in range(9):
        two.stand("rating")
    assert two.leadership.leads("rating")
    # Its own clock stood still with it: it believes that it leads.
    assert one.leadership.leads("rating") and not one.leadership.claim("rating")
    assert HELD_S < STANDSTILL_S


def test_who_resigns_or_restarts_makes_nobody_wait(any_store: Store) -> None:
    one, two = Candidate(any_store, A), Candidate(any_store, B)
    one.stand("rating", "months")
    one.leadership.resign()
    two.stand("rating")
    assert two.leadership.leads("rating") and not one.leadership.leads("months")
    again = Candidate(any_store, B)
    again.stand("rating")
    assert again.leadership.leads("rating"), "the former process of the same node is dead"
    again.stand("months")
    again.stand("months")
    assert again.leadership.leads("months") and not again.leadership.leads("rating")


def test_a_node_whose_heartbeat_is_old_is_unreachable_and_may_be_forgotten(
    any_store: Store, nodes: Nodes, clock: SimulatedClock
) -> None:
    Fleet(any_store).sync([spec("a", backend="local")], A)
    assert [node.as_dict(clock.now())["state"] for node in nodes.nodes()] == ["unreachable", "unreachable"]
    presence = Presence(any_store, A, "alpha", "control")
    presence.beat()
    assert [node.reachable(clock.now()) for node in nodes.nodes()] == [True, False]
    with pytest.raises(NodeReachableError, match="heartbeats"):
        nodes.forget("alpha")
    clock.advance(UNREACHABLE_S + 1)
    assert not nodes.nodes()[0].reachable(clock.now())
    assert nodes.forget("alpha").id == A
    (pool,) = Fleet(any_store).sync([spec("a", backend="local")], B)
    assert pool.node_ids == {B}
    with pytest.raises(NotFoundError):
        nodes.forget("alpha")


def test_processes_say_that_they_serve_until_they_end(any_store: Store, nodes: Nodes, clock: SimulatedClock) -> None:
    presences = [Presence(any_store, A, "alpha", kind) for kind in ("control", "gateway", "control")]
    for presence in presences:
        presence.beat()
        clock.advance(1)
    with any_store.read() as connection:
        found = connection.execute(select(processes)).all()
    assert sorted((process.kind, process.pid) for process in found) == [
        ("control", os.getpid()),
        ("gateway", os.getpid()),
    ]
    presences[1].stop()
    presences[2].stop()
    with any_store.read() as connection:
        assert connection.execute(select(processes)).all() == []


def test_a_killed_process_is_forgotten_after_a_day(any_store: Store, clock: SimulatedClock) -> None:
    control = Presence(any_store, A, "alpha", "control")
    Presence(any_store, A, "alpha", "gateway").beat()
    clock.advance(23 * 3600)
    control.beat()
    with any_store.read() as connection:
        assert connection.execute(select(func.count()).select_from(processes)).scalar_one() == 2
    clock.advance(3600 + 1)
    control.beat()
    with any_store.read() as connection:
        assert [row.kind for row in connection.execute(select(processes))] == ["control"]


def test_a_data_directory_names_its_node_once(tmp_path: Path) -> None:
    assert node_id_in(tmp_path) is None
    named = own_node_id(tmp_path / "new")
    assert named == own_node_id(tmp_path / "new") == node_id_in(tmp_path / "new")
    (tmp_path / "new" / "node").write_text("nonsense")
    assert own_node_id(tmp_path / "new") != named


def test_on_sqlite_a_second_control_plane_is_refused_in_one_sentence(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sublet.db"
    first = take_control(url, tmp_path / "one")
    with pytest.raises(ControlPlaneRunningError, match=r"SQLite has room for one; set database\.url to PostgreSQL"):
        take_control(url, tmp_path / "two")
    first.close()
    take_control(url, tmp_path / "two").close()


def test_on_postgresql_each_control_plane_has_a_data_directory_of_its_own(tmp_path: Path) -> None:
    url = "postgresql://nobody@nowhere/none"
    held = [take_control(url, tmp_path / "one"), take_control(url, tmp_path / "two")]
    with pytest.raises(ControlPlaneRunningError, match="data_dir of its own"):
        take_control(url, tmp_path / "one")
    for lock in held:
        lock.close()


def test_on_sqlite_a_new_directory_takes_over_what_an_old_one_stated(store: Store) -> None:
    nodes = Nodes(store)
    nodes.register(A, "alpha")
    Fleet(store).sync([spec("a", backend="local")], A)
    nodes.register(B, "beta", alone=True)
    (pool,) = Fleet(store).sync([spec("a", backend="local")], B)
    assert pool.node_ids == {B} and [node.id for node in nodes.nodes()] == [B]
