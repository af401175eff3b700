"""Price advice: how near it comes to the best price, and what it never does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublet.allocation.advice import STEP_MAX, Bounds, DemandModel
from sublet.allocation.errors import UnusableStateError

BOUNDS = Bounds(0.6, 2.4)
LIST = 1.2
GRID = np.exp(np.linspace(math.log(0.6), math.log(2.4), 40))


class Market:
    """Buyers whose willingness to pay is log-logistic, or normal: another family than the model's."""

    def __init__(self, seed: int, family: str) -> None:
        self.random = np.random.default_rng(seed)
        self.family = family
        self.slope = self.random.uniform(1.5, 6)
        self.middle = math.exp(self.random.uniform(math.log(0.7), math.log(2.0)))
        self.rate = float(self.random.choice([12, 48, 240]))
        self.capacity = max(1, round(self.rate * self.random.choice([0.3, 0.6, 2.0])))

    def accept(self, price: float) -> float:
        if self.family == "logistic":
            return 1 / (1 + math.exp(self.slope * math.log(price / self.middle)))
        return 0.5 * (1 - math.erf((price - self.middle) / (1.2 / self.slope * self.middle) / math.sqrt(2)))

    def earns(self, price: float) -> float:
        numbers = np.arange(int(self.rate * 3 + 40))
        mean = self.rate * self.accept(price)
        logs = numbers * math.log(max(mean, 1e-12)) - mean - np.array([math.lgamma(n + 1) for n in numbers])
        return price * float((np.exp(logs) * np.minimum(numbers, self.capacity)).sum())

    def day(self, price: float) -> tuple[int, int]:
        asked = int(self.random.poisson(self.rate))
        return asked, int(self.random.binomial(asked, self.accept(price)))


def regret(seed: int, family: str = "logistic", shock: bool = False, days: int = 60) -> float:
    market, model, price = Market(seed, family), DemandModel(LIST), LIST
    earned = best = 0.0
    for number in range(days):
        if shock and number == days // 2:
            market.middle *= 1.4 if seed % 2 else 0.7
        if number in (0, days // 2):
            top = max(market.earns(each) for each in GRID)
        best += top
        earned += market.earns(price)
        model.learn(price, *market.day(price))
        price = model.advise(price, BOUNDS, market.capacity).price
    return 1 - earned / best


def test_it_comes_near_the_best_price_of_a_steady_market() -> None:
    found = [regret(seed) for seed in range(8)]
    print("regret", found)
    assert np.mean(found) <= 0.05


def test_buyers_of_another_family_than_the_models_cost_little_more() -> None:
    found = [regret(seed, "normal") for seed in range(8)]
    print("regret", found)
    assert np.mean(found) <= 0.05


def test_a_market_that_moves_by_a_third_is_followed() -> None:
    found = [regret(seed, shock=True) for seed in range(8)]
    print("regret", found)
    assert np.mean(found) <= 0.12


days = st.lists(st.tuples(st.floats(0.6, 2.4), st.integers(0, 200), st.floats(0, 1)), max_size=20)


@given(days, st.floats(0.5, 3), st.floats(0, 1e4), st.floats(0, 2))
@settings(max_examples=40)
def test_it_stays_within_bounds_and_moves_at_most_a_tenth(
    told: list[tuple[float, int, float]], now: float, capacity: float, worth: float
) -> None:
    model = DemandModel(LIST)
    for price, asked, share in told:
        model.learn(price, asked, round(asked * share))
    advice = model.advise(now, BOUNDS, capacity, worth)
    assert BOUNDS.floor <= advice.price <= BOUNDS.ceiling
    if BOUNDS.floor <= now <= BOUNDS.ceiling:
        assert now * (1 - STEP_MAX) - 1e-9 <= advice.price <= now * (1 + STEP_MAX) + 1e-9
    assert 0 <= advice.low <= advice.high <= 1 and advice.reason
    again = DemandModel.of_state(model.as_state()).advise(now, BOUNDS, capacity, worth)
    assert again.price == pytest.approx(advice.price, rel=1e-6)


def test_scarcity_and_another_use_raise_the_price() -> None:
    model = DemandModel(LIST)
    for _ in range(30):
        model.learn(LIST, 40, 20)
    plenty = model.advise(LIST, BOUNDS, 1_000)
    short = model.advise(LIST, BOUNDS, 5)
    wanted = model.advise(LIST, BOUNDS, 1_000, worth=1.0)
    assert short.best > plenty.best and wanted.best > plenty.best


def test_without_quotes_the_price_stays() -> None:
    model = DemandModel(LIST)
    model.learn_day([])
    advice = model.advise(LIST, BOUNDS, 10)
    assert advice.price == LIST and advice.reason == "no quotes yet: the price stays"


def test_impossible_figures_are_refused() -> None:
    model = DemandModel(LIST)
    for wrong in ((math.nan, 1, 1), (1.0, 1, 2), (0.0, 1, 0), (1.0, -1, -1)):
        with pytest.raises(UnusableStateError):
            model.learn(*wrong)
    with pytest.raises(UnusableStateError):
        model.advise(math.nan, BOUNDS, 1)
    with pytest.raises(UnusableStateError):
        Bounds(2.0, 1.0)
