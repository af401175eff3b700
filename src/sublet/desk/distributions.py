"""Assumptions as distributions: shapes that people can state, truncated, mixed or from a history, with seeded samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.random import Generator

from sublet.desk.errors import DistributionError, nearest
from sublet.desk.quantiles import Table, beta_quantiles, mixed, normal_quantile, scores, shares, truncated
from sublet.desk.terms import FloatArray

_Z95 = 1.6448536269514722
"""Phi^-1(0.95)."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """`kind` and its parameters, checked. See KINDS for the parameters of each kind.

    `at_least` and `at_most` hold the draws between two values. A mixture has `parts` with their weights; the parameters of an
    empirical distribution are the values of the history.
    """

    kind: str
    parameters: tuple[float, ...]
    at_least: float = -math.inf
    at_most: float = math.inf
    parts: tuple[tuple[float, Distribution], ...] = ()

    @classmethod
    def of(cls, kind: str, **parameters: float) -> Distribution:
        """A checked distribution. Raises DistributionError that names the parameter to change."""
        if kind not in KINDS:
            known = [*KINDS, MIXTURE, EMPIRICAL]
            raise DistributionError(f"distribution kind {kind!r} is not known; {nearest(kind, known)}")
        wanted = KINDS[kind]
        for name in parameters:
            if name not in wanted:
                raise DistributionError(f"{kind} has no parameter {name!r}; {nearest(name, wanted)}")
        missing = [name for name in wanted if name not in parameters]
        if missing:
            raise DistributionError(f"{kind} needs {', '.join(wanted)}; {', '.join(missing)} is missing")
        made = cls(kind, tuple(float(parameters[name]) for name in wanted))
        made._check()
        return made

    @classmethod
    def of_history(cls, values: Sequence[float]) -> Distribution:
        """Each of the values of a history with the same chance. Raises DistributionError for fewer than two."""
        if not 2 <= len(values) <= HISTORY_MAX:
            raise DistributionError(f"empirical has {len(values)} values; give 2 to {HISTORY_MAX}")
        if not all(math.isfinite(value) for value in values):
            raise DistributionError("empirical has a value that is not a finite number")
        return cls(EMPIRICAL, tuple(sorted(values)))

    @classmethod
    def of_parts(cls, parts: Sequence[tuple[float, Distribution]]) -> Distribution:
        """One of several distributions by chance. Raises DistributionError for weights that can't be used."""
        if not 2 <= len(parts) <= PARTS_MAX:
            raise DistributionError(f"mixture has {len(parts)} parts; give 2 to {PARTS_MAX}")
        for weight, part in parts:
            if not (math.isfinite(weight) and weight > 0):
                raise DistributionError(f"mixture has a part of weight {weight:g}; write a weight above zero")
            if part.kind in (MIXTURE, EMPIRICAL):
                raise DistributionError(f"mixture has a part that is {part.kind}; use one of {', '.join(KINDS)}")
        return cls(MIXTURE, (), parts=tuple(parts))

    def between(self, at_least: float, at_most: float) -> Distribution:
        """The same, held between two values. Raises DistributionError where nothing, or next to nothing, is left."""
        if self.kind in (EMPIRICAL, MIXTURE):
            raise DistributionError(f"at_least and at_most belong to one of {', '.join(KINDS)}, not to {self.kind}")
        if not at_least < at_most:
            raise DistributionError(f"at_least {at_least:g} must be below at_most {at_most:g}; swap the two")
        first, last = (float(score) for score in _table(self).score_of(np.array([at_least, at_most])))
        left = float(np.interp(min(last, 8.0), scores(), shares()) - np.interp(max(first, -8.0), scores(), shares()))
        if left < KEPT_MIN:
            raise DistributionError(
                f"{self} has a share of {left:.2g} between {at_least:g} and {at_most:g}; widen them, or state another shape"
            )
        return replace(self, at_least=at_least, at_most=at_most)

    @property
    def is_plain(self) -> bool:
        """One of KINDS without a limit, which numpy draws by itself."""
        return self.kind in KINDS and math.isinf(self.at_least) and math.isinf(self.at_most)

    def _check(self) -> None:
        names = KINDS[self.kind]
        values = dict(zip(names, self.parameters, strict=True))
        if not all(math.isfinite(value) for value in self.parameters):
            raise DistributionError(f"{self.kind} {values} has a parameter that is not a finite number")
        if self.kind == "lognormal":
            if not values["p5"] > 0:
                raise DistributionError(f"lognormal p5 is {values['p5']:g}; write a number above zero")
            if not values["p5"] < values["p95"]:
                raise DistributionError(
                    f"lognormal p5 {values['p5']:g} must be below p95 {values['p95']:g}; swap the two"
                )
        if self.kind in ("uniform", "triangular") and not values["low"] < values["high"]:
            raise DistributionError(
                f"{self.kind} low {values['low']:g} must be below high {values['high']:g}; swap the two"
            )
        if self.kind == "triangular" and not values["low"] <= values["mode"] <= values["high"]:
            raise DistributionError(f"triangular mode {values['mode']:g} must lie between low and high")
        if self.kind == "beta" and not (values["a"] > 0 and values["b"] > 0):
            raise DistributionError("beta needs a and b above zero; a / (a + b) is its mean")
        if self.kind == "normal" and not values["sd"] > 0:
            raise DistributionError(f"normal sd is {values['sd']:g}; write a standard deviation above zero")

    def sample(self, generator: Generator, count: int) -> FloatArray:
        """`count` independent draws."""
        a = self.parameters
        if self.kind == EMPIRICAL:
            return np.array(a)[generator.integers(0, len(a), count)]
        if self.kind == MIXTURE:
            return self._of_one_part(generator, count)
        if not self.is_plain:
            return self.at_scores(generator.standard_normal(count))
        match self.kind:
            case "uniform":
                return generator.uniform(a[0], a[1], count)
            case "triangular":
                return generator.triangular(a[0], a[1], a[2], count)
            case "normal":
                return generator.normal(a[0], a[1], count)
            case "beta":
                return generator.beta(a[0], a[1], count)
        mu, sigma = self._log_parameters()
        return generator.lognormal(mu, sigma, count)

    def _of_one_part(self, generator: Generator, count: int) -> FloatArray:
        weights = np.array([weight for weight, _ in self.parts])
        chosen = generator.choice(len(self.parts), size=count, p=weights / weights.sum())
        found = np.empty(count)
        for place, (_, part) in enumerate(self.parts):
            among = np.flatnonzero(chosen == place)
            found[among] = part.sample(generator, among.size)
        return found

    def at_scores(self, score: FloatArray) -> FloatArray:
        """The draws that stand for draws of a standard normal: the same place in this distribution as in that one."""
        a = self.parameters
        if self.is_plain and self.kind == "normal":
            return a[0] + a[1] * score
        if self.is_plain and self.kind == "lognormal":
            mu, sigma = self._log_parameters()
            return np.exp(mu + sigma * score)
        if self.kind == EMPIRICAL:
            place = _uniform().at(score) * len(a)
            return np.array(a)[np.minimum(place.astype(np.int64), len(a) - 1)]
        return _table(self).at(score)

    def quantile(self, share: float) -> float:
        """The value below which a share of the draws lies."""
        return float(self.at_scores(np.array([normal_quantile(share)]))[0])

    @property
    def mean(self) -> float:
        """The expected value: in closed form for one of KINDS without limits, else from its table."""
        a = self.parameters
        if self.kind == EMPIRICAL:
            return sum(a) / len(a)
        if self.kind == MIXTURE:
            return sum(weight * part.mean for weight, part in self.parts) / sum(weight for weight, _ in self.parts)
        if not self.is_plain:
            return _table(self).mean
        match self.kind:
            case "uniform":
                return (a[0] + a[1]) / 2
            case "triangular":
                return (a[0] + a[1] + a[2]) / 3
            case "normal":
                return a[0]
            case "beta":
                return a[0] / (a[0] + a[1])
        mu, sigma = self._log_parameters()
        return math.exp(mu + sigma**2 / 2)

    @property
    def reach(self) -> tuple[float, float]:
        """The lowest and highest draw to reckon with: the ends where there are any, else six standard deviations."""
        if self.kind == EMPIRICAL:
            return self.parameters[0], self.parameters[-1]
        if self.kind == MIXTURE:
            ends = [part.reach for _, part in self.parts]
            return min(low for low, _ in ends), max(high for _, high in ends)
        low, high = self._whole_reach()
        return max(low, self.at_least), min(high, self.at_most)

    def _whole_reach(self) -> tuple[float, float]:
        a = self.parameters
        match self.kind:
            case "uniform":
                return a[0], a[1]
            case "triangular":
                return a[0], a[2]
            case "normal":
                return a[0] - 6 * a[1], a[0] + 6 * a[1]
            case "beta":
                return math.ulp(0.0), 1.0 - math.ulp(0.5)
        mu, sigma = self._log_parameters()
        return math.exp(mu - 6 * sigma), math.exp(mu + 6 * sigma)

    def _log_parameters(self) -> tuple[float, float]:
        low, high = math.log(self.parameters[0]), math.log(self.parameters[1])
        return (low + high) / 2, (high - low) / (2 * _Z95)

    def as_dict(self) -> dict[str, Any]:
        if self.kind == EMPIRICAL:
            return {"kind": self.kind, "values": list(self.parameters)}
        if self.kind == MIXTURE:
            return {"kind": self.kind, "parts": [{"weight": weight, **part.as_dict()} for weight, part in self.parts]}
        limits = {"at_least": self.at_least, "at_most": self.at_most}
        stated = {name: value for name, value in limits.items() if math.isfinite(value)}
        return {"kind": self.kind, **dict(zip(KINDS[self.kind], self.parameters, strict=True)), **stated}

    def __str__(self) -> str:
        if self.kind == EMPIRICAL:
            return f"empirical({len(self.parameters)} values from {self.parameters[0]:g} to {self.parameters[-1]:g})"
        if self.kind == MIXTURE:
            return f"mixture({', '.join(f'{weight:g} {part}' for weight, part in self.parts)})"
        found = dict(zip(KINDS[self.kind], self.parameters, strict=True))
        found |= {key: value for key, value in self.as_dict().items() if key in ("at_least", "at_most")}
        return f"{self.kind}({', '.join(f'{name} {value:g}' for name, value in found.items())})"


