"""`sublet ledger`: on the database of this machine's settings, for whoever may read it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from sublet.commands import budgets as budget_commands
from sublet.ledger.assembly import Organization, open_ledger, organization_id
from sublet.ledger.cloudevents import read_each, renumbered, split_batch
from sublet.ledger.exports import EXPORTS, export_rows, write_parquet
from sublet.ledger.model import amount_text
from sublet.ledger.page import invoice_page, summary
from sublet.ledger.pdf import invoice_pdf
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.screen import Screen
from sublet.values.clock import parse_time
from sublet.values.errors import InvalidInputError
from sublet.values.money import nano_from_decimal

app = typer.Typer(
    no_args_is_help=True, help="Money: usage, invoices, credits, budgets, exports, and the proof of it all."
)
app.add_typer(budget_commands.app, name="budget")

PROOF_FAILED = 1
TAKE_EVENTS = 1_000
Month = Annotated[
    str, typer.Option(help="Month like 2026-11, in the organization's time zone; the present one by default.")
]


@app.command("prove")
def prove(
    invoice: Annotated[str, typer.Argument(help="An invoice's id or number; without it, everything.")] = "",
    organization: Annotated[str, typer.Option(help="Prove one organization, by id or name.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Derive money again from raw events and print the difference, which must be 0."""
    ledger = open_ledger()
    wanted = organization_id(ledger, organization) if organization else ""
    with Screen(stderr=True).status("deriving everything from raw events"):
        proof = ledger.prove(wanted, invoice)
    if as_json:
        print_json(proof.as_dict())
    else:
        counted = (
            f"{proof.events} events, {proof.lines} lines, {proof.transactions} transactions, {proof.invoices} invoices"
        )
        say(f"difference {amount_text(proof.difference_nano)} ({counted})")
        for finding in proof.findings:
            say(f"differs: {finding}")
    if not proof.ok:
        raise typer.Exit(PROOF_FAILED)


@app.command("rate")
def rate(as_json: JsonFlag = False) -> None:
    """Rate and post every usage event that has arrived."""
    ledger = open_ledger()
    with Screen(stderr=True).status("rating"):
        report = ledger.rate()
    if as_json:
        print_json(vars(report))
    else:
        say(f"{report.rated} lines in {report.transactions} transactions; {report.waiting} events wait")


@app.command("take")
def take(
    file: Annotated[
        Path, typer.Argument(help="CloudEvents as a JSON array, or one per line.", exists=True, dir_okay=False)
    ],
    as_json: JsonFlag = False,
) -> None:
    """Read usage events from a file; events that are already recorded are skipped."""
    ledger = open_ledger()
    accepted = duplicates = 0
    refused: list[dict[str, Any]] = []
    found = _events_in(file)
    while batch := list(islice(found, TAKE_EVENTS)):
        events, unreadable = read_each([content for _, content in batch])
        result = ledger.take_now(events)
        accepted += result.accepted
        duplicates += result.duplicates
        places = renumbered(list(result.refused), unreadable)
        refused += [{"place": batch[bad.index][0], **bad.as_dict()} for bad in places]
    if as_json:
        print_json({"accepted": accepted, "duplicates": duplicates, "refused": refused})
    else:
        say(f"{accepted} taken, {duplicates} known already, {len(refused)} refused")
        for refusal in refused:
            name = f" ({refusal['source']} {refusal['id']})" if refusal["id"] else ""
            say(f"refused: {file}:{refusal['place']}{name}: {refusal['message']}")
    if refused:
        raise typer.Exit(2)


def _events_in(file: Path) -> Iterator[tuple[int, bytes]]:
    """Each event of a file with its place: its number in the array, or its line."""
    with file.open("rb") as lines:
        first = next((line.lstrip() for line in lines if line.strip()), b"")
        lines.seek(0)
        if first.startswith(b"["):
            yield from enumerate(split_batch(lines.read()), 1)
            return
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, line.strip()


