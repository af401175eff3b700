"""Inputs within their own distribution, years of exact days, positioning with a history."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.desk.conftest import told

from sublet.desk.counterparties import Contract, RenewalStress, expected_loss, remaining_term, years_between
from sublet.desk.desk import build_case
from sublet.desk.documents import parse_document
from sublet.desk.errors import CaseError
from sublet.desk.report.pages_market import positioning
from sublet.desk.report.wording import Wording
from sublet.desk.template import template_text

EXAMPLE = (Path(__file__).parents[2] / "examples" / "hyperscaler-2026.toml").read_text()
UNIFORM = """
[inputs."try.it"]
value = {value}
unit = "ratio"
status = "assumption"
source = "{source}"
distribution = {{ {shape} }}
"""


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ("50.0", 'kind = "uniform", low = 1.0, high = 2.0'),
        ("0.99", 'kind = "triangular", low = 1.0, mode = 1.5, high = 2.0'),
        ("1.5", 'kind = "beta", a = 2.0, b = 2.0'),
        ("50.0", 'kind = "normal", mean = 1.0, sd = 1.0'),
        ("5000.0", 'kind = "lognormal", p5 = 1.0, p95 = 2.0'),
        ("[1.0, 2.0]", 'kind = "uniform", low = 1.0, high = 2.0'),
    ],
)
def test_an_input_that_its_distribution_never_draws_is_refused(value: str, shape: str) -> None:
    text = template_text() + UNIFORM.format(value=value, source="books", shape=shape)
    with pytest.raises(CaseError, match=r"outside its own distribution|belongs to one number") as error:
        build_case(parse_document(text.encode(), "case.toml"))
    assert error.value.message.startswith("case.toml:")


def test_an_input_on_the_edge_of_its_distribution_is_taken() -> None:
    text = template_text() + UNIFORM.format(
        value="2.0", source="books", shape='kind = "uniform", low = 1.0, high = 2.0'
    )
    assert build_case(parse_document(text.encode(), "case.toml")).sheet["try.it"].number == 2.0


@pytest.mark.parametrize(
    ("start", "end", "years"),
    [
        (date(2026, 1, 1), date(2031, 1, 1), 5.0),
        (date(2027, 7, 1), date(2028, 7, 1), 1.0),
        (date(2024, 2, 29), date(2028, 2, 29), 4.0),
        (date(2024, 2, 29), date(2025, 3, 1), 1.0),
        (date(2028, 1, 1), date(2028, 7, 1), 182 / 366),
        (date(2027, 1, 1), date(2027, 7, 1), 181 / 365),
        (date(2026, 1, 1), date(2028, 2, 29), 2 + 59 / 366),
    ],
)
def test_years_count_exact_days(start: date, end: date, years: float) -> None:
    assert years_between(start, end) == pytest.approx(years, rel=1e-12)


@given(st.dates(date(2000, 1, 1), date(2060, 1, 1)), st.integers(1, 12000))
def test_a_longer_contract_has_more_years(start: date, days: int) -> None:
    end = start + timedelta(days)
    assert years_between(start, end) < years_between(start, end + timedelta(1))
    assert years_between(start, end) == pytest.approx(days / 365.2425, abs=0.01)


def test_five_years_across_leap_years_lose_a_fifth_of_the_value_a_year() -> None:
    contract = Contract("a", "Lab", 10.0, date(2026, 1, 1), date(2031, 1, 1))
    assert remaining_term([contract], date(2026, 1, 1)) == 5.0
    assert expected_loss([contract], RenewalStress(0.5, 1.0), [2030, 2031]) == {2030: 0.0, 2031: pytest.approx(1.0)}
    assert remaining_term([contract], date(2032, 1, 1)) == 0.0


HISTORY = """
[[positioning.readings]]
id = "july"
title = "semiconductors over July"
reading = "try.move"
history = [{history}]
window = "seven Julys"
source = "market"

[inputs."try.move"]
value = -4.0
unit = "%"
status = "assumption"
source = "market"
"""


def test_positioning_with_a_history_is_empirical_and_on_the_page() -> None:
    past = [2.0, 1.0, -1.0, 3.0, 0.0, -5.0, 4.0]
    text = EXAMPLE + HISTORY.format(history=", ".join(map(str, past)))
    desk = build_case(parse_document(text.encode(), "case.toml"))
    assert desk.sheet["pos.july.z"].number == pytest.approx((-4.0 - np.mean(past)) / np.std(past, ddof=1))
    assert desk.sheet["pos.july.percentile"].number == pytest.approx(1 / 7)
    assert "7 observations, seven Julys" in desk.sheet["pos.july.percentile"].formula
    part = positioning(Wording(desk))
    assert part is not None and "pos.july.z" in str(part.blocks)


@pytest.mark.parametrize(("history", "words"), [("1.0", "at least two"), ("1.0, 1.0", "no z-score")])
def test_a_history_that_says_nothing_is_told_on_its_line(history: str, words: str) -> None:
    found = told(EXAMPLE + HISTORY.format(history=history))
    assert len(found) == 1 and found[0].startswith("case.toml:") and words in found[0]


def test_a_history_that_is_no_list_of_numbers_is_refused_on_its_line() -> None:
    with pytest.raises(CaseError, match="list of numbers") as error:
        build_case(parse_document((EXAMPLE + HISTORY.format(history='"a"')).encode(), "case.toml"))
    assert error.value.message.startswith("case.toml:")
