"""Assumptions as distributions: five shapes that people can state, with means in closed form and seeded samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from numpy.random import Generator

from sublet.desk.errors import DistributionError, nearest
from sublet.desk.terms import FloatArray

_Z95 = 1.6448536269514722
"""Phi^-1(0.95)."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """`kind` and its parameters, checked. See KINDS for the parameters of each kind."""

    kind: str
    parameters: tuple[float, ...]

    @classmethod
    def of(cls, kind: str, **parameters: float) -> Distribution:
        """A checked distribution. Raises DistributionError that names the parameter to change."""
        if kind not in KINDS:
            raise DistributionError(f"distribution kind {kind!r} is not known; {nearest(kind, KINDS)}")
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

    @property
    def mean(self) -> float:
        """The expected value, in closed form."""
        a = self.parameters
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

    def as_dict(self) -> Mapping[str, float | str]:
        return {"kind": self.kind, **dict(zip(KINDS[self.kind], self.parameters, strict=True))}

    def __str__(self) -> str:
        inner = ", ".join(f"{name} {value:g}" for name, value in zip(KINDS[self.kind], self.parameters, strict=True))
        return f"{self.kind}({inner})"


KINDS: dict[str, tuple[str, ...]] = {
    "uniform": ("low", "high"),
    "triangular": ("low", "mode", "high"),
    "normal": ("mean", "sd"),
    "lognormal": ("p5", "p95"),
    "beta": ("a", "b"),
}
"""Parameters of each kind. A lognormal is stated by its 5 % and 95 % points, which people can judge."""
