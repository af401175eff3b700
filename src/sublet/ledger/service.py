"""The ledger's use cases. Methods that take a connection work inside the caller's transaction; the others open one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, delete, func, select

from sublet.ledger import events
from sublet.ledger import store as sql
from sublet.ledger.budgets import changing
from sublet.ledger.budgets.creating import create_budget
from sublet.ledger.budgets.creating import new_budget as new_budget
from sublet.ledger.budgets.holds import PRUNE_MAX, prune
from sublet.ledger.budgets.model import Budget, BudgetState, HoldOutcome, HoldRequest, Settlement
from sublet.ledger.budgets.spending import EXPIRE_MAX, Spending
from sublet.ledger.credits.crediting import AT_PAYMENT, GRANTED_KINDS, Credit
from sublet.ledger.credits.wallets import Wallets
from sublet.ledger.exports.charges import Seller
from sublet.ledger.invoices import closing
from sublet.ledger.invoices.closing import Closed
from sublet.ledger.invoices.details import AcceleratorsOf
from sublet.ledger.invoices.invoicing import (
    Invoicing,
    Issuer,
    Made,
    invoices_of,
    stated,
)
from sublet.ledger.invoices.logos import Logo
from sublet.ledger.invoices.parties import checked_profile
from sublet.ledger.invoices.profiles import Terms, profile_of, set_profile
from sublet.ledger.invoices.taxes import NoTax, Profile, Taxes
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.lists import Lists
from sublet.ledger.model import IntakeResult, Party, UsageEvent
from sublet.ledger.payments import receipts as payments
from sublet.ledger.payments.overdue import tell_overdue
from sublet.ledger.payments.settling import Settling
from sublet.ledger.payments.statements import aged_receivables, statement
from sublet.ledger.periods import Period, month_labeled, month_of
from sublet.ledger.plans.service import PlanSales
from sublet.ledger.prices.book import BUILT_IN, PriceBook
from sublet.ledger.prices.booking import Books
from sublet.ledger.prices.terms import Price
from sublet.ledger.proof.findings import Proof
from sublet.ledger.proof.health import health_of
from sublet.ledger.proof.prover import Prover
from sublet.ledger.publishing import Publishing
from sublet.ledger.rating.arrivals import arrived
from sublet.ledger.rating.batches import BATCH_DEFAULT, Rating, RatingReport, RerateReport
from sublet.ledger.store import RATING
from sublet.ledger.usage import days, dismissals
from sublet.ledger.usage.intake import Intake, Parties
from sublet.ledger.usage.requests import RequestIntake
from sublet.store import Store
from sublet.store.paging import Page, PageRequest
from sublet.store.tables.ledger import proofs, waiting
from sublet.values.clock import to_micros
from sublet.values.errors import InvalidInputError
from sublet.values.etags import ANY_STATE, Condition

PROOFS_KEPT = 400
"""Reports of nightly proofs; older ones are dropped."""


class Ledger:
    """The use cases of the books: usage, invoices, payments, credits and budgets."""

    def __init__(
        self,
        store: Store,
        *,
        taxes: Taxes | None = None,
        issuer: Issuer | None = None,
        bad_debt_tax_relief: bool = True,
        grace: timedelta = timedelta(0),
        expected_breakage_percent: Decimal = Decimal(0),
        logo: Logo | None = None,
        accelerators_of: AcceleratorsOf = lambda connection, resources: {},
        seller: Seller | None = None,
    ) -> None:
        self._store = store
        self.grace = grace
        """How long after a month's end late usage is accepted before the month is invoiced."""
        self.seller = seller or Seller((issuer or Issuer()).name)
        """The issuer with its chart of accounts, for exports."""
        self.logo = logo
        """The issuer's, on PDFs."""
        self.expected_breakage_percent = expected_breakage_percent
        """The share of prepaid money that is expected to expire unused."""
        self._parties = Parties()
        self._books = Books()
        self._intake = Intake(self._parties)
        self.requests = RequestIntake(self._parties)
        self._spending = Spending(self._parties, self._books)
        self._rating = Rating(self._parties, self._books, self._spending)
        self._wallets = Wallets(self._books, taxes or NoTax())
        self._invoicing = Invoicing(self._books, taxes or NoTax(), self._wallets, issuer or Issuer(), accelerators_of)
        self.settling = Settling(store, self._parties, self._wallets, tax_relief=bad_debt_tax_relief)
        """Credit notes, and what else settles invoices than payments."""
        self._prover = Prover(self._parties, self._books, self._invoicing, self._wallets)
        self.publishing = Publishing(store, self._parties, self._books)
        """The price book and the rate cards of single customers."""
        self.plans = PlanSales(store, self._parties, self.publishing)
        """Plans, and the subscriptions to them."""
        self.lists = Lists(store, self._parties, self._wallets, self._spending)

    @property
    def store(self) -> Store:
        return self._store

    @property
    def books(self) -> Books:
        return self._books

    @property
    def issuer(self) -> Issuer:
        """The issuer of invoices."""
        return self._invoicing.issuer

    @property
    def spending(self) -> Spending:
        return self._spending

    def party(self, connection: Connection, organization_id: str) -> Party:
        """Raises NotFoundError."""
        return self._parties.get(connection, organization_id)

    def take(self, connection: Connection, events: Iterable[UsageEvent]) -> IntakeResult:
        """Record usage events in the caller's transaction. Each counts once, by source and id."""
        return self._intake.take(connection, events, self._store.clock.now())

    def take_now(self, events: Sequence[UsageEvent]) -> IntakeResult:
        """Record usage events in a transaction of their own. They are durable when this returns."""
        return self._store.write(lambda connection: self.take(connection, events))

    def rate(self, batch: int = BATCH_DEFAULT) -> RatingReport:
        """Rate and post everything that has arrived, one batch per transaction, and retry waiting events."""
        report = RatingReport()
        self._count_days()
        self._recount()
        if not self._work_waits():
            return report
        through = arrived(self._store)
        while True:
            done = self._store.write(
                lambda connection: self._rating.rate_arrived(connection, through, batch, self._store.clock.now())
            )
            report.add(done)
            if not done.rated and not done.waiting:
                break
        after = 0
        while True:
            done, after = self._store.write(
                lambda connection, after=after: self._rating.retry_waiting(  # type: ignore[misc]
                    connection, after, self._store.clock.now()
                )
            )
            report.rated += done.rated
            report.transactions += done.transactions
            if not after:
                return report

    def _count_days(self) -> None:
        """Count lines of a version that did not count usage by day, in transactions of their own."""
        with self._store.read() as connection:
            behind = days.is_behind(connection)
        while behind:
            behind = self._store.write(lambda connection: days.catch_up(connection, self._parties))

    def _recount(self) -> None:
        """Bring what was posted to terms that were published since, in transactions of their own."""
        with self._store.read() as connection:
            due = self._rating.recount_due(connection)
        while due:
            due = self._store.write(lambda connection: self._rating.recount(connection, self._store.clock.now()))

    def rerate(self, organization_id: str, label: str) -> RerateReport:
        """Rate the usage of a month again with the current price book: by reversal, and for a closed month as adjustments."""
        self.rate()
        period = self.period(organization_id, label)
        report = RerateReport()
        after = 0
        while True:
            done, after = self._store.write(
                lambda connection, after=after: self._rating.rerate(  # type: ignore[misc]
                    connection, self.party(connection, organization_id), period, after, self._store.clock.now()
                )
            )
            report.add(done)
            if not after:
                return report

    def dismiss(self, source: str, event_id: str, reason: str) -> dict[str, Any]:
        """Dismiss a correction that waits for an event that will never arrive. It stays on record with the reason."""
        self.rate()
        return self._store.write(
            lambda connection: dismissals.dismiss(connection, source, event_id, reason, self._store.clock.now())
        )

    def dismissed(self, organization_id: str = "", wanted: PageRequest | None = None) -> Page[dict[str, Any]]:
        """A page of dismissed corrections, newest first, of one organization or of all."""
        with self._store.read() as connection:
            return dismissals.dismissed(connection, organization_id, wanted or PageRequest())

    def _work_waits(self) -> bool:
        """Whether there is anything to rate. Checked by a read, because it is checked every few seconds."""
        with self._store.read() as connection:
            position, _ = sql.read_head(connection, RATING)
            if sql.last_event_seq(connection) > position:
                return True
            return connection.execute(select(waiting.c.event_seq).limit(1)).first() is not None

    def publish_prices(self, book: PriceBook, seen: Condition = ANY_STATE) -> int:
        """Publish `book` as the current price book, and return its version. Raises the errors of `Publishing.book`."""
        return self.publishing.book(book, seen)

    def prices(self) -> PriceBook:
        with self._store.read() as connection:
            return self._books.current(connection)

    def built_in_prices(self) -> list[Price]:
        """The current prices that are derived from the settings."""
        now = self._store.clock.now()
        return [price for price in self.prices().prices if price.id.startswith(BUILT_IN) and price.holds_at(now)]

    def agree(
        self,
        connection: Connection,
        organization_id: str,
        resource: str,
        amount_nano: int,
        *,
        meter: str = "accelerator.seconds",
        per_units: int = 3600,
    ) -> None:
        """Fix the price of one resource (a lease, by its quote) for its whole life: `amount_nano` for `per_units` units."""
        party = self._parties.get(connection, organization_id)
        self._books.agree(connection, party, resource, meter, amount_nano, per_units, self._store.clock.now())

    def credit(
        self,
        connection: Connection,
        organization_id: str,
        nano: int,
        reason: str,
        source_id: str,
        *,
        kind: str = "reclaim",
        expires_at: datetime | None = None,
        tax_mode: str = "at_use",
    ) -> Credit:
        """Grant a credit in the caller's transaction, once per `source_id`; repeating it returns the first."""
        if kind not in GRANTED_KINDS:
            raise InvalidInputError(f"credit kind {kind!r} must be one of {', '.join(GRANTED_KINDS)}", field="kind")
        party = self._parties.get(connection, organization_id)
        now = self._store.clock.now()
        # Granting locks the same head: of two identical requests, the second finds the credit of the first.
        sql.lock_head(connection, RATING)
        repeated = journal.number_of(connection, party.id, "credit", source_id) is not None
        given = self._wallets.grant(connection, party, nano, kind, reason, source_id, now, expires_at, tax_mode)
        if given.tax_mode == AT_PAYMENT and not repeated:
            self._invoicing.invoice_prepayment(connection, party, given)
        return given

    def ensure_payable(self, organization_id: str, nano: int) -> None:
        """Raises InvalidInputError if an amount has more digits than the organization's currency."""
        with self._store.read() as connection:
            payments.ensure_payable(nano, self._parties.get(connection, organization_id).currency)

    def credits(self, organization_id: str) -> list[Credit]:
        """Every credit with what is left of it: neither used by usage of its time nor expired."""
        with self._store.read() as connection:
            party = self._parties.get(connection, organization_id)
            return self._wallets.credits(connection, party, self._store.clock.now())

    def expire(self, grace: timedelta = timedelta(0)) -> int:
        """Release expired credits and holds, credits `grace` after their end. Returns how many. Holds that have long been over
        are deleted."""

        def expire_credits(connection: Connection) -> int:
            return self._wallets.expire(connection, self._store.clock.now(), grace)

        count = self._store.write(expire_credits)
        holds = EXPIRE_MAX
        while holds == EXPIRE_MAX:
            holds = self._store.write(lambda connection: self._spending.expire(connection, self._store.clock.now()))
            count += holds
        while self._store.write(lambda connection: prune(connection, self._store.clock.now())) == PRUNE_MAX:
            continue
        return count

    def balances(self, organization_id: str) -> dict[str, int]:
        """The balance of each account in nano-units. Debits are positive."""
        with self._store.read() as connection:
            self._parties.get(connection, organization_id)
            return journal.balances_of(connection, organization_id)

    def profile(self, organization_id: str) -> Profile:
        """The customer details on the organization's invoices."""
        with self._store.read() as connection:
            return profile_of(connection, self._parties.get(connection, organization_id))

    def set_profile(
        self, organization_id: str, profile: Profile, seen: Condition = ANY_STATE, terms: Terms | None = None
    ) -> None:
        """Set the customer details on future invoices, and the payment terms according to `terms`. Raises
        PreconditionFailedError, and the errors of `terms`."""

        checked_profile(profile)

        def write(connection: Connection) -> None:
            self._store.lock(connection, f"profile {organization_id}")
            before = profile_of(connection, self._parties.get(connection, organization_id))
            seen.require(asdict(before))
            set_profile(connection, organization_id, terms.put_into(profile, before) if terms else profile)

        self._store.write(write)

    def period(self, organization_id: str, label: str = "") -> Period:
        """The month `label` in the organization's time zone; the current month if it is empty."""
        with self._store.read() as connection:
            timezone = self._parties.get(connection, organization_id).timezone
        return month_labeled(label, timezone) if label else month_of(self._store.clock.now(), timezone)

    def draft(self, organization_id: str, label: str = "") -> dict[str, Any]:
        """The invoice that would be created now. Rates usage that has arrived first."""
        self.rate()
        period = self.period(organization_id, label)
        with self._store.read() as connection:
            party = self._parties.get(connection, organization_id)
        return closing.draft(self._store, self._books, self._invoicing, party, period)

    def bill(self, organization_id: str, label: str = "", digest: str = "") -> Made:
        """Bill everything booked up to the end of the month now: an invoice for what is due, and a credit note if months cost
        less than was invoiced. Each is None if there is nothing to bill or credit.

        With `digest`, that of a draft, bills only if nothing has changed since: raises DraftChangedError.
        """
        self.rate()
        period = self.period(organization_id, label)

        def write(connection: Connection) -> Made:
            party = self._parties.get(connection, organization_id)
            now = self._store.clock.now()
            return closing.make_invoice(
                connection, self._books, self._invoicing, party, period, "on_demand", now, digest
            )

        return self._store.write(write)

    def invoice(self, organization_id: str, label: str = "", digest: str = "") -> dict[str, Any] | None:
        """The invoice that `bill` creates, or None."""
        return self.bill(organization_id, label, digest).invoice

    def close(self, organization_id: str, label: str) -> Closed:
        """Close a month that is over, and create its invoice. Repeating it has no effect. Raises PeriodOpenError."""
        self.rate()
        period = self.period(organization_id, label)
        return self._store.write(lambda connection: self._close(connection, organization_id, period))

    def close_all(self, label: str) -> list[Closed]:
        """Close a month for every organization in whose time zone it is over. Repeating it has no effect on closed ones."""
        self.rate()
        with self._store.read() as connection:
            owners = sql.organizations_with_transactions(connection)
        found = []
        for owner in owners:
            period = self.period(owner, label)
            if self._store.clock.now() >= period.end:
                found.append(self._store.write(lambda connection, o=owner, p=period: self._close(connection, o, p)))  # type: ignore[misc]
        return found

    def _close(self, connection: Connection, organization_id: str, period: Period) -> Closed:
        party = self._parties.get(connection, organization_id)
        return closing.close(connection, self._books, self._invoicing, party, period, self._store.clock.now())

    def invoice_by(self, invoice_id: str) -> dict[str, Any]:
        """A final invoice by id or number, with the details of each line. Raises NotFoundError."""
        with self._store.read() as connection:
            return self._invoicing.detailed(connection, invoice_id)

    def invoices(self, organization_id: str) -> list[dict[str, Any]]:
        """The invoices of an organization, newest first."""
        with self._store.read() as connection:
            self._parties.get(connection, organization_id)
            return [stated(row) for row in invoices_of(connection, organization_id)]

    def pay(self, invoice_id: str, nano: int, source_id: str) -> dict[str, Any]:
        """Record a payment, once per `source_id`."""
        return self._store.write(
            lambda connection: payments.pay(connection, invoice_id, nano, source_id, self._store.clock.now())
        )

    def reverse_payment(self, invoice_id: str, source_id: str, reason: str) -> dict[str, Any]:
        """Reverse a payment that was recorded by mistake, by a linked reversal booked today. The invoice is open again."""
        return self._store.write(
            lambda connection: payments.reverse(connection, invoice_id, source_id, reason, self._store.clock.now())
        )

    def void(self, invoice_id: str, reason: str) -> dict[str, Any]:
        """Void a final invoice by a linked reversal."""
        return self._store.write(
            lambda connection: self._invoicing.void(connection, invoice_id, reason, self._store.clock.now())
        )

    def statement(self, organization_id: str, label: str = "") -> dict[str, Any]:
        """What the organization owed at the start of a month, every movement, and what it owed at the end."""
        period = self.period(organization_id, label)
        with self._store.read() as connection:
            return statement(connection, self._parties.get(connection, organization_id), period)

    def receivables(self, wanted: PageRequest | None = None, as_of: datetime | None = None) -> Page[dict[str, Any]]:
        """A page of receivables by organization and days past due, now or at `as_of`."""
        with self._store.read() as connection:
            return aged_receivables(connection, self._store.clock.now(), wanted or PageRequest(), as_of)

    def create_budget(self, budget: Budget) -> Budget:
        """Create a budget. What its scope has spent in the current period counts already."""

        def write(connection: Connection) -> Budget:
            # The rater locks the same head, so that no line is rated between the count and the first charge.
            sql.lock_head(connection, RATING)
            return create_budget(connection, self._parties, budget, self._store.clock.now())

        return self._store.write(write)

    def budget(self, budget_id: str, organization_id: str | None = None) -> Budget:
        """A live budget, of the organization if one is given. Raises NotFoundError."""
        with self._store.read() as connection:
            return changing.live_budget(connection, budget_id, organization_id)

    def change_budget(self, budget_id: str, limit_nano: int, seen: Condition = ANY_STATE) -> Budget:
        """Change the limit from now on. What is spent and held stays. Raises NotFoundError, PreconditionFailedError."""
        return self._store.write(lambda connection: changing.change_limit(connection, budget_id, limit_nano, seen))

    def end_budget(self, budget_id: str, seen: Condition = ANY_STATE) -> None:
        """End the budget from now on. Raises NotFoundError, PreconditionFailedError."""
        self._store.write(lambda connection: changing.end(connection, budget_id, self._store.clock.now(), seen))

    def budgets(self, organization_id: str) -> list[BudgetState]:
        with self._store.read() as connection:
            return self._spending.states(connection, organization_id, self._store.clock.now())

    def reserve(self, requests: Sequence[HoldRequest]) -> list[HoldOutcome]:
        """Place holds in one transaction. Each outcome says whether its hold was placed."""
        return self._store.write(
            lambda connection: self._spending.reserve(connection, requests, self._store.clock.now())
        )

    def settle(self, settlements: Sequence[Settlement]) -> list[HoldOutcome]:
        """Settle holds in one transaction."""
        return self._store.write(
            lambda connection: self._spending.settle(connection, settlements, self._store.clock.now())
        )

    def prove(self, organization_id: str = "", invoice_id: str = "") -> Proof:
        """Recompute an invoice, an organization, or all books from the raw events."""
        with self._store.read() as connection:
            return self._prover.prove(connection, self._store.clock.now(), organization_id, invoice_id)

    def prove_nightly(self) -> Proof:
        """Recompute all books and store the report, which health shows."""
        proof = self.prove()

        def write(connection: Connection) -> None:
            now = self._store.clock.now()
            row = (to_micros(now), proof.subject, proof.ok, sql.json_text(proof.as_dict()))
            sql.bulk_insert(connection, proofs, [row], "ON CONFLICT (proved_at, subject) DO NOTHING")
            newest = select(proofs.c.proved_at).order_by(proofs.c.proved_at.desc())
            oldest_kept = connection.execute(newest.offset(PROOFS_KEPT - 1).limit(1)).scalar()
            if oldest_kept is not None:
                connection.execute(delete(proofs).where(proofs.c.proved_at < oldest_kept))
            if not proof.ok:
                events.record_failed_proof(connection, proof, now)

        self._store.write(write)
        return proof

    def tell_overdue(self) -> int:
        """Record an event for each overdue invoice, once. Returns how many are overdue by less than OVERDUE_TOLD_DAYS."""
        return tell_overdue(self._store)

    def proved_at(self) -> datetime | None:
        """When `prove_nightly` last ran, or None."""
        with self._store.read() as connection:
            return connection.execute(select(func.max(proofs.c.proved_at))).scalar()

    def health(self) -> dict[str, Any]:
        """How far rating has progressed, which events are waiting and why, and the result of the last proof."""
        with self._store.read() as connection:
            return health_of(connection)
