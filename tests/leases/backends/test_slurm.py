"""Leases on a real Slurm cluster: what goes wrong there, and the whole way through the books."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from tests.leases.machine import client_key
from tests.leases.slurm_cluster import SlurmCluster
from tests.leases.world import CUSTOMER, pool_spec

from sublet.fleet.service import Fleet
from sublet.leases.backends.base import BackendFailedError, Endpoint, Observation, RunState, StartOrder
from sublet.leases.backends.engine import ReserveOrder
from sublet.leases.backends.slurm.backend import SlurmBackend
from sublet.leases.backends.slurm.commands import ControllerAwayError
from sublet.leases.backends.slurm.files import SlurmFiles
from sublet.leases.lifecycle.metering import UsageInterval
from sublet.leases.model import Lease, LeaseState, Timing
from sublet.leases.ports import CreditNote, LeasePorts
from sublet.leases.quotes.request import QuoteRequest
from sublet.leases.service import Leases
from sublet.store import Store
from sublet.values.clock import SystemClock
from sublet.values.ids import new_id
from sublet.values.windows import Window

pytestmark = pytest.mark.real
WAIT_S = 60.0


@dataclass
class Site:
    """A cluster, the backend on it, and a customer's key."""

    cluster: SlurmCluster
    shared: Path
    key: Path
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.backend = self.fresh()

    def fresh(self, **changes: Any) -> SlurmBackend:
        return SlurmBackend("slurm", SystemClock(), self.cluster.settings(self.shared, **{**self.changes, **changes}))

    @property
    def public(self) -> str:
        return self.key.with_name("client_key.pub").read_text()

    def order(self, seconds: float = 300, nodes: int = 1, class_name: str = "notice") -> StartOrder:
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        return StartOrder(new_id("lse"), "org_a", ("x",) * nodes, (self.public,), end, class_name)

    def until(
        self, lease_id: str, what: str, wanted: Callable[[Observation], bool], seconds: float = WAIT_S
    ) -> Observation:
        deadline = time.monotonic() + seconds
        while True:
            seen = None
            with suppress(BackendFailedError):
                seen = self.backend.observe(lease_id)
            if seen is not None and wanted(seen):
                return seen
            assert time.monotonic() < deadline, (what, seen and seen.as_dict())
            time.sleep(0.05)

    def running(self, **terms: Any) -> tuple[StartOrder, Observation]:
        order = self.order(**terms)
        self.backend.start(order)
        return order, self.until(order.lease_id, "running", lambda seen: seen.state is RunState.RUNNING)

    def login(self, door: Endpoint | None, command: str) -> str:
        assert door is not None
        done = subprocess.run(
            ["ssh", "-p", str(door.port), "-i", str(self.key), "-F", "none", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
             "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
             f"{door.user}@{door.host}", command],
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def site(slurm_cluster: SlurmCluster, tmp_path: Path) -> Iterator[Site]:
    slurm_cluster.clear()
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o700)
    site = Site(slurm_cluster, shared, client_key(tmp_path))
    yield site
    for name in slurm_cluster.names:
        with suppress(AssertionError):
            slurm_cluster.run("scontrol", "update", f"NodeName={name}", "State=RESUME")
    left = [
        seen for lease_id in site.backend.observe_all() if not (seen := site.backend.stop(lease_id, "test", 0.0)).clean
    ]
    assert [seen for seen in left if seen.state is not RunState.ABSENT] == []


class Books:
    """The books of leases on the cluster, in real time."""

    def __init__(self, store: Store, site: Site) -> None:
        self.store, self.site = store, site
        self.credits: list[CreditNote] = []
        self.billed: dict[str, UsageInterval] = {}
        self.pool = Fleet(store).sync([pool_spec("slurm", 3, backend="slurm")])[0]
        ports = LeasePorts(
            sellable=lambda connection, pool, name, window: 3,
            price=lambda connection, pool, name, window, organization: (1_000_000_000, "USD"),
            may_stay=lambda connection, pool, window, calm_s: 3,
            emit=self.emit,
            post_credit=lambda connection, note: self.credits.append(note),
            timing=Timing(),
            engine_of=lambda connection, pool: site.backend.traits,
        )
        self.leases = Leases(store, {"slurm": site.backend}, ports)

    def emit(self, connection: Connection, interval: UsageInterval) -> None:
        self.billed.setdefault(interval.id, interval)

    def sell(self, class_name: str = "notice", seconds: int = 600) -> Lease:
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        quote = self.leases.quote(CUSTOMER, QuoteRequest(1, class_name, end, None, self.pool.name))
        return self.leases.accept(CUSTOMER, quote.id, [self.site.public])

    def until(self, lease: Lease, what: str, wanted: Callable[[Lease], bool]) -> Lease:
        deadline = time.monotonic() + WAIT_S
        while not wanted(found := self.leases.lease(lease.id)):
            assert time.monotonic() < deadline, (what, found.as_dict(), self.leases.plan().as_dict())
            self.leases.tick()
            time.sleep(0.1)
        return found


