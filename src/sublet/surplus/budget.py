"""What a kind of promise has earned the right to risk, and when it has to stop.

Two rules, shared by the service, the record's shadow, the backtest and the benchmark. Neither assumes anything of demand.

The budget: a shadow sells on paper by the same forecast, whatever is sold for real. Each promise that it sells earns
`earning` times the promised rate, and each that it breaks costs 1. All that is promised for real at once is at most what
was earned over `loss`, so that the largest loss that one event can bring was paid for before it was risked. Without fading
the shadow's own record then never stands above `earning` times the promised rate while anything is promised.

The monitor: an e-detector (Shin, Ramdas and Rinaldo, New England Journal of Statistics in Data Science, 2023) of "a running
promise breaks in the next hour with a chance of at most NULL times the promised rate over its length". Under it the mean
time to a false alarm is at least ALARM_HOURS. At an alarm what was earned is lost, and selling opens again when the budget
has been earned again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HALF_LIFE_HOURS = 60 * 24
"""After so many hours what was earned counts half: as long as the forecasts look back on."""

ALARM_HOURS = 365 * 24
"""The mean time between two false alarms is at least a year."""

NULL = 2.0
"""The monitor speaks against more than twice the promised rate: breaks come in clusters, and a tighter null would take
one of them for a change."""

BETS = (0.25, 1.0, 4.0, 16.0)
"""From slow drifts to single bursts. The mean of the bets does as well as the best of them, but for a factor of four."""

LARGEST_KEEPS = 0.999
"""The largest book, by which an hour's loss is measured, is forgotten so slowly."""

RATE_KEEPS = 0.5 ** (1 / 24)
"""What the shadow sells in an hour, as `hours_until` takes it to go on, is a mean over about a day."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a kind of promise earns, and how much of its budget one event may cost.

    `risk` is the promised share that may break, and `hours` the length of a promise.
    """

    risk: float
    hours: int
    earning: float
    loss: float = 1.0
    half_life_hours: float = HALF_LIFE_HOURS

    @property
    def fade(self) -> float:
        """The share of the earned budget that is left after an hour."""
        return float(0.5 ** (1 / self.half_life_hours))


@dataclass(frozen=True, slots=True)
class Passed:
    """What a shadow did in an hour: it sold, broke, and before it broke held so many; `near` of them were kept only just or not at
    all. `unused` says that the owner has never needed much of the pool yet."""

    sold: float
    broken: float
    running: float
    near: float = 0.0
    unused: bool = False


