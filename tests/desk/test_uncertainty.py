"""Distributions, Monte Carlo, and the comparison of two cases."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublet.desk.comparison import FORMULAS, compare
from sublet.desk.desk import Desk, build_case
from sublet.desk.distributions import KINDS, Distribution
from sublet.desk.documents import parse_document
from sublet.desk.errors import CaseError, DistributionError
from sublet.desk.montecarlo import fan, simulate
from sublet.values.errors import InvalidInputError

EXAMPLE = Path(__file__).parents[2] / "examples" / "hyperscaler-2026.toml"


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("uniform", {"low": 1.0, "high": 3.0}),
        ("triangular", {"low": 1.0, "mode": 1.5, "high": 4.0}),
        ("normal", {"mean": 2.0, "sd": 0.5}),
        ("lognormal", {"p5": 10.0, "p95": 45.0}),
        ("beta", {"a": 18.0, "b": 2.0}),
    ],
)
def test_samples_agree_with_the_closed_form_mean(kind: str, parameters: dict[str, float]) -> None:
    shape = Distribution.of(kind, **parameters)
    drawn = shape.sample(np.random.default_rng(7), 200_000)
    assert drawn.mean() == pytest.approx(shape.mean, abs=4 * drawn.std() / math.sqrt(drawn.size))


def test_a_lognormal_has_the_percentiles_it_was_given() -> None:
    drawn = Distribution.of("lognormal", p5=10.0, p95=45.0).sample(np.random.default_rng(7), 400_000)
    assert np.quantile(drawn, [0.05, 0.95]) == pytest.approx([10.0, 45.0], rel=0.01)


@pytest.mark.parametrize(
    ("kind", "parameters", "words"),
    [
        ("lognormal", {"p5": 45.0, "p95": 10.0}, "swap the two"),
        ("lognormal", {"p5": 0.0, "p95": 10.0}, "above zero"),
        ("uniform", {"low": 2.0, "high": 1.0}, "swap the two"),
        ("triangular", {"low": 1.0, "mode": 9.0, "high": 2.0}, "between low and high"),
        ("normal", {"mean": 1.0, "sd": 0.0}, "standard deviation above zero"),
        ("beta", {"a": -1.0, "b": 2.0}, "above zero"),
        ("normal", {"mean": 1.0}, "sd is missing"),
        ("normal", {"mean": 1.0, "sd": 1.0, "sigma": 2.0}, "no parameter 'sigma'"),
        ("logormal", {"p5": 1.0, "p95": 2.0}, "did you mean 'lognormal'"),
        ("uniform", {"low": 1.0, "high": math.inf}, "not a finite number"),
    ],
)
def test_distributions_that_are_refused(kind: str, parameters: dict[str, float], words: str) -> None:
    with pytest.raises(DistributionError, match=words):
        Distribution.of(kind, **parameters)


def test_every_kind_is_sampled_and_has_a_mean() -> None:
    assert set(KINDS) == {"uniform", "triangular", "normal", "lognormal", "beta"}


def closed_form_means() -> tuple[float, float]:
    """Means of the worked case's two results from the inputs' own means: every input is independent of the others."""

    def lognormal(p5: float, p95: float) -> float:
        return Distribution.of("lognormal", p5=p5, p95=p95).mean

    mean, variance = 2.55, 0.04**2
    inverse_shares = (1 + variance / mean**2 + 3 * variance**2 / mean**4) / mean
    scale = (100 + 250 + 1000) / 3 / 1000 * (1 - 0.165) * inverse_shares
    margin = lognormal(10, 45) * 0.9 - 8.76e-3 * lognormal(45, 95) * 1.19 - lognormal(1.5, 6)
    inverse_life = math.log(6 / 4) / 2
    return scale * margin, scale * (margin - lognormal(30, 60) * inverse_life)


def test_a_million_draws_agree_with_closed_form_and_with_the_expected_quantiles(
    hyperscaler: Desk, expected: dict[str, Any]
) -> None:
    wanted = expected["monte_carlo"]
    sunk, full = simulate(hyperscaler.sheet, ["mc.sunk", "mc.full"], 1_000_000, 1)

    means = closed_form_means()
    assert means == (pytest.approx(wanted["mean_sunk"], rel=1e-6), pytest.approx(wanted["mean_full"], rel=1e-6))
    assert abs(sunk.mean - wanted["mean_sunk"]) < 3 * sunk.standard_error
    assert abs(full.mean - wanted["mean_full"]) < 3 * full.standard_error
    assert full.below_zero == pytest.approx(wanted["sample_quantiles"]["prob_full_negative"], abs=0.002)
    for found, key in ((sunk, "sunk"), (full, "full")):
        sd = wanted["sample_quantiles"][f"sd_{key}"]
        assert found.sd == pytest.approx(sd, rel=0.01)
        for point, quantile in zip(wanted["sample_quantiles"]["p"], wanted["sample_quantiles"][key], strict=True):
            assert found.quantiles[point] == pytest.approx(
                quantile, abs=(0.015 if point in (0.01, 0.99) else 0.005) * sd
            )


def test_a_seed_gives_the_same_numbers_and_another_seed_others(hyperscaler: Desk) -> None:
    one, again, other = (simulate(hyperscaler.sheet, ["mc.sunk"], 20_000, seed)[0] for seed in (5, 5, 6))
    assert one == again
    assert one.mean != other.mean


def test_the_number_of_cores_does_not_matter(hyperscaler: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    many = simulate(hyperscaler.sheet, ["mc.sunk", "mc.full"], 200_000, 3)
    monkeypatch.setattr("sublet.desk.montecarlo.os.cpu_count", lambda: 1)
    assert simulate(hyperscaler.sheet, ["mc.sunk", "mc.full"], 200_000, 3) == many


def test_a_result_asked_for_alone_is_drawn_as_it_is_with_others(hyperscaler: Desk) -> None:
    """Each input has a stream of its own, so that asking for more doesn't change what was there."""
    alone = simulate(hyperscaler.sheet, ["mc.sunk"], 50_000, 3)[0]
    together = simulate(hyperscaler.sheet, ["mc.sunk", "mc.full"], 50_000, 3)[0]
    assert alone.mean == together.mean


