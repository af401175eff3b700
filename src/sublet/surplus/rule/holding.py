"""For how long sold windows hold their accelerators: until they could be taken back. Pure."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from sublet.demand.model import Floats, Integers
from sublet.surplus.model import Sold
from sublet.values.clock import to_micros
from sublet.values.service_classes import ServiceClass
from sublet.values.windows import Window

_FOREVER_US = 10 * 366 * 86_400 * 1_000_000


def hold(item: Sold, policies: Mapping[str, ServiceClass], at: datetime) -> tuple[Window, float]:
    """A sold window for as long as it could not be taken back if notice were given now."""
    policy = policies.get(item.class_name)
    if policy is None or item.window.end <= at:
        return item.window, float(item.count)
    start = max(item.window.start, at)
    horizon_s = policy.horizon_s((item.window.end - start).total_seconds())
    return Window.starting(start, horizon_s), float(item.count)


class Booked(Sequence[Sold]):
    """Everything that is sold or held of a pool at a moment, for decisions that need no list of it."""

    @abstractmethod
    def standing(self, at: datetime) -> Sequence[Sold]:
        """What is not over at `at`."""
        ...

    @abstractmethod
    def before(self, until_us: int) -> tuple[Integers, Integers, Floats, Integers, Sequence[str]]:
        """What begins before `until_us`, in microseconds since the epoch: when each entry starts and ends, how many accelerators
        it has, the number of its class, and the names of classes by their numbers."""
        ...


def standing(sold: Sequence[Sold], at: datetime) -> Sequence[Sold]:
    """What is not over at `at`."""
    if isinstance(sold, Booked):
        return sold.standing(at)
    return [item for item in sold if item.window.end > at]


@dataclass(frozen=True, slots=True)
class Spans:
    """Since when and until when sold windows are held, in microseconds since the epoch, and how many accelerators."""

    starts_us: Integers
    ends_us: Integers
    counts: Floats

    @classmethod
    def of(cls, sold: Sequence[Sold], policies: Mapping[str, ServiceClass], at_us: int) -> Spans:
        """As `hold` has them, without those that are over."""
        lasts_us = _lasts_us(policies)
        starts = np.array([to_micros(item.window.start) for item in sold], dtype=np.int64)
        ends = np.array([to_micros(item.window.end) for item in sold], dtype=np.int64)
        counts = np.array([item.count for item in sold], dtype=np.float64)
        lasts = np.array([lasts_us.get(item.class_name, _FOREVER_US) for item in sold], dtype=np.int64)
        return cls._standing(starts, ends, counts, lasts, at_us)

    @classmethod
    def of_booked(cls, sold: Booked, policies: Mapping[str, ServiceClass], at_us: int, until_us: int) -> Spans:
        """The same of what begins before `until_us`."""
        starts, ends, counts, numbers, names = sold.before(until_us)
        lasts_us = _lasts_us(policies)
        lasts = np.array([lasts_us.get(name, _FOREVER_US) for name in names], dtype=np.int64)
        each = lasts[numbers] if numbers.size else np.empty(0, dtype=np.int64)
        return cls._standing(starts, ends, counts, each, at_us)

    @classmethod
    def _standing(cls, starts: Integers, ends: Integers, counts: Floats, lasts: Integers, at_us: int) -> Spans:
        starts = np.maximum(starts, at_us)
        stands = ends > at_us
        return cls(starts[stands], np.minimum(ends, starts + lasts)[stands], counts[stands])

    def held(self, grid_us: int, slot_s: int, slots: int) -> Floats:
        """Accelerators held per slot of a grid; a slot that is held for a moment is held."""
        slot_us = slot_s * 1_000_000
        begins = np.clip((self.starts_us - grid_us) // slot_us, 0, slots)
        ends = np.clip(-((grid_us - self.ends_us) // slot_us), 0, slots)
        # Each window adds its accelerators where it begins and takes them away where it ends.
        edges = np.bincount(begins, self.counts, slots + 1)
        edges -= np.bincount(np.maximum(ends, begins), self.counts, slots + 1)
        return np.cumsum(edges[:-1])


def _lasts_us(policies: Mapping[str, ServiceClass]) -> dict[str, int]:
    """By class, for how long its windows are held at most, in microseconds."""
    return {
        name: round(policy.horizon_s(math.inf) * 1e6) if policy.notice_s is not None else _FOREVER_US
        for name, policy in policies.items()
    }


def per_slot(
    items: Sequence[tuple[Window, float]], grid_start: datetime, at: datetime, slot_s: int, slots: int
) -> Floats:
    """Accelerators held per slot from now on; a slot that is held for a moment is held."""
    held = np.zeros(slots)
    for window, count in items:
        if window.end <= at:
            continue
        begin = max(0, math.floor((window.start - grid_start).total_seconds() / slot_s))
        end = min(slots, math.ceil((window.end - grid_start).total_seconds() / slot_s))
        if end > begin:
            held[begin:end] += count
    return held
