"""Payments of a customer as a whole: the oldest invoices first, in part or with something over, once for each source."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from tests.ledger.payer import Account

from sublet.accounts.service import Accounts
from sublet.ledger.payments.received import Received
from sublet.store.paging import PageRequest
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.money import NANO

Open = Callable[..., Account]


def pays(payer: Account, amount: str, source: str = "bank-1", *named: str, preview: bool = False) -> dict[str, Any]:
    received = Received(payer.owner, int(Decimal(amount) * NANO), source, named)
    return payer.ledger.settling.receive(received, preview=preview)


def owing(payer: Account) -> list[str]:
    """Three invoices of 119.00, the numbers in order."""
    numbers = []
    for day in (5, 10, 15):
        payer.on(day)
        numbers.append(str(payer.bill_more("100", f"{day}")["number"]))
    payer.on(16)
    return numbers


def test_the_oldest_invoices_are_paid_first_and_the_last_in_part(account: Open) -> None:
    payer = account(19)
    first, second, third = owing(payer)
    made = pays(payer, "200")
    assert [(part["invoice"], Decimal(part["amount"])) for part in made["invoices"]] == [(first, 119), (second, 81)]
    assert Decimal(made["prepaid"]) == 0
    assert payer.balance("receivable") == 157 and payer.balance("cash") == 200
    assert payer.ledger.invoice_by(second)["open"] == "38.000000000"
    pays(payer, "38", "bank-2", second)
    states = [payer.ledger.invoice_by(number)["status"] for number in (first, second, third)]
    assert states == ["paid", "paid", "final"]
    payer.sound()


def test_what_is_paid_too_much_is_prepaid_and_pays_for_later_usage(account: Open) -> None:
    payer = account(19)
    owing(payer)
    seen = pays(payer, "400", preview=True)
    assert payer.balance("cash") == 0
    made = pays(payer, "400")
    assert made["prepaid"] == seen["prepaid"] == "43.000000000"
    assert payer.balance("receivable") == 0 and payer.balance("deferred_revenue") == -43
    payer.on(20)
    assert Decimal(payer.bill_more("100", "20")["due"]) == 119 - 43
    payer.sound()


def test_a_payment_counts_once_and_only_for_its_customer(account: Open) -> None:
    payer = account(19)
    first, second, _ = owing(payer)
    made = pays(payer, "150", "bank-1", second)
    assert [part["invoice"] for part in made["invoices"]] == [second] and Decimal(made["prepaid"]) == 31
    assert pays(payer, "150") == made and payer.balance("cash") == 150
    with pytest.raises(ConflictError, match="another amount"):
        pays(payer, "151")
    with pytest.raises(ConflictError, match="is paid"):
        pays(payer, "1", "bank-2", second)
    with pytest.raises(InvalidInputError, match="above 0"):
        pays(payer, "0", "bank-3")
    with pytest.raises(InvalidInputError, match="finer than the currency"):
        pays(payer, "0.001", "bank-4")
    other = Accounts(payer.ledger.store).create_organization("other", currency="EUR").id
    with pytest.raises(NotFoundError):
        payer.ledger.settling.receive(Received(other, NANO, "bank-5", (first,)))
    assert payer.balance("cash") == 150
    [listed] = payer.ledger.lists.payments(payer.owner, PageRequest()).items
    assert listed == made and payer.ledger.lists.payments(other, PageRequest()).items == []
    payer.sound()
