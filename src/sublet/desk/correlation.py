"""Inputs that move together: rank correlations as a Gaussian copula, and what each of them contributes to a result's variance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sublet.desk.errors import CaseError
from sublet.desk.terms import FloatArray

EXACT_MAX = 10
"""Up to so many inputs of one group, Shapley shares go over all orders; beyond that, over `ORDERS` of them from a fixed seed."""
ORDERS = 500
GROUP_MAX = 30
Pair = frozenset[str]


@dataclass(frozen=True, slots=True)
class Group:
    """Inputs that hang together by correlations. `factors` is the lower triangle that makes their scores of independent ones."""

    names: tuple[str, ...]
    factors: tuple[tuple[float, ...], ...]


def score_correlation(rank: float) -> float:
    """The correlation of two normal scores whose ranks correlate by `rank` (Spearman): 2 sin(pi rank / 6)."""
    return 2.0 * math.sin(math.pi * rank / 6.0)


def correlated_groups(correlations: Mapping[Pair, float], names: Sequence[str]) -> list[Group]:
    """The groups among `names`, in their order. Raises CaseError for correlations that can't hold together."""
    found: list[Group] = []
    waiting = [name for name in names if any(name in pair and pair <= set(names) for pair in correlations)]
    while waiting:
        members, pending = {waiting[0]}, [waiting[0]]
        while pending:
            name = pending.pop()
            near = {other for pair in correlations if name in pair for other in pair if other in waiting} - members
            members |= near
            pending += near
        ordered = [name for name in waiting if name in members]
        waiting = [name for name in waiting if name not in members]
        found.append(Group(tuple(ordered), _factors(ordered, correlations)))
    return found


def _factors(names: Sequence[str], correlations: Mapping[Pair, float]) -> tuple[tuple[float, ...], ...]:
    if len(names) > GROUP_MAX:
        raise CaseError(f"{len(names)} inputs are correlated with each other; correlate at most {GROUP_MAX}")
    matrix = np.array([
        [1.0 if one == other else score_correlation(correlations.get(frozenset((one, other)), 0.0)) for other in names]
        for one in names
    ])  # fmt: skip
    lowest = float(np.linalg.eigvalsh(matrix)[0])
    if lowest < 1e-9:
        raise CaseError(
            f"the correlations of {', '.join(names)} can't hold together: two that move with a third move with each other "
            "too; state the missing ones, or bring them closer to zero"
        )
    return tuple(tuple(float(item) for item in row) for row in np.linalg.cholesky(matrix))


class Moments:
    """Running sums over blocks: of inputs, results, their products, and the products of inputs within a group."""

    def __init__(self, names: Sequence[str], results: int, groups: Sequence[Group]) -> None:
        self._names, self._results = list(names), results
        self._groups = [[self._names.index(name) for name in group.names] for group in groups]
        self._pairs = [pair for group in self._groups for pair in itertools.combinations(group, 2)]
        self._sums: FloatArray = np.zeros(2 * (len(names) + results) + len(names) * results + len(self._pairs))

    def of_block(self, drawn: Mapping[str, FloatArray], outputs: Sequence[FloatArray]) -> FloatArray:
        """A block's sums as one flat array."""
        inputs = list(drawn.values())
        rows = [*inputs, *outputs]
        single = [(float(row.sum()), _dot(row, row)) for row in rows]
        cross = [_dot(x, y) for y in outputs for x in inputs]
        among = [_dot(inputs[one], inputs[other]) for one, other in self._pairs]
        return np.array([total for total, _ in single] + [square for _, square in single] + cross + among)

    def add(self, sums: FloatArray) -> None:
        self._sums = self._sums + sums

    def contributions(self, output: int, samples: int) -> tuple[dict[str, float], float]:
        """Each input's share, scaled to sum to 1, the largest first; and the share of variance that all of them explain."""
        count = len(self._names)
        rows = count + self._results
        totals, squares = self._sums[:rows] / samples, self._sums[rows : 2 * rows] / samples
        cross = self._sums[2 * rows + output * count :][:count] / samples
        variances = squares - totals**2
        own = variances[count + output]
        covariances = cross - totals[:count] * totals[count + output]
        scale = variances[:count] * own
        shares = np.divide(covariances**2, scale, out=np.zeros_like(scale), where=scale > 0)
        among = self._sums[2 * rows + count * self._results :] / samples
        pairs = {pair: among[place] - totals[pair[0]] * totals[pair[1]] for place, pair in enumerate(self._pairs)}
        for group in self._groups:
            matrix = np.diag(variances[group])
            for one, other in itertools.combinations(range(len(group)), 2):
                matrix[one, other] = matrix[other, one] = pairs[group[one], group[other]]
            shares[group] = shapley_shares(matrix, covariances[group], float(own))
        whole = float(shares.sum())
        ranked = sorted(zip(self._names, shares, strict=True), key=lambda item: -item[1])
        return {name: float(share) / whole if whole else 0.0 for name, share in ranked}, min(1.0, whole)


def shapley_shares(matrix: FloatArray, covariances: FloatArray, variance: float) -> FloatArray:
    """Each input's part in R^2: the rise of what a regression explains when it joins, averaged over all orders of joining.

    `matrix` is the inputs' covariance, `covariances` theirs with the result (Lindeman, Merenda and Gold 1980; equal to Shapley
    effects where the result is linear in the inputs, Owen and Prieur 2017).
    """
    count = len(covariances)
    known: dict[frozenset[int], float] = {frozenset(): 0.0}

    def explained(members: frozenset[int]) -> float:
        if members not in known:
            chosen = sorted(members)
            weights = np.linalg.lstsq(matrix[np.ix_(chosen, chosen)], covariances[chosen], rcond=None)[0]
            known[members] = float(covariances[chosen] @ weights) / variance if variance > 0 else 0.0
        return known[members]

    found = np.zeros(count)
    if count <= EXACT_MAX:
        for place in range(count):
            others = [other for other in range(count) if other != place]
            for size in range(count):
                weight = 1.0 / (count * math.comb(count - 1, size))
                for chosen in itertools.combinations(others, size):
                    members = frozenset(chosen)
                    found[place] += weight * (explained(members | {place}) - explained(members))
        return found
    generator = np.random.default_rng(1)
    for _ in range(ORDERS):
        joined: frozenset[int] = frozenset()
        for place in generator.permutation(count):
            found[place] += explained(joined | {int(place)}) - explained(joined)
            joined |= {int(place)}
    return found / ORDERS


def _dot(left: FloatArray, right: FloatArray) -> float:
    """einsum and not `@`: BLAS would start threads of its own inside the pool's."""
    return float(np.einsum("i,i->", left, right))
