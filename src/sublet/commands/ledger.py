"""`sublet ledger`: money, asked of the running Sublet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from sublet.client.remote import LONG_S, connect, organization_id
from sublet.commands import budgets as budget_commands
from sublet.commands import invoices as invoice_commands
from sublet.commands import settling
from sublet.commands.backlog import backlog
from sublet.commands.budgets import Organization
from sublet.commands.example import example
from sublet.commands.invoices import Month
from sublet.commands.revenue import checklist, revenue
from sublet.commands.usage_files import batches, events_in, is_json
from sublet.output import JsonFlag, print_fields, print_json, print_rows, say, waiting
from sublet.shown import (
    Columns,
    cost_text,
    counted,
    money,
    money_text,
    short,
    time,
    time_text,
)
from sublet.values.clock import format_time, parse_time
from sublet.values.errors import InvalidInputError

app = typer.Typer(no_args_is_help=True, help="Money: usage, invoices, credits, budgets, exports, and the proof.")
app.add_typer(budget_commands.app, name="budget")
app.command("note")(settling.note)
app.command("notes")(settling.notes)
app.command("reverse-payment")(settling.reverse_payment)
app.command("receive")(settling.receive)
app.command("payments")(settling.payments)
app.command("checklist")(checklist)
app.command("refund")(settling.refund)
app.command("refunds")(settling.refunds)
app.command("return")(settling.return_deposit)
app.command("write-off")(settling.write_off)
app.command("reinstate")(settling.reinstate)
app.command("net")(settling.net)
app.command("revenue")(revenue)

PROOF_FAILED = 1


app.command("backlog")(backlog)
app.command("example")(example)


@app.command("prove")
def prove(
    invoice: Annotated[str, typer.Argument(help="Id or number of an invoice; by default, everything.")] = "",
    organization: Annotated[str, typer.Option(help="Prove only this organization, by id or name.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Recompute all amounts from raw events and print the difference, which must be 0."""
    client = connect(LONG_S)
    query = {
        "organization_id": organization_id(client, organization) if organization else None,
        "invoice_id": invoice or None,
    }
    with waiting("recomputing everything from raw events"):
        proof = client.document("ledger.prove", query=query)
    print_proof(proof, as_json)


def print_proof(proof: dict[str, Any], as_json: bool) -> None:
    """Print what a proof found; exit code 1 if something differs."""
    if as_json:
        print_json(proof)
    else:
        told = ", ".join(f"{proof[name]} {name}" for name in ("events", "lines", "transactions", "invoices"))
        say(f"difference {proof['difference']} ({told})")
        for finding in proof["findings"]:
            say(f"differs: {finding}")
    if not proof["ok"]:
        raise typer.Exit(PROOF_FAILED)


@app.command("rate")
def rate(as_json: JsonFlag = False) -> None:
    """Rate and post every usage event that has arrived."""
    with waiting("rating"):
        report = connect(LONG_S).document("ledger.rate")
    if as_json:
        print_json(report)
    else:
        say(f"{report['rated']} lines in {report['transactions']} transactions; {report['waiting']} events waiting")


@app.command("take")
def take(
    file: Annotated[
        Path, typer.Argument(help="CloudEvents as a JSON array, or one per line.", exists=True, dir_okay=False)
    ],
    as_json: JsonFlag = False,
) -> None:
    """Read usage events from a file; events that are already recorded are skipped."""
    client = connect()
    accepted = duplicates = 0
    refused: list[dict[str, Any]] = []
    for batch in batches(events_in(file)):
        # What is no JSON would make the whole batch unreadable; in its place the service refuses a null by its number.
        body = b"[" + b",".join(content if is_json(content) else b"null" for _, content in batch) + b"]"
        result = client.document("ledger.take_usage", body=body, content_type="application/cloudevents-batch+json")
        accepted += result["accepted"]
        duplicates += result["duplicates"]
        refused += [{"place": batch[bad["index"]][0], **bad} for bad in result["refused"]]
    if as_json:
        print_json({"accepted": accepted, "duplicates": duplicates, "refused": refused})
    else:
        say(f"{accepted} accepted, {duplicates} duplicates, {len(refused)} refused")
        for refusal in refused:
            name = f" ({refusal['source']} {refusal['id']})" if refusal["id"] else ""
            say(f"refused: {file}:{refusal['place']}{name}: {refusal['message']}")
    if refused:
        raise typer.Exit(2)


