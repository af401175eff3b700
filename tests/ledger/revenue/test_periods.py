"""Worked cases W9, R1, R3 and R4: revenue over time, and what of it is deferred or not billed yet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
from tests.ledger.payer import PRICE, Account

from sublet.ledger.prices.book import book_from_dict
from sublet.ledger.revenue.periods import revenue_by_month
from sublet.values.errors import InvalidInputError
from sublet.values.money import NANO

Open = Callable[..., Account]
LABELS = [f"2026-{month:02d}" for month in range(3, 13)] + ["2027-01", "2027-02"]


def months(payer: Account, since: str, until: str) -> list[dict[str, Any]]:
    with payer.ledger.store.read() as connection:
        return revenue_by_month(connection, since, until)


def close_through(payer: Account, labels: list[str]) -> None:
    """Close months in their order, each on the third day after it."""
    for label in labels:
        payer.clock.set(payer.ledger.period(payer.owner, label).end.replace(day=3))
        payer.ledger.close(payer.owner, label)


def cents(amounts: list[Fraction]) -> list[str]:
    """Amounts by cumulative rounding to the cent, so that they sum to the rounded whole."""
    found, before, whole = [], 0, Fraction(0)
    for amount in amounts:
        whole += amount
        found.append(round(whole * 100) - before)
        before = round(whole * 100)
    return [f"{cent / 100:.2f}" for cent in found]


def test_r1_a_year_that_is_paid_up_front_is_earned_by_days(account: Open) -> None:
    payer = account(19)
    payer.clock.set(datetime(2026, 3, 1, tzinfo=UTC))
    term = {"kind": "flat", "organization": payer.owner, "amount": "12000", "from": "2026-03-01T00:00:00Z"}
    payer.publish(term | {"id": "year", "term_end": "2027-03-01T00:00:00Z"})
    payer.ledger.store.write(
        lambda connection: payer.ledger.credit(
            connection, payer.owner, 12_000 * NANO, "a year", "m", kind="prepaid", tax_mode="at_payment"
        )
    )
    assert payer.ledger.invoices(payer.owner)[0]["total"] == "14280.000000000"
    close_through(payer, LABELS[:10])
    [december] = months(payer, "2026-12", "2026-12")
    assert (
        f"{float(december['contract_liabilities']):.2f}" == "1939.73" and december["contract_assets"] == "0.000000000"
    )
    close_through(payer, LABELS[10:])
    found = months(payer, LABELS[0], LABELS[-1])
    by_days = "1019.18 986.30 1019.18 986.30 1019.18 1019.18 986.30 1019.17 986.31 1019.17 1019.18 920.55".split()
    assert cents([Fraction(month["net"]) for month in found]) == by_days
    assert sum(Fraction(month["net"]) for month in found) == 12_000
    assert found[0]["deferred"]["received"] == "12000.000000000"
    assert payer.balance("deferred_revenue") == payer.balance("unbilled") == payer.balance("receivable") == 0
    assert payer.balance("cash") == 14_280 and payer.balance("taxes_payable") == -2_280
    payer.sound()


@pytest.mark.parametrize(("second", "shortfall"), [("5800", 1_200), ("7000", 0)])
def test_r3_what_is_left_of_a_commitment_is_due_when_its_term_ends(account: Open, second: str, shortfall: int) -> None:
    payer = account()
    entry = {"id": "term", "organization": payer.owner, "currency": "EUR", "minimum": "12000", "from": PRICE["from"]}
    entry["term_end"] = "2026-04-01T00:00:00Z"
    payer.ledger.publish_prices(book_from_dict({"prices": [PRICE], "commitments": [entry]}, "test"))
    payer.on(11)
    payer.use(10, "5000")
    close_through(payer, ["2026-01"])
    payer.on(11, month=2)
    payer.use(10, second, month=2, name="second")
    close_through(payer, ["2026-02", "2026-03"])
    found = months(payer, "2026-01", "2026-03")
    assert [Fraction(month["net"]) for month in found] == [5_000, int(second), shortfall]
    payer.sound()
    # Late usage of the first month draws it down too.
    payer.use(10, "200", name="late")
    close_through(payer, ["2026-04"])
    assert payer.balance("revenue.commitments") == -max(0, shortfall - 200)
    payer.sound()


def test_a_term_begins_and_ends_with_months_of_its_customer(account: Open) -> None:
    payer = account(timezone="Europe/Berlin")
    entry = {"id": "term", "organization": payer.owner, "currency": "EUR", "minimum": "1", "from": PRICE["from"]}
    entry["term_end"] = "2026-03-31T22:00:00Z"
    wanted = "from must be the start of a month of payer .Europe/Berlin., such as 2025-12-31T23:00:00Z"
    with pytest.raises(InvalidInputError, match=wanted):
        payer.ledger.publish_prices(book_from_dict({"prices": [PRICE], "commitments": [entry]}, "test"))
    for wrong in ({"until": "2026-05-01T00:00:00Z"}, {"term_end": PRICE["from"]}):
        with pytest.raises(InvalidInputError, match="must be after from, and until can't be after it"):
            book_from_dict({"commitments": [entry | wrong]}, "test")
    with pytest.raises(InvalidInputError, match="only for fees and commitments"):
        book_from_dict({"prices": [PRICE | {"term_end": "2026-05-01T00:00:00Z"}]}, "test")


def test_r4_what_is_unbilled_is_netted_with_what_is_deferred_in_the_report_only(account: Open) -> None:
    payer = account()
    payer.give("m", 100, None, paid=True)
    payer.on(11)
    payer.use(10, "60")
    [january] = months(payer, "2026-01", "2026-01")
    assert (january["unbilled"], january["deferred"]["closing"]) == ("60.000000000", "100.000000000")
    assert (january["contract_assets"], january["contract_liabilities"]) == ("0.000000000", "40.000000000")
    assert payer.balance("unbilled") == 60 and payer.balance("deferred_revenue") == -100
    payer.use(10, "70", "more")
    [january] = months(payer, "2026-01", "2026-01")
    assert (january["contract_assets"], january["contract_liabilities"]) == ("30.000000000", "0.000000000")
    payer.close()
    [_, february] = months(payer, "2026-01", "2026-02")
    moved = february["deferred"]
    assert [moved[name] for name in ("opening", "used", "closing")] == ["100.000000000", "100.000000000", "0.000000000"]
    assert february["contract_assets"] == "0.000000000"


@pytest.mark.parametrize(("expires", "breakage"), [(None, 5), (30, 0)])
def test_w9_expected_breakage_is_recognized_in_proportion_to_use(
    account: Open, expires: int | None, breakage: int
) -> None:
    """100 paid, 10 of it expected to expire, 45 used: 45 and 45/90 of 10. What has expired by then is in the books."""
    payer = account()
    payer.give("m", 100, expires, paid=True)
    payer.on(11)
    payer.use(10, "45")
    payer.close()
    payer.ledger.expire()
    with payer.ledger.store.read() as connection:
        [february] = revenue_by_month(connection, "2026-02", "2026-02", None, Fraction(10))
        [without] = revenue_by_month(connection, "2026-02", "2026-02")
    assert Fraction(february["expected_breakage"]) == breakage and without["expected_breakage"] == "0.000000000"
    assert payer.balance("breakage") == (0 if expires is None else -55)


@pytest.mark.parametrize(("since", "until"), [("2026-02", "2026-01"), ("2020-01", "2026-01"), ("x", "2026-01")])
def test_months_that_are_none_are_refused(account: Open, since: str, until: str) -> None:
    with pytest.raises(InvalidInputError):
        months(account(), since, until)
