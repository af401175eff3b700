"""Worked cases C1 to C8: credit notes to the cent, from canceled usage and on request."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from sqlalchemy import update
from tests.ledger.payer import Account, nothing_but

from sublet.ledger.exports import export_rows
from sublet.ledger.invoices.page import invoice_page
from sublet.ledger.invoices.pdf import invoice_pdf
from sublet.ledger.invoices.price_reductions import Wanted, shares_of
from sublet.ledger.invoices.taxes import FlatTax
from sublet.ledger.rating import figures
from sublet.store.tables.ledger import invoices, note_allocations
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.money import NANO

Open = Callable[..., Account]
CENT = NANO // 100


def invoiced(payer: Account, *amounts: str) -> dict[str, Any]:
    """January's invoice of these amounts, each used on a day of its own as `u1`, `u2` and so on."""
    payer.on(20)
    for number, amount in enumerate(amounts, 1):
        payer.use(number, amount, f"u{number}")
    return payer.close()


def test_c1_all_of_a_paid_invoice_is_canceled(account: Open) -> None:
    payer = account(19)
    made = invoiced(payer, "279.16")
    assert (made["net"], made["total"]) == ("279.160000000", "332.200000000")
    payer.pay(made, "332.20")
    payer.cancel("u1")
    run = payer.ledger.bill(payer.owner)
    assert run.invoice is None and run.note is not None
    note = run.note
    assert (note["number"], note["net"], note["total"]) == ("CN-000001", "279.160000000", "332.200000000")
    assert note["taxes"] == [{"name": "VAT", "percent": "19", "amount": "53.040000000"}]
    assert (note["receivable"], note["balance"]) == ("0.000000000", "332.200000000")
    [corrected] = note["corrects"]
    assert (corrected["invoice"], corrected["tax"]) == ("INV-000001", "53.040000000")
    assert payer.accounts() == nothing_but(cash="332.20", customer_balance="-332.20")
    assert payer.ledger.bill(payer.owner).as_dict() == {"invoice": None, "credit_note": None}
    payer.sound()


def test_c2_all_of_an_unpaid_invoice_is_canceled(account: Open) -> None:
    payer = account(19)
    made = invoiced(payer, "100")
    payer.cancel("u1")
    note = payer.note()
    assert (note["total"], note["receivable"], note["balance"]) == ("119.000000000", "119.000000000", "0.000000000")
    assert payer.accounts() == {}
    standing = payer.ledger.invoice_by(made["number"])
    assert (standing["status"], standing["credited"], standing["open"]) == (
        "credited",
        "119.000000000",
        "0.000000000",
    )
    with pytest.raises(ConflictError, match="is credited"):
        payer.pay(made, "1")
    payer.sound()


@pytest.mark.parametrize("canceled", [True, False])
def test_c3_a_note_lowers_what_is_open_first(account: Open, canceled: bool) -> None:
    payer = account(19)
    made = invoiced(payer, "100")
    payer.pay(made, "50")
    if canceled:
        payer.cancel("u1")
        note = payer.note()
    else:
        note = payer.ledger.settling.credit(made["number"], Wanted(), "not delivered")
    assert (note["receivable"], note["balance"]) == ("69.000000000", "50.000000000")
    assert payer.accounts() == nothing_but(cash="50", customer_balance="-50")
    assert payer.ledger.invoice_by(made["number"])["open"] == "0.000000000"
    payer.sound()


def test_c4_notes_by_line_lose_no_cent(account: Open) -> None:
    payer = account(19, third=True)
    payer.on(20)
    for meter in ("requests", "images", "tokens.input"):
        payer.use(10, "100", meter, meter=meter)
    made = payer.close()
    assert [line["amount"] for line in made["lines"]] == ["33.333333333"] * 3
    assert (made["net"], made["total"]) == ("100.000000000", "119.000000000")
    found = []
    for line in made["lines"]:
        note = payer.ledger.settling.credit(made["number"], Wanted({line["id"]: None}), "outage")
        found.append((Decimal(note["net"]), Decimal(note["taxes"][0]["amount"])))
    assert found == [
        (Decimal(net), Decimal(tax)) for net, tax in (("33.33", "6.33"), ("33.34", "6.34"), ("33.33", "6.33"))
    ]
    assert payer.accounts() == {}
    with pytest.raises(ConflictError, match="nothing is left to credit on invoice INV-000001"):
        payer.ledger.settling.credit(made["number"], Wanted(), "again")
    payer.sound()


