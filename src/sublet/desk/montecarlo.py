"""Monte Carlo over a case's own formulas: seeded, in blocks, the same numbers on one core or many.

Each input draws from its own stream, made from the seed and the input's name. So adding an input doesn't change the
others' draws, and two cases or scenarios compared with one seed differ by their assumptions alone. Inputs that move together mix the
normal scores of their streams; each keeps its own distribution.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.random import SFC64, Generator, SeedSequence

from sublet.desk.correlation import Group, Moments, correlated_groups
from sublet.desk.distributions import Distribution
from sublet.desk.errors import CalculationError
from sublet.desk.sheet import Sheet
from sublet.desk.terms import FloatArray
from sublet.values.errors import InvalidInputError

BLOCK = 65_536
"""Samples calculated at a time: a block's arrays fit into the cores' caches, and memory doesn't grow with the count."""

PERCENTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
HISTOGRAM_BINS = 60


@dataclass(frozen=True, slots=True)
class SimulatedResult:
    """What became of one result. `contributions` sum to 1 over the inputs: squared correlations where inputs are independent,
    Shapley shares of what a linear regression explains where they move together. `explained` is the share of variance that it
    explains (R^2).
    """

    name: str
    samples: int
    mean: float
    sd: float
    quantiles: Mapping[float, float]
    below_zero: float
    contributions: Mapping[str, float]
    histogram: tuple[int, ...]
    edges: tuple[float, ...]
    explained: float

    @property
    def standard_error(self) -> float:
        """Of the mean: sd / sqrt(samples)."""
        return self.sd / float(np.sqrt(self.samples))


@dataclass(frozen=True, slots=True)
class Fan:
    """Quantiles of a result along one input: `bands[quantile][point]`."""

    name: str
    over: str
    points: tuple[float, ...]
    bands: Mapping[float, tuple[float, ...]]


def simulate(
    sheet: Sheet,
    results: Sequence[str],
    samples: int,
    seed: int,
    *,
    overrides: Mapping[str, float] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[SimulatedResult]:
    """Draw every input with a distribution on which `results` hang, and calculate them `samples` times.

    `overrides` hold some values fixed. `progress` is called with the number of samples of each finished block.
    Raises CalculationError where a draw makes a result infinite or undefined.
    """
    if samples < 2:
        raise InvalidInputError(f"samples is {samples}; simulate at least 2", field="samples")
    fixed = dict(overrides or {})
    inputs = uncertain_inputs(sheet, results, fixed)
    outputs = {name: np.empty(samples) for name in results}
    groups = correlated_groups(sheet.correlations, list(inputs))
    sums = Moments(list(inputs), len(results), groups)

    def run(block: int) -> tuple[FloatArray, int]:
        start = block * BLOCK
        count = min(BLOCK, samples - start)
        drawn = _draws(inputs, groups, lambda name: _stream(seed, name, block), count)
        with np.errstate(all="ignore"):  # what is not finite is refused once all is drawn
            found = sheet.recalculate(results, fixed | drawn)
        for name in results:
            outputs[name][start : start + count] = found[name]
            if not np.isfinite(outputs[name][start : start + count]).all():
                raise CalculationError(
                    f"{name!r} is not a finite number for some draws; narrow the distributions that divide it"
                )
        return sums.of_block(drawn, [outputs[name][start : start + count] for name in results]), count

    blocks = range(-(-samples // BLOCK))
    with ThreadPoolExecutor(max_workers=min(len(blocks), os.cpu_count() or 1)) as pool:
        for moments, count in pool.map(run, blocks):
            sums.add(moments)
            if progress is not None:
                progress(count)
        contributions = [sums.contributions(position, samples) for position in range(len(results))]
        return list(pool.map(_summarize, results, [outputs[name] for name in results], contributions))


def fan(sheet: Sheet, result: str, over: str, points: Sequence[float], samples: int, seed: int) -> Fan:
    """The result's quantiles with `over` held at each of `points`, the same draws for all of them."""
    bands: dict[float, list[float]] = {percentile: [] for percentile in PERCENTILES}
    for point in points:
        found = simulate(sheet, [result], samples, seed, overrides={over: point})[0]
        for percentile in PERCENTILES:
            bands[percentile].append(found.quantiles[percentile])
    return Fan(result, over, tuple(points), {percentile: tuple(values) for percentile, values in bands.items()})


def uncertain_inputs(sheet: Sheet, results: Iterable[str], fixed: Mapping[str, float]) -> dict[str, Distribution]:
    """The inputs with a distribution on which any of `results` hangs, less the ones that are held fixed."""
    found: dict[str, Distribution] = {}
    for name in results:
        for leaf in sheet.leaves(name):
            distribution = sheet[leaf].distribution
            if distribution is not None and leaf not in fixed:
                found[leaf] = distribution
    return found


def _stream(seed: int, name: str, block: int) -> Generator:
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return Generator(SFC64(SeedSequence((seed, digest, block))))


def _draws(
    inputs: Mapping[str, Distribution],
    groups: Sequence[Group],
    stream: Callable[[str], Generator],
    count: int,
) -> dict[str, FloatArray]:
    """Each input's draws in the inputs' order. Those of a group share the scores of its members' streams."""
    found: dict[str, FloatArray] = {}
    for group in groups:
        own = [stream(name).standard_normal(count) for name in group.names]
        for name, row in zip(group.names, group.factors, strict=True):
            score = row[0] * own[0]
            for factor, other in zip(row[1:], own[1:], strict=True):
                if factor:
                    score += factor * other
            found[name] = inputs[name].at_scores(score)
    for name, shape in inputs.items():
        if name not in found:
            found[name] = shape.sample(stream(name), count)
    return {name: found[name] for name in inputs}


def _summarize(name: str, values: FloatArray, found_parts: tuple[dict[str, float], float]) -> SimulatedResult:
    contributions, explained = found_parts
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    found = np.quantile(values, (0.001, *PERCENTILES, 0.999))
    counts, edges = np.histogram(values, bins=HISTOGRAM_BINS, range=(float(found[0]), float(found[-1])))
    return SimulatedResult(
        name, values.size, mean, sd, dict(zip(PERCENTILES, (float(point) for point in found[1:-1]), strict=True)),
        float((values < 0).mean()), contributions, tuple(int(count) for count in counts),
        tuple(float(edge) for edge in edges), explained,
    )  # fmt: skip