@dataclass(slots=True)
class Standing:
    """Where one kind of promise stands on one pool; a few numbers that go on by the hour.

    `running` is what the shadow held in the last hour, `sold` and `broken` are its totals since it began, `worst` the most
    that broke in one hour. `alarm_hour` is when the monitor spoke last, in hours since the epoch, and `alarm_broken` what had
    broken in the hour in which it did. `stopped_by` names the looser or shorter kind whose alarm stopped this one, too.

    `near` says whether a promise was ever kept only just, `paid` whether all that the shadow holds on average was earned once and
    not all of it lost since; `held` over `held_hours` is that mean, which fades as what is earned does.

    `unused` says that the owner has never needed much of the pool yet, and `unused_hours` in how many hours of the record it had not.
    """

    earned: float = 0.0
    wealth: list[float] = field(default_factory=lambda: [0.0] * len(BETS))
    largest: float = 1.0
    running: float = 0.0
    rate: float = 0.0
    hours: int = 0
    sold: float = 0.0
    broken: float = 0.0
    worst: float = 0.0
    alarms: int = 0
    alarm_hour: int | None = None
    alarm_broken: float = 0.0
    stopped_by: str = ""
    near: bool = False
    paid: bool = False
    held: float = 0.0
    held_hours: float = 0.0
    unused: bool = False
    unused_hours: int = 0

    def pass_hour(self, pace: Pace, hour: int, passed: Passed) -> bool:
        """The hour `hour` is known. Whether the monitor speaks.

        In an unused hour nothing is earned: what is kept while nobody needs the pool says nothing about when somebody does. That
        it was so counts as a near miss from then on.
        """
        sold, broken, running, unused = passed.sold, passed.broken, passed.running, passed.unused
        self.hours += 1
        self.sold += sold
        self.broken += broken
        self.worst = max(self.worst, broken)
        self.running = running
        self.rate = RATE_KEEPS * self.rate + (1 - RATE_KEEPS) * sold
        self.largest = max(LARGEST_KEEPS * self.largest, running)
        self.unused, self.unused_hours = unused, self.unused_hours + unused
        self.earned = pace.fade * self.earned + (0.0 if unused else pace.earning * pace.risk * sold) - broken
        self.held = pace.fade * self.held + running
        self.held_hours = pace.fade * self.held_hours + 1
        self.near = self.near or passed.near > 0 or unused
        self.paid = self.earned > 0 and (self.paid or self.earned >= pace.loss * self.mean_held)
        allowed = NULL * pace.risk / pace.hours
        surprise = (broken - allowed * running) / self.largest
        # A bet may lose all but no more than it holds, however much is promised.
        most = 0.5 / allowed
        self.wealth = [
            (1 + held) * (1 + min(bet, most) * surprise) for held, bet in zip(self.wealth, BETS, strict=True)
        ]
        if sum(self.wealth) / len(self.wealth) < ALARM_HOURS:
            return False
        self.stop(hour, broken)
        return True

    def stop(self, hour: int, broken: float = 0.0, by: str = "") -> None:
        """Stop after an alarm of this kind's monitor, or of the monitor of `by`: the earned budget is lost."""
        self.earned, self.paid = min(self.earned, 0.0), False
        self.wealth = [0.0] * len(BETS)
        self.alarms += 1
        self.alarm_hour, self.alarm_broken, self.stopped_by = hour, broken, by

    @property
    def mean_held(self) -> float:
        """The mean number of promises that the shadow holds."""
        return self.held / self.held_hours if self.held_hours else 0.0

    @property
    def wary(self) -> bool:
        """Whether a part of what the shadow holds is not enough to be earned, since it came near a deadline or was sold while the
        owner hardly used the pool."""
        return self.near and not self.paid

    def most(self, pace: Pace) -> float:
        """How many may be promised for real at once."""
        return 0.0 if self.wary else max(0.0, self.earned) / pace.loss

    def left(self, pace: Pace, running: float) -> float:
        """How many more may be promised for real, in addition to the `running` ones. The earned budget and the depth of the
        forecast limit the number; how many the shadow holds does not."""
        return max(0.0, self.most(pace) - running)

    def hours_until(self, pace: Pace, count: float) -> int | None:
        """Hours until `count` may be promised at once, if the shadow continues to sell as it did lately and nothing breaks.

        0 if they may be promised now; None if the shadow sells too little to reach that, or the owner has yet to use the pool.
        """
        if self.unused:
            return None
        count = max(count, self.mean_held) if self.wary else count
        missing = count * pace.loss - self.earned
        if missing <= 0:
            return 0
        hourly = pace.earning * pace.risk * self.rate
        if pace.fade == 1:
            return math.ceil(missing / hourly) if hourly > 0 else None
        reached = hourly / (1 - pace.fade)
        if reached <= count * pace.loss:
            return None
        # What is earned goes to `reached` as it fades: earned(h) = reached - (reached - earned) * fade**h.
        hours = math.log((reached - count * pace.loss) / (reached - self.earned)) / math.log(pace.fade)
        return max(1, math.ceil(hours))

    def as_state(self) -> dict[str, Any]:
        """The standing as a document."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Standing:
        """The standing from a document of `as_state`."""
        return cls(**{**state, "wealth": list(state["wealth"])})


def stops_with(kind: tuple[float, int], others: Sequence[tuple[float, int]]) -> list[int]:
    """Which of `others` stop together with `kind`: those at least as strict, of its length or longer.

    A kind is (strictness, hours). An order that can be paused until a deadline is less strict than a window that can't be
    reclaimed.
    """
    strict, hours = kind
    return [place for place, (other, length) in enumerate(others) if other >= strict and length >= hours]