@pytest.fixture
def books(tmp_path: Path, site: Site) -> Iterator[Books]:
    from sublet.store.metadata import metadata

    store = Store(f"sqlite:///{tmp_path}/books.db", SystemClock())
    metadata.create_all(store.engine)
    yield Books(store, site)
    store.close()


def test_rent_log_in_and_give_back(books: Books) -> None:
    site = books.site
    sold = books.sell()
    lease = books.until(sold, "active", lambda found: found.state is LeaseState.ACTIVE and found.engine is not None)
    told = lease.as_dict()
    assert told["fenced"] == "asserted" and len(told["devices"]) == 1 and told["devices"][0].startswith("n")
    door = site.backend.observe(lease.id).endpoint
    assert site.login(door, "id -un; cat /run/sublet/lease.json").startswith("tenant")
    assert "mine" in site.login(door, "echo mine > kept; cat kept")
    node = told["devices"][0].partition(":")[0]
    assert node in site.cluster.run("scontrol", "-o", "show", "reservation", f"sublet-{lease.id}")
    with pytest.raises(AssertionError, match=r"busy|not available|Requested|Unable"):
        site.cluster.run("srun", "-p", "internal", "--immediate=1", "-w", node, "-N1", "true")
    books.leases.end(lease.id)
    ended = books.until(lease, "ended", lambda found: found.state is LeaseState.ENDED)
    assert ended.end_reason == "released" and ended.metered_s == sum(
        item.accelerator_s for item in books.billed.values()
    )
    for _ in range(3):
        books.leases.tick()
    assert site.backend.observe_all() == {} and list(site.shared.iterdir()) == []
    assert site.cluster.run("scontrol", "-o", "show", "reservation") == "No reservations in the system"


def test_internal_work_takes_a_spot_lease_without_asking(books: Books) -> None:
    site = books.site
    lease = books.until(books.sell("spot", 1800), "active", lambda found: found.state is LeaseState.ACTIVE)
    assert lease.as_dict()["fenced"] is None
    job = site.cluster.submit("sleep 2", "-p", "internal", "--nodes=3", "--exclusive")
    noticed = books.until(lease, "on notice", lambda found: found.reclaim_at is not None)
    assert (noticed.state, noticed.reclaim_origin) == (LeaseState.NOTICE, "engine")
    ended = books.until(lease, "ended", lambda found: found.state is LeaseState.ENDED)
    assert ended.end_reason == "reclaimed" and ended.ended_at is not None and noticed.reclaim_at is not None
    assert ended.active_at is not None
    assert 0 <= ended.metered_s <= (noticed.reclaim_at - ended.active_at).total_seconds() + 1
    site.cluster.until("internal work that runs", lambda: site.cluster.state(job) in ("RUNNING", "COMPLETING", ""), 30)
    assert any("scheduler" in step.reason or "cluster" in step.reason for step in books.leases.history(lease.id))


def test_a_node_that_is_drained_before_the_start_is_left(site: Site) -> None:
    """Slurm itself moves reservations off dead nodes, not off drained ones."""
    start = datetime.now(UTC) + timedelta(hours=1)
    order = ReserveOrder(new_id("lse"), "org_a", 1, Window(start, start + timedelta(hours=1)))
    seen = site.backend.reserve(order)
    assert seen.reservation is not None
    [node] = seen.reservation.places
    site.cluster.run("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=a fan | failed = yes")
    broken = site.backend.observe(order.lease_id).reservation
    assert broken is not None and broken.broken is not None and "fan" in broken.broken
    health = {item.name: item for item in site.backend.health()}
    assert not health[node].usable and "a fan | failed = yes" in health[node].reason
    assert site.fresh().served_max() == 2
    moved = site.backend.reserve(order).reservation
    assert moved is not None and moved.broken is None and node not in moved.places
    site.backend.release(order.lease_id)


