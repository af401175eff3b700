"""Random lives of a customer with credit notes, payments, refunds, write-offs, netting, closes and voids in any order, against a
naive second implementation that shares no code with the ledger.

In some lives the process is killed at a random statement of a step, or after it before anybody hears of it. The caller repeats the
request as a client would, with the same sources, and nothing is lost or doubled.
"""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, event, select

from sublet.accounts.service import Accounts
from sublet.ledger.exports import export_rows
from sublet.ledger.invoices.price_reductions import Wanted
from sublet.ledger.invoices.taxes import FlatTax
from sublet.ledger.model import ACCOUNTS, UsageEvent
from sublet.ledger.payments.received import Received
from sublet.ledger.payments.refunds import NewRefund
from sublet.ledger.prices.book import book_from_dict
from sublet.ledger.service import Ledger
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.store.tables.ledger import invoices, transactions
from sublet.store.tables.ledger_sales import receipts
from sublet.values.clock import SimulatedClock
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError

START = datetime(2026, 1, 1, tzinfo=UTC)
CENT = 10**7
RATE = Fraction(19, 100)
TAXES = FlatTax("VAT", RATE * 100)
PRICE = {"meter": "requests", "kind": "per_unit", "currency": "EUR", "from": "2026-01-01T00:00:00Z"}
REFUSED = (ConflictError, InvalidInputError, NotFoundError)
STATEMENTS_MAX = 60
"""A process is killed at one of so many statements of a step, or, where there are less, when the step is done."""
_NAMES = count()
T = TypeVar("T")


class KilledError(Exception):
    """The process of a life ended here."""


