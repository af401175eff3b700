"""How uninterrupted promises earn by their length, when a shortage breaks them, and from which hour on shadows run."""

from __future__ import annotations

from dataclasses import dataclass, field

from sublet.surplus.budget import Pace

SHADOW_HOURS_MIN = 96
"""Every shadow begins at this hour of a pool's history, whenever the service began: four days tell what an hour may bring."""

RULE_VERSION = 4
"""Goes up when the rule sells otherwise from the same samples: the record of another rule says nothing about this one."""

SHORT_HOURS = 4
SHORT_EARNING = 1.5
LONG_EARNING = 2.0
"""What a promise earns, over the rate promised: shorter than SHORT_HOURS, and the others. At 1 the record can never stand above
what is promised, and a pool that breaks nearly as often as promised earns next to nothing."""

LOSS = 0.5
"""How much of a book of uninterrupted windows one event is taken to break: what is sold deepest goes first, and half of it stays."""


def firm_pace(hours: int, risk: float) -> Pace:
    """How fast an uninterrupted promise of that many hours earns if `risk` is the share that may break."""
    short = hours < SHORT_HOURS
    return Pace(risk, hours, SHORT_EARNING if short else LONG_EARNING, 1.0 if short else LOSS)


@dataclass(slots=True)
class Shortage:
    """What the owner was short of and waited for in each of its last `hours` hours of patience, oldest first."""

    hours: int = 0
    waited: list[float] = field(default_factory=list)

    def breaks(self, over: float) -> float:
        """How many promises break in an hour in which `over` more were sold than are idle: as many as were short during all the
        hours of patience.

        The rest is internal work that waits.
        """
        if self.hours == 0:
            return over
        broken = min([over, *self.waited]) if len(self.waited) >= self.hours else 0.0
        waits = [max(0.0, short - broken) for short in self.waited]
        self.waited = [*waits, over - broken][-self.hours :]
        return broken
