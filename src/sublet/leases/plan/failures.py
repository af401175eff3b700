"""What becomes of a lease whose accelerators no longer work: moved to others, smaller, or over. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sublet.leases.model import Lease, LeaseState, OnFailure, Timing
from sublet.values.plan import Step


@dataclass(frozen=True, slots=True)
class FailedUnit:
    """An accelerator of a lease that is out of service, or that another lease left unclean. `since` is None where nobody noted it."""

    unit_id: str
    device: str
    reason: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Failure:
    """The accelerators of one lease that failed, and `spares`: equal ones that nobody holds until the lease's end."""

    lease_id: str
    units: tuple[FailedUnit, ...]
    spares: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        return "; ".join(f"{unit.device} is out of service: {unit.reason}" for unit in self.units)


def failure_steps(lease: Lease, failure: Failure, now: datetime, timing: Timing) -> Iterator[Step]:
    """Nothing for a lease that has not begun and still has time to find a spare."""
    begun = lease.state is not LeaseState.SCHEDULED
    wanted, spare = len(failure.units), len(failure.spares)
    if begun and lease.on_failure is OnFailure.END:
        yield _step("fail", lease, failure, "its tenant chose to end it")
    elif spare >= wanted:
        yield _step("replace", lease, failure, "an equal one is free")
    elif not begun and now < lease.window.start - timedelta(seconds=timing.prepare_s):
        return
    elif lease.on_failure is OnFailure.SHRINK and lease.accelerators + spare > wanted:
        fewer = wanted - spare
        yield _step("shrink", lease, failure, f"none is free, and it goes on with {lease.accelerators - fewer}")
    else:
        yield _step("fail", lease, failure, "none is free")


def working(leases: Sequence[Lease], failures: Mapping[str, Failure]) -> list[Lease]:
    """The leases with the accelerators that work: what failed is nothing that the owner could ask back."""
    counted = []
    for lease in leases:
        failure = failures.get(lease.id)
        count = lease.accelerators - (len(failure.units) if failure else 0)
        if count > 0:
            counted.append(replace(lease, accelerators=count))
    return counted


def _step(kind: str, lease: Lease, failure: Failure, what: str) -> Step:
    details: dict[str, Any] = {"out": [unit.unit_id for unit in failure.units]}
    if kind != "fail":
        details["in"] = list(failure.spares[: len(failure.units)])
    return Step(kind, lease.id, f"{failure.sentence}; {what}", details=details)