def test_a_reservation_that_slurm_moves_is_followed(site: Site) -> None:
    start = datetime.now(UTC) + timedelta(seconds=120)
    order = site.order(seconds=600)
    kept = ReserveOrder(order.lease_id, "org_a", 1, Window(start, order.ends_at + timedelta(seconds=60)))
    seen = site.backend.reserve(kept)
    assert seen.reservation is not None
    before = seen.reservation.places
    site.cluster.run("scontrol", "update", f"NodeName={before[0]}", "State=DOWN", "Reason=power")
    site.until(
        order.lease_id, "elsewhere", lambda seen: seen.reservation is not None and seen.reservation.places != before
    )
    site.backend.reserve(ReserveOrder(order.lease_id, "org_a", 1, Window(datetime.now(UTC), kept.window.end)))
    site.backend.start(order)
    running = site.until(order.lease_id, "running", lambda seen: seen.state is RunState.RUNNING)
    assert running.devices and running.devices[0].partition(":")[0] not in before
    assert site.backend.stop(order.lease_id, "released").clean


def test_the_controller_dies_and_comes_back(site: Site) -> None:
    """Access goes on, ends on time without it, and nothing is taken for absent meanwhile."""
    order, seen = site.running(seconds=300)
    short, _ = site.running(seconds=16)
    ahead = ReserveOrder(
        new_id("lse"), "org_a", 1, Window(order.ends_at + timedelta(hours=1), order.ends_at + timedelta(hours=2))
    )
    site.backend.reserve(ahead)
    # Slurm writes its state down within five seconds.
    time.sleep(5.5)
    site.cluster.kill_controller()
    try:
        time.sleep(1.1)
        began = time.monotonic()
        for ask in (lambda: site.backend.observe(order.lease_id), site.backend.observe_all, site.backend.demand):
            with pytest.raises(ControllerAwayError):
                ask()
        assert time.monotonic() - began < 9, "a call to a controller that is away must not take its nine seconds"
        assert site.login(seen.endpoint, "echo there") == "there"
        while datetime.now(UTC) < short.ends_at + timedelta(seconds=2):
            time.sleep(0.1)
        reports = SlurmFiles(site.shared, short.lease_id).reports(1)[-1]
        assert [(report.state, report.reason, report.clean) for report in reports] == [("stopped", "window_over", True)]
    finally:
        site.cluster.controller()
    over = site.until(short.lease_id, "over", lambda seen: seen.state is RunState.STOPPED)
    assert over.delivered_until is not None and over.delivered_until <= short.ends_at and over.clean
    again = site.until(order.lease_id, "running", lambda seen: seen.state is RunState.RUNNING)
    assert again.endpoint == seen.endpoint and len(again.deliveries) == 1, "it was served all the time"
    kept = site.until(ahead.lease_id, "kept", lambda seen: seen.reservation is not None)
    assert kept.state is RunState.ABSENT
    assert site.backend.stop(order.lease_id, "released").clean


def test_a_controller_that_hangs_is_away(site: Site) -> None:
    with site.cluster.frozen_controller():
        time.sleep(1.1)
        began = time.monotonic()
        with pytest.raises(ControllerAwayError):
            site.fresh(timeout_s=2.0).observe_all()
        assert time.monotonic() - began < 9
    site.cluster.until("an answer", lambda: site.backend.observe_all() == {})


def test_a_job_that_an_administrator_ends_comes_back_elsewhere_with_its_home(site: Site) -> None:
    order, seen = site.running()
    site.login(seen.endpoint, "echo mine > kept")
    files = SlurmFiles(site.shared, order.lease_id)
    before = files.order()
    assert before is not None
    with pytest.raises(AssertionError):
        site.cluster.run("scontrol", "requeue", before.job)
    node = seen.devices[0].partition(":")[0]
    site.cluster.run("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=maintenance")
    site.cluster.run("scancel", before.job)
    site.until(order.lease_id, "paused", lambda seen: seen.state is RunState.PAUSED)
    deadline = time.monotonic() + WAIT_S
    while site.backend.start(order).state is not RunState.RUNNING:
        assert time.monotonic() < deadline, site.backend.observe(order.lease_id).as_dict()
        time.sleep(0.2)
    back = site.backend.observe(order.lease_id)
    assert back.devices[0].partition(":")[0] != node
    assert back.endpoint == seen.endpoint and site.login(back.endpoint, "cat kept") == "mine"
    assert len(back.deliveries) == 2 and site.backend.stop(order.lease_id, "released").clean


