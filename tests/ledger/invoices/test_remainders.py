"""What rounding an invoice leaves counts in the next one, so that invoices add up to what was used."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import pytest
from tests.ledger.payer import Account


@pytest.mark.parametrize(("price", "year"), [("1.004", "12.05"), ("0.004", "0.05"), ("2.999", "35.99")])
def test_what_is_rounded_counts_in_the_next_invoice(account: Callable[..., Account], price: str, year: str) -> None:
    payer = account()
    payer.publish({"id": "b", "meter": "images", "kind": "per_unit", "amount": price})
    documents = []
    for month in range(1, 13):
        payer.on(11, month=month)
        payer.use(10, "0.01", f"{month}", month=month, meter="images")
        payer.on(20, month=month)
        documents.append(payer.ledger.invoice(payer.owner, f"2026-{month:02d}"))
    made = [document for document in documents if document is not None]
    assert sum(Decimal(document["net"]) for document in made) == Decimal(year)
    assert payer.balance("unbilled") == 12 * Fraction(price) - Fraction(year)
    assert payer.balance("rounding") == 0
    assert all(abs(Decimal(document["brought_forward"])) <= Decimal("0.005") for document in made)
    payer.sound()


def test_a_void_invoice_gives_back_what_it_counted_and_a_note_of_all_leaves_nothing(
    account: Callable[..., Account],
) -> None:
    payer = account(19)
    payer.publish({"id": "b", "meter": "images", "kind": "per_unit", "amount": "1.004"})
    payer.on(11)
    payer.use(10, "0.01", "one", meter="images")
    first = payer.ledger.invoice(payer.owner)
    payer.use(10, "0.01", "two", meter="images")
    second = payer.ledger.invoice(payer.owner)
    assert first is not None and second is not None
    assert (first["net"], second["brought_forward"], second["net"]) == ("1.000000000", "0.004000000", "1.010000000")
    payer.ledger.void(second["number"], "test")
    again = payer.ledger.invoice(payer.owner)
    assert again is not None and (again["brought_forward"], again["net"]) == ("0.004000000", "1.010000000")
    payer.cancel("one", meter="images")
    payer.cancel("two", meter="images")
    assert Decimal(payer.note()["net"]) == Decimal("2.01")
    assert payer.accounts() == {}
    payer.sound()


def test_what_a_deposit_pays_whole_is_not_counted_again(account: Callable[..., Account]) -> None:
    payer = account(19)
    payer.publish({"id": "b", "meter": "images", "kind": "per_unit", "amount": "1.004"})
    payer.give("deposit", 10, None, paid=True)
    payer.on(11)
    for name in ("one", "two", "three"):
        payer.use(10, "0.01", name, meter="images")
        document = payer.ledger.invoice(payer.owner)
        assert document is not None and Decimal(document["due"]) == 0
        assert Decimal(document["brought_forward"]) == 0
    assert payer.balance("unbilled") == 0
    payer.sound()