MIXTURE, EMPIRICAL = "mixture", "empirical"
PARTS_MAX = 10
HISTORY_MAX = 10_000
KEPT_MIN = 0.001
"""A truncation that keeps less than this states a shape that its own parameters deny."""

KINDS: dict[str, tuple[str, ...]] = {
    "uniform": ("low", "high"),
    "triangular": ("low", "mode", "high"),
    "normal": ("mean", "sd"),
    "lognormal": ("p5", "p95"),
    "beta": ("a", "b"),
}
"""Parameters of each kind. A lognormal is stated by its 5 % and 95 % points, which people can judge."""


@lru_cache(maxsize=256)
def _table(shape: Distribution) -> Table:
    """The value of each normal score."""
    if shape.kind == MIXTURE:
        return mixed([(weight, _table(part)) for weight, part in shape.parts])
    plain = replace(shape, at_least=-math.inf, at_most=math.inf)
    table = Table.of(_values(plain))
    return table if shape.is_plain else truncated(table, shape.at_least, shape.at_most)


@lru_cache(maxsize=1)
def _uniform() -> Table:
    return Table.of(shares())


def _values(shape: Distribution) -> FloatArray:
    a, share = shape.parameters, shares()
    match shape.kind:
        case "uniform":
            return a[0] + (a[1] - a[0]) * share
        case "triangular":
            low, mode, high = a
            turn = (mode - low) / (high - low)
            rising = low + np.sqrt(share * (high - low) * (mode - low))
            falling = high - np.sqrt(np.maximum(0.0, (1.0 - share)) * (high - low) * (high - mode))
            return np.where(share < turn, rising, falling)
        case "beta":
            return beta_quantiles(a[0], a[1])
        case "normal":
            return a[0] + a[1] * scores()
    mu, sigma = shape._log_parameters()
    return np.exp(mu + sigma * scores())