def test_a_lease_over_two_nodes_goes_on_with_one(site: Site) -> None:
    """F15: one node dies: its meter stops, not the lease."""
    order, seen = site.running(nodes=2)
    assert len(seen.endpoints) == 2 and {site.login(door, "echo in") for door in seen.endpoints} == {"in"}
    site.until(
        order.lease_id,
        "delivering",
        lambda seen: (seen.deliveries[0].end - seen.deliveries[0].start).total_seconds() > 1,
    )
    lost = SlurmFiles(site.shared, order.lease_id).report(1, 1)
    assert lost is not None
    subprocess.run(["kill", "-9", str(lost.pid)], check=True)
    less = site.until(
        order.lease_id,
        "smaller",
        lambda seen: seen.state is RunState.DEGRADED and seen.deliveries[-1].accelerators == 1,
    )
    assert less.endpoint == seen.endpoint and [item.accelerators for item in less.deliveries] == [2, 1]
    assert site.backend.stop(order.lease_id, "released").clean, "what the dead holder left is proved gone too"


def test_each_organization_has_an_account(site: Site) -> None:
    backend = site.fresh(accounts=True)
    for _ in range(2):
        backend.introduce(frozenset({"org_a", "org_b"}))
    accounts = site.cluster.run("sacctmgr", "-n", "-P", "list", "account", "format=account").split()
    assert {"sublet-org_a", "sublet-org_b"} <= set(accounts)
    order = site.order()
    backend.start(order)
    site.until(order.lease_id, "running", lambda seen: seen.state is RunState.RUNNING)
    assert site.cluster.run("squeue", "-h", "-a", "-o", "%a") == "sublet-org_a"
    assert "Accounts=sublet-org_a " in site.cluster.run("scontrol", "-o", "show", "reservation")
    assert backend.stop(order.lease_id, "released").clean


def test_the_owners_work_and_nodes_are_read(site: Site) -> None:
    ours = site.order()
    site.backend.start(ours)
    site.until(ours.lease_id, "running", lambda seen: seen.state is RunState.RUNNING)
    name = "a|b State=DOWN\u202e"
    running = site.cluster.submit("sleep 60", "-p", "internal", "-N1", "--exclusive", "--time=5", f"--job-name={name}")
    site.cluster.until("a job that runs", lambda: site.cluster.state(running) == "RUNNING")
    waiting = site.cluster.submit("sleep 60", "-p", "internal", "-N3", "--exclusive", "--time=1:00:00")
    site.cluster.until("a job with a reason", lambda: site.backend.demand().by_reason != {})  # type: ignore[union-attr]
    demand, inventory = site.backend.demand(), site.backend.inventory()
    assert demand is not None and inventory is not None
    jobs = {job.id: job for job in demand.jobs}
    assert set(jobs) == {running, waiting}, "the lease's own job is no demand"
    assert (jobs[running].accelerators, jobs[running].limit_s, jobs[running].running) == (1, 300, True)
    assert (jobs[waiting].accelerators, jobs[waiting].nodes, jobs[waiting].limit_s) == (3, 3, 3600)
    assert (demand.in_use, demand.pending, inventory.accelerators) == (1, 3, 3)
    assert [node.generation for node in inventory.nodes] == ["h100"] * 3
    assert site.backend.stop(ours.lease_id, "released").clean


def test_what_a_crash_left_between_two_steps_is_found_by_name(site: Site) -> None:
    """F7, F33: the order was written and the job submitted, and nobody noted the job's id."""
    order, _ = site.running()
    files = SlurmFiles(site.shared, order.lease_id)
    known = files.order()
    assert known is not None
    known.job = ""
    files.write_order(known)
    assert site.fresh().start(order).state is RunState.RUNNING
    assert site.cluster.run("squeue", "-h", "-a", "-o", "%j") == f"sublet-{order.lease_id}-1", "one lease, one job"
    stranger = site.cluster.run("scontrol", "create", "reservation", "ReservationName=sublet-lse_other", "StartTime=now", "Duration=5",
                                "Users=root", "NodeCnt=1", "PartitionName=leases")  # fmt: skip
    assert "sublet-lse_other" in stranger
    site.fresh().reap(frozenset({order.lease_id}))
    assert "sublet-lse_other" in site.cluster.run("scontrol", "-o", "show", "reservation"), "F27: of another Sublet"
    assert site.backend.observe(order.lease_id).state is RunState.RUNNING
    site.cluster.run("scontrol", "delete", "ReservationName=sublet-lse_other")
    assert site.backend.stop(order.lease_id, "released").clean
