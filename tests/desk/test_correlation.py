"""Inputs that move together, and distributions that are truncated, mixed or from a history."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.desk.small import head

from sublet.desk.correlation import correlated_groups, score_correlation, shapley_shares
from sublet.desk.desk import Desk, build_case
from sublet.desk.distributions import Distribution
from sublet.desk.documents import parse_document
from sublet.desk.errors import CaseError, DistributionError
from sublet.desk.montecarlo import simulate

SHAPES = {
    "truncated": Distribution.of("normal", mean=0.0, sd=1.0).between(-1.0, 2.0),
    "capped": Distribution.of("lognormal", p5=10.0, p95=45.0).between(0.0, 30.0),
    "beta": Distribution.of("beta", a=18.0, b=2.0).between(0.8, 1.0),
    "mixture": Distribution.of_parts(
        [(1.0, Distribution.of("uniform", low=1.0, high=2.0)), (3.0, Distribution.of("normal", mean=6.0, sd=0.5))]
    ),
    "empirical": Distribution.of_history([3.0, 1.0, 4.0, 1.0, 5.0]),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_samples_lie_within_reach_and_have_the_mean(name: str) -> None:
    shape = SHAPES[name]
    drawn = shape.sample(np.random.default_rng(7), 200_000)
    by_score = shape.at_scores(np.random.default_rng(8).standard_normal(200_000))
    for sample in (drawn, by_score):
        assert shape.reach[0] <= sample.min() <= sample.max() <= shape.reach[1]
        assert sample.mean() == pytest.approx(shape.mean, abs=5 * sample.std() / np.sqrt(sample.size))
    points = (0.1, 0.5, 0.9)
    assert np.quantile(drawn, points) == pytest.approx(np.quantile(by_score, points), rel=0.03, abs=0.02)


def test_a_truncated_normal_has_its_textbook_mean() -> None:
    assert SHAPES["truncated"].mean == pytest.approx(0.22963, abs=1e-4)


def test_a_mixture_draws_nothing_between_its_parts_and_a_history_nothing_else() -> None:
    generator = np.random.default_rng(1)
    shape = Distribution.of_parts(
        [(0.3, Distribution.of("uniform", low=0.0, high=1.0)), (0.7, Distribution.of("uniform", low=5.0, high=6.0))]
    )
    drawn = shape.sample(generator, 100_000)
    assert not ((drawn > 1) & (drawn < 5)).any()
    assert (drawn < 1).mean() == pytest.approx(0.3, abs=0.01)
    assert set(SHAPES["empirical"].at_scores(generator.standard_normal(10_000))) == {1.0, 3.0, 4.0, 5.0}


@given(st.sampled_from(["uniform", "triangular", "normal", "lognormal", "beta"]), st.floats(0.01, 0.99))
def test_the_table_of_scores_is_the_distribution_s_own_quantile(kind: str, share: float) -> None:
    parameters = {
        "uniform": {"low": 1.0, "high": 3.0}, "triangular": {"low": 1.0, "mode": 1.5, "high": 4.0}, "normal": {"mean": 2.0, "sd": 0.5},
        "lognormal": {"p5": 10.0, "p95": 45.0}, "beta": {"a": 18.0, "b": 2.0},
    }[kind]  # fmt: skip
    shape = Distribution.of(kind, **parameters)
    drawn = np.sort(shape.sample(np.random.default_rng(3), 20_000))
    below = np.searchsorted(drawn, shape.quantile(share)) / drawn.size
    assert below == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: Distribution.of("normal", mean=0.0, sd=1.0).between(2.0, 1.0), "swap the two"),
        (lambda: Distribution.of("normal", mean=0.0, sd=1.0).between(5.0, 6.0), "widen them"),
        (lambda: Distribution.of_history([1.0]), "has 1 values"),
        (lambda: Distribution.of_history([1.0, float("nan")]), "not a finite number"),
        (lambda: Distribution.of_parts([(1.0, SHAPES["truncated"])]), "has 1 parts"),
        (lambda: Distribution.of_parts([(0.0, SHAPES["truncated"]), (1.0, SHAPES["truncated"])]), "weight above zero"),
        (lambda: Distribution.of_parts([(1.0, SHAPES["empirical"]), (1.0, SHAPES["truncated"])]), "a part that is empirical"),
        (lambda: SHAPES["mixture"].between(0.0, 1.0), "not to mixture"),
        (lambda: Distribution.of("mixtur"), "did you mean 'mixture'"),
    ],
)  # fmt: skip
def test_a_shape_that_can_not_be_used_is_refused(act: object, words: str) -> None:
    assert callable(act)
    with pytest.raises(DistributionError, match=words):
        act()


HEAD = head(["y"])


def case(correlations: str = "", formula: str = "x0 + 2 * x1 + x2 + x3") -> Desk:
    shapes = (
        '{ kind = "normal", mean = 0, sd = 1 }', '{ kind = "normal", mean = 0, sd = 1 }', '{ kind = "lognormal", p5 = 0.5, p95 = 2 }',
        '{ kind = "beta", a = 2, b = 2, at_least = 0.2 }',
    )  # fmt: skip
    inputs = "".join(
        f'[inputs.x{place}]\nvalue = 0.5\nunit = "1"\nstatus = "assumption"\nsource = "s"\ndistribution = {shape}\n'
        for place, shape in enumerate(shapes)
    )
    text = (
        f'{HEAD}{inputs}[formulas.y]\nformula = "{formula}"\nunit = "1"\n[monte_carlo]\nresults = ["y"]\n{correlations}'
    )
    return build_case(parse_document(text.encode(), "case.toml"))


def pair(one: str, other: str, rank: float) -> str:
    return f'[[correlations]]\ninputs = ["{one}", "{other}"]\nrank = {rank}\n'


def ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values))


def draws(desk: Desk, names: list[str], count: int = 60_000) -> list[np.ndarray]:
    """What the simulation draws, seen through a result that is the input itself."""
    found: list[np.ndarray] = []
    recalculate = desk.sheet.recalculate

    def watched(results: object, overrides: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found.extend(overrides[name] for name in names)
        return recalculate(["y"], overrides)

    desk.sheet.recalculate = watched  # type: ignore[method-assign, assignment]
    simulate(desk.sheet, ["y"], count, 3)
    return found


def test_ranks_correlate_as_stated_and_each_input_keeps_its_distribution() -> None:
    desk, alone = case(pair("x0", "x2", 0.7) + pair("x2", "x3", -0.4)), case()
    x0, x1, x2, x3 = draws(desk, ["x0", "x1", "x2", "x3"])
    assert np.corrcoef(ranks(x0), ranks(x2))[0, 1] == pytest.approx(0.7, abs=0.01)
    assert np.corrcoef(ranks(x2), ranks(x3))[0, 1] == pytest.approx(-0.4, abs=0.015)
    assert np.corrcoef(ranks(x1), ranks(x2))[0, 1] == pytest.approx(0, abs=0.015)
    y0, y1, y2, y3 = draws(alone, ["x0", "x1", "x2", "x3"])
    points = (0.01, 0.25, 0.5, 0.75, 0.99)
    for one, other in ((x0, y0), (x2, y2), (x3, y3)):
        assert np.quantile(one, points) == pytest.approx(np.quantile(other, points), abs=0.05)
    assert (x1 == y1).all()


def test_a_correlation_widens_what_adds_up() -> None:
    base, together = (simulate(desk.sheet, ["y"], 50_000, 1)[0] for desk in (case(), case(pair("x0", "x1", 0.8))))
    rho = score_correlation(0.8)
    assert together.sd**2 - base.sd**2 == pytest.approx(2 * 2 * rho, rel=0.05)
    assert sum(together.contributions.values()) == pytest.approx(1)
    assert together.explained == pytest.approx(1, abs=0.02)


@given(st.floats(-0.95, 0.95), st.floats(0.1, 5), st.floats(0.1, 5))
def test_shapley_shares_are_those_of_owen_and_prieur(rho: float, one: float, other: float) -> None:
    """Two inputs of unit variance in y = a x1 + b x2."""
    matrix = np.array([[1.0, rho], [rho, 1.0]])
    weights = np.array([one, other])
    variance = float(weights @ matrix @ weights)
    found = shapley_shares(matrix, matrix @ weights, variance)
    first = one**2 * (1 - rho**2 / 2) + one * other * rho + other**2 * rho**2 / 2
    assert found[0] == pytest.approx(first / variance, abs=1e-9)
    assert found.sum() == pytest.approx(1)


def test_many_inputs_are_shared_over_sampled_orders() -> None:
    generator = np.random.default_rng(5)
    half = generator.normal(size=(12, 40))
    matrix = half @ half.T / 40
    weights = generator.normal(size=12)
    found = shapley_shares(matrix, matrix @ weights, float(weights @ matrix @ weights))
    assert found.sum() == pytest.approx(1)


def test_an_input_that_is_held_moves_no_other() -> None:
    desk = case(pair("x0", "x1", 0.8))
    held = simulate(desk.sheet, ["y"], 20_000, 1, overrides={"x0": 0.0})[0]
    assert held.sd**2 == pytest.approx(
        simulate(case(formula="2 * x1 + x2 + x3").sheet, ["y"], 20_000, 1)[0].sd ** 2, rel=0.05
    )


@pytest.mark.parametrize(
    ("correlations", "words"),
    [
        (pair("x0", "x9", 0.5), "there is no value 'x9'"),
        (pair("x0", "x0", 0.5), "of two inputs"),
        (pair("x0", "x1", 1.0), "above -1 and below 1"),
        (pair("x0", "x1", 0.5) + pair("x1", "x0", 0.2), "correlated twice"),
        (pair("x0", "x1", 0.9) + pair("x1", "x2", 0.9) + pair("x0", "x2", -0.9), "can't hold together"),
        (pair("x0", "y", 0.5), "has no distribution"),
    ],
)  # fmt: skip
def test_a_correlation_that_can_not_be_used_is_refused_with_its_line(correlations: str, words: str) -> None:
    with pytest.raises(CaseError, match=words) as refusal:
        case(correlations)
    assert int(refusal.value.message.split(":")[1]) >= 40


def test_groups_hang_together() -> None:
    found = correlated_groups({frozenset("ab"): 0.5, frozenset("bc"): 0.5, frozenset("de"): 0.1}, list("abcdef"))
    assert [group.names for group in found] == [("a", "b", "c"), ("d", "e")]
