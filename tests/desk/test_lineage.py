"""Families, bases and totals survive every operation: no detour leads to a sum that the direct way refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.desk.desk import Desk, build_case
from sublet.desk.documents import parse_document
from sublet.desk.errors import BasisError, CaseError, FamilyError
from sublet.desk.expressions import calculate
from sublet.desk.terms import Term, reference
from sublet.desk.units import Basis, parse_unit
from sublet.values.errors import InvalidInputError

EXAMPLE = (Path(__file__).parents[2] / "examples" / "hyperscaler-2026.toml").read_text()

KNOWN = {
    "it": ("GW, IT", 3.0, "capacity.it"),
    "more": ("GW, IT", 2.0, "capacity.it"),
    "site": ("GW, facility", 20.0, "capacity.footprint"),
    "plain": ("GW, IT", 1.0, ""),
    "pue": ("ratio", 1.25, ""),
    "p_it": ("USD/W-yr, IT", 50.0, ""),
    "p_site": ("USD/W-yr, facility", 40.0, ""),
    "p": ("USD/W-yr", 20.0, ""),
    "deal_a": ("USD/W-yr", 30.0, "price of deal a"),
    "deal_b": ("USD/W-yr", 10.0, "price of deal b"),
    "of_revenue": ("share of revenue", 0.35, "counterparty.share"),
    "of_orders": ("share of orders", 0.45, "counterparty.share"),
    "rev_a": ("USD bn", 10.0, ""),
    "rev_b": ("USD bn", 20.0, ""),
    "part": ("USD bn", 3.0, ""),
    "multiple": ("x", 20.0, ""),
    "target": ("USD/share", 800.0, "valuation.target"),
    "eps": ("USD/share", 40.0, "eps.ms"),
    "tax": ("rate", 0.15, ""),
    "shares": ("bn shares", 2.5, ""),
    "cost": ("USD/W-yr", 4.0, ""),
}


def named(name: str) -> Term:
    unit, number, family = KNOWN[name]
    return reference(name, number, parse_unit(unit), family)


def run(text: str) -> Term:
    return calculate(text, named, lambda function, names: None)


@pytest.mark.parametrize(
    "detour",
    [
        "at_facility_level(power=it, pue=pue)",
        "at_facility_level(power=it * 1, pue=pue)",
        "at_facility_level(power=it * 2 / 2, pue=1)",
        "-(-at_facility_level(power=it, pue=pue))",
        "at_facility_level(power=min(it, more), pue=pue)",
        "at_facility_level(power=it, pue=pue) * 1 [yr] / 1 [yr]",
        "at_facility_level(power=it, pue=pue) * p_site / p_site",
        "at_facility_level(power=it + more, pue=pue)",
    ],
)
@pytest.mark.parametrize("sum_", ["{} + site", "site + {}", "site - {}", "sum(site, {})", "max(site, {})"])
def test_no_detour_adds_it_power_to_a_footprint(detour: str, sum_: str) -> None:
    with pytest.raises((FamilyError, BasisError), match="differs"):
        run(sum_.format(detour))


@pytest.mark.parametrize(
    "text",
    [
        "it / 1 [GW, IT] + site / 1 [GW, facility]",
        "it * p_it + site * p_site",
        "(it * p_it + at_facility_level(power=it, pue=pue) * p_site) + site * p_site",
        "it + plain",
        "plain + it",
        "it + 1 [GW, IT]",
    ],
)
def test_neither_a_ratio_nor_money_nor_a_typed_number_hides_a_family(text: str) -> None:
    with pytest.raises(FamilyError, match="family differs"):
        run(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("it + more", 5.0),
        ("it * 2 - more", 4.0),
        ("it / more", 1.5),
        ("1 - it / more * 0", 1.0),
        ("plain + 1 [GW, IT]", 2.0),
    ],
)
def test_what_is_alike_may_be_combined(text: str, value: float) -> None:
    assert run(text).value == pytest.approx(value)


@given(st.lists(st.sampled_from(["* 2", "/ 4", "* pue", "* 1 [yr] / 1 [yr]", "* tax / tax"]), max_size=6))
def test_any_chain_of_operations_keeps_family_and_basis(steps: list[str]) -> None:
    term = run("it " + " ".join(steps))
    assert term.lineage.capacities == {"capacity.it"}
    assert term.unit is not None and term.unit.basis is Basis.IT


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("it + at_facility_level(power=it, pue=pue)", "at_facility_level"),
        ("p_it - p_site", "at_it_level"),
        ("p_site + p_it", "at_it_level"),
    ],
)
def test_the_advice_is_right_for_the_unit(text: str, advice: str) -> None:
    with pytest.raises(BasisError, match=advice):
        run(text)


def test_following_the_advice_gives_the_right_number() -> None:
    found = run("p_it - at_it_level(price=p_site, pue=pue)")
    assert found.value == pytest.approx(0.0)
    assert found.unit is not None and found.unit.basis is Basis.IT


@pytest.mark.parametrize(
    "text",
    [
        "p_it - p",
        "p - p_it",
        "max(p, p_it)",
        "at_it_level(price=p, pue=pue)",
        "it + 1 [GW]",
        "p_it / p",
        "p / (p_it * 2)",
        "if(p > p_it, 1, 2)",
    ],
)
def test_a_basis_that_is_not_stated_is_unknown(text: str) -> None:
    """50 USD/W-yr, IT minus 20 USD/W-yr gave "30 USD/W-yr, IT"."""
    with pytest.raises(BasisError, match="is unknown"):
        run(text)


def test_watts_and_price_of_a_call_must_share_their_basis() -> None:
    with pytest.raises(BasisError, match="per_accelerator_hour"):
        run("per_accelerator_hour(price=p_it, watts=1700 [W/accelerator, utility])")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(deal_a + deal_b) / 2", "unlike size, term and inclusion"),
        ("(deal_a * 1 + deal_b * 1) / 2", "unlike size, term and inclusion"),
        ("of_revenue + of_orders", "shares of two totals"),
        ("of_revenue * 1 + of_orders", "shares of two totals"),
        ("part / rev_a + part / rev_b", "shares of two totals"),
        ("multiple * eps_increment(power=it, price=p_it, cost=p_it * 0, tax=tax, shares=shares)", "bridge_value"),
        ("(target / eps) * eps_increment(power=it, price=p_it, cost=p_it * 0, tax=tax, shares=shares)", "bridge_value"),
        ("lease_revenue(power=it, price=p_it) * 2 * multiple", "bridge_value"),
    ],
)
def test_averages_and_ratios_of_unlike_things_are_refused(text: str, words: str) -> None:
    with pytest.raises(FamilyError, match=words):
        run(text)


def test_shares_of_one_total_may_be_added() -> None:
    assert run("part / rev_a + rev_b / rev_a").value == pytest.approx(2.3)
    assert run("1 - part / rev_a").value == pytest.approx(0.7)


def case_with(formula: str, unit: str, more: str = "") -> Desk:
    text = f'{EXAMPLE}\n[formulas."try.it"]\nformula = "{formula}"\nunit = "{unit}"\n{more}'
    return build_case(parse_document(text.encode(), "case.toml"))


@pytest.mark.parametrize(
    ("formula", "unit", "more", "words"),
    [
        ("at_facility_level(power=b04, pue=par.pue) + b10", "GW, facility", "", "family differs"),
        ("b04 * par.pue", "GW, facility", "", "basis differs"),
        ("b04 * 1", "GW, IT", 'family = "capacity.footprint.total.bernstein"', "keeps the family"),
        ("b20 * 1 + b17", "USD/share", "", "eps.ms"),
        ("chk.ms.base_eps_2028 + b18", "USD/share", "", "eps.ubs"),
        (
            "(comp.xai_anthropic_500.usd_per_w_year + comp.nebius_microsoft.usd_per_w_year) / 2",
            "USD/W-yr",
            "",
            "two deals",
        ),
        ("chk.pe2028.ms * bridge.eps", "USD/share", "", "bridge_value"),
    ],
)
def test_the_case_file_refuses_the_same_detours(formula: str, unit: str, more: str, words: str) -> None:
    with pytest.raises((CaseError, InvalidInputError)) as error:
        case_with(formula, unit, more)
    assert re.search(words, error.value.message), error.value.message


def test_a_result_keeps_family_and_basis_through_named_steps() -> None:
    steps = '[formulas."try.next"]\nformula = "try.it * 2"\nunit = "MW"\n'
    desk = case_with("at_facility_level(power=b04, pue=par.pue)", "GW", steps)
    value = desk.sheet["try.next"]
    assert value.lineage.capacities == {"capacity.it.self_operated.ms"}
    assert value.parsed_unit.basis is Basis.FACILITY
