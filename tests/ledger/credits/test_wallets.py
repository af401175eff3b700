"""Worked cases W1 to W8 and R2: prepaid and promotional credit burns by the time of usage, whenever it arrives or is invoiced."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from tests.ledger.payer import PRICE, Account, nothing_but
from tests.ledger.prepaid import prepay

from sublet.ledger.budgets.model import HoldRequest
from sublet.ledger.exports.charges import Charges
from sublet.ledger.exports.charges import Span as ChargedMonths
from sublet.ledger.exports.focus import focus_rows, pricing_unit
from sublet.ledger.invoices.price_reductions import Wanted
from sublet.ledger.model import UsageEvent
from sublet.ledger.payments.refunds import NewRefund
from sublet.ledger.prices.book import book_from_dict
from sublet.ledger.usage.meters import METERS
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.money import NANO, nano_from_decimal

Open = Callable[..., Account]


def test_w1_prepaid_money_that_was_used_is_not_taken_again(account: Open) -> None:
    payer = account()
    payer.give("m", 100, 20, paid=True)
    payer.on(16)
    payer.use(15, "60")
    payer.on(21)
    assert (payer.ledger.expire(), payer.ledger.expire()) == (1, 0)
    assert payer.balance("breakage") == -40 and payer.balance("deferred_revenue") == -60
    payer.sound()
    document = payer.close()
    assert (document["total"], document["due"]) == ("60.000000000", "0.000000000")
    assert payer.left() == {"m": 0}
    assert payer.balance("breakage") == -40
    assert payer.balance("deferred_revenue") == payer.balance("unbilled") == payer.balance("receivable") == 0
    payer.sound()


@pytest.mark.parametrize(("until", "left", "breakage"), [(15, {"p": 50, "m": 0}, 20), (31, {"p": 0, "m": 70}, 0)])
def test_w2_what_expires_first_burns_first_and_then_what_was_given(
    account: Open, until: int, left: dict[str, int], breakage: int
) -> None:
    payer = account()
    payer.give("p", 50, 31, paid=False)
    payer.give("m", 100, until, paid=True)
    payer.on(11)
    payer.use(10, "80")
    payer.on(16)
    payer.ledger.expire()
    assert payer.left() == left and payer.balance("breakage") == -breakage
    assert payer.close()["due"] == "0.000000000"
    payer.sound()


def test_w3_a_deposit_pays_net_and_tax_and_its_budget_says_so(account: Open) -> None:
    payer = account(19)
    payer.give("m", 100, None, paid=True)

    def fits(name: str, amount: str) -> bool:
        nano = nano_from_decimal(amount)
        expires = datetime(2026, 1, 1, 1, tzinfo=UTC)
        [outcome] = payer.ledger.reserve([HoldRequest(name, payer.owner, nano, expires)])
        return outcome.error is None

    assert not fits("a", "84.04") and fits("b", "84.03")
    payer.on(11)
    payer.use(10, "90")
    document = payer.close()
    assert (document["total"], document["due"]) == ("107.100000000", "7.100000000")
    assert payer.balance("deferred_revenue") == 0 and payer.balance("receivable") == Fraction("7.1")
    payer.sound()


@pytest.mark.parametrize("day", [5, 20, 28])
def test_w4_a_void_invoice_loses_no_credit(account: Open, day: int) -> None:
    payer = account(19)
    payer.give("p", 50, 31, paid=False)
    payer.on(11)
    payer.use(10, "80")
    first = payer.close()
    assert (first["net"], first["due"]) == ("30.000000000", "35.700000000")
    payer.ledger.void(str(first["number"]), "wrong address")
    payer.on(day, month=2, hour=1)
    payer.ledger.expire()
    again = payer.ledger.invoice(payer.owner, "2026-01")
    assert again is not None
    assert (again["net"], again["taxes"], again["due"]) == (first["net"], first["taxes"], "35.700000000")
    assert payer.balance("breakage") == 0
    payer.sound()


def test_w5_usage_that_comes_after_the_expiry_takes_its_part_back(account: Open) -> None:
    payer = account()
    payer.give("m", 100, 20, paid=True)
    payer.on(16)
    payer.use(15, "60")
    payer.on(21)
    payer.ledger.expire()
    payer.on(25)
    payer.use(18, "30")
    payer.ledger.expire()
    assert payer.balance("breakage") == -10
    assert payer.close()["due"] == "0.000000000"
    payer.sound()


@pytest.mark.parametrize("order", [(5, 6), (6, 5)])
def test_w6_the_order_of_arrival_makes_no_difference(account: Open, order: tuple[int, int]) -> None:
    payer = account()
    payer.give("a", 50, 10, paid=True)
    payer.on(6)
    payer.give("b", 50, None, paid=True)
    payer.on(7)
    for day in order:
        payer.use(day, "50")
    assert payer.left() == {"a": 0, "b": 0}
    assert payer.close()["due"] == "0.000000000"
    payer.sound()


@pytest.mark.parametrize("invoiced", [False, True])
def test_w7_credit_that_canceled_usage_gives_back_after_its_end_expires(account: Open, invoiced: bool) -> None:
    payer = account()
    payer.give("m", 100, 20, paid=True)
    payer.on(16)
    payer.use(15, "60", "u")
    payer.on(21)
    payer.ledger.expire()
    if invoiced:
        payer.ledger.invoice(payer.owner)
    payer.on(25)
    payer.cancel("u")
    payer.ledger.expire()
    assert payer.balance("breakage") == -100
    payer.ledger.invoice(payer.owner)
    assert payer.balance("deferred_revenue") == payer.balance("unbilled") == payer.balance("credits") == 0
    payer.sound()


def test_usage_below_a_cent_gets_no_number_and_waits_until_it_is_one(account: Open) -> None:
    payer = account()
    free = dict(PRICE, id="tiny", meter="tokens.input", amount="0.002")
    payer.ledger.publish_prices(book_from_dict({"prices": [PRICE, free]}, "test"))
    payer.on(11)

    def use(name: str) -> None:
        event = UsageEvent("t", name, payer.owner, "tokens.input", 1, payer.clock.now())
        assert payer.ledger.take_now([event]).accepted == 1

    for name in ("a", "b"):
        use(name)
        assert payer.ledger.invoice(payer.owner) is None
    use("c")
    document = payer.ledger.invoice(payer.owner)
    assert document is not None
    assert (document["number"], document["subtotal"], document["total"]) == ("INV-000001", "0.006000000", "0.010000000")
    payer.sound()


def test_lines_that_cancel_get_no_number_and_wait_for_the_next_invoice(account: Open) -> None:
    payer = account()
    other = dict(PRICE, id="other", meter="tokens.input", amount="0.001")
    payer.ledger.publish_prices(book_from_dict({"prices": [PRICE, other]}, "test"))
    payer.on(11)
    payer.use(10, "60", "u")
    first = payer.ledger.invoice(payer.owner)
    assert first is not None and (first["number"], first["total"]) == ("INV-000001", "60.000000000")

    def tokens(name: str, count: int) -> None:
        event = UsageEvent("t", name, payer.owner, "tokens.input", count, payer.clock.now())
        assert payer.ledger.take_now([event]).accepted == 1

    # 60 given back and 60.004 used: neither a cent to pay nor one to credit.
    payer.cancel("u")
    tokens("same", 60_004)
    assert payer.ledger.invoice(payer.owner) is None
    tokens("more", 3)
    second = payer.ledger.invoice(payer.owner)
    assert second is not None
    assert (second["number"], second["subtotal"], second["total"]) == ("INV-000002", "0.007000000", "0.010000000")
    assert [line["amount"] for line in second["lines"]] == ["-60.000000000", "60.007000000"]
    payer.sound()


def test_a_payment_finer_than_the_currency_is_refused(account: Open) -> None:
    payer = account()
    payer.on(11)
    payer.use(10, "1")
    document = payer.close()
    with pytest.raises(InvalidInputError, match=r"0\.00001 EUR is finer than the currency; it has 2 decimals"):
        payer.ledger.pay(str(document["number"]), 10_000, "bank")
    with pytest.raises(InvalidInputError, match="finer than the currency"):
        payer.ledger.ensure_payable(payer.owner, 1)
    payer.ledger.ensure_payable(payer.owner, NANO // 100)


def test_only_invoices_carry_over(account: Open) -> None:
    payer = account()
    with pytest.raises(InvalidInputError, match="must be one of reclaim, promotional, goodwill, prepaid"):
        payer.ledger.store.write(
            lambda connection: payer.ledger.credit(connection, payer.owner, 1, "", "s", kind="carried")
        )


@pytest.mark.parametrize(
    ("per", "unit", "size"),
    [
        (1, "Watt-Hours", 1),
        (1000, "Kilowatt-Hours", 1000),
        (1_000_000, "Megawatt-Hours", 10**6),
        (5000, "Kilowatt-Hours", 1000),
    ],
)
def test_energy_is_priced_by_a_named_unit(per: int, unit: str, size: int) -> None:
    raw = dict(PRICE, meter="energy.wh", amount="0.05", per=per)
    [price] = book_from_dict({"prices": [raw]}, "test").prices
    assert pricing_unit(price, METERS["energy.wh"]) == (unit, size)


def test_w8_money_taxed_at_payment_pays_net_that_is_not_taxed_again(account: Open) -> None:
    """119 in, 60 net used: the rest, and 11.40 of tax for the authorities, are what a refund of 47.60 leaves to be right."""
    payer = account(19)
    ledger = payer.ledger
    given = ledger.store.write(
        lambda connection: ledger.credit(
            connection, payer.owner, 100 * NANO, "block", "m", kind="prepaid", tax_mode="at_payment"
        )
    )
    assert given.as_dict()["tax_mode"] == "at_payment"
    assert (payer.balance("cash"), payer.balance("deferred_revenue"), payer.balance("taxes_payable")) == (
        119,
        -100,
        -19,
    )
    [state] = ledger.budgets(payer.owner)
    assert state.budget.limit_nano == 100 * NANO
    payer.on(11)
    payer.use(10, "60")
    document = payer.close()
    assert (document["subtotal"], document["net"], document["total"]) == ("60.000000000", "0.000000000", "0.000000000")
    assert payer.balance("deferred_revenue") == -40 and payer.balance("taxes_payable") == -19
    assert payer.balance("unbilled") == payer.balance("credits") == payer.balance("receivable") == 0
    assert payer.left() == {"m": 40}
    payer.sound()
    with pytest.raises(InvalidInputError, match="taxed at_payment"):
        ledger.store.write(
            lambda c: ledger.credit(c, payer.owner, NANO, "", "p", kind="goodwill", tax_mode="at_payment")
        )


def prepaid_and_taxed(payer: Account, amount: int, source: str = "m") -> str:
    """Money that is taxed when it is paid; the id of its credit."""
    ledger = payer.ledger
    return ledger.store.write(
        lambda connection: ledger.credit(
            connection, payer.owner, amount * NANO, "block", source, kind="prepaid", tax_mode="at_payment"
        )
    ).id


def test_w8_a_note_and_a_refund_return_what_is_left_with_its_tax(account: Open) -> None:
    payer = account(19)
    credit = prepaid_and_taxed(payer, 100)
    assert prepaid_and_taxed(payer, 100) == credit
    [invoice] = payer.ledger.invoices(payer.owner)
    assert (invoice["number"], invoice["kind"], invoice["status"]) == ("INV-000001", "prepayment", "paid")
    assert (invoice["net"], invoice["total"], invoice["due"]) == ("100.000000000", "119.000000000", "0.000000000")
    assert [tax["amount"] for tax in invoice["taxes"]] == ["19.000000000"]
    payer.on(11)
    payer.use(10, "60")
    payer.close()
    settling = payer.ledger.settling
    with pytest.raises(ConflictError, match=f"sublet ledger return {credit}"):
        payer.ledger.void("INV-000001", "wrong")
    with pytest.raises(ConflictError, match=f"sublet ledger return {credit}"):
        settling.credit("INV-000001", Wanted(), "wrong")
    with pytest.raises(InvalidInputError, match="at most 40 EUR"):
        settling.return_deposit(credit, 41 * NANO, "leaves")
    assert settling.return_deposit(credit, 40 * NANO, "leaves", preview=True)["owed"] == "47.600000000"
    made = settling.return_deposit(credit, 40 * NANO, "leaves")
    assert (made["owed"], made["left"], made["credit_note"]) == ("47.600000000", "0.000000000", "CN-000001")
    note = settling.note("CN-000001")
    assert (note["net"], note["total"], note["corrects"][0]["invoice"]) == (
        "40.000000000",
        "47.600000000",
        "INV-000001",
    )
    payer.sound()
    settling.refund(NewRefund(payer.owner, nano_from_decimal("47.60"), "r", "leaves", "payment", "m"))
    left = {"revenue.models": "-60", "taxes_payable": "-11.40", "cash": "71.40"}
    assert payer.accounts() == nothing_but(**left)
    with pytest.raises(InvalidInputError, match="at most 0 EUR"):
        settling.return_deposit(credit, NANO, "more")
    payer.sound()


def test_parts_of_a_taxed_prepayment_return_all_of_its_tax(account: Open) -> None:
    payer = account(19)
    credit = prepaid_and_taxed(payer, 1)
    owed = [
        payer.ledger.settling.return_deposit(credit, nano_from_decimal(part), "leaves")["owed"]
        for part in ("0.33", "0.33", "0.34")
    ]
    assert owed == ["0.390000000", "0.400000000", "0.400000000"]
    assert payer.accounts() == nothing_but(cash="1.19", customer_balance="-1.19")
    payer.sound()


def test_the_rows_of_a_taxed_prepayment_bill_it_once_and_cost_what_is_used(account: Open) -> None:
    payer = account(19)
    credit = prepaid_and_taxed(payer, 100)
    payer.on(11)
    payer.use(10, "60")
    payer.close()
    payer.ledger.settling.return_deposit(credit, 40 * NANO, "leaves")
    charges = Charges(payer.ledger.store, payer.ledger.books, "", ChargedMonths.of("", ""))
    rows = list(focus_rows(charges, "1.2"))
    assert sum(row["BilledCost"] for row in rows if row["ChargeCategory"] != "Tax") == 60
    assert sum(row["EffectiveCost"] for row in rows if row["ChargeCategory"] != "Tax") == 60
    assert sum(row["BilledCost"] for row in rows if row["ChargeCategory"] == "Tax") == Decimal("11.40")
    bought = [(row["BilledCost"], row["EffectiveCost"]) for row in rows if row["ChargeCategory"] == "Purchase"]
    assert sorted(bought) == [(-40, 0), (100, 0)]


def test_usage_below_a_cent_waits_with_the_deposit_that_pays_for_it(account: Open) -> None:
    payer = account()
    prepay(payer.ledger, payer.owner, 2_000_000, "tiny")
    payer.publish(PRICE | {"id": "fine", "meter": "images", "amount": "0.001"})
    payer.on(11)
    payer.use(10, "0.03", meter="images")
    payer.on(3, month=2)
    assert payer.ledger.close(payer.owner, "2026-01").invoice is None
    assert payer.accounts() == nothing_but(
        **{"cash": "0.002", "deferred_revenue": "-0.002", "unbilled": "0.003", "revenue.models": "-0.003"}
    )
    payer.use(2, "1", month=2)
    payer.on(3, month=3)
    made = payer.ledger.close(payer.owner, "2026-02").invoice
    assert made is not None and (made["total"], made["due"]) == ("1.000000000", "1.000000000")
    payer.sound()


def test_what_rounds_to_nothing_beside_a_deposit_is_not_lost(account: Open) -> None:
    """0.014 are used and 0.006 were paid: nothing is due that can be paid, and what is rounded off counts in the next invoice."""
    payer = account()
    prepay(payer.ledger, payer.owner, 6_000_000, "tiny")
    payer.publish(PRICE | {"id": "fine", "meter": "images", "amount": "0.001"})
    payer.on(11)
    payer.use(10, "0.14", meter="images")
    payer.on(3, month=2)
    first = payer.ledger.close(payer.owner, "2026-01").invoice
    assert first is not None and (first["total"], first["due"]) == ("0.010000000", "0.000000000")
    assert payer.balance("unbilled") == Fraction("0.004")
    payer.use(2, "1.06", month=2, meter="images")
    payer.on(3, month=3)
    second = payer.ledger.close(payer.owner, "2026-02").invoice
    assert second is not None and second["brought_forward"] == "0.004000000" and second["total"] == "0.110000000"
    payer.sound()


def test_r2_a_monthly_minimum_is_revenue_of_its_month(account: Open) -> None:
    payer = account()
    entry = {"id": "least", "organization": payer.owner, "currency": "EUR", "minimum": "1000", "from": PRICE["from"]}
    payer.ledger.publish_prices(book_from_dict({"prices": [PRICE], "commitments": [entry]}, "test"))
    payer.on(11)
    payer.use(10, "900")
    assert payer.close()["total"] == "1000.000000000"
    assert sum(payer.balance(name) for name in ("revenue.models", "revenue.commitments")) == -1000
