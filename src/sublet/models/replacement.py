"""Replicas whose catalog entry changed since they started: which ones are outdated, and how they are replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sublet.models.engines.kinds import kind_of
from sublet.models.model import CatalogEntry, Replica


@dataclass(frozen=True, slots=True)
class Standing:
    """A deployment's replicas: current and outdated ones that are ready or starting, how many failed lately and keep their
    place, and how many drain."""

    current: Sequence[Replica]
    outdated: Sequence[Replica]
    pausing: int = 0
    draining: int = 0


@dataclass(frozen=True, slots=True)
class Replacement:
    """One round of a replacement: how many new replicas to start, and which outdated ones to drain."""

    starts: int
    drains: tuple[Replica, ...]


def replicas_max_of(entry: CatalogEntry) -> int | None:
    """The most replicas that a model can have: one for each URL, because a second one would be the same server with its slots
    counted twice. None if there is no such limit."""
    return 1 if kind_of(entry.engine).elsewhere else None


def is_outdated(replica: Replica, entry: CatalogEntry) -> bool:
    """Whether a replica was started from an entry that its engine would now run differently.

    Fields that only the gateway reads (capabilities, time-outs, words) take effect without a new engine.
    """
    began = replica.entry
    if began is None:
        # Started by a version that did not store the entry.
        return (replica.slots, replica.accelerators) != (entry.slots, entry.accelerators)
    return _running(began) != _running(entry)


def replacement(entry: CatalogEntry, wanted: int, standing: Standing, room: int) -> Replacement:
    """The next round towards `wanted` replicas of `entry`, where outdated ones serve still.

    New replicas come first where there is room for both, so that a wrong entry takes nothing out of service: an outdated
    one drains once a new one answers. Without room one outdated replica at a time makes place. Two replicas of one URL
    would count its slots twice, so there the change is at once, and requests wait the moment in the queue.

    `room` is how many accelerators the deployment may occupy, those that drain left aside.
    """
    current, outdated = standing.current, standing.outdated
    missing = max(0, wanted - len(current) - standing.pausing)
    silent = [replica for replica in outdated if replica.state != "ready"]
    serving = sorted(
        (replica for replica in outdated if replica.state == "ready"),
        key=lambda replica: (replica.created_at, replica.id),
    )
    if any(_same_url(replica, entry) for replica in outdated):
        return Replacement(missing, tuple(outdated))
    free = room - sum(replica.accelerators for replica in (*current, *outdated))
    starts = min(missing, max(0, free // entry.accelerators)) if entry.accelerators else missing
    answering = sum(replica.state == "ready" for replica in current)
    keep = max(0, wanted - answering)
    drains = serving[keep:] if keep < len(serving) else []
    on_its_way = starts or silent or standing.draining or answering < len(current)
    if missing and not drains and not on_its_way:
        # All places are taken: the newest one drains.
        drains = serving[-1:]
    return Replacement(starts, tuple((*silent, *drains)))


def _running(entry: CatalogEntry) -> tuple[object, ...]:
    return (entry.engine, entry.source, entry.sha256, entry.context_tokens, entry.slots, entry.accelerators)


def _same_url(replica: Replica, entry: CatalogEntry) -> bool:
    began = replica.entry
    if not kind_of(entry.engine).elsewhere:
        return False
    return began is None or (kind_of(began.engine).elsewhere and began.source.get("url") == entry.source.get("url"))