app.command("invoice")(invoice_commands.invoice)
app.command("show")(invoice_commands.show)


@app.command("invoices")
def invoices(organization: Organization, as_json: JsonFlag = False) -> None:
    """List an organization's invoices."""
    client = connect()
    found = client.collected("ledger.list_invoices", query={"organization_id": organization_id(client, organization)})
    if as_json:
        print_json(found)
        return
    rows = [entry | {"month": entry["period"]["label"]} for entry in found["invoices"]]
    columns: Columns = {
        "number": "number",
        "month": "month",
        "status": "status",
        "total": money("total", "currency"),
        "due": money("due", "currency"),
    }
    print_rows(rows, columns, "no invoices yet; issue one with `sublet ledger invoice ORGANIZATION --final`")


@app.command("close")
def close(
    organization: Organization,
    period: Annotated[str, typer.Argument(help="Month like 2026-11.")],
    as_json: JsonFlag = False,
) -> None:
    """Close a past month and issue its invoice; repeating this changes nothing."""
    client = connect()
    closed = client.document("ledger.close_period", organization_id(client, organization), period)
    number = closed["invoice"]["number"] if closed["invoice"] else None
    if as_json:
        print_json({"period": period, "closed_now": closed["closed_now"], "invoice": number})
    else:
        say(f"{period} {'closed' if closed['closed_now'] else 'was closed already'}; invoice {number or 'none'}")


@app.command("close-all")
def close_all(period: Annotated[str, typer.Argument(help="Month like 2026-11.")], as_json: JsonFlag = False) -> None:
    """Close a month for every organization in whose time zone it has ended."""
    with waiting("closing"):
        found = connect(LONG_S).document("ledger.close_all_periods", period)
    if as_json:
        print_json(found)
    else:
        say(f"{found['closed_now']} closed, {len(found['invoices'])} invoices issued")


@app.command("rerate")
def rerate(
    organization: Organization,
    period: Annotated[str, typer.Argument(help="Month like 2026-11.")],
    as_json: JsonFlag = False,
) -> None:
    """Rerate a month's usage with the current price book, by reversing and rebooking it."""
    client = connect(LONG_S)
    report = client.document("ledger.rerate_period", organization_id(client, organization), period)
    if as_json:
        print_json(report)
        return
    left = report["left"]
    say(f"{report['rated']} lines in {report['transactions']} transactions; {left} events unchanged")
    for entry in report["left_events"]:
        say(f"unchanged: {entry['id']} of {entry['source']}: {entry['code']}: {entry['reason']}")
    if left > len(report["left_events"]):
        say(f"{left - len(report['left_events'])} more unchanged")


@app.command("pay")
def pay(
    invoice_id: Annotated[str, typer.Argument(help="Id or number, as shown by `sublet ledger invoices`.")],
    amount: Annotated[str, typer.Argument(help="Amount in the invoice's currency, such as 12.50.")],
    source: Annotated[str, typer.Option(help="Unique name of the payment, such as a bank reference.")],
    as_json: JsonFlag = False,
) -> None:
    """Record a payment, once per source."""
    document = connect().document("ledger.pay_invoice", invoice_id, body={"amount": amount, "source_id": source})
    if as_json:
        print_json(document)
    else:
        say(
            f"{document['number']} is {document['status']}, paid {money_text(document['paid'])} of {money_text(document['due'])}"
        )


