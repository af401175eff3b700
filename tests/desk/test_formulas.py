"""One formula, four readings: number, array, explanation and spreadsheet cell; and what every formula refuses."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.desk.errors import BasisError, CaseError, FamilyError, UnitError
from sublet.desk.expressions import FORMULA_MODULES, calculate
from sublet.desk.formulas import FORMULAS, Formula
from sublet.desk.terms import Term, constant, evaluate, formula_text, reference, spreadsheet_formula
from sublet.desk.units import parse_unit
from sublet.values.errors import InvalidInputError

BASES = ("USD", "W", "equity", "token", "accelerator")


def arguments_of(formula: Formula, draw: float = 1.0) -> dict[str, float]:
    """Numbers inside every limit: plain fractions below one, rates small, the rest above it."""
    chosen = {
        "tax": 0.2,
        "rate": 0.07,
        "prior": 0.3,
        "used": 0.9,
        "displaced_share": 0.2,
        "target": 0.9,
        "renewal": 0.6,
        "load": 0.8,
        "pue": 1.3,
        "utilization": 0.5,
    }
    return {name: chosen.get(name, 3.0 + draw + position) for position, name in enumerate(formula.units)}


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=lambda formula: formula.name)
def test_a_formula_gives_the_same_for_numbers_arrays_and_terms(formula: Formula) -> None:
    numbers = arguments_of(formula)
    terms = {name: reference(name, value, parse_unit(formula.units[name])) for name, value in numbers.items()}

    plain = formula(**numbers)
    array = formula(**{name: np.full(3, value) for name, value in numbers.items()})
    traced = formula(**terms)

    assert array == pytest.approx([plain] * 3, rel=1e-12)
    assert traced.value == pytest.approx(plain, rel=1e-12)
    assert evaluate(traced, dict(numbers), {}) == pytest.approx(plain, rel=1e-12)
    assert all(
        name in formula_text(traced) for name in numbers if name in inspect.signature(formula.function).parameters
    )


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=lambda formula: formula.name)
@pytest.mark.parametrize("base", BASES)
def test_a_formula_is_homogeneous_in_every_unit_that_it_declares(formula: Formula, base: str) -> None:
    """Counting dollars in cents, or watts in kilowatts, must scale the result as its unit says: else a unit is wrong."""
    factor = 7.0
    numbers = arguments_of(formula)

    def exponent(unit: str) -> int:
        return dict(parse_unit(unit).dimensions).get(base, 0)

    scaled = {name: value * factor ** exponent(formula.units[name]) for name, value in numbers.items()}

    assert formula(**scaled) == pytest.approx(formula(**numbers) * factor ** exponent(formula.unit), rel=1e-9)


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=lambda formula: formula.name)
def test_every_formula_says_what_it_means(formula: Formula) -> None:
    assert len(formula.meaning) > 30


def test_every_module_of_formulas_is_loaded_for_cases() -> None:
    assert {FORMULAS[name].function.__module__ for name in FORMULAS} == {module.__name__ for module in FORMULA_MODULES}


@pytest.mark.parametrize(
    ("name", "bad", "advice"),
    [
        ("tax", 35.0, "35 % as 0.35"),
        ("shares", 0.0, "above zero"),
        ("shares", -1.0, "above zero"),
        ("power", 0.0, "capacity"),
        ("life", 0.0, "useful life in years"),
        ("used", 1.2, "between 0 and 1"),
    ],
)
def test_bad_arguments_are_refused_in_numbers_arrays_and_terms(name: str, bad: float, advice: str) -> None:
    formula = FORMULAS["eps_increment"]
    good = arguments_of(formula)
    terms: dict[str, Any] = {key: reference(key, value, parse_unit(formula.units[key])) for key, value in good.items()}
    terms[name] = reference(f"par.{name}", bad, parse_unit(formula.units[name]))

    for arguments in (good | {name: bad}, good | {name: np.array([good[name], bad])}, terms):
        with pytest.raises(InvalidInputError, match=advice):
            formula(**arguments)


def test_a_pue_below_one_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="can't be below 1"):
        FORMULAS["power_cost"](power_price=70.0, pue=0.9)


def test_a_wrong_unit_is_refused_with_parameter_and_value() -> None:
    price = reference("ext.price", 2.65, parse_unit("USD/GPU-h"))
    with pytest.raises(UnitError, match=r"price \(ext.price\) must be in USD/W-yr"):
        FORMULAS["per_accelerator_hour"](price=price, watts=1275.0)


def test_units_are_converted_at_the_call() -> None:
    payment, power = reference("pay", 1.25, parse_unit("USD bn / month")), reference("mw", 0.5, parse_unit("GW"))
    found = FORMULAS["price_of_payment"](payment=payment, power=power)
    assert found.value == pytest.approx(30.0, rel=1e-12)
    assert formula_text(found) == "pay * 1000 * 12 / (mw * 1000)"


def values(name: str) -> Term:
    known = {
        "a": ("MW, IT", 250.0, ""),
        "b": ("USD/W-yr", 40.0, ""),
        "c": ("GW, IT", 3.0, "capacity.it"),
        "d": ("GW, total data-center footprint", 20.0, "capacity.footprint"),
        "e": ("GW, IT", 2.0, "capacity.other"),
        "par.tax": ("rate", 0.15, ""),
        "gpuh.1538.46W": ("USD/GPU-h", 7.0, ""),
        "tail_at_-1z": ("prob", 0.16, ""),
    }
    unit, number, family = known[name]
    return reference(name, number, parse_unit(unit), family)


def run(text: str) -> Term:
    return calculate(text, values, lambda function, names: None)


def test_expressions_follow_the_usual_order() -> None:
    assert run("2 + 3 * 4 ** 2 / 8 - -1").value == 9
    assert run("(2 + 3) * 4").value == 20
    assert run("2 ** 3 ** 2").value == 512
    assert run("min(3, 2, 4) + max(1, 5) + sum(1, 2)").value == 10


def test_names_may_hold_dots_digits_and_in_backticks_anything() -> None:
    assert run("gpuh.1538.46W / gpuh.1538.46W").value == 1
    assert run("`tail_at_-1z` * 2").value == pytest.approx(0.32)


def test_units_follow_the_arithmetic() -> None:
    revenue = run("a * b * 1 [yr]").in_unit(parse_unit("USD bn"))
    assert revenue.value == pytest.approx(10.0)
    assert run("1000 [MW, IT] + a").value == pytest.approx(1250.0)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("a + b", UnitError, "can't be turned into"),
        ("c + e", FamilyError, "family differs: 'c' is capacity.it, 'e' is capacity.other"),
        ("c + d", BasisError, "PUE"),
        ("2 ** a", UnitError, "power needs plain numbers"),
        ("1 / (2 - 2)", CaseError, "divides by zero"),
        ("2 +", CaseError, "ends where"),
        ("2 3", CaseError, "add an operator"),
        ("per_watt_yaer(price=b)", CaseError, "did you mean 'per_watt_year'"),
        ("per_watt_year(b)", InvalidInputError, "it takes price in USD/GPU-h"),
        ("$", CaseError, "has no meaning"),
        ("(" * 200 + "1" + ")" * 200, CaseError, "nested"),
        ("1" * 3000, CaseError, "split it into named steps"),
    ],
)
def test_expressions_that_are_refused(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words.replace("(", r"\(")):
        run(text)


names = st.sampled_from(["x", "y", "z"])
expressions = st.recursive(
    st.one_of(names.map(lambda name: reference(name, {"x": 2.0, "y": 3.5, "z": 0.5}[name], parse_unit("1")).bare()),
              st.floats(min_value=0.1, max_value=9.0).map(constant)),
    lambda inner: st.tuples(st.sampled_from("+-*/^n"), inner, inner),
    max_leaves=12,
)  # fmt: skip


def build(tree: Any) -> Term:
    if isinstance(tree, Term):
        return tree
    sign, left, right = tree[0], build(tree[1]), build(tree[2])
    if sign == "n":
        return -left
    if sign == "^":
        return left ** constant(2.0)
    return {"+": lambda: left + right, "-": lambda: left - right, "*": lambda: left * right, "/": lambda: left / right}[
        sign
    ]()


@given(expressions)
def test_the_text_of_a_formula_calculates_to_its_value(tree: Any) -> None:
    """What `explain` prints, read again by the desk's own parser, is the number that it explains."""
    try:
        term = build(tree)
    except (InvalidInputError, OverflowError):
        return
    if not np.isfinite(term.value) or abs(term.value) > 1e12:
        return
    lookup = {"x": 2.0, "y": 3.5, "z": 0.5}
    text = formula_text(term).replace("^", "**")
    if "e" in text or "inf" in text:
        return
    try:
        again = calculate(
            text, lambda name: reference(name, lookup[name], parse_unit("1")), lambda function, rows: None
        )
    except CaseError as error:
        assert "divides by zero" in error.message
        return
    assert again.value == pytest.approx(term.value, rel=1e-9, abs=1e-12)


def test_a_negated_power_keeps_its_brackets_for_spreadsheets() -> None:
    term = -(reference("x", 2.0, parse_unit("1")).bare() ** 2)
    assert spreadsheet_formula(term, lambda name: "A1") == "-(A1^2)"
