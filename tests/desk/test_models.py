"""Counterparties, capital, signals, positioning, surplus and glut, capacity: the pure rules and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.desk.capacity import CapacityRow, RowKind, refusal, stock_gw, total_gw
from sublet.desk.capex import bridge_value, capital_recovery, cut_path, delayed_path, depreciation
from sublet.desk.counterparties import (
    Contract,
    RenewalStress,
    backlogs,
    expected_loss,
    hhi_ceiling,
    hhi_floor,
    remaining_term,
    renewal_ladder,
    shares,
)
from sublet.desk.errors import BasisError, ContractError, FamilyError
from sublet.desk.glut import IndustryWindow, OwnerWindow, judge, longest_run
from sublet.desk.positioning import standing
from sublet.desk.signals import Reading, Signal, SignalState, capped, posterior
from sublet.desk.units import Basis
from sublet.values.errors import InvalidInputError

STOCK = CapacityRow(
    "a", "Meta", "MS", "capacity.it", Basis.IT, RowKind.STOCK, 3.0, date(2025, 12, 31), "2025", generation="H100"
)


def test_stock_carries_flows_up_to_the_date_and_no_further() -> None:
    flows = [
        replace(STOCK, id=f"f{year}", kind=RowKind.FLOW, capacity_gw=1.0, at=date(year, 12, 31), period=str(year))
        for year in (2026, 2027)
    ]

    assert stock_gw([STOCK, *flows], date(2026, 12, 31)) == 4.0
    assert stock_gw([STOCK, *flows], date(2026, 12, 30)) == 3.0
    assert stock_gw([STOCK, *flows], date(2028, 1, 1)) == 5.0


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("family", "capacity.footprint", FamilyError),
        ("source", "Bernstein", FamilyError),
        ("period", "2026", FamilyError),
        ("kind", RowKind.FLOW, FamilyError),
        ("basis", Basis.FACILITY, BasisError),
    ],
)
def test_a_sum_is_refused_by_the_field_that_differs(field: str, value: object, error: type[Exception]) -> None:
    other = replace(STOCK, id="b", owner="Amazon", **{field: value})  # type: ignore[arg-type]

    with pytest.raises(error, match=f"{field} differs: 'a' has .*, 'b' has"):
        total_gw([STOCK, other])

    assert refusal([STOCK, other]) is not None


def test_one_owner_can_not_be_in_a_sum_twice() -> None:
    with pytest.raises(FamilyError, match="owner overlaps: Meta"):
        total_gw([STOCK, replace(STOCK, id="b")])
    assert total_gw([STOCK, replace(STOCK, id="b", owner="Amazon")]) == 6.0


def test_a_row_that_bans_another_is_obeyed() -> None:
    with pytest.raises(FamilyError, match="'a' must not be combined with 'b'"):
        total_gw([replace(STOCK, not_with=("b",)), replace(STOCK, id="b", owner="Amazon")])


def test_a_stock_needs_a_stock_to_start_from() -> None:
    with pytest.raises(InvalidInputError, match="no stock on or before"):
        stock_gw([replace(STOCK, kind=RowKind.FLOW)], date(2027, 1, 1))


def test_capacity_of_zero_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="write a number above zero"):
        replace(STOCK, capacity_gw=0.0)


def contract(**changes: object) -> Contract:
    base: dict[str, object] = {
        "id": "x",
        "customer": "Meta",
        "value": 10.0,
        "start": date(2026, 1, 1),
        "end": date(2028, 1, 1),
    }
    return Contract(**(base | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"end": None}, "has no end"),
        ({"end": date(2025, 1, 1)}, "write an end after the start"),
        ({"value": 0.0}, "above zero"),
    ],
)
def test_contracts_that_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        contract(**changes)


def test_shares_above_the_backlog_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="one of them is signing value"):
        shares({"Meta": 60.0, "Microsoft": 50.0}, 100.0)


@given(st.lists(st.floats(min_value=0.1, max_value=50), min_size=1, max_size=8), st.floats(min_value=0, max_value=400))
def test_the_index_lies_between_its_floor_and_every_ceiling(known: list[float], rest: float) -> None:
    backlog = sum(known) + rest

    floor, ceiling = float(hhi_floor(known, backlog)), float(hhi_ceiling(known, backlog))
    capped_block = float(hhi_ceiling(known, backlog, max(known)))

    assert 0 < floor <= capped_block * (1 + 1e-9)
    assert capped_block <= ceiling * (1 + 1e-9) <= 1 + 1e-6


def test_four_backlogs_are_four_fields() -> None:
    found = backlogs(
        [contract(recognized=4.0), contract(id="y", performance_obligation=3.0)], date(2027, 1, 1), reported=99.0
    )

    assert found.signing == 20.0
    assert found.remaining == pytest.approx(6.0 + 5.0)
    assert found.revenue_backlog == 99.0
    assert found.performance_obligation is None


def test_the_ladder_and_the_term() -> None:
    contracts = [contract(), contract(id="y", end=date(2030, 1, 1), value=30.0)]
    assert renewal_ladder(contracts) == {2028: {"Meta": 10.0}, 2030: {"Meta": 30.0}}
    assert remaining_term(contracts, date(2027, 1, 1)) == pytest.approx((10 * 1 + 30 * 3) / 40)


def test_nothing_is_lost_before_the_end_and_a_leap_year_is_whole() -> None:
    losses = expected_loss([contract()], RenewalStress(renew=0.0, reprice=1.0), range(2026, 2030))
    assert losses[2026] == losses[2027] == 0.0
    assert losses[2028] == losses[2029] == pytest.approx(10.0 / (730 / 365))


@given(st.floats(min_value=0, max_value=1), st.floats(min_value=0, max_value=1))
def test_more_renewal_never_loses_more(one: float, other: float) -> None:
    low, high = sorted((one, other))
    years = range(2028, 2030)
    worse = expected_loss([contract()], RenewalStress(low, 0.9), years)
    better = expected_loss([contract()], RenewalStress(high, 0.9), years)
    assert all(better[year] <= worse[year] + 1e-12 for year in years)


def test_potential_competitors_may_renew_less() -> None:
    stress = RenewalStress(renew=0.9, reprice=1.0, renew_competitor=0.1)
    rival, friend = contract(is_competitor=True), contract(id="y")
    assert expected_loss([rival], stress, [2029])[2029] == pytest.approx(
        9 * expected_loss([friend], stress, [2029])[2029]
    )


@given(st.floats(min_value=0.6, max_value=12), st.floats(min_value=1, max_value=500))
def test_depreciation_writes_off_exactly_what_was_spent(life: float, spent: float) -> None:
    charges = depreciation({2026: spent}, life, 2026 + 20)
    assert sum(charge for year in charges.values() for charge in year.values()) == pytest.approx(spent)


def test_half_a_year_in_the_first_year() -> None:
    charges = depreciation({2026: 145.0, 2027: 175.0}, 5.5, 2027)
    assert charges[2026] == {2026: pytest.approx(145 / 11)}
    assert charges[2027] == {2026: pytest.approx(145 / 5.5), 2027: pytest.approx(175 / 11)}


def test_a_life_of_zero_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="useful life in years"):
        depreciation({2026: 1.0}, 0.0, 2027)


@given(st.floats(min_value=0.001, max_value=0.5), st.floats(min_value=1, max_value=30))
def test_capital_recovery_returns_the_capital_at_the_rate(rate: float, life: float) -> None:
    payment = capital_recovery(rate, round(life))
    worth = sum(payment / (1 + rate) ** year for year in range(1, round(life) + 1))
    assert worth == pytest.approx(1.0, rel=1e-9)


def test_a_bridge_is_worth_less_than_an_annuity_and_more_than_a_year() -> None:
    year = bridge_value(30.0, 4.0, 0.08, 0.0, 5)
    bridge = bridge_value(30.0, 4.0, 0.08, 0.6, 5)
    annuity = bridge_value(30.0, 4.0, 0.08, 1.0, 5)
    assert year == pytest.approx(26 / 1.08)
    assert annuity == pytest.approx(sum(26 / 1.08**k for k in range(1, 6)))
    assert year < bridge < annuity


def test_cuts_and_delays_keep_what_they_should() -> None:
    assert cut_path([145.0, 175.0], 0.1) == pytest.approx([130.5, 157.5])
    assert delayed_path([100.0, 100.0, 100.0], 0.25) == pytest.approx([75.0, 100.0, 100.0])
    with pytest.raises(InvalidInputError, match=r"10 % as 0\.1"):
        cut_path([1.0], 10.0)


SIGNAL = Signal("capex", "capex", "up", "down", 0.3, 5.0, "sum of guidance", "a cut", date(2026, 8, 10))


def _posterior_at(prior: float, signal: Signal, as_of: date) -> float:
    return float(posterior(prior, capped([signal], {signal.id: signal.reading_at(as_of)})))


def test_a_signal_that_was_not_observed_changes_nothing() -> None:
    assert _posterior_at(0.2, SIGNAL, date(2026, 9, 1)) == pytest.approx(0.2)
    assert SIGNAL.state_at(date(2026, 8, 10)) is SignalState.OPEN
    assert SIGNAL.state_at(date(2026, 8, 11)) is SignalState.OVERDUE


def test_what_was_observed_later_is_not_known_yet() -> None:
    seen = replace(SIGNAL, reading=Reading.BEAR, observed_on=date(2026, 8, 5))
    assert _posterior_at(0.2, seen, date(2026, 8, 4)) == pytest.approx(0.2)
    assert _posterior_at(0.2, seen, date(2026, 8, 5)) == pytest.approx(1.25 / 2.25)


def test_correlated_signals_count_once_with_the_strongest() -> None:
    weak = replace(SIGNAL, id="weak", lr_bear=1.5, group="guidance")
    strong = replace(SIGNAL, id="strong", lr_bear=5.0, group="guidance")
    alone = replace(SIGNAL, id="alone", lr_bear=2.0)
    readings = {signal.id: Reading.BEAR for signal in (weak, strong, alone)}
    assert capped([weak, strong, alone], readings) == [1.0, 5.0, 2.0]


@given(st.floats(min_value=0.01, max_value=0.99), st.lists(st.floats(min_value=0.05, max_value=20), max_size=6))
def test_the_order_of_evidence_does_not_matter(prior: float, ratios: list[float]) -> None:
    assert posterior(prior, ratios) == pytest.approx(posterior(prior, ratios[::-1]))
    assert 0 < posterior(prior, ratios) < 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"falsifier": " "}, "no falsifier"),
        ({"lr_bull": 0.0}, "above zero"),
        ({"reading": Reading.BULL}, "observed_on"),
    ],
)
def test_signals_that_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        replace(SIGNAL, **changes)  # type: ignore[arg-type]


def test_a_prior_of_certainty_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="above 0 and below 1"):
        posterior(1.0, [])


def test_percentiles_come_from_the_history() -> None:
    history = list(np.arange(-10.0, 11.0))
    found = standing(10.0, history, "21 weeks")
    assert found.percentile == pytest.approx(20.5 / 21)
    with pytest.raises(InvalidInputError, match="at least two"):
        standing(1.0, [1.0], "a day")
    with pytest.raises(InvalidInputError, match="widen the window"):
        standing(1.0, [1.0, 1.0], "a day")


TIGHT = [IndustryWindow(str(year), 100.0, 120.0) for year in range(3)]
SLACK = [IndustryWindow(str(year), 100.0, 60.0) for year in range(3)]


@pytest.mark.parametrize("idle", [0.0, 5.0])
@pytest.mark.parametrize("industry", [TIGHT, SLACK])
@pytest.mark.parametrize("falling", [True, False])
@pytest.mark.parametrize("cut", [True, False])
def test_surplus_and_glut_are_independent_verdicts(
    idle: float, industry: list[IndustryWindow], falling: bool, cut: bool
) -> None:
    owner = [OwnerWindow(str(year), idle, 0.0) for year in range(3)]

    found = judge(owner, industry, target_utilization=0.95, contract_price_falling=falling, capex_guidance_cut=cut)

    assert found.owner_surplus is (idle > 0)
    assert found.industry_glut is (industry is SLACK and falling and cut)


def test_one_slack_window_is_not_a_run() -> None:
    owner = [OwnerWindow(str(year), 0.0, 0.0) for year in range(3)]
    mixed = [SLACK[0], TIGHT[1], SLACK[2]]
    found = judge(owner, mixed, target_utilization=0.95, contract_price_falling=True, capex_guidance_cut=True)
    assert (found.longest_slack_run, found.industry_glut) == (1, False)


def test_windows_must_match() -> None:
    with pytest.raises(InvalidInputError, match="same windows in the same order"):
        judge(
            [OwnerWindow("a", 0, 0)],
            TIGHT,
            target_utilization=0.9,
            contract_price_falling=True,
            capex_guidance_cut=True,
        )


def test_longest_run() -> None:
    assert longest_run([]) == 0
    assert longest_run([True, True, False, True]) == 2