@app.command("invoice")
def invoice(
    organization: Organization,
    period: Month = "",
    final: Annotated[bool, typer.Option("--final", help="Make it final: numbered, posted, credits used.")] = False,
    digest: Annotated[str, typer.Option(help="With --final: only if it is still the draft of this digest.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write it to a .json, .html or .pdf file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the invoice that would be made now; with --final, make it."""
    ledger = open_ledger()
    owner = organization_id(ledger, organization)
    document = ledger.invoice(owner, period, digest) if final else ledger.draft(owner, period)
    if document is None:
        say("nothing to invoice")
        return
    _show(document, out, as_json)


@app.command("show")
def show(
    invoice_id: Annotated[str, typer.Argument(help="An invoice's id or number.")],
    out: Annotated[Path | None, typer.Option(help="Write it to a .json, .html or .pdf file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a final invoice, or write it as a page, PDF or JSON."""
    _show(open_ledger().invoice_by(invoice_id), out, as_json)


def _show(document: dict[str, Any], out: Path | None, as_json: bool) -> None:
    if out is not None:
        if out.suffix == ".pdf":
            out.write_bytes(invoice_pdf(document))
        elif out.suffix == ".html":
            out.write_text(invoice_page(document))
        elif out.suffix == ".json":
            out.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        else:
            raise InvalidInputError(f"--out {out} must end in .json, .html or .pdf")
        say(f"written to {out}")
        return
    if as_json:
        print_json(document)
        return
    columns = {
        "description": "what",
        "used": "used in",
        "quantity": "quantity",
        "unit": "unit",
        "unit_price": "price",
        "amount": document["currency"],
    }
    say(f"{document['number'] or 'draft'} for {document['customer']['name']}, {document['period']['label']}")
    print_rows(document["lines"], columns, "no lines")
    for name, amount, _ in summary(document):
        say(f"{name:>10}  {amount} {document['currency']}")
    say(f"{'digest':>10}  {document['digest']}")


@app.command("invoices")
def invoices(organization: Organization, as_json: JsonFlag = False) -> None:
    """List an organization's invoices."""
    ledger = open_ledger()
    found = ledger.invoices(organization_id(ledger, organization))
    if as_json:
        print_json({"invoices": found})
        return
    rows = [entry | {"month": entry["period"]["label"]} for entry in found]
    columns = {
        "number": "number",
        "month": "month",
        "status": "status",
        "total": "total",
        "due": "due",
        "currency": "in",
    }
    print_rows(rows, columns, "no invoices yet; `sublet ledger invoice ORGANIZATION --final` makes one")


@app.command("close")
def close(
    organization: Organization,
    period: Annotated[str, typer.Argument(help="Month like 2026-11.")],
    as_json: JsonFlag = False,
) -> None:
    """Close a month that is over and make its invoice; repeating this changes nothing."""
    ledger = open_ledger()
    closed = ledger.close(organization_id(ledger, organization), period)
    number = closed.invoice["number"] if closed.invoice else None
    if as_json:
        print_json({"period": period, "closed_now": closed.by_this_call, "invoice": number})
    else:
        say(f"{period} {'closed' if closed.by_this_call else 'was closed already'}; invoice {number or 'none'}")


@app.command("close-all")
def close_all(period: Annotated[str, typer.Argument(help="Month like 2026-11.")], as_json: JsonFlag = False) -> None:
    """Close a month of every organization in whose time zone it is over."""
    ledger = open_ledger()
    with Screen(stderr=True).status("closing"):
        found = ledger.close_all(period)
    numbers = [closed.invoice["number"] for closed in found if closed.by_this_call and closed.invoice]
    if as_json:
        print_json({"period": period, "closed_now": sum(closed.by_this_call for closed in found), "invoices": numbers})
    else:
        say(f"{sum(closed.by_this_call for closed in found)} closed, {len(numbers)} invoices made")


@app.command("rerate")
def rerate(
    organization: Organization,
    period: Annotated[str, typer.Argument(help="Month like 2026-11.")],
    as_json: JsonFlag = False,
) -> None:
    """Rerate a month's usage by the current price book, by reversal."""
    ledger = open_ledger()
    report = ledger.rerate(organization_id(ledger, organization), period)
    if as_json:
        print_json(vars(report))
    else:
        say(f"{report.rated} lines in {report.transactions} transactions; {report.left} events stay as they were")
        for entry in report.left_events:
            say(f"stays: {entry['id']} of {entry['source']}: {entry['code']}: {entry['reason']}")
        if report.left > len(report.left_events):
            say(f"{report.left - len(report.left_events)} more stay")


@app.command("pay")
def pay(
    invoice_id: Annotated[str, typer.Argument(help="As `sublet ledger invoices` shows it.")],
    amount: Annotated[str, typer.Argument(help="In the invoice's currency, like 12.50.")],
    source: Annotated[str, typer.Option(help="Unique name of the payment, such as a bank reference.")],
    as_json: JsonFlag = False,
) -> None:
    """Record a payment, once per source."""
    document = open_ledger().pay(invoice_id, nano_from_decimal(amount), source)
    if as_json:
        print_json(document)
    else:
        say(f"{document['number']} is {document['status']}, paid {document['paid']} of {document['due']}")


@app.command("reverse-payment")
def reverse_payment(
    invoice_id: Annotated[str, typer.Argument(help="As `sublet ledger invoices` shows it.")],
    source: Annotated[str, typer.Option(help="What the payment was recorded as.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    as_json: JsonFlag = False,
) -> None:
    """Reverse a payment that was recorded by mistake, booked today; the invoice is open again."""
    document = open_ledger().reverse_payment(invoice_id, source, reason)
    if as_json:
        print_json(document)
    else:
        say(f"{document['number']} is {document['status']}, paid {document['paid']} of {document['due']}")


@app.command("void")
def void(
    invoice_id: Annotated[str, typer.Argument(help="As `sublet ledger invoices` shows it.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    as_json: JsonFlag = False,
) -> None:
    """Void a final invoice by a reversal; its number stays used, and its charges are invoiced again."""
    document = open_ledger().void(invoice_id, reason)
    if as_json:
        print_json(document)
    else:
        say(f"{document['number']} is void")


@app.command("credit")
def credit(
    organization: Organization,
    amount: Annotated[str, typer.Argument(help="In the organization's currency, like 25.00.")],
    source: Annotated[str, typer.Option(help="Unique name of the credit.")],
    kind: Annotated[str, typer.Option(help="promotional, goodwill, reclaim or prepaid.")] = "promotional",
    reason: Annotated[str, typer.Option(help="The reason shown to the customer.")] = "",
    expires: Annotated[
        str, typer.Option(help="RFC 3339 time with offset, from which what is left of it is gone; without it: never.")
    ] = "",
    tax_mode: Annotated[
        str,
        typer.Option(
            help="Prepaid money: at_use is a deposit that pays net and tax; at_payment comes with its tax now."
        ),
    ] = "at_use",
    as_json: JsonFlag = False,
) -> None:
    """Grant a credit, or book prepaid money, once per source."""
    try:
        expires_at = parse_time(expires) if expires else None
    except ValueError as error:
        raise InvalidInputError(f"--expires: {error}") from error
    ledger = open_ledger()
    owner, nano = organization_id(ledger, organization), nano_from_decimal(amount)
    if kind == "prepaid":
        ledger.ensure_payable(owner, nano)
    given = ledger.store.write(
        lambda connection: ledger.credit(
            connection, owner, nano, reason, source, kind=kind, expires_at=expires_at, tax_mode=tax_mode
        )
    )
    if as_json:
        print_json(given.as_dict())
    else:
        say(f"{given.id}  {amount_text(given.remaining_nano)} left of {amount_text(given.nano)} ({given.kind})")


@app.command("credits")
def list_credits(organization: Organization, as_json: JsonFlag = False) -> None:
    """List an organization's credits and prepaid money, with what is left of each."""
    ledger = open_ledger()
    rows = [found.as_dict() for found in ledger.credits(organization_id(ledger, organization))]
    if as_json:
        print_json({"credits": rows})
        return
    columns = {"id": "id", "kind": "kind", "source_id": "source", "amount": "amount", "remaining": "left"}
    columns |= {"granted_at": "given", "expires_at": "expires", "reason": "reason"}
    print_rows(rows, columns, "no credits yet; `sublet ledger credit ORGANIZATION AMOUNT` gives one")


@app.command("profile")
def profile(
    organization: Organization,
    legal_name: Annotated[
        str | None, typer.Option(help="Name on the invoice; the organization's own where empty.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Address on the invoice.")] = None,
    country: Annotated[str | None, typer.Option(help="ISO 3166-1 code, like DE; taxes may depend on it.")] = None,
    tax_number: Annotated[str | None, typer.Option(help="The customer's tax number.")] = None,
    email: Annotated[str | None, typer.Option(help="Whom to ask about invoices.")] = None,
    payment_days: Annotated[int | None, typer.Option(help="Days until an invoice is due.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what stands on an organization's invoices about it; with options, change it from the next invoice on."""
    ledger = open_ledger()
    owner = organization_id(ledger, organization)
    given = {
        "legal_name": legal_name,
        "address": address,
        "country": country,
        "tax_number": tax_number,
        "email": email,
        "payment_days": payment_days,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    found = replace(ledger.profile(owner), **wanted)  # type: ignore[arg-type]
    if wanted:
        ledger.set_profile(owner, found)
    if as_json:
        print_json(asdict(found))
        return
    for name, value in asdict(found).items():
        say(f"{name:>12}  {value}")


@app.command("balance")
def balance(organization: Organization, as_json: JsonFlag = False) -> None:
    """Balances by account; debit is positive."""
    ledger = open_ledger()
    found = {
        account: amount_text(nano)
        for account, nano in sorted(ledger.balances(organization_id(ledger, organization)).items())
    }
    if as_json:
        print_json({"balances": found})
    else:
        rows = [{"account": account, "balance": value} for account, value in found.items()]
        print_rows(rows, {"account": "account", "balance": "balance"}, "nothing was posted yet")


@app.command("statement")
def statement(organization: Organization, period: Month = "", as_json: JsonFlag = False) -> None:
    """Show what an organization owed at the start of a month, what changed it, and what it owed at the end."""
    ledger = open_ledger()
    found = ledger.statement(organization_id(ledger, organization), period)
    if as_json:
        print_json(found)
        return
    say(f"{found['name']}, {found['period']}: opening {found['opening']} {found['currency']}")
    columns = {"booked_at": "booked", "kind": "kind", "text": "what", "amount": "amount", "balance": "balance"}
    print_rows(found["movements"], columns, "no movements")
    say(f"closing {found['closing']} {found['currency']}")


@app.command("receivables")
def receivables(as_json: JsonFlag = False) -> None:
    """Show what is owed, by organization and days past due."""
    found = open_ledger().receivables()
    if as_json:
        print_json({"receivables": found})
    else:
        names = ("name", "currency", "current", "1-30", "31-60", "61-90", "over 90", "total")
        print_rows(found, {name: name for name in names}, "nothing is owed")


@app.command("health")
def health(as_json: JsonFlag = False) -> None:
    """Show how far rating is, what waits and why, and the result of the last nightly proof."""
    found = open_ledger().health()
    if as_json:
        print_json(found)
        return
    say(f"{found['events']} events, rated to {found['rated_to']}, {found['lines']} lines")
    for entry in found["waiting"]:
        say(f"waits: {entry['id']} of {entry['source']}: {entry['code']}: {entry['reason']}")
    if found["waiting_events"] > len(found["waiting"]):
        say(f"{found['waiting_events']} events wait in all")
    last = found["last_proof"]
    say(f"last proof {last['proved_at']}: difference {last['difference']}" if last else "no nightly proof yet")


@app.command("dismiss")
def dismiss(
    source: Annotated[str, typer.Argument(help="The correction's source, as `sublet ledger health` shows it.")],
    event_id: Annotated[str, typer.Argument(help="The correction's id.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    as_json: JsonFlag = False,
) -> None:
    """Dismiss a correction that waits for an event that will never arrive; it stays on record, with the reason."""
    found = open_ledger().dismiss(source, event_id, reason)
    if as_json:
        print_json(found)
    else:
        say(f"{found['kind']} {found['id']} of {found['source']} is dismissed")


@app.command("dismissed")
def list_dismissed(
    organization: Annotated[str, typer.Option(help="Id or name; without it, all.")] = "", as_json: JsonFlag = False
) -> None:
    """List the corrections that were dismissed, and why."""
    ledger = open_ledger()
    rows = ledger.dismissed(organization_id(ledger, organization) if organization else "")
    if as_json:
        print_json({"dismissed": rows})
        return
    names = {"source": "source", "id": "id", "kind": "kind", "dismissed_at": "at", "reason": "reason"}
    print_rows(rows, names, "nothing was dismissed")


@app.command("export")
def export(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(EXPORTS)}.")],
    out: Annotated[
        Path | None, typer.Option(help="A .csv or .parquet file; without it, CSV on standard output.")
    ] = None,
    organization: Annotated[str, typer.Option(help="Id or name; without it, all.")] = "",
    since: Annotated[str, typer.Option(help="First month, like 2026-01.")] = "",
    until: Annotated[str, typer.Option(help="Last month, like 2026-12.")] = "",
) -> None:
    """Export for finance tools, streamed: a year of usage needs no more memory than a day."""
    ledger = open_ledger()
    owner = organization_id(ledger, organization) if organization else ""
    if out is not None and out.suffix == ".parquet":
        with Screen(stderr=True).status("exporting"):
            count = write_parquet(ledger.store, ledger.books, name, owner, since, until, out, ledger.issuer.name)
        say(f"{count} rows written to {out}")
        return
    if out is not None and out.suffix != ".csv":
        raise InvalidInputError(f"--out {out} must end in .csv or .parquet")
    rows = export_rows(ledger.store, ledger.books, name, owner, since, until, ledger.issuer.name)
    if out is None:
        for part in rows:
            sys.stdout.buffer.write(part)
        return
    with Screen(stderr=True).status("exporting"), out.open("wb") as file:
        file.writelines(rows)
    say(f"written to {out}")
