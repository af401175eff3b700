"""Pending changes of deployments and replicas: shown with the plan, never carried out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from sublet.models.model import DRAIN_S, Deployment, Replica
from sublet.models.planner import DRAIN, FAILED_PAUSE_S, START, World
from sublet.values.plan import Plan, Step


def pending(world: World, made: Plan) -> Iterator[Step]:
    """Every pending change of `world`, besides the steps of the plan that was `made` from it."""
    for replica in world.replicas:
        found = _of_replica(replica)
        if found is not None:
            yield found
    for deployment in world.deployments:
        yield from _of_deployment(world, deployment, made)


def _of_replica(replica: Replica) -> Step | None:
    if replica.state == "starting":
        return Step("replica_ready", replica.id, f"{replica.model}: its engine starts; it is ready once that answers")
    if replica.state == "draining":
        why = f"{replica.model}: it finishes what it has, then it stops"
        return Step("stop_replica", replica.id, why, replica.drain_deadline)
    if replica.state == "ready" and replica.reclaim_at is not None:
        why = f"{replica.model}: it is under notice: {replica.reason}"
        return Step(DRAIN, replica.id, why, replica.reclaim_at - timedelta(seconds=DRAIN_S))
    return None


def _of_deployment(world: World, deployment: Deployment, made: Plan) -> Iterator[Step]:
    if deployment.state != "active":
        return
    if deployment.model not in world.catalog:
        yield Step(START, deployment.id, f"{deployment.model} is no longer in the catalog; no replica can start")
        return
    own = [replica for replica in world.replicas if replica.deployment_id == deployment.id]
    failed = [replica for replica in own if replica.state == "failed" and replica.stopped_at is not None]
    for replica in failed:
        assert replica.stopped_at is not None
        again = replica.stopped_at + timedelta(seconds=FAILED_PAUSE_S)
        if again > world.now:
            yield Step(START, replica.id, f"{deployment.model}: it failed and is tried again: {replica.reason}", again)
    serving = sum(replica.state in ("starting", "ready") for replica in own)
    starts = sum(step.kind == START and step.details.get("deployment") == deployment.id for step in made.steps)
    missing = deployment.target - serving - starts - len(failed)
    if missing > 0:
        why = f"{deployment.model}: {missing} of {deployment.target} replicas wait for spare capacity"
        yield Step(START, deployment.id, why)
