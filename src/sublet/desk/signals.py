"""Signals that would change the answer: each with two readings, a falsifier and a due date, and the odds as of a date."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from sublet.desk.formulas import LIMITS
from sublet.desk.terms import Number
from sublet.values.errors import InvalidInputError


class Reading(StrEnum):
    """What was observed. Open is not evidence: its likelihood ratio is 1."""

    BULL = "bull"
    BEAR = "bear"
    OPEN = "open"


class SignalState(StrEnum):
    """Where a signal stands as of a date."""

    OBSERVED = "observed"
    OPEN = "open"
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True)
class Signal:
    """A measurable test of the claim. The likelihood ratios are for "the claim is true" over "it is not"."""

    id: str
    short: str
    bull: str
    bear: str
    lr_bull: float
    lr_bear: float
    test: str
    falsifier: str
    due: date
    reading: Reading = Reading.OPEN
    observed_on: date | None = None
    group: str = ""
    names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("lr_bull", "lr_bear"):
            value = getattr(self, name)
            if not value > 0:
                raise InvalidInputError(f"signal {self.id!r}: {name} is {value:g}; a likelihood ratio is above zero")
        if not self.falsifier.strip():
            raise InvalidInputError(f"signal {self.id!r} has no falsifier; write what would prove the reading wrong")
        if self.reading is not Reading.OPEN and self.observed_on is None:
            raise InvalidInputError(
                f"signal {self.id!r} was read as {self.reading} but has no `observed_on`; write the date"
            )

    def reading_at(self, as_of: date) -> Reading:
        """The reading that was known on `as_of`."""
        return self.reading if self.observed_on is not None and self.observed_on <= as_of else Reading.OPEN

    def state_at(self, as_of: date) -> SignalState:
        """Observed, still open, or open past its due date."""
        if self.reading_at(as_of) is not Reading.OPEN:
            return SignalState.OBSERVED
        return SignalState.OVERDUE if as_of > self.due else SignalState.OPEN

    def ratio_for(self, reading: Reading) -> float:
        """The likelihood ratio of a reading."""
        return {Reading.BULL: self.lr_bull, Reading.BEAR: self.lr_bear, Reading.OPEN: 1.0}[reading]


def posterior(prior: Number, ratios: Iterable[Number]) -> Number:
    """Posterior probability: posterior odds = prior odds x the product of likelihood ratios.

    Raises InvalidInputError for a prior that is not between 0 and 1. Treats the ratios as independent; `capped` is for
    signals that are not.
    """
    LIMITS["prior"].check("prior", prior)
    odds = prior / (1.0 - prior)
    for ratio in ratios:
        odds = odds * ratio
    return odds / (1.0 + odds)


def capped(signals: Sequence[Signal], readings: Mapping[str, Reading]) -> list[float]:
    """One ratio per signal, with correlated ones capped: in each named group only the strongest counts, the rest are 1."""
    strongest: dict[str, Signal] = {}
    for signal in signals:
        held = strongest.get(signal.group)
        if held is None or _strength(signal, readings) > _strength(held, readings):
            strongest[signal.group] = signal
    return [
        signal.ratio_for(readings.get(signal.id, Reading.OPEN))
        if not signal.group or strongest[signal.group] is signal
        else 1.0
        for signal in signals
    ]


def _strength(signal: Signal, readings: Mapping[str, Reading]) -> float:
    ratio = signal.ratio_for(readings.get(signal.id, Reading.OPEN))
    return max(ratio, 1.0 / ratio)
