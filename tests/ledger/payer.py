"""One customer whose usage costs a cent a request, in a ledger whose clock the test moves."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tests.ledger.prepaid import prepay

from sublet.accounts.service import Accounts
from sublet.ledger.invoices.taxes import Taxes
from sublet.ledger.model import UsageEvent
from sublet.ledger.prices.book import book_from_dict
from sublet.ledger.service import Ledger
from sublet.store import Store
from sublet.values.clock import SimulatedClock
from sublet.values.money import NANO, nano_from_decimal

FIRST = "2026-01-01T00:00:00Z"
PRICE = {"id": "a", "meter": "requests", "kind": "per_unit", "currency": "EUR", "amount": "0.01", "from": FIRST}


def nothing_but(**amounts: str) -> dict[str, Fraction]:
    """Balances of which only these are not zero, in major units."""
    return {name: Fraction(amount) for name, amount in amounts.items()}


class Account:
    """A customer, with short names for what tests do."""

    def __init__(
        self, store: Store, clock: SimulatedClock, taxes: Taxes | None, *, third: bool = False, timezone: str = "UTC"
    ) -> None:
        self.ledger = Ledger(store, taxes=taxes)
        self.clock = clock
        self.owner = Accounts(store).create_organization("payer", currency="EUR", timezone=timezone).id
        amount = {"amount": "33.333333333", "per": 10_000} if third else {}
        meters = ("requests", "images", "tokens.input") if third else ("requests",)
        self._prices = [
            PRICE | amount | {"id": "a" if meter == "requests" else meter, "meter": meter} for meter in meters
        ]
        self.ledger.publish_prices(book_from_dict({"prices": self._prices}, "test"))

    def publish(self, *entries: dict[str, Any]) -> None:
        """Add to the price book, or replace entries of the same id."""
        ids = {entry["id"] for entry in entries}
        kept = [entry for entry in self._prices if entry["id"] not in ids]
        self._prices = [*kept, *({"currency": "EUR", "from": FIRST} | entry for entry in entries)]
        self.ledger.publish_prices(book_from_dict({"prices": self._prices}, "test"))

    def taxed(self, taxes: Taxes) -> None:
        """Other taxes from now on."""
        self.ledger = Ledger(self.ledger.store, taxes=taxes)

    def on(self, day: int, month: int = 1, hour: int = 0) -> None:
        self.clock.set(datetime(2026, month, day, hour, tzinfo=UTC))

    def give(self, source: str, amount: int, until: int | None, *, paid: bool) -> str:
        """Credit from now on, until a day of January."""
        ends = None if until is None else datetime(2026, 1, until, tzinfo=UTC)
        if paid:
            return prepay(self.ledger, self.owner, amount * NANO, source, ends).id
        return self.ledger.store.write(
            lambda connection: self.ledger.credit(
                connection, self.owner, amount * NANO, "", source, kind="promotional", expires_at=ends
            )
        ).id

    def use(
        self, day: int, amount: str, name: str = "", *, month: int = 1, hour: int = 12, meter: str = "requests"
    ) -> None:
        self.use_at(datetime(2026, month, day, hour, tzinfo=UTC), amount, name or f"{day}", meter=meter)

    def use_at(self, at: datetime, amount: str, name: str, *, meter: str = "requests") -> None:
        event = UsageEvent("t", name, self.owner, meter, int(Decimal(amount) * 100), at)
        assert self.ledger.take_now([event]).accepted == 1
        self.ledger.rate()

    def cancel(self, name: str, *, meter: str = "requests") -> None:
        event = UsageEvent(
            "t", f"no-{name}", self.owner, meter, 0, self.clock.now(), kind="cancellation", corrects=("t", name)
        )
        assert self.ledger.take_now([event]).accepted == 1
        self.ledger.rate()

    def bill_more(self, amount: str, name: str, *, meter: str = "requests") -> dict[str, Any]:
        """Use something now and bill it."""
        now = self.clock.now()
        self.use_at(now, amount, name, meter=meter)
        made = self.ledger.bill(self.owner, now.strftime("%Y-%m")).invoice
        assert made is not None
        return made

    def pay(self, document: dict[str, Any], amount: str, source: str = "bank-1") -> None:
        self.ledger.pay(document["number"], nano_from_decimal(amount), source)

    def close(self, label: str = "2026-01") -> dict[str, Any]:
        """The invoice of January, closed on 3 February."""
        self.on(3, month=2)
        document = self.ledger.close(self.owner, label).invoice
        assert document is not None
        return document

    def note(self, label: str = "") -> dict[str, Any]:
        """The credit note that billing makes now, and no invoice."""
        made = self.ledger.bill(self.owner, label)
        assert made.invoice is None and made.note is not None
        return made.note

    def balance(self, account: str) -> Fraction:
        return Fraction(self.ledger.balances(self.owner).get(account, 0), NANO)

    def accounts(self) -> dict[str, Fraction]:
        """Every balance that is not zero, in major units."""
        found = self.ledger.balances(self.owner)
        return {name: Fraction(nano, NANO) for name, nano in found.items() if nano}

    def left(self) -> dict[str, Fraction]:
        return {credit.source_id: Fraction(credit.remaining_nano, NANO) for credit in self.ledger.credits(self.owner)}

    def sound(self) -> None:
        assert self.ledger.prove().findings == []
