"""Invoices: arithmetic, numbering, credits, taxes, closing, payments, voids; the worked example of the manual."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from tests.ledger.prepaid import prepay

from sublet.accounts.service import Accounts
from sublet.ledger.invoices.closing import PeriodOpenError
from sublet.ledger.invoices.invoicing import DraftChangedError
from sublet.ledger.invoices.page import invoice_page
from sublet.ledger.invoices.pdf import invoice_pdf
from sublet.ledger.invoices.taxes import FlatTax, NoTax, Profile, taxes_named
from sublet.ledger.model import UsageEvent
from sublet.ledger.prices.book import book_from_dict, book_from_toml
from sublet.ledger.service import Ledger
from sublet.store import Store
from sublet.values.clock import SimulatedClock
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.money import NANO

Used = Callable[..., UsageEvent]
FEBRUARY = datetime(2026, 2, 2, tzinfo=UTC)


def test_the_worked_example_of_the_manual(any_store: object, clock: SimulatedClock, used: Used) -> None:
    """docs/ledger.md walks through these numbers."""
    ledger = Ledger(any_store, taxes=FlatTax("VAT", Fraction(19)))  # type: ignore[arg-type]
    owner = Accounts(ledger.store).create_organization("example").id
    text = '[[prices]]\nid="cached"\nmeter="tokens.input_cached"\nkind="per_unit"\ncurrency="USD"\namount="0.01875"\n'
    ledger.publish_prices(book_from_toml(text + "per=1_000_000\nfrom=2026-01-01T00:00:00Z", "prices.toml"))
    ledger.store.write(lambda connection: ledger.agree(connection, owner, "lse_1", 2_490_000_000))
    ledger.take_now(
        [
            used(owner, "lease", 8 * 600, meter="accelerator.seconds", resource="lse_1", dimensions={}),
            used(owner, "tokens", 1_234_567, meter="tokens.input_cached"),
        ]
    )
    ledger.store.write(lambda connection: ledger.credit(connection, owner, 500_000_000, "reclaim", "lse_1"))
    prepay(ledger, owner, 2 * NANO, "bank-1")
    document = ledger.invoice(owner)
    assert document is not None
    names = ("subtotal", "rounding", "net", "total", "due")
    assert [document[name] for name in names] == [
        "3.343148131",
        "-0.003148131",
        "2.840000000",
        "3.380000000",
        "1.380000000",
    ]
    assert document["taxes"] == [{"name": "VAT", "percent": "19", "amount": "0.540000000"}]
    assert ledger.balances(owner) == {
        "unbilled": 3_148_131,
        "revenue.leases": -3_320_000_000,
        "revenue.models": -23_148_131,
        "penalties": 500_000_000,
        "credits": 0,
        "cash": 2 * NANO,
        "deferred_revenue": 0,
        "taxes_payable": -540_000_000,
        "receivable": 1_380_000_000,
    }
    ledger.pay(document["number"], 1_380_000_000, "bank-2")
    assert ledger.balances(owner)["receivable"] == 0
    assert ledger.prove().ok


def test_a_draft_writes_nothing_and_its_digest_guards_the_final(priced: Ledger, bolt: str, used: Used) -> None:
    priced.take_now([used(bolt, "a", 1_000_000)])
    draft = priced.draft(bolt)
    assert (draft["status"], draft["number"]) == ("draft", "")
    priced.take_now([used(bolt, "b", 1_000_000)])
    with pytest.raises(DraftChangedError):
        priced.invoice(bolt, digest=draft["digest"])
    made = priced.invoice(bolt, digest=priced.draft(bolt)["digest"])
    assert made is not None and made["number"] == "INV-000001"
    assert priced.invoice(bolt) is None


def test_numbers_have_no_gaps_under_concurrency(priced: Ledger, used: Used) -> None:
    accounts = Accounts(priced.store)
    owners = [accounts.create_organization(f"o{number}").id for number in range(8)]
    priced.take_now([used(owner, owner, 10**6) for owner in owners])
    priced.rate()
    numbers: list[str] = []

    def make(owner: str) -> None:
        document = priced.invoice(owner)
        assert document is not None
        numbers.append(document["number"])

    threads = [threading.Thread(target=make, args=(owner,)) for owner in owners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == [f"INV-{number:06d}" for number in range(1, 9)]


def test_two_close_the_same_month_at_once_and_one_does(
    priced: Ledger, bolt: str, used: Used, clock: SimulatedClock
) -> None:
    priced.take_now([used(bolt, "a", 1_000_000)])
    with pytest.raises(PeriodOpenError):
        priced.close(bolt, "2026-01")
    clock.set(FEBRUARY)
    closed = []
    url = priced.store.url.render_as_string(hide_password=False)
    ledgers = [Ledger(Store(url, clock)) for _ in range(6)]

    def close(ledger: Ledger) -> None:
        closed.append(ledger.close(bolt, "2026-01"))

    threads = [threading.Thread(target=close, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ledger in ledgers:
        ledger.store.close()
    assert sum(found.by_this_call for found in closed) == 1
    assert {found.invoice["number"] for found in closed if found.invoice} == {"INV-000001"}
    assert len(priced.invoices(bolt)) == 1


def test_a_fee_is_charged_for_its_part_of_the_month_and_a_minimum_topped_up(
    priced: Ledger, acme: str, used: Used, clock: SimulatedClock
) -> None:
    priced.take_now([used(acme, "a", 1_000_000)])
    clock.set(FEBRUARY)
    document = priced.close(acme, "2026-01").invoice
    assert document is not None
    amounts = {line["kind"]: line["amount"] for line in document["lines"]}
    month = 31 * 86_400
    assert amounts["commitment"] == "49.850000000"
    # From 16 January 00:00 UTC to the end of January in Berlin, which is 23:00 UTC on the 31st.
    assert amounts["fee"] == f"{100 * NANO * (16 * 86_400 - 3600) // month / NANO:.9f}"
    priced.take_now([used(acme, "late", 100_000_000, at=datetime(2026, 1, 20, tzinfo=UTC))])
    # The minimum goes down by what the late usage costs: nothing to pay, so no number, and both wait for the next invoice.
    assert priced.invoice(acme) is None
    draft = priced.draft(acme)
    assert [(line["kind"], line["amount"]) for line in draft["lines"]] == [
        ("adjustment", "15.000000000"),
        ("commitment", "-15.000000000"),
    ]
    assert (draft["total"], priced.prove().findings) == ("0.000000000", [])


def test_overage_beyond_a_commitment_has_its_own_price(
    ledger: Ledger, bolt: str, used: Used, clock: SimulatedClock
) -> None:
    text = f"""