def test_contributions_sum_to_one_and_name_the_price_first(hyperscaler: Desk) -> None:
    found = simulate(hyperscaler.sheet, ["mc.full"], 100_000, 1)[0]
    assert sum(found.contributions.values()) == pytest.approx(1.0)
    assert next(iter(found.contributions)) == "mc.price"


def test_a_fan_rises_with_the_price_and_its_bands_are_in_order(hyperscaler: Desk) -> None:
    found = fan(hyperscaler.sheet, "mc.sunk", "mc.price", [10.0, 20.0, 40.0], 5000, 1)
    for lower, upper in ((0.01, 0.05), (0.05, 0.5), (0.5, 0.95)):
        assert all(low < high for low, high in zip(found.bands[lower], found.bands[upper], strict=True))
    assert list(found.bands[0.5]) == sorted(found.bands[0.5])


def test_one_sample_is_refused(hyperscaler: Desk) -> None:
    with pytest.raises(InvalidInputError, match="at least 2"):
        simulate(hyperscaler.sheet, ["mc.sunk"], 1, 1)


SMALL = """
[case]
name = "small"
title = "small"
owner = "somebody"
as_of = 2026-01-01
version = "1"
results = ["out"]
[sources.s]
title = "somewhere"
date = "2026-01-01"
{inputs}
[formulas."out"]
formula = '{formula}'
unit = "1"
"""


def small(formula: str, **numbers: float) -> Desk:
    given = 'unit = "1"\nstatus = "assumption"\nsource = "s"'
    inputs = "\n".join(f'[inputs."{name}"]\nvalue = {value}\n{given}' for name, value in numbers.items())
    return build_case(parse_document(SMALL.format(inputs=inputs, formula=formula).encode(), "small.toml"))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.floats(min_value=0.5, max_value=9), st.floats(min_value=0.5, max_value=9)), min_size=1, max_size=5
    )
)
def test_the_parts_of_a_change_sum_to_it_whatever_the_formula(pairs: list[tuple[float, float]]) -> None:
    names = [f"x{position}" for position in range(len(pairs))]
    formula = " * ".join(names) + " + " + " / ".join(names)
    before = small(formula, **{name: pair[0] for name, pair in zip(names, pairs, strict=True)})
    after = small(formula, **{name: pair[1] for name, pair in zip(names, pairs, strict=True)})

    for change in compare(before, after).results:
        assert sum(change.parts.values()) == pytest.approx(change.change, rel=1e-9, abs=1e-9)
        assert change.is_exact


def test_an_interaction_is_shared_evenly() -> None:
    change = compare(small("a * b", a=1.0, b=1.0), small("a * b", a=2.0, b=2.0)).results[0]
    assert change.parts == {"a": pytest.approx(1.5), "b": pytest.approx(1.5)}


def test_a_changed_formula_is_named_and_gets_its_part() -> None:
    found = compare(small("a + b", a=1.0, b=1.0), small("a * b", a=2.0, b=3.0))
    change = found.results[0]
    assert found.formulas == (("out", "a + b", "a * b"),)
    assert change.parts[FORMULAS] == pytest.approx(-1.0)
    assert sum(change.parts.values()) == pytest.approx(4.0)


def test_many_changes_are_sampled_and_still_sum() -> None:
    names = [f"x{position}" for position in range(14)]
    before = small(" * ".join(names), **dict.fromkeys(names, 1.0))
    after = small(" * ".join(names), **dict.fromkeys(names, 1.1))
    change = compare(before, after).results[0]
    assert not change.is_exact
    assert sum(change.parts.values()) == pytest.approx(1.1**14 - 1)
    assert max(change.parts.values()) == pytest.approx(min(change.parts.values()), rel=0.1)


def test_a_case_without_changes_has_none(hyperscaler: Desk) -> None:
    found = compare(hyperscaler, hyperscaler)
    assert (found.inputs, found.formulas, found.results) == ((), (), ())


def test_a_result_that_one_case_does_not_have_is_refused(hyperscaler: Desk) -> None:
    with pytest.raises(CaseError, match=r"no value 'bridge\.epz'.*did you mean 'bridge\.eps'"):
        compare(hyperscaler, hyperscaler, ["bridge.epz"])
