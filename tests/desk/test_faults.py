"""All faults of a file at once, each with its line and what to write."""

from __future__ import annotations

import pytest

from sublet.desk.desk import build_case
from sublet.desk.documents import parse_document, plain_number
from sublet.desk.errors import CaseError, UnitError
from sublet.desk.template import template_text
from sublet.desk.units import parse_unit

TEMPLATE = template_text()


def refused(text: str) -> list[str]:
    with pytest.raises(CaseError) as error:
        build_case(parse_document(text.encode(), "case.toml"))
    return error.value.message.splitlines()


def test_all_faults_are_listed_in_order_without_their_consequences() -> None:
    text = TEMPLATE
    for old, new in (
        ('unit = "USD/MWh"', 'unit = "USD/MWx"'),
        ("value = 1.25", "value = 0.9"),
        ("p5 = 8.0, p95 = 20.0", "p5 = 20.0, p95 = 8.0"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    found = refused(text)
    assert len(found) == 3, found
    lines = [int(message.split(":")[1]) for message in found]
    assert lines == sorted(lines)
    told = " ".join(found)
    assert "USD/MWx" in told and "below 1" in told and "swap the two" in told
    assert "was refused" not in told


def test_a_byte_order_mark_is_no_fault() -> None:
    build_case(parse_document(b"\xef\xbb\xbf" + TEMPLATE.encode(), "case.toml"))


@pytest.mark.parametrize(
    ("written", "plain"), [("2,870", "2870"), ("3,5", "3.5"), ("1,234,567.5", "1234567.5"), ("1.234,5", "1234.5")]
)
def test_commas_in_numbers_are_told_how_to_be_written(written: str, plain: str) -> None:
    assert plain_number(written) == plain
    with pytest.raises(CaseError, match=f"write {plain}") as error:
        parse_document(f"[case]\nname = 5\nvalue = {written}\n".encode(), "case.toml")
    assert error.value.message.startswith("case.toml:3: ")
    assert (
        f"write the number without quotes: value = {plain}"
        in refused(TEMPLATE.replace("value = 80.0", f'value = "{written}"', 1))[0]
    )


@pytest.mark.parametrize(
    ("unit", "meant"),
    [
        ("$/W", "USD"),
        ("mw", "MW"),
        ("GPU-H", "h"),
        ("million shares", "m shares"),
        ("usd/mwh", "USD"),
        ("gw", "GW"),
    ],
)
def test_the_unit_that_was_meant_is_named(unit: str, meant: str) -> None:
    with pytest.raises(UnitError, match=f"did you mean '{meant}'"):
        parse_unit(unit)


def test_a_quarter_is_three_months() -> None:
    assert parse_unit("USD/quarter").factor_to(parse_unit("USD/month")) * 3 == 1