[[prices]]
id = "a"
meter = "tokens.input"
kind = "per_unit"
currency = "USD"
amount = "1"
per = 1000
from = 2026-01-01T00:00:00Z
[[commitments]]
id = "c"
organization = "{bolt}"
currency = "USD"
minimum = "10"
overage_percent = "120"
from = 2026-01-01T00:00:00Z
"""
    ledger.publish_prices(book_from_toml(text, "prices.toml"))
    ledger.take_now([used(bolt, "a", 15_000)])
    clock.set(FEBRUARY)
    document = ledger.close(bolt, "2026-01").invoice
    assert document is not None and document["total"] == "16.000000000"


def test_a_draft_with_late_usage_is_the_invoice_that_is_then_made(
    ledger: Ledger, bolt: str, used: Used, clock: SimulatedClock
) -> None:
    """What the minimum of a closed month is relieved of by late usage stands on the draft, though nothing is written yet."""
    start = {"from": "2026-01-01T00:00:00Z", "currency": "USD"}
    price = {"id": "p", "meter": "tokens.input", "kind": "per_unit", "amount": "1", "per": 1000} | start
    least = {"id": "c", "organization": bolt, "minimum": "10"} | start
    ledger.publish_prices(book_from_dict({"prices": [price], "commitments": [least]}, "test"))
    first = clock.now()
    ledger.take_now([used(bolt, "a", 4_000)])
    clock.set(FEBRUARY)
    ledger.close(bolt, "2026-01")
    ledger.take_now([used(bolt, "late", 1_000, at=first), used(bolt, "b", 2_000)])
    draft = ledger.draft(bolt)
    before = ledger.balances(bolt)
    assert [line["amount"] for line in draft["lines"]] == ["1.000000000", "-1.000000000", "2.000000000"]
    assert ledger.draft(bolt)["digest"] == draft["digest"] and ledger.balances(bolt) == before
    made = ledger.invoice(bolt, digest=draft["digest"])
    assert made is not None and (made["lines"], made["total"]) == (draft["lines"], "2.000000000")
    assert ledger.prove().ok


def test_a_void_invoice_is_reversed_and_its_charges_are_invoiced_again(priced: Ledger, bolt: str, used: Used) -> None:
    priced.take_now([used(bolt, "a", 10_000_000)])
    priced.store.write(lambda connection: priced.credit(connection, bolt, 300_000_000, "sorry", "s1", kind="goodwill"))
    first = priced.invoice(bolt)
    assert first is not None and first["total"] == "1.200000000"
    assert priced.void(first["number"], "wrong address")["status"] == "void"
    assert priced.void(first["number"], "wrong address")["status"] == "void"
    assert priced.balances(bolt)["receivable"] == 0
    again = priced.invoice(bolt)
    assert again is not None and (again["number"], again["total"]) == ("INV-000002", "1.200000000")
    priced.pay(again["number"], 200_000_000, "p1")
    with pytest.raises(ConflictError, match="has payments"):
        priced.void(again["number"], "too late")
    assert priced.prove().ok


def test_payments_count_once_and_never_more_than_is_due(priced: Ledger, bolt: str, used: Used) -> None:
    priced.take_now([used(bolt, "a", 10_000_000)])
    document = priced.invoice(bolt)
    assert document is not None
    number = document["number"]
    assert priced.pay(number, NANO, "p1")["status"] == "final"
    assert priced.pay(number, NANO, "p1")["paid"] == "1.000000000"
    with pytest.raises(ConflictError, match="another invoice or amount"):
        priced.pay(number, 5, "p1")
    with pytest.raises(InvalidInputError, match=r"at most 0\.5"):
        priced.pay(number, NANO, "p2")
    assert priced.pay(number, NANO // 2, "p2")["status"] == "paid"


def test_nothing_is_below_zero_or_carried_over(priced: Ledger, bolt: str, used: Used) -> None:
    priced.take_now([used(bolt, "a", 10_000_000)])
    first = priced.invoice(bolt)
    assert first is not None
    priced.take_now([used(bolt, "gone", 0, kind="cancellation", corrects=("gateway", "a"))])
    run = priced.bill(bolt)
    assert run.invoice is None and run.note is not None
    assert (run.note["total"], run.note["receivable"]) == ("1.500000000", "1.500000000")
    priced.take_now([used(bolt, "b", 20_000_000)])
    third = priced.invoice(bolt)
    assert third is not None and (third["number"], third["total"]) == ("INV-000002", "3.000000000")
    assert priced.balances(bolt)["receivable"] == 3 * NANO
    assert priced.prove().ok


def test_credits_are_granted_once_used_in_order_and_expire(
    priced: Ledger, bolt: str, used: Used, clock: SimulatedClock
) -> None:
    def give(source: str, nano: int, days: int | None) -> None:
        expires = clock.now() + timedelta(days=days) if days else None
        priced.store.write(
            lambda connection: priced.credit(connection, bolt, nano, "", source, kind="promotional", expires_at=expires)
        )

    give("late", 10**9, 20)
    give("soon", 10**9, 5)
    give("soon", 10**9, 5)
    give("never", 10**9, None)
    with pytest.raises(ConflictError, match="another amount"):
        give("soon", 5, 5)
    priced.take_now([used(bolt, "a", 8_000_000)])
    document = priced.invoice(bolt)
    assert document is not None and document["total"] == "0.000000000"
    left = {credit.source_id: credit.remaining_nano for credit in priced.credits(bolt)}
    assert left == {"soon": 0, "late": 800_000_000, "never": 10**9}
    clock.advance(21 * 86_400)
    assert (priced.expire(), priced.expire()) == (1, 0)
    assert priced.balances(bolt)["breakage"] == -800_000_000
    assert priced.balances(bolt)["credits"] == -(10**9)
    assert priced.prove().ok


def test_yen_have_no_cents(ledger: Ledger, used: Used) -> None:
    owner = Accounts(ledger.store).create_organization("tokyo", currency="JPY", timezone="Asia/Tokyo").id
    text = '[[prices]]\nid="a"\nmeter="tokens.input"\nkind="per_unit"\ncurrency="JPY"\namount="0.5"\nper=1000\n'
    ledger.publish_prices(book_from_toml(text + "from=2025-01-01T00:00:00Z", "prices.toml"))
    ledger.take_now([used(owner, "a", 5000)])
    document = ledger.invoice(owner)
    assert document is not None
    assert (document["subtotal"], document["rounding"], document["total"]) == (
        "2.500000000",
        "-0.500000000",
        "2.000000000",
    )
    assert "2 JPY" in invoice_page(document)


def test_taxes_plug_in(clock: SimulatedClock) -> None:
    assert isinstance(taxes_named(""), NoTax)
    with pytest.raises(InvalidInputError, match="no installed package"):
        taxes_named("moon")
    with pytest.raises(InvalidInputError, match="ISO 3166"):
        Profile(country="Germany")


def test_an_invoice_is_issued_on_the_day_of_its_customer(ledger: Ledger, used: Used, clock: SimulatedClock) -> None:
    """Right after the end of a month in Tokyo it is still the month's last day in UTC."""
    owner = Accounts(ledger.store).create_organization("tokyo", currency="JPY", timezone="Asia/Tokyo").id
    price = {"id": "p", "meter": "tokens.input", "kind": "per_unit", "amount": "1", "currency": "JPY"}
    ledger.publish_prices(book_from_dict({"prices": [price | {"from": "2026-01-01T00:00:00Z", "per": 1000}]}, "test"))
    ledger.take_now([used(owner, "a", 4_000)])
    clock.set(datetime(2026, 1, 31, 15, 0, tzinfo=UTC))
    document = ledger.close(owner, "2026-01").invoice
    assert document is not None
    page = invoice_page(document)
    assert "1 Feb 2026" in page and "3 Mar 2026" in page and "31 Jan" not in page