def killed(store: Store, place: int, step: Callable[[], object]) -> None:
    """Carry `step` out up to statement `place` of its writes; nobody hears what it returns."""
    left = place
    write = store.write

    def hook(*_: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise KilledError

    def hooked(fn: Callable[[Connection], T]) -> T:
        def run(connection: Connection) -> T:
            event.listen(connection, "before_cursor_execute", hook)
            try:
                return fn(connection)
            finally:
                event.remove(connection, "before_cursor_execute", hook)

        return write(run)

    store.write = hooked  # type: ignore[method-assign, assignment]
    try:
        with suppress(KilledError):
            step()
    finally:
        store.write = write  # type: ignore[method-assign]


class Naive:
    """What a customer owes, event by event in exact fractions. Each month: what was used, less what notes took off by line (first) and
    what promotions and notes of amounts cover, and never less than nothing."""

    def __init__(self) -> None:
        self.used: dict[str, tuple[datetime, Fraction]] = {}
        self.promotions: list[tuple[datetime, datetime, Fraction]] = []
        self.by_line: dict[str, Fraction] = defaultdict(Fraction)
        self.by_amount: dict[str, Fraction] = defaultdict(Fraction)

    def net(self) -> Fraction:
        """The exact net of everything that was ever used and not canceled, after notes and promotions."""
        left = [amount for *_, amount in self.promotions]
        line, amounts = dict(self.by_line), dict(self.by_amount)
        due = Fraction(0)
        order = sorted(
            range(len(left)), key=lambda place: (self.promotions[place][1], self.promotions[place][0], place)
        )
        for at, amount in sorted(self.used.values(), key=lambda item: item[0]):
            month = at.strftime("%Y-%m")
            part = min(amount, line.get(month, Fraction(0)))
            line[month] = line.get(month, Fraction(0)) - part
            amount -= part
            for place in order:
                begins, ends, _ = self.promotions[place]
                if begins <= at < ends:
                    part = min(amount, left[place])
                    left[place] -= part
                    amount -= part
            part = min(amount, amounts.get(month, Fraction(0)))
            amounts[month] = amounts.get(month, Fraction(0)) - part
            due += amount - part
        return due


class Life:
    """Three months of one customer, drawn by chance."""

    def __init__(self, ledger: Ledger, seed: int, kills: float = 0) -> None:
        """`kills` is the share of steps in which the process is killed."""
        assert isinstance(ledger.store.clock, SimulatedClock)
        self.ledger, self.clock, self.chance = ledger, ledger.store.clock, random.Random(seed)
        self.kills = kills
        self.clock.set(START)
        self.owner = Accounts(ledger.store).create_organization(f"life-{next(_NAMES)}", currency="EUR").id
        self.naive = Naive()
        self.serial = count()
        self.lost: list[str] = []
        self.received = 0

    def sure(self, step: Callable[[], T], done: Callable[[], T | None] = lambda: None) -> T:
        """Carry a step out that may be killed, and repeat it; `done` says what came of it where it must not be repeated."""
        if self.chance.random() < self.kills:
            place = self.chance.randint(1, STATEMENTS_MAX)
            with suppress(*REFUSED):
                killed(self.ledger.store, place, step)
            self.ledger = Ledger(self.ledger.store, taxes=TAXES)
            found = done()
            if found is not None:
                return found
        return step()

    def live(self) -> None:
        """Something happens on most days; at the end every month is closed and billed."""
        happens: list[Callable[[], None]] = [
            *[self.use] * 5,
            self.cancel,
            self.cancel,
            self.promote,
            *[self.bill] * 2,
            self.pay,
            self.pay,
            self.receive,
            self.reverse_payment,
            self.void,
            self.note_line,
            self.note_amount,
            self.note_whole,
            self.refund,
            self.write_off,
            self.net,
            self.undo_netting,
        ]
        for day in range(1, 90):
            self.clock.set(START + timedelta(days=day, hours=1))
            for _ in range(self.chance.choice((0, 0, 1, 2))):
                self.chance.choice(happens)()
            for month in (2, 3):
                if self.clock.now() == datetime(2026, month, 3, 1, tzinfo=UTC):
                    self.sure(lambda label=f"2026-{month - 1:02d}": self.ledger.close(self.owner, label))  # type: ignore[misc]
            self.sure(lambda: self.ledger.expire())
        self.clock.set(START + timedelta(days=120))
        self.sure(lambda: self.ledger.expire())
        self.sure(lambda: self.ledger.bill(self.owner, "2026-04"))

    def use(self) -> None:
        """Usage of up to thirty days ago: late where its month is closed."""
        at = max(START, self.clock.now() - timedelta(hours=self.chance.choice((1, 1, 30, 24 * 30))))
        name, steps = f"{self.owner}/{next(self.serial)}", self.chance.randint(1, 5_000)
        self.take(UsageEvent("s", name, self.owner, "requests", steps, at))
        self.naive.used[name] = (at, steps * Fraction("0.0333"))

    def take(self, given: UsageEvent) -> None:
        taken = self.sure(lambda: self.ledger.take_now([given]))
        assert taken.accepted + taken.duplicates == 1
        self.sure(lambda: self.ledger.rate())

    def cancel(self) -> None:
        if self.naive.used:
            name = self.chance.choice(sorted(self.naive.used))
            fields: dict[str, Any] = {"kind": "cancellation", "corrects": ("s", name)}
            gone = UsageEvent("s", f"{name}/gone", self.owner, "requests", 0, self.clock.now(), **fields)
            self.take(gone)
            del self.naive.used[name]

    def promote(self) -> None:
        """A promotion within the month, so that what a later note frees of it is used in no other."""
        now = self.clock.now()
        ends = min(
            now + timedelta(days=self.chance.randint(1, 9)),
            (now.replace(day=1, hour=0) + timedelta(days=31)).replace(day=1),
        )
        cents = self.chance.randint(1, 9_000)
        source = f"{next(self.serial)}"
        self.sure(
            lambda: self.ledger.store.write(
                lambda connection: self.ledger.credit(
                    connection, self.owner, cents * CENT, "", source, kind="promotional", expires_at=ends
                )
            )
        )
        self.naive.promotions.append((now, ends, Fraction(cents, 100)))

    def bill(self) -> None:
        self.sure(lambda: self.ledger.bill(self.owner))

    def invoice(self, **wanted: str) -> dict[str, Any] | None:
        found = [item for item in self.ledger.invoices(self.owner) if all(item[k] == v for k, v in wanted.items())]
        return self.chance.choice(found) if found else None

    def cents(self, text: str) -> int:
        """Some of an amount, at times all of it."""
        most = int(Decimal(text) * 100)
        return self.chance.choice((most, self.chance.randint(1, most))) if most else 0

    def pay(self) -> None:
        found = self.invoice(status="final") or self.invoice(status="written_off")
        if found is not None and (cents := self.cents(str(Decimal(found["open"]) + Decimal(found["written_off"])))):
            source = f"p{next(self.serial)}"
            self.sure(lambda: self.ledger.pay(found["number"], cents * CENT, source))
            self.lost.append(f"{found['number']} p{next(self.serial) - 1}")

    def receive(self) -> None:
        """A payment of the customer as a whole: for the oldest invoices, and at times a few cents more than they come to."""
        owing = sum(Decimal(item["open"]) for item in self.ledger.invoices(self.owner) if item["status"] == "final")
        cents = self.cents(str(owing)) + self.chance.choice((0, 0, self.chance.randint(1, 400)))
        if cents:
            wanted = Received(self.owner, cents * CENT, f"w{next(self.serial)}")
            self.sure(lambda: self.ledger.settling.receive(wanted))
            self.received += cents

    def reverse_payment(self) -> None:
        if self.lost and self.chance.random() < 0.3:
            number, source = self.chance.choice(self.lost).split()
            with suppress(*REFUSED):
                self.sure(lambda: self.ledger.reverse_payment(number, source, "of another customer"))

    def void(self) -> None:
        if (found := self.invoice()) is not None:
            with suppress(*REFUSED):
                self.sure(lambda: self.ledger.void(found["number"], "test"))

    def _note(self, number: str, wanted: Wanted) -> dict[str, Any]:
        """A credit note; a caller who got no response looks for it before asking again."""
        before = len(self.ledger.settling.notes(self.owner))

        def made() -> dict[str, Any] | None:
            notes = self.ledger.settling.notes(self.owner)
            return notes[0] if len(notes) > before else None

        return self.sure(lambda: self.ledger.settling.credit(number, wanted, "test"), made)

    def _noted(self, found: dict[str, Any], wanted: Wanted, into: dict[str, Fraction]) -> None:
        """What a note says that it took off counts, at the month that its lines name."""
        with suppress(*REFUSED):
            note = self._note(found["number"], wanted)
            for line in note["lines"]:
                into[line["used"]] += Fraction(line["amount"])

    def note_line(self) -> None:
        if (found := self.invoice()) is not None and found["lines"]:
            line = self.chance.choice(found["lines"])
            some = self.chance.choice((None, self.chance.randint(1, 500) * CENT))
            self._noted(found, Wanted({line["id"]: some}), self.naive.by_line)

    def note_whole(self) -> None:
        if self.chance.random() < 0.4 and (found := self.invoice()) is not None:
            self._noted(found, Wanted(), self.naive.by_line)

    def note_amount(self) -> None:
        found = self.invoice()
        months = {line["used"] for line in found["lines"]} if found else set()
        if found is not None and len(months) == 1:
            with suppress(*REFUSED):
                wanted = Wanted(gross_nano=self.chance.randint(1, 2_000) * CENT)
                note = self._note(found["number"], wanted)
                self.naive.by_amount[months.pop()] += Fraction(note["subtotal"])

    def refund(self) -> None:
        owed = -self.ledger.balances(self.owner).get("customer_balance", 0) // CENT
        if owed:
            payment = self.chance.choice([*(name.split()[1] for name in self.lost), ""])
            target = "payment" if payment else "wallet"
            wanted = NewRefund(
                self.owner, self.chance.randint(1, owed) * CENT, f"r{next(self.serial)}", "test", target, payment
            )
            with suppress(*REFUSED):
                self.sure(lambda: self.ledger.settling.refund(wanted, preview=target == "wallet"))

    def write_off(self) -> None:
        if (found := self.invoice(status="final")) is not None:
            with suppress(*REFUSED):
                self.sure(lambda: self.ledger.settling.write_off(found["number"], "test"))

    def net(self) -> None:
        if (found := self.invoice(status="final")) is not None:
            with suppress(*REFUSED):
                source = f"n{next(self.serial)}"
                self.sure(lambda: self.ledger.settling.net(found["number"], source, "test"))

    def undo_netting(self) -> None:
        if (found := self.invoice()) is not None:
            for number in range(next(self.serial)):
                with suppress(*REFUSED):
                    self.sure(
                        lambda name=f"n{number}": self.ledger.settling.undo_netting(found["number"], name, "test")
                    )  # type: ignore[misc]
                    return

    def judge(self) -> None:
        """The trial balance is zero; what documents say is what the naive rule says, and what was paid is what they say."""
        proof = self.ledger.prove(self.owner)
        assert proof.findings == []
        accounts = {name: Fraction(nano, 10**9) for name, nano in self.ledger.balances(self.owner).items()}
        assert sum(accounts.values()) == 0
        self._nothing_twice()
        invoices = [item for item in self.ledger.invoices(self.owner) if item["status"] != "void"]
        notes = self.ledger.settling.notes(self.owner)
        # Each month's usage is posted rounded down to the nano-unit. What documents round waits with what is not billed.
        whole = sum(Fraction(item["net"]) for item in invoices) - sum(Fraction(note["net"]) for note in notes)
        # Where a deposit pays all of an invoice, nothing is left that could be counted with the next.
        whole += accounts.get("rounding", Fraction(0))
        waits = accounts.get("unbilled", Fraction(0))
        assert abs(whole + waits - self.naive.net()) < Fraction(1, 10**6)
        assert abs(waits) < Fraction(2, 100)
        tax = sum(taxes(item) for item in invoices) - sum(taxes(note) for note in notes)
        total = sum(Fraction(item["total"]) for item in invoices) - sum(Fraction(note["total"]) for note in notes)
        owed = accounts.get("receivable", Fraction(0)) + accounts.get("customer_balance", Fraction(0))
        lost = sum((Fraction(item["written_off"]) for item in invoices), Fraction(0))
        left = accounts.get("deferred_revenue", Fraction(0))
        assert owed + lost + accounts.get("cash", Fraction(0)) + left == total
        with self.ledger.store.read() as connection:
            found = [
                row.nano for row in connection.execute(select(receipts).where(receipts.c.organization_id == self.owner))
            ]
        assert sum(found) == self.received * CENT
        self._exports_agree(accounts)
        bad = accounts.get("bad_debt", Fraction(0))
        # Of what is written off, the tax was taken back.
        assert -accounts.get("taxes_payable", Fraction(0)) == tax - (lost - bad)
        assert abs(tax - whole * RATE) <= Fraction(len(invoices) + len(notes), 200)

    def _exports_agree(self, accounts: dict[str, Fraction]) -> None:
        """The trial balance has the same balances, revenue sums to income less expenses, and each month of the general ledger is
        even and within a cent of the journal."""
        trial = {row["account"]: amount_of(row) for row in self.exported("trial-balance")}
        assert trial == {name: amount for name, amount in accounts.items() if amount}
        earned = -sum(accounts.get(name, Fraction(0)) for name, text in ACCOUNTS.items() if text[:3] in ("inc", "exp"))
        assert sum(Fraction(row["amount"]) for row in self.exported("revenue")) == earned
        exact: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
        for row in self.exported("journal"):
            exact[row["period"], row["account"]] += amount_of(row)
        rounded = {(row["period"], row["account"]): amount_of(row) for row in self.exported("gl")}
        for month in {period for period, _ in exact}:
            assert sum(amount for (period, _), amount in rounded.items() if period == month) == 0
        for key in exact.keys() | rounded.keys():
            assert abs(rounded.get(key, Fraction(0)) - exact[key]) < Fraction(1, 100), key

    def exported(self, name: str) -> list[dict[str, str]]:
        """Rows of an export of this customer."""
        found = b"".join(export_rows(self.ledger.store, self.ledger.books, name, self.owner)).decode()
        return list(csv.DictReader(found.splitlines()))

    def _nothing_twice(self) -> None:
        """Numbers have no gaps, and each source moved money once."""
        store = self.ledger.store
        with store.read() as connection:
            numbers = [row.number for row in connection.execute(select(invoices.c.number).order_by(invoices.c.number))]
            moved = connection.execute(
                select(transactions.c.kind, transactions.c.source_id, transactions.c.organization_id)
            )
            sources = [tuple(row) for row in moved]
        for prefix in ("CN-", "INV-"):
            series = [number for number in numbers if number.startswith(prefix)]
            assert series == [f"{prefix}{number:06d}" for number in range(1, len(series) + 1)]
        assert len(set(sources)) == len(sources)


def amount_of(row: dict[str, str]) -> Fraction:
    """A row's debit, or its credit below zero."""
    return Fraction(row["debit"] or 0) - Fraction(row["credit"] or 0)


def taxes(document: dict[str, Any]) -> Fraction:
    return sum((Fraction(tax["amount"]) for tax in document["taxes"]), Fraction(0))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.real)])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/lives.db"
    else:
        url = request.getfixturevalue("postgres_store").url.render_as_string(hide_password=False)
    store = Store(url, SimulatedClock(START))
    if request.param == "sqlite":
        migrate(store)
    made = Ledger(store, taxes=TAXES)
    made.publish_prices(book_from_dict({"prices": [PRICE | {"id": "a", "amount": "0.0333"}]}, "test"))
    yield made
    store.close()


def lives(ledger: Ledger, seed: int, number: int, kills: float = 0) -> None:
    chance = random.Random(seed)
    for _ in range(number):
        own = chance.randrange(2**32)
        print(f"life of seed {own}")
        life = Life(ledger, own, kills)
        life.live()
        life.judge()


def test_documents_of_random_lives_are_what_the_naive_rule_says(ledger: Ledger) -> None:
    lives(ledger, 20260131, 6)


def test_a_process_that_is_killed_at_any_step_loses_and_doubles_nothing(ledger: Ledger) -> None:
    lives(ledger, 20260214, 3, kills=0.5)