def test_c5_no_more_than_what_is_left_of_a_line(account: Open) -> None:
    payer = account()
    made = invoiced(payer, "33.34")
    with pytest.raises(InvalidInputError, match=r"line 1 of INV-000001 has 33\.34 EUR left"):
        payer.ledger.settling.credit(made["number"], Wanted({"1": 40 * NANO}), "too much")
    payer.ledger.settling.credit(made["number"], Wanted({"1": 13 * NANO}), "some")
    with pytest.raises(InvalidInputError, match=r"20\.34 EUR left"):
        payer.ledger.settling.credit(made["number"], Wanted({"1": 21 * NANO}), "too much")
    with pytest.raises(NotFoundError, match="no line '2'"):
        payer.ledger.settling.credit(made["number"], Wanted({"2": None}), "none")
    payer.sound()


def test_c6_an_amount_is_split_over_tax_categories(account: Open) -> None:
    categories = [(100 * NANO, 119 * NANO), (50 * NANO, 53 * NANO + NANO // 2)]
    assert shares_of(1725 * CENT, categories, "EUR") == [(1000 * CENT, 190 * CENT), (500 * CENT, 35 * CENT)]
    payer = account(19)
    made = invoiced(payer, "100", "50")
    note = payer.ledger.settling.credit(made["number"], Wanted(gross_nano=1725 * CENT), "goodwill")
    assert (note["total"], note["net"], note["receivable"]) == ("17.250000000", "14.500000000", "17.250000000")
    with pytest.raises(InvalidInputError, match=r"has 161\.25 EUR left"):
        payer.ledger.settling.credit(made["number"], Wanted(gross_nano=16126 * CENT), "too much")
    rest = payer.ledger.settling.credit(made["number"], Wanted(), "the rest")
    assert (rest["total"], rest["net"]) == ("161.250000000", "135.500000000")
    assert payer.accounts() == {}
    payer.sound()


@pytest.mark.parametrize("canceled", [True, False])
def test_c7_a_note_has_the_taxes_of_its_invoice(account: Open, canceled: bool) -> None:
    payer = account(16)
    made = invoiced(payer, "100")
    payer.taxed(FlatTax("VAT", Fraction(19)))
    if canceled:
        payer.cancel("u1")
        note = payer.note()
    else:
        note = payer.ledger.settling.credit(made["number"], Wanted(), "not delivered")
    assert note["taxes"] == [{"name": "VAT", "percent": "16", "amount": "16.000000000"}]
    assert payer.accounts() == {}
    payer.sound()


@pytest.mark.parametrize("canceled", [True, False])
def test_c8_a_credit_goes_back_to_its_grant_with_its_old_end(account: Open, canceled: bool) -> None:
    payer = account(19)
    payer.on(1)
    payer.give("p", 50, 31, paid=False)
    made = invoiced(payer, "80")
    assert (made["net"], made["due"]) == ("30.000000000", "35.700000000")
    if canceled:
        payer.cancel("u1")
        note = payer.note()
    else:
        note = payer.ledger.settling.credit(made["number"], Wanted(), "not delivered")
    assert (note["subtotal"], note["total"], note["receivable"]) == ("80.000000000", "35.700000000", "35.700000000")
    assert [(used["kind"], used["amount"]) for used in note["credits"]] == [("promotional", "-50.000000000")]
    assert payer.left() == {"p": 50}
    assert payer.accounts() == nothing_but(promotions="50", credits="-50")
    payer.sound()
    assert payer.ledger.expire() == 1
    assert payer.accounts() == nothing_but(promotions="50", breakage="-50")
    payer.sound()


def test_a_preview_writes_nothing_and_its_digest_guards_the_note(account: Open) -> None:
    payer = account(19)
    made = invoiced(payer, "100")
    before = payer.ledger.balances(payer.owner)
    shown = payer.ledger.settling.credit(made["number"], Wanted(gross_nano=1190 * CENT), "late", preview=True)
    assert (shown["number"], shown["status"], shown["total"]) == ("", "draft", "11.900000000")
    assert payer.ledger.balances(payer.owner) == before and payer.ledger.settling.notes(payer.owner) == []
    with pytest.raises(ConflictError, match="changed since it was reviewed"):
        payer.ledger.settling.credit(made["number"], Wanted(), "late", digest=shown["digest"])
    note = payer.ledger.settling.credit(made["number"], Wanted(gross_nano=1190 * CENT), "late", digest=shown["digest"])
    assert (note["number"], note["reason"], note["digest"]) == ("CN-000001", "late", shown["digest"])
    assert payer.ledger.settling.note("CN-000001") == note and payer.ledger.settling.notes(payer.owner) == [note]


def test_usage_that_is_canceled_after_a_note_is_not_credited_twice(account: Open) -> None:
    payer = account(19)
    made = invoiced(payer, "60", "40")
    payer.ledger.settling.credit(made["number"], Wanted(gross_nano=7140 * CENT), "60 net off")
    payer.cancel("u1")
    # 40 were used and 60 taken off: nothing is owed, and what the note took off beyond that is given back.
    note = payer.note()
    assert (note["net"], note["total"]) == ("40.000000000", "47.600000000")
    assert payer.accounts() == {}
    payer.sound()


def test_one_run_makes_an_invoice_of_what_is_due_and_a_note_of_what_is_not(account: Open) -> None:
    payer = account(19)
    made = invoiced(payer, "100")
    payer.on(10, month=2)
    payer.use(9, "30", "february", month=2)
    payer.cancel("u1")
    draft = payer.ledger.draft(payer.owner, "2026-02")
    assert (draft["total"], draft["credit_note"]["total"]) == ("35.700000000", "119.000000000")
    run = payer.ledger.bill(payer.owner, "2026-02", draft["digest"])
    assert run.invoice is not None and run.note is not None
    assert (run.invoice["total"], run.invoice["due"]) == ("35.700000000", "35.700000000")
    assert [found["invoice"] for found in run.note["corrects"]] == [made["number"]]
    assert [line["used"] for line in run.note["lines"]] == ["2026-01"]
    assert payer.accounts() == nothing_but(**{"receivable": "35.70", "revenue.models": "-30", "taxes_payable": "-5.70"})
    payer.sound()


def test_a_note_returns_what_a_deposit_paid(account: Open) -> None:
    payer = account(19)
    payer.on(1)
    payer.give("m", 100, None, paid=True)
    made = invoiced(payer, "90")
    assert made["due"] == "7.100000000"
    payer.pay(made, "7.10")
    note = payer.ledger.settling.credit(made["number"], Wanted(), "not delivered")
    assert (note["total"], note["balance"], note["receivable"]) == ("107.100000000", "7.100000000", "0.000000000")
    assert payer.left() == {"m": 100}
    assert payer.accounts() == nothing_but(cash="107.10", deferred_revenue="-100", customer_balance="-7.10")
    payer.sound()


def test_a_deposit_that_is_free_again_pays_what_was_invoiced_later(account: Open) -> None:
    payer = account(19)
    payer.on(1)
    payer.give("m", 119, None, paid=True)
    invoiced(payer, "100")
    payer.on(10, month=2)
    payer.use(9, "50", "february", month=2)
    payer.on(3, month=3)
    february = payer.ledger.close(payer.owner, "2026-02").invoice
    assert february is not None and february["due"] == "59.500000000"
    payer.cancel("u1")
    note = payer.note("2026-03")
    # Of 119 back, 59.50 pay February, which was open, and the rest is in the wallet.
    assert (note["total"], note["receivable"], note["balance"]) == ("119.000000000", "59.500000000", "0.000000000")
    assert payer.left() == {"m": Fraction("59.5")}
    payer.sound()


def test_what_is_paid_or_in_a_closed_month_is_credited_and_not_voided(account: Open) -> None:
    payer = account(19)
    made = invoiced(payer, "100")
    payer.ledger.settling.credit(made["number"], Wanted(gross_nano=119 * CENT), "late")
    with pytest.raises(ConflictError, match=r"has payments, credit notes.*sublet ledger note INV-000001"):
        payer.ledger.void(made["number"], "wrong")
    payer.on(10, month=2)
    payer.use(9, "30", "february", month=2)
    later = payer.ledger.bill(payer.owner, "2026-02").invoice
    assert later is not None
    payer.on(3, month=3)
    payer.ledger.close(payer.owner, "2026-02")
    with pytest.raises(ConflictError, match="issued in 2026-02, which is closed"):
        payer.ledger.void(later["number"], "wrong")


def test_series_of_notes_and_invoices_have_no_gaps(account: Open) -> None:
    payer = account()
    made = invoiced(payer, "10")
    for number in range(1, 4):
        note = payer.ledger.settling.credit(made["number"], Wanted(gross_nano=NANO), "some")
        assert note["number"] == f"CN-{number:06d}"
        with pytest.raises(InvalidInputError):
            payer.ledger.settling.credit(made["number"], Wanted(gross_nano=99 * NANO), "too much")
    payer.on(10, month=2)
    payer.use(9, "1", "february", month=2)
    later = payer.ledger.bill(payer.owner, "2026-02").invoice
    assert later is not None and later["number"] == "INV-000002"
    payer.sound()


def test_less_of_a_fee_in_a_closed_month_is_a_note(account: Open) -> None:
    payer = account(19)
    fee = {"id": "fee", "kind": "flat", "organization": payer.owner, "amount": "62"}
    payer.publish(fee)
    payer.on(3, month=2)
    january = payer.ledger.close(payer.owner, "2026-01").invoice
    assert january is not None and january["net"] == "62.000000000"
    payer.publish(fee | {"until": "2026-01-16T12:00:00Z", "backdated": "catch_up"})
    run = payer.ledger.bill(payer.owner, "2026-02")
    assert run.invoice is None and run.note is not None
    assert (run.note["net"], run.note["receivable"]) == ("31.000000000", "36.890000000")
    assert [(line["used"], line["booked"], line["amount"]) for line in run.note["lines"]] == [
        ("2026-01", "2026-02", "31.000000000")
    ]
    assert payer.accounts() == nothing_but(**{"receivable": "36.89", "revenue.fees": "-31", "taxes_payable": "-5.89"})
    payer.sound()


def test_a_month_starts_where_the_customer_is(account: Open) -> None:
    """What is canceled of the last hour of a month in Tokyo lowers that month's invoice."""
    payer = account(timezone="Asia/Tokyo")
    payer.clock.set(datetime(2026, 1, 31, 14, 30, tzinfo=UTC))
    payer.use(31, "5", "u", hour=14)
    payer.clock.set(datetime(2026, 2, 3, tzinfo=UTC))
    january = payer.ledger.close(payer.owner, "2026-01").invoice
    assert january is not None
    payer.cancel("u")
    note = payer.note("2026-02")
    assert [(line["used"], line["booked"]) for line in note["lines"]] == [("2026-01", "2026-02")]
    payer.sound()


def test_page_and_pdf_of_a_note_name_its_invoice(account: Open) -> None:
    payer = account(19)
    made = invoiced(payer, "100")
    note = payer.ledger.settling.credit(made["number"], Wanted(gross_nano=1190 * CENT), "arrived <late>")
    page = invoice_page(note)
    for text in ("Credit note CN-000001", "Corrects INV-000001 of 2026-02-03 by 11.90 EUR", "arrived &lt;late&gt;"):
        assert text in page
    assert "To pay" not in page and "Deducted from what is open" in page
    assert invoice_pdf(note).startswith(b"%PDF")


def focus(payer: Account) -> list[dict[str, str]]:
    data = b"".join(export_rows(payer.ledger.store, payer.ledger.books, "focus-1.2", payer.owner))
    return list(csv.DictReader(data.decode().splitlines()))


@pytest.mark.parametrize("canceled", [True, False])
def test_focus_rows_of_a_note_are_corrections_that_sum_to_it(account: Open, canceled: bool) -> None:
    payer = account(19)
    payer.on(1)
    payer.give("p", 50, 31, paid=False)
    made = invoiced(payer, "80")
    before = focus(payer)
    if canceled:
        payer.cancel("u1")
        note = payer.note()
    else:
        note = payer.ledger.settling.credit(made["number"], Wanted(), "not delivered")
    rows = [row for row in focus(payer) if row["InvoiceId"] == note["number"]]
    assert {row["ChargeClass"] for row in rows} == {"Correction"}
    assert {row["ChargeCategory"] for row in rows} == {"Usage", "Credit", "Tax"}
    assert sum(Decimal(row["BilledCost"]) for row in rows) == -Decimal(note["total"])
    kept = [row for row in focus(payer) if row["InvoiceId"] == made["number"]]
    assert kept == [row for row in before if row["InvoiceId"] == made["number"]]


@pytest.mark.parametrize("canceled", [True, False])
def test_earnings_by_product_and_notes_are_what_the_journal_says(account: Open, canceled: bool) -> None:
    payer = account(19)
    made = invoiced(payer, "80")
    payer.ledger.settling.credit(made["number"], Wanted(gross_nano=1190 * CENT), "late")
    if canceled:
        payer.cancel("u1")
        payer.ledger.bill(payer.owner)
    with payer.ledger.store.read() as connection:
        booked = figures.booked(connection, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    found = {entry.account: Fraction(entry.nano, NANO) for entry in booked if entry.nano}
    assert found == ({} if canceled else {"revenue.models": 80, "revenue.credit_notes": -10})


def test_the_proof_names_a_note_that_was_changed(account: Open) -> None:
    payer = account(19)
    made = invoiced(payer, "100")
    note = payer.ledger.settling.credit(made["number"], Wanted(gross_nano=1190 * CENT), "late")
    change = update(note_allocations).values(net_nano=9 * NANO)
    payer.ledger.store.write(lambda connection: connection.execute(change) and None)
    assert "CN-000001: what it takes off INV-000001 derives otherwise" in payer.ledger.prove().findings
    back = update(note_allocations).values(net_nano=10 * NANO)
    payer.ledger.store.write(lambda connection: connection.execute(back) and None)
    more = update(invoices).where(invoices.c.id == note["id"]).values(document=note | {"balance": "5.000000000"})
    payer.ledger.store.write(lambda connection: connection.execute(more) and None)
    found = payer.ledger.prove(payer.owner).findings
    assert any("posts otherwise on customer_balance" in finding for finding in found)
    assert any(finding.startswith(f"customer_balance of {payer.owner}") for finding in found)