def test_page_and_pdf_show_the_same_invoice(busy: Ledger, acme: str) -> None:
    busy.set_profile(acme, Profile("Acme <Ltd> Łódź", "1 Street\nTown", "PL", "PL123", "a@example.com", 14))
    document = busy.invoices(acme)[-1]
    page = invoice_page(document)
    assert document["number"] in page and "<script" not in page and "Input tokens" in page
    data = invoice_pdf(document | {"customer": document["customer"] | {"name": "Łódź & Sons"}})
    assert data.startswith(b"%PDF") and len(data) > 1500


def test_statement_and_aged_receivables(busy: Ledger, acme: str, clock: SimulatedClock) -> None:
    january = busy.invoices(acme)[-1]
    statement = busy.statement(acme, "2026-02")
    assert statement["movements"][0]["amount"] == january["due"]
    march = busy.statement(acme, "2026-03")
    assert march["opening"] == statement["closing"]
    clock.set(datetime(2026, 4, 10, tzinfo=UTC))
    rows = {row["name"]: row for row in busy.receivables().items}
    assert rows["acme"]["31-60"] != "0.000000000" and rows["acme"]["1-30"] != "0.000000000"
    assert float(rows["acme"]["total"]) == float(busy.balances(acme)["receivable"]) / NANO