@app.command("void")
def void(
    invoice_id: Annotated[str, typer.Argument(help="Id or number, as shown by `sublet ledger invoices`.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    as_json: JsonFlag = False,
) -> None:
    """Void a final invoice with a reversal; its number stays used, and its charges are invoiced again."""
    document = connect().document("ledger.void_invoice", invoice_id, body={"reason": reason})
    if as_json:
        print_json(document)
    else:
        say(f"{document['number']} is void")


@app.command("credit")
def credit(
    organization: Organization,
    amount: Annotated[str, typer.Argument(help="Amount in the organization's currency, such as 25.00.")],
    source: Annotated[str, typer.Option(help="Unique name of the credit.")],
    kind: Annotated[str, typer.Option(help="promotional, goodwill, reclaim or prepaid.")] = "promotional",
    reason: Annotated[str, typer.Option(help="Reason, shown to the customer.")] = "",
    expires: Annotated[
        str, typer.Option(help="RFC 3339 time with offset at which the remainder expires; by default never.")
    ] = "",
    tax_mode: Annotated[
        str,
        typer.Option(help="For prepaid money: at_use is a deposit that pays net and tax; at_payment is taxed now."),
    ] = "at_use",
    as_json: JsonFlag = False,
) -> None:
    """Grant a credit, or record prepaid money, once per source."""
    try:
        expires_at = parse_time(expires) if expires else None
    except ValueError as error:
        raise InvalidInputError(f"--expires: {error}") from error
    client = connect()
    wanted = {
        "organization_id": organization_id(client, organization),
        "amount": amount,
        "source_id": source,
        "kind": kind,
        "reason": reason,
        "expires_at": format_time(expires_at) if expires_at else None,
        "tax_mode": tax_mode,
    }
    given = client.document("ledger.give_credit", body=wanted)
    if as_json:
        print_json(given)
    else:
        say(f"{given['id']}  {money_text(given['remaining'])} left of {money_text(given['amount'])} ({given['kind']})")


@app.command("credits")
def list_credits(organization: Organization, as_json: JsonFlag = False) -> None:
    """List an organization's credits and prepaid money, with the remainder of each."""
    client = connect()
    found = client.collected("ledger.list_credits", query={"organization_id": organization_id(client, organization)})
    if as_json:
        print_json(found)
        return
    columns: Columns = {"source_id": "source", "kind": "kind", "amount": money("amount"), "remaining": money("left")}
    columns |= {"granted_at": time("given"), "expires_at": time("expires"), "reason": "reason", "id": short("id")}
    print_rows(found["credits"], columns, "no credits yet; grant one with `sublet ledger credit ORGANIZATION AMOUNT`")


@app.command("profile")
def profile(
    organization: Organization,
    legal_name: Annotated[
        str | None, typer.Option(help="Name on the invoice; if empty, the organization's name.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Address on the invoice.")] = None,
    country: Annotated[str | None, typer.Option(help="ISO 3166-1 code, such as DE; taxes may depend on it.")] = None,
    tax_number: Annotated[str | None, typer.Option(help="The customer's tax number.")] = None,
    email: Annotated[str | None, typer.Option(help="Contact for questions about invoices.")] = None,
    payment_days: Annotated[int | None, typer.Option(help="Days until an invoice is due.")] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            help="Another field, as name=value: street, postcode, city, vat_id, iban, bic, reference, or language "
            "(en, de, fr, es, ja, zh-Hans, zh-Hant). Repeatable."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show an organization's billing details; with options, change them, starting with the next invoice."""
    client = connect()
    owner = organization_id(client, organization)
    given = {
        "legal_name": legal_name,
        "address": address,
        "country": country,
        "tax_number": tax_number,
        "email": email,
        "payment_days": payment_days,
    }
    wanted: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    found = client.document("ledger.read_profile", owner)
    for text in field or ():
        name, equals, value = text.partition("=")
        if not equals or name not in found or name == "payment_days":
            raise InvalidInputError(f"--field {text!r} must be name=value; names are {', '.join(found)}")
        wanted[name] = value
    if wanted:
        found = client.document("ledger.set_profile", owner, body=found | wanted)
    if as_json:
        print_json(found)
        return
    print_fields({name.replace("_", " "): value or None for name, value in found.items()})


@app.command("balance")
def balance(organization: Organization, as_json: JsonFlag = False) -> None:
    """Balances by account; debit is positive."""
    client = connect()
    found = client.document("ledger.read_balances", query={"organization_id": organization_id(client, organization)})
    if as_json:
        print_json(found)
    else:
        rows = [{"account": account, "balance": value} for account, value in found["balances"].items()]
        print_rows(rows, {"account": "account", "balance": money("balance")}, "nothing has been posted yet")


@app.command("statement")
def statement(organization: Organization, period: Month = "", as_json: JsonFlag = False) -> None:
    """Show what an organization owed at the start of a month, what changed it, and what it owed at the end."""
    client = connect()
    query = {"organization_id": organization_id(client, organization), "period": period}
    found = client.document("ledger.read_statement", query=query)
    if as_json:
        print_json(found)
        return
    say(f"{found['name']}, {found['period']}: opening {cost_text(found['opening'], found['currency'])}")
    columns: Columns = {"booked_at": time("booked"), "kind": "kind", "text": "what"}
    columns |= {"amount": money("amount"), "balance": money("balance")}
    print_rows(found["movements"], columns, "nothing was invoiced, paid or credited this month")
    say(f"closing {cost_text(found['closing'], found['currency'])}")


@app.command("receivables")
def receivables(as_json: JsonFlag = False) -> None:
    """Show what is owed, by organization and days past due."""
    found = connect().collected("ledger.list_receivables")
    if as_json:
        print_json(found)
    else:
        names = ("name", "currency", "current", "1-30", "31-60", "61-90", "over 90", "unapplied", "total")
        columns: Columns = {name: name if at < 2 else money(name) for at, name in enumerate(names)}
        print_rows(found["receivables"], columns, "nothing is owed")


@app.command("health")
def health(as_json: JsonFlag = False) -> None:
    """Show the progress of rating, what is waiting and why, and the result of the last nightly proof."""
    found = connect().document("ledger.read_health")
    if as_json:
        print_json(found)
        return
    rated = f"{counted(found['events'], 'event')}, rated to {found['rated_to']:,}"
    say(f"{rated}, {counted(found['lines'], 'line')}")
    for entry in found["waiting"]:
        say(f"waiting: {entry['id']} of {entry['source']}: {entry['code']}: {entry['reason']}")
    if found["waiting_events"] > len(found["waiting"]):
        say(f"{found['waiting_events']} events waiting in total")
    last = found["last_proof"]
    if last is None:
        say("no nightly proof yet; `sublet ledger prove` proves the books now")
    else:
        say(f"last proof {time_text(last['proved_at'])}: difference {last['difference']}")


@app.command("dismiss")
def dismiss(
    source: Annotated[str, typer.Argument(help="Source of the correction, as shown by `sublet ledger health`.")],
    event_id: Annotated[str, typer.Argument(help="The correction's id.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    as_json: JsonFlag = False,
) -> None:
    """Dismiss a correction that waits for an event that will never arrive; it is kept on record with the reason."""
    wanted = {"source": source, "id": event_id, "reason": reason}
    found = connect().document("ledger.dismiss", body=wanted)
    if as_json:
        print_json(found)
    else:
        say(f"{found['kind']} {found['id']} of {found['source']} is dismissed")


@app.command("dismissed")
def list_dismissed(
    organization: Annotated[str, typer.Option(help="Id or name; by default, all.")] = "", as_json: JsonFlag = False
) -> None:
    """List the corrections that were dismissed, and why."""
    client = connect()
    owner = organization_id(client, organization) if organization else None
    found = client.collected("ledger.list_dismissed", query={"organization_id": owner})
    if as_json:
        print_json(found)
        return
    names: Columns = {"source": "source", "id": "id", "kind": "kind", "dismissed_at": time("at"), "reason": "reason"}
    print_rows(found["dismissed"], names, "nothing was dismissed")


@app.command("export")
def export(
    name: Annotated[
        str,
        typer.Argument(
            help="deferred, focus-1.2, focus-1.4, focus-commitments, gl, gl-datev, gl-quickbooks, gl-xero, journal, receivables, "
            "revenue, trial-balance or usage."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="A .csv, .json or .parquet file; without it, CSV on standard output.")
    ] = None,
    organization: Annotated[str, typer.Option(help="Id or name; by default, all.")] = "",
    since: Annotated[str, typer.Option(help="First month, such as 2026-01.")] = "",
    until: Annotated[str, typer.Option(help="Last month, such as 2026-12.")] = "",
) -> None:
    """Export data for finance tools. Data is streamed, so large exports need little memory."""
    if out is not None and out.suffix not in (".csv", ".json", ".parquet"):
        raise InvalidInputError(f"--out {out} must end in .csv, .json or .parquet")
    client = connect(LONG_S)
    query = {
        "organization_id": organization_id(client, organization) if organization else None,
        "since": since or None,
        "until": until or None,
        "format": out.suffix[1:] if out is not None else None,
    }
    parts = client.bytes("ledger.read_export", name, query=query)
    if out is None:
        for part in parts:
            sys.stdout.buffer.write(part)
        return
    with waiting("exporting"):
        _write_whole(out, parts)
    say(f"written to {out}")


def _write_whole(out: Path, parts: Iterator[bytes]) -> None:
    """Write the file once all of it came: a broken connection leaves no half of an export."""
    made = out.with_name(f".{out.name}.part")
    try:
        with made.open("wb") as file:
            file.writelines(parts)
        made.replace(out)
    finally:
        made.unlink(missing_ok=True)
