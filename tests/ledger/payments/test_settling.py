"""Worked cases C1 and C9 to C11: refunds, write-offs and recoveries, netting, and aging."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.ledger.payer import Account, nothing_but

from sublet.ledger.invoices.price_reductions import Wanted
from sublet.ledger.invoices.taxes import FlatTax, Profile
from sublet.ledger.payments.refunds import NewRefund
from sublet.ledger.service import Ledger
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.money import NANO, nano_from_decimal

Open = Callable[..., Account]


def invoiced(payer: Account, amount: str) -> dict[str, Any]:
    payer.on(20)
    payer.use(19, amount, "u1")
    return payer.close()


def refund(payer: Account, amount: str, source: str = "r1", **how: Any) -> dict[str, Any]:
    given = {"target": "payment", "payment": "bank-1"} | how
    preview = given.pop("preview", False)
    wanted = NewRefund(payer.owner, nano_from_decimal(amount), source, "canceled", **given)
    return payer.ledger.settling.refund(wanted, preview=preview)


def test_c1_what_was_paid_for_nothing_is_refunded(account: Open) -> None:
    payer = account(19)
    made = invoiced(payer, "279.16")
    payer.pay(made, "332.20")
    payer.cancel("u1")
    assert payer.note()["balance"] == "332.200000000"
    shown = refund(payer, "332.20", preview=True)
    assert shown["amount"] == "332.200000000" and payer.balance("cash") == nothing_but(a="332.20")["a"]
    with pytest.raises(InvalidInputError, match=r"at most 332\.2 EUR, the amount owed"):
        refund(payer, "332.21")
    with pytest.raises(NotFoundError, match=r"no payment 'bank-9'; it has 'bank-1'"):
        refund(payer, "1", payment="bank-9")
    with pytest.raises(InvalidInputError, match="finer than the currency"):
        refund(payer, "0.001")
    with pytest.raises(NotFoundError, match="no organization 'org_gone'"):
        payer.ledger.settling.refund(NewRefund("org_gone", NANO, "r1", "canceled", "payment", "bank-1"))
    first = refund(payer, "332.20")
    assert refund(payer, "332.20") == first
    with pytest.raises(ConflictError, match="another amount or target"):
        refund(payer, "1")
    assert payer.accounts() == {}
    payer.sound()


def test_c1_what_is_owed_goes_to_the_wallet(account: Open) -> None:
    payer = account(19)
    made = invoiced(payer, "279.16")
    payer.pay(made, "332.20")
    payer.cancel("u1")
    payer.note()
    refund(payer, "332.20", target="wallet", payment="")
    assert payer.accounts() == nothing_but(cash="332.20", deferred_revenue="-332.20")
    [credit] = payer.ledger.credits(payer.owner)
    assert (credit.kind, credit.expires_at, credit.is_deposit) == ("returned", None, True)
    payer.on(10, month=2)
    payer.use(9, "100", "february", month=2)
    later = payer.ledger.bill(payer.owner, "2026-02").invoice
    assert later is not None and (later["total"], later["due"]) == ("119.000000000", "0.000000000")
    # What is left of it is refundable.
    payer.ledger.settling.return_deposit(credit.id, nano_from_decimal("213.20"), "leaves")
    refund(payer, "213.20", source="r2")
    assert payer.accounts() == nothing_but(**{"cash": "119", "revenue.models": "-100", "taxes_payable": "-19"})
    assert payer.left() == {"refund r1": 0}
    payer.sound()


def test_a_payment_is_refunded_once(account: Open) -> None:
    payer = account()
    made = invoiced(payer, "100")
    payer.pay(made, "60")
    payer.pay(made, "40", "bank-2")
    payer.ledger.settling.credit(made["number"], Wanted(), "not delivered")
    refund(payer, "50")
    with pytest.raises(InvalidInputError, match=r"10 EUR of payment 'bank-1' are left"):
        refund(payer, "20", source="r2")
    refund(payer, "10", source="r2")
    refund(payer, "40", source="r3", payment="bank-2")
    assert payer.accounts() == {}
    payer.sound()


def test_what_is_left_of_a_deposit_is_owed_back_and_no_longer_burns(account: Open) -> None:
    payer = account()
    payer.on(1)
    credit = payer.give("m", 100, 25, paid=True)
    payer.on(11)
    payer.use(10, "30")
    with pytest.raises(InvalidInputError, match="at most 70 EUR"):
        payer.ledger.settling.return_deposit(credit, 71 * NANO, "leaves")
    payer.ledger.settling.return_deposit(credit, 70 * NANO, "leaves")
    refund(payer, "70", payment="m")
    payer.use(10, "5", "later")
    assert payer.close()["due"] == "5.000000000"
    assert payer.ledger.expire() == 0 and payer.balance("breakage") == 0
    payer.sound()


def test_c9_a_write_off_and_what_comes_in_after_all(account: Open) -> None:
    payer = account(19)
    made = invoiced(payer, "100")
    shown = payer.ledger.settling.write_off(made["number"], "insolvent", preview=True)
    assert (shown["bad_debt"], shown["tax"]) == ("100.000000000", "19.000000000")
    assert payer.balance("bad_debt") == 0
    payer.ledger.settling.write_off(made["number"], "insolvent")
    assert payer.accounts() == nothing_but(**{"revenue.models": "-100", "bad_debt": "100"})
    assert payer.ledger.invoice_by(made["number"])["status"] == "written_off"
    with pytest.raises(ConflictError, match="no open amount"):
        payer.ledger.settling.write_off(made["number"], "again")
    payer.pay(made, "50")
    assert payer.balance("bad_debt") == nothing_but(a="57.98")["a"]
    assert payer.balance("taxes_payable") == nothing_but(a="-7.98")["a"]
    assert payer.balance("receivable") == 0 and payer.balance("cash") == 50
    payer.sound()
    payer.pay(made, "69", "bank-2")
    assert payer.accounts() == nothing_but(**{"cash": "119", "revenue.models": "-100", "taxes_payable": "-19"})
    assert payer.ledger.invoice_by(made["number"])["status"] == "paid"
    payer.sound()


def test_c9_without_relief_the_tax_stays_payable(account: Open) -> None:
    payer = account(19)
    made = invoiced(payer, "100")
    payer.ledger = Ledger(payer.ledger.store, taxes=FlatTax("VAT", 19), bad_debt_tax_relief=False)  # type: ignore[arg-type]
    payer.ledger.settling.write_off(made["number"], "insolvent")
    assert payer.accounts() == nothing_but(**{"revenue.models": "-100", "taxes_payable": "-19", "bad_debt": "119"})
    payer.sound()


def test_a_write_off_is_taken_back_or_credited(account: Open) -> None:
    payer = account(19)
    made = invoiced(payer, "100")
    payer.ledger.settling.write_off(made["number"], "insolvent")
    found = payer.ledger.settling.reinstate(made["number"], "solvent again")
    assert (found["status"], found["open"]) == ("final", "119.000000000")
    with pytest.raises(ConflictError, match="no part of invoice"):
        payer.ledger.settling.reinstate(made["number"], "solvent again")
    payer.pay(made, "19")
    payer.ledger.settling.write_off(made["number"], "insolvent")
    payer.sound()
    # The claim is gone, so the loss is: nothing is owed back but what was paid.
    note = payer.ledger.settling.credit(made["number"], Wanted(), "never delivered")
    assert (note["receivable"], note["balance"]) == ("100.000000000", "19.000000000")
    assert payer.accounts() == nothing_but(cash="19", customer_balance="-19")
    payer.sound()


def owed_back(payer: Account, amount: str) -> dict[str, Any]:
    """An invoice of February of 119, beside what is owed back of January."""
    made = invoiced(payer, amount)
    payer.pay(made, made["due"])
    payer.cancel("u1")
    payer.note()
    payer.on(10, month=2)
    payer.use(9, "100", "february", month=2)
    later = payer.ledger.bill(payer.owner, "2026-02").invoice
    assert later is not None
    return later


def test_c10_netting_is_explicit_and_undone_by_name(account: Open) -> None:
    payer = account()
    invoice = owed_back(payer, "50")
    settling = payer.ledger.settling
    assert payer.balance("receivable") == 100 and payer.balance("customer_balance") == -50
    with pytest.raises(InvalidInputError, match="at most 50 EUR"):
        settling.net(invoice["number"], "n1", "agreed", 51 * NANO)
    assert settling.net(invoice["number"], "n1", "agreed", preview=True)["amount"] == "50.000000000"
    made = settling.net(invoice["number"], "n1", "agreed")
    assert settling.net(invoice["number"], "n1", "agreed") == made
    assert payer.ledger.invoice_by(invoice["number"])["open"] == "50.000000000"
    assert payer.accounts() == nothing_but(**{"receivable": "50", "cash": "50", "revenue.models": "-100"})
    payer.sound()
    undone = settling.undo_netting(invoice["number"], "n1", "not agreed")
    assert undone["undone_at"] is not None and payer.balance("receivable") == 100
    [_, *moves] = payer.ledger.statement(payer.owner, "2026-02")["movements"][-3:]
    assert [move["kind"] for move in moves] == ["netting", "netting reversal"]
    with pytest.raises(ConflictError, match="already undone"):
        settling.undo_netting(invoice["number"], "n1", "again")
    with pytest.raises(ConflictError, match="use a new source_id"):
        settling.net(invoice["number"], "n1", "agreed")
    settling.net(invoice["number"], "n2", "agreed", 20 * NANO)
    with pytest.raises(ConflictError, match="has payments, credit notes"):
        payer.ledger.void(invoice["number"], "wrong")
    payer.sound()


def test_c10_one_legal_entity_owes_nothing_for_another(account: Open) -> None:
    from sublet.ledger.invoices.invoicing import Issuer

    payer = account()
    made = invoiced(payer, "50")
    payer.pay(made, "50")
    payer.cancel("u1")
    payer.note()
    payer.ledger = Ledger(payer.ledger.store, issuer=Issuer("Sister Ltd."))
    payer.on(10, month=2)
    payer.use(9, "100", "february", month=2)
    later = payer.ledger.bill(payer.owner, "2026-02").invoice
    assert later is not None
    with pytest.raises(ConflictError, match=r"Sublet operator issued CN-000001 and Sister Ltd\. issued INV-000002"):
        payer.ledger.settling.net(later["number"], "n1", "agreed")


def test_c11_aging_foots_to_what_is_receivable_less_what_is_owed_back(account: Open) -> None:
    payer = account()
    old = {"id": "old", "meter": "images", "kind": "per_unit", "amount": "0.01", "from": "2025-12-01T00:00:00Z"}
    payer.publish(old)
    due: dict[int, dict[str, Any]] = {}
    for amount, year, month, day in ((80, 2025, 12, 15), (200, 2026, 1, 31), (119, 2026, 3, 15)):
        payer.ledger.set_profile(payer.owner, Profile(payment_days=0))
        payer.clock.set(datetime(year, month, day, tzinfo=UTC))
        due[amount] = payer.bill_more(str(amount), f"a{amount}", meter="images")
    payer.ledger.set_profile(payer.owner, Profile(payment_days=10))
    moment = datetime(2026, 3, 31, tzinfo=UTC)
    payer.clock.set(moment)
    due[300] = payer.bill_more("300", "a300", meter="images")
    assert due[300]["due_at"] == "2026-04-10T00:00:00Z"
    # 50 more were paid on an invoice than it came to in the end.
    other = payer.bill_more("50", "b")
    payer.pay(other, "50", "bank-b")
    payer.cancel("b")
    payer.note("2026-03")
    [row] = payer.ledger.receivables().items
    assert (row["unapplied"], row["total"]) == ("-50.000000000", "649.000000000")
    assert payer.balance("receivable") + payer.balance("customer_balance") == 649
    payer.clock.set(datetime(2026, 5, 30, tzinfo=UTC))
    payer.pay(due[119], "119", "bank-late")
    payer.ledger.settling.net(due[200]["number"], "n", "agreed")
    payer.ledger.settling.write_off(due[300]["number"], "gone")
    [row] = payer.ledger.receivables().items
    assert (row["total"], row["unapplied"]) == ("230.000000000", "0.000000000")
    [before] = payer.ledger.receivables(as_of=moment).items
    names = ("current", "1-30", "31-60", "61-90", "over 90", "unapplied", "total")
    assert [float(before[name]) for name in names] == [300, 119, 200, 0, 80, -50, 649]
    payer.sound()
