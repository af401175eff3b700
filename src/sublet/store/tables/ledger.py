"""Money: usage events, prices, rated lines, the journal, invoices, credits, budgets and holds.

Events, rated lines, transactions and postings are append-only: triggers refuse to change or delete a row.
"""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)
from sqlalchemy.types import TypeDecorator

from sublet.store.metadata import metadata
from sublet.store.types import Instant, Json


class WideInteger(TypeDecorator[int]):
    """A whole number without an upper limit, as decimal text: an account's total may pass 2**63."""

    impl = String(48)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value)


_Id = String(40)
_Sequence = BigInteger().with_variant(Integer, "sqlite")

events = Table(
    "ledger_events",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("source", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("kind", String(12), nullable=False),
    Column("organization_id", _Id, nullable=False),
    Column("meter", String(40), nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("at", Instant, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("resource", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("dimensions", Text, nullable=False),
    Column("corrects_source", Text, nullable=True),
    Column("corrects_id", Text, nullable=True),
    Column("hold_id", _Id, nullable=True),
    UniqueConstraint("source", "event_id"),
)
Index(
    "ix_ledger_events_corrects",
    events.c.corrects_source,
    events.c.corrects_id,
    sqlite_where=text("corrects_id IS NOT NULL"),
    postgresql_where=text("corrects_id IS NOT NULL"),
)

Index("ix_ledger_events_organization_id_at", events.c.organization_id, events.c.at)

heads = Table(
    "ledger_heads",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)

waiting = Table(
    "ledger_waiting",
    metadata,
    Column("event_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("organization_id", _Id, nullable=False),
    Column("code", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("book_version", Integer, nullable=False),
    Column("since", Instant, nullable=False),
    Index(None, "code", "book_version"),
)

books = Table(
    "ledger_books",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("published_at", Instant, nullable=False),
    Column("content", Json, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("organization_id", _Id, nullable=False, server_default=""),
)

agreed_prices = Table(
    "ledger_agreed_prices",
    metadata,
    Column("resource", String(80), primary_key=True),
    Column("meter", String(40), primary_key=True),
    Column("organization_id", _Id, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("amount_nano", BigInteger, nullable=False),
    Column("per_units", BigInteger, nullable=False),
    Column("agreed_at", Instant, nullable=False),
)

counters = Table(
    "ledger_counters",
    metadata,
    Column("organization_id", _Id, primary_key=True),
    Column("rate_id", String(260), primary_key=True),
    Column("period_start", Instant, primary_key=True),
    Column("meter", String(40), nullable=False),
    Column("quantity", WideInteger, nullable=False),
    Column("nano", WideInteger, nullable=False),
    Column("list_nano", WideInteger, nullable=False, server_default="0"),
    Column("slices", Text, nullable=False, server_default="[]"),
)

lines = Table(
    "ledger_lines",
    metadata,
    Column("line_no", BigInteger, primary_key=True, autoincrement=False),
    Column("transaction_no", BigInteger, nullable=False),
    Column("event_seq", BigInteger, nullable=False),
    Column("kind", String(12), nullable=False),
    Column("organization_id", _Id, nullable=False),
    Column("rate_id", String(260), nullable=False),
    Column("list_rate_id", String(260), nullable=False),
    Column("book_version", Integer, nullable=False),
    Column("period_start", Instant, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("nano", BigInteger, nullable=False),
    Column("list_nano", BigInteger, nullable=False),
    Column("reverses", BigInteger, nullable=True),
    Index(None, "transaction_no"),
    Index(None, "event_seq"),
)

# What the rated lines of a day add up to; `item` is the model, the class of a lease, or the pool. Sums are in two columns each, in
# whole billions and the rest, so that none passes 64 bits.
usage_days = Table(
    "ledger_usage_days",
    metadata,
    Column("organization_id", _Id, primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("item", Text, primary_key=True),
    Column("meter", String(40), primary_key=True),
    Column("project", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("quantity_wholes", BigInteger, nullable=False),
    Column("quantity_rests", BigInteger, nullable=False),
    Column("wholes", BigInteger, nullable=False),
    Column("rests", BigInteger, nullable=False),
)

transactions = Table(
    "ledger_transactions",
    metadata,
    Column("transaction_no", BigInteger, primary_key=True, autoincrement=False),
    Column("id", _Id, nullable=False, unique=True),
    Column("organization_id", _Id, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("kind", String(24), nullable=False),
    Column("source_id", Text, nullable=False),
    Column("booked_at", Instant, nullable=False),
    Column("period_start", Instant, nullable=False),
    Column("memo", Text, nullable=False),
    Column("reverses", BigInteger, nullable=True),
    Column("lines_digest", String(64), nullable=False),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    UniqueConstraint("organization_id", "kind", "source_id"),
    Index(None, "organization_id", "period_start"),
)

postings = Table(
    "ledger_postings",
    metadata,
    Column("transaction_no", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("account", String(60), nullable=False),
    Column("nano", BigInteger, nullable=False),
)

balances = Table(
    "ledger_balances",
    metadata,
    Column("organization_id", _Id, primary_key=True),
    Column("account", String(60), primary_key=True),
    Column("nano", WideInteger, nullable=False),
)

periods = Table(
    "ledger_periods",
    metadata,
    Column("organization_id", _Id, primary_key=True),
    Column("period_start", Instant, primary_key=True),
    Column("period_end", Instant, nullable=False),
    Column("closed_at", Instant, nullable=False),
    Column("invoice_id", _Id, nullable=True),
    Column("note_id", _Id, nullable=True),
)

profiles = Table(
    "ledger_profiles",
    metadata,
    Column("organization_id", _Id, primary_key=True),
    Column("legal_name", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("country", String(2), nullable=False),
    Column("tax_number", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("payment_days", Integer, nullable=False),
    Column("street", Text, nullable=False, server_default=""),
    Column("postcode", Text, nullable=False, server_default=""),
    Column("city", Text, nullable=False, server_default=""),
    Column("vat_id", Text, nullable=False, server_default=""),
    Column("iban", Text, nullable=False, server_default=""),
    Column("bic", Text, nullable=False, server_default=""),
    Column("reference", Text, nullable=False, server_default=""),
    Column("language", Text, nullable=False, server_default=""),
)

invoices = Table(
    "ledger_invoices",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("organization_id", _Id, nullable=False),
    Column("kind", String(12), nullable=False),
    Column("status", String(12), nullable=False),
    Column("number", String(32), nullable=True, unique=True),
    Column("currency", String(3), nullable=False),
    Column("period_start", Instant, nullable=False),
    Column("period_end", Instant, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("finalized_at", Instant, nullable=True),
    Column("due_at", Instant, nullable=True),
    Column("settled_at", Instant, nullable=True),
    Column("transaction_no", BigInteger, nullable=False),
    Column("total_nano", WideInteger, nullable=False),
    Column("due_nano", WideInteger, nullable=False),
    Column("paid_nano", WideInteger, nullable=False),
    Column("credited_nano", WideInteger, nullable=False, server_default="0"),
    Column("netted_nano", WideInteger, nullable=False, server_default="0"),
    Column("written_off_nano", WideInteger, nullable=False, server_default="0"),
    Column("document", Json, nullable=False),
    Index(None, "organization_id", "period_start"),
)

note_allocations = Table(
    "ledger_note_allocations",
    metadata,
    Column("note_id", _Id, primary_key=True),
    Column("invoice_id", _Id, primary_key=True),
    Column("exact_nano", WideInteger, nullable=False),
    Column("net_nano", WideInteger, nullable=False),
    Column("taxes_nano", Json, nullable=False),
    Column("receivable_nano", WideInteger, nullable=False),
    Index(None, "invoice_id"),
)

concessions = Table(
    "ledger_concessions",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("note_id", _Id, nullable=False),
    Column("organization_id", _Id, nullable=False),
    Column("invoice_id", _Id, nullable=False),
    Column("line_id", _Id, nullable=False),
    Column("period_start", Instant, nullable=False),
    Column("account", String(60), nullable=False),
    Column("nano", BigInteger, nullable=False),
    Column("by_amount", Boolean, nullable=False),
    Column("granted_at", Instant, nullable=False),
    Index(None, "organization_id"),
    Index(None, "invoice_id"),
)

invoice_transactions = Table(
    "ledger_invoice_transactions",
    metadata,
    Column("transaction_no", BigInteger, primary_key=True, autoincrement=False),
    Column("invoice_id", _Id, primary_key=True),
    Index(None, "invoice_id"),
)

credit_grants = Table(
    "ledger_credits",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("organization_id", _Id, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("source_id", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("nano", BigInteger, nullable=False),
    Column("remaining_nano", BigInteger, nullable=False),
    Column("granted_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=True),
    Column("starts_at", Instant, nullable=False, server_default="0"),
    Column("tax_mode", String(12), nullable=False, server_default="at_use"),
    Column("taken_nano", BigInteger, nullable=False, server_default="0"),
    Column("expired_nano", BigInteger, nullable=False, server_default="0"),
    Column("expiry_no", BigInteger, nullable=True),
    Column("settled", Boolean, nullable=False, server_default=text("false")),
    Column("refunded_nano", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("organization_id", "source_id"),
    Index(None, "settled", "expires_at"),
)

credit_burns = Table(
    "ledger_credit_burns",
    metadata,
    Column("credit_id", _Id, primary_key=True),
    Column("invoice_id", _Id, primary_key=True),
    Column("period_start", Instant, primary_key=True),
    Column("organization_id", _Id, nullable=False),
    Column("nano", BigInteger, nullable=False),
    Column("percent", Text, nullable=False),
    Index(None, "organization_id"),
)

credit_uses = Table(
    "ledger_credit_uses",
    metadata,
    Column("credit_id", _Id, primary_key=True),
    Column("invoice_id", _Id, primary_key=True),
    Column("nano", BigInteger, nullable=False),
)

payments = Table(
    "ledger_payments",
    metadata,
    Column("organization_id", _Id, primary_key=True),
    Column("source_id", String(260), primary_key=True),
    Column("invoice_id", _Id, nullable=False),
    Column("nano", BigInteger, nullable=False),
    Column("received_at", Instant, nullable=False),
    Index(None, "invoice_id"),
)

refunds = Table(
    "ledger_refunds",
    metadata,
    Column("organization_id", _Id, primary_key=True),
    Column("source_id", String(260), primary_key=True),
    Column("target", String(12), nullable=False),
    Column("payment_source_id", String(260), nullable=True),
    Column("nano", WideInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("transaction_no", BigInteger, nullable=False),
    Column("refunded_at", Instant, nullable=False),
)

write_offs = Table(
    "ledger_write_offs",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("organization_id", _Id, nullable=False),
    Column("invoice_id", _Id, nullable=False),
    Column("nano", WideInteger, nullable=False),
    Column("tax_nano", WideInteger, nullable=False),
    Column("recovered_nano", WideInteger, nullable=False, server_default="0"),
    Column("recovered_tax_nano", WideInteger, nullable=False, server_default="0"),
    Column("reason", Text, nullable=False),
    Column("written_off_at", Instant, nullable=False),
    Index(None, "invoice_id"),
)

nettings = Table(
    "ledger_nettings",
    metadata,
    Column("organization_id", _Id, primary_key=True),
    Column("source_id", String(260), primary_key=True),
    Column("invoice_id", _Id, nullable=False),
    Column("nano", WideInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("transaction_no", BigInteger, nullable=False),
    Column("netted_at", Instant, nullable=False),
    Column("reversed_at", Instant, nullable=True),
    Index(None, "invoice_id"),
)

fixed_charges = Table(
    "ledger_fixed_charges",
    metadata,
    Column("organization_id", _Id, primary_key=True),
    Column("charge_id", String(120), primary_key=True),
    Column("period_start", Instant, primary_key=True),
    Column("nano", WideInteger, nullable=False),
    Column("book_version", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
)

budgets = Table(
    "ledger_budgets",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("organization_id", _Id, nullable=False),
    Column("scope", String(16), nullable=False),
    Column("scope_id", String(80), nullable=False),
    Column("period", String(8), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("limit_nano", BigInteger, nullable=False),
    Column("hard", Boolean, nullable=False),
    Column("thresholds", Json, nullable=False),
    Column("opening_line", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("ended_at", Instant, nullable=True),
    Index(None, "organization_id"),
)

budget_states = Table(
    "ledger_budget_states",
    metadata,
    Column("budget_id", _Id, primary_key=True),
    Column("period_start", Instant, primary_key=True),
    Column("spent_nano", BigInteger, nullable=False),
    Column("held_nano", BigInteger, nullable=False),
)

holds = Table(
    "ledger_holds",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("organization_id", _Id, nullable=False),
    Column("project", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("nano", BigInteger, nullable=False),
    Column("settled_nano", BigInteger, nullable=True),
    Column("events", Integer, nullable=True),
    Column("awaiting", Integer, nullable=False),
    Column("announced", Integer, nullable=False, server_default="0"),
    Column("state", String(10), nullable=False),
    Column("charges", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Index(None, "state", "expires_at"),
)

alerts = Table(
    "ledger_alerts",
    metadata,
    Column("budget_id", _Id, primary_key=True),
    Column("period_start", Instant, primary_key=True),
    Column("threshold", Integer, primary_key=True, autoincrement=False),
    Column("raised_at", Instant, nullable=False),
    Column("spent_nano", BigInteger, nullable=False),
)

proofs = Table(
    "ledger_proofs",
    metadata,
    Column("proved_at", Instant, primary_key=True),
    Column("subject", String(80), primary_key=True),
    Column("ok", Boolean, nullable=False),
    Column("report", Json, nullable=False),
)


def _append_only(table: Table) -> None:
    """Refuse UPDATE, DELETE and TRUNCATE in the database itself, so that no program can rewrite history by accident."""
    name = table.name
    for verb in ("update", "delete"):
        sqlite = (
            f"CREATE TRIGGER {name}_no_{verb} BEFORE {verb.upper()} ON {name} "
            f"BEGIN SELECT RAISE(ABORT, '{name} is append-only'); END"
        )
        event.listen(table, "after_create", DDL(sqlite).execute_if(dialect="sqlite"))  # type: ignore[no-untyped-call]
    function = (
        f"CREATE OR REPLACE FUNCTION {name}_append_only() RETURNS trigger AS $$ "
        f"BEGIN RAISE EXCEPTION '{name} is append-only'; END $$ LANGUAGE plpgsql"
    )
    trigger = (
        f"CREATE TRIGGER {name}_append_only BEFORE UPDATE OR DELETE ON {name} "
        f"FOR EACH ROW EXECUTE FUNCTION {name}_append_only()"
    )
    # TRUNCATE passes the triggers of rows by.
    whole = (
        f"CREATE TRIGGER {name}_no_truncate BEFORE TRUNCATE ON {name} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {name}_append_only()"
    )
    for statement in (function, trigger, whole):
        event.listen(table, "after_create", DDL(statement).execute_if(dialect="postgresql"))  # type: ignore[no-untyped-call]


for _table in (events, lines, transactions, postings):
    _append_only(_table)
