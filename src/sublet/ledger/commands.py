"""`sublet ledger` and `sublet prices`: on the database of this machine's settings, for whoever may read it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sublet import settings
from sublet.accounts.service import Accounts
from sublet.ledger.book import PriceBook, book_from_toml, check
from sublet.ledger.cloudevents import BATCHED, read_request
from sublet.ledger.exports import EXPORTS, export_rows, write_parquet
from sublet.ledger.model import amount_text
from sublet.ledger.page import invoice_page
from sublet.ledger.pdf import invoice_pdf
from sublet.ledger.service import Ledger, new_budget
from sublet.output import JsonFlag, print_json, print_rows
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.values.errors import InvalidInputError
from sublet.values.money import nano_from_decimal

app = typer.Typer(
    no_args_is_help=True, help="Money: usage, invoices, credits, budgets, exports, and the proof of it all."
)
prices = typer.Typer(no_args_is_help=True, help="The price book: check, publish, show.")
budget = typer.Typer(no_args_is_help=True, help="Budgets: hard ones refuse work, soft ones raise alerts.")
app.add_typer(budget, name="budget")

PROOF_FAILED = 1
TAKE_LINES = 1_000
Organisation = Annotated[str, typer.Argument(help="Id or name.")]
Month = Annotated[
    str, typer.Option(help="Month like 2026-11, in the organisation's time zone; the present one by default.")
]


def _ledger() -> Ledger:
    store = Store(settings.load().database_url)
    migrate(store)
    return Ledger(store)


def _organisation(ledger: Ledger, name: str) -> str:
    return Accounts(ledger.store).organisation(name).id


@app.command("prove")
def prove(
    invoice: Annotated[str, typer.Argument(help="An invoice's id or number; without it, everything.")] = "",
    organisation: Annotated[str, typer.Option(help="Prove one organisation, by id or name.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Derive money again from raw events and print the difference, which must be 0."""
    ledger = _ledger()
    wanted = _organisation(ledger, organisation) if organisation else ""
    with Console(stderr=True).status("deriving everything from raw events"):
        proof = ledger.prove(wanted, invoice)
    if as_json:
        print_json(proof.as_dict())
    else:
        counted = (
            f"{proof.events} events, {proof.lines} lines, {proof.transactions} transactions, {proof.invoices} invoices"
        )
        typer.echo(f"difference {amount_text(proof.difference_nano)} ({counted})")
        for finding in proof.findings:
            typer.echo(f"differs: {finding}")
    if not proof.ok:
        raise typer.Exit(PROOF_FAILED)


@app.command("rate")
def rate(as_json: JsonFlag = False) -> None:
    """Rate and post every usage event that has arrived."""
    ledger = _ledger()
    with Console(stderr=True).status("rating"):
        report = ledger.rate()
    if as_json:
        print_json(vars(report))
    else:
        typer.echo(f"{report.rated} lines in {report.transactions} transactions; {report.waiting} events wait")


@app.command("take")
def take(
    file: Annotated[
        Path, typer.Argument(help="CloudEvents as a JSON array, or one per line.", exists=True, dir_okay=False)
    ],
    as_json: JsonFlag = False,
) -> None:
    """Take usage events from a file; what is known already is passed over."""
    ledger = _ledger()
    accepted = duplicates = 0
    refused: list[dict[str, Any]] = []
    for body in _batches(file):
        events, unreadable = read_request(BATCHED, {}, body)
        result = ledger.take_now(events)
        accepted += result.accepted
        duplicates += result.duplicates
        refused += [refusal.as_dict() for refusal in (*unreadable, *result.refused)]
    if as_json:
        print_json({"accepted": accepted, "duplicates": duplicates, "refused": refused})
    else:
        typer.echo(f"{accepted} taken, {duplicates} known already, {len(refused)} refused")
        for refusal in refused:
            typer.echo(f"refused: {refusal['source']} {refusal['id']}: {refusal['message']}")
    if refused:
        raise typer.Exit(2)


def _batches(file: Path) -> list[bytes]:
    text = file.read_text()
    if text.lstrip().startswith("["):
        return [text.encode()]
    lines = [line for line in text.splitlines() if line.strip()]
    return [f"[{','.join(lines[at : at + TAKE_LINES])}]".encode() for at in range(0, len(lines), TAKE_LINES)]


@app.command("invoice")
def invoice(
    organisation: Organisation,
    period: Month = "",
    final: Annotated[bool, typer.Option("--final", help="Make it final: numbered, posted, credits used.")] = False,
    digest: Annotated[str, typer.Option(help="With --final: only if it is still the draft of this digest.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write it to a .json, .html or .pdf file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """The invoice that would be made now; with --final, make it."""
    ledger = _ledger()
    owner = _organisation(ledger, organisation)
    document = ledger.invoice(owner, period, digest) if final else ledger.draft(owner, period)
    if document is None:
        typer.echo("nothing to invoice")
        return
    _show(document, out, as_json)


@app.command("show")
def show(
    invoice_id: Annotated[str, typer.Argument(help="An invoice's id or number.")],
    out: Annotated[Path | None, typer.Option(help="Write it to a .json, .html or .pdf file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a final invoice, or write it as a page, PDF or JSON."""
    _show(_ledger().invoice_by(invoice_id), out, as_json)


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
        typer.echo(f"written to {out}")
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
    typer.echo(f"{document['number'] or 'draft'} for {document['customer']['name']}, {document['period']['label']}")
    print_rows(document["lines"], columns, "no lines")
    for name in ("subtotal", "rounding", "net", "total", "due"):
        typer.echo(f"{name:>10}  {document[name]} {document['currency']}")
    typer.echo(f"{'digest':>10}  {document['digest']}")


@app.command("invoices")
def invoices(organisation: Organisation, as_json: JsonFlag = False) -> None:
    """List an organisation's invoices."""
    ledger = _ledger()
    found = ledger.invoices(_organisation(ledger, organisation))
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
    print_rows(rows, columns, "no invoices yet; `sublet ledger invoice ORGANISATION --final` makes one")


@app.command("close")
def close(
    organisation: Organisation,
    period: Annotated[str, typer.Argument(help="Month like 2026-11.")],
    as_json: JsonFlag = False,
) -> None:
    """Close a month that is over and make its invoice; doing so again changes nothing."""
    ledger = _ledger()
    closed = ledger.close(_organisation(ledger, organisation), period)
    number = closed.invoice["number"] if closed.invoice else None
    if as_json:
        print_json({"period": period, "closed_now": closed.by_this_call, "invoice": number})
    else:
        typer.echo(f"{period} {'closed' if closed.by_this_call else 'was closed already'}; invoice {number or 'none'}")


@app.command("close-all")
def close_all(period: Annotated[str, typer.Argument(help="Month like 2026-11.")], as_json: JsonFlag = False) -> None:
    """Close a month of every organisation in whose time zone it is over."""
    ledger = _ledger()
    with Console(stderr=True).status("closing"):
        found = ledger.close_all(period)
    numbers = [closed.invoice["number"] for closed in found if closed.by_this_call and closed.invoice]
    if as_json:
        print_json({"period": period, "closed_now": sum(closed.by_this_call for closed in found), "invoices": numbers})
    else:
        typer.echo(f"{sum(closed.by_this_call for closed in found)} closed, {len(numbers)} invoices made")


@app.command("rerate")
def rerate(
    organisation: Organisation,
    period: Annotated[str, typer.Argument(help="Month like 2026-11.")],
    as_json: JsonFlag = False,
) -> None:
    """Rate a month's usage again by the present price book: by reversal, never by rewriting."""
    ledger = _ledger()
    report = ledger.rerate(_organisation(ledger, organisation), period)
    if as_json:
        print_json(vars(report))
    else:
        typer.echo(f"{report.rated} lines in {report.transactions} transactions")


@app.command("pay")
def pay(
    invoice_id: Annotated[str, typer.Argument(help="As `sublet ledger invoices` shows it.")],
    amount: Annotated[str, typer.Argument(help="In the invoice's currency, like 12.50.")],
    source: Annotated[str, typer.Option(help="What names the payment, once: a bank reference.")],
    as_json: JsonFlag = False,
) -> None:
    """Record a payment, once per source."""
    document = _ledger().pay(invoice_id, nano_from_decimal(amount), source)
    if as_json:
        print_json(document)
    else:
        typer.echo(f"{document['number']} is {document['status']}, paid {document['paid']} of {document['due']}")


@app.command("void")
def void(
    invoice_id: Annotated[str, typer.Argument(help="As `sublet ledger invoices` shows it.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    as_json: JsonFlag = False,
) -> None:
    """Take a final invoice back by a reversal; its number stays used, its charges are invoiced again."""
    document = _ledger().void(invoice_id, reason)
    if as_json:
        print_json(document)
    else:
        typer.echo(f"{document['number']} is void")


@app.command("credit")
def credit(
    organisation: Organisation,
    amount: Annotated[str, typer.Argument(help="In the organisation's currency, like 25.00.")],
    source: Annotated[str, typer.Option(help="What names the credit, once.")],
    kind: Annotated[str, typer.Option(help="promotional, goodwill, reclaim or prepaid.")] = "promotional",
    reason: Annotated[str, typer.Option(help="What the customer reads.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Give a credit, or book money paid in advance, once per source."""
    ledger = _ledger()
    owner, nano = _organisation(ledger, organisation), nano_from_decimal(amount)
    given = ledger.store.write(lambda connection: ledger.credit(connection, owner, nano, reason, source, kind=kind))
    if as_json:
        print_json(given.as_dict())
    else:
        typer.echo(f"{given.id}  {amount_text(given.remaining_nano)} left of {amount_text(given.nano)} ({given.kind})")


@app.command("balance")
def balance(organisation: Organisation, as_json: JsonFlag = False) -> None:
    """Balances by account; debit is positive."""
    ledger = _ledger()
    found = {
        account: amount_text(nano)
        for account, nano in sorted(ledger.balances(_organisation(ledger, organisation)).items())
    }
    if as_json:
        print_json({"balances": found})
    else:
        rows = [{"account": account, "balance": value} for account, value in found.items()]
        print_rows(rows, {"account": "account", "balance": "balance"}, "nothing was posted yet")


@app.command("statement")
def statement(organisation: Organisation, period: Month = "", as_json: JsonFlag = False) -> None:
    """What an organisation owed at the start of a month, what changed it, and what it owed at the end."""
    ledger = _ledger()
    found = ledger.statement(_organisation(ledger, organisation), period)
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found['name']}, {found['period']}: opening {found['opening']} {found['currency']}")
    columns = {"booked_at": "booked", "kind": "kind", "text": "what", "amount": "amount", "balance": "balance"}
    print_rows(found["movements"], columns, "no movements")
    typer.echo(f"closing {found['closing']} {found['currency']}")


@app.command("receivables")
def receivables(as_json: JsonFlag = False) -> None:
    """What is owed, by organisation and days past due."""
    found = _ledger().receivables()
    if as_json:
        print_json({"receivables": found})
    else:
        names = ("name", "currency", "current", "1-30", "31-60", "61-90", "over 90", "total")
        print_rows(found, {name: name for name in names}, "nothing is owed")


@app.command("health")
def health(as_json: JsonFlag = False) -> None:
    """How far rating is, what waits and why, and what the last nightly proof said."""
    found = _ledger().health()
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found['events']} events, rated to {found['rated_to']}, {found['lines']} lines")
    for entry in found["waiting"]:
        typer.echo(f"waits: {entry['code']}: {entry['reason']}")
    last = found["last_proof"]
    typer.echo(f"last proof {last['proved_at']}: difference {last['difference']}" if last else "no nightly proof yet")


@app.command("export")
def export(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(EXPORTS)}.")],
    out: Annotated[
        Path | None, typer.Option(help="A .csv or .parquet file; without it, CSV on standard output.")
    ] = None,
    organisation: Annotated[str, typer.Option(help="Id or name; without it, all.")] = "",
    since: Annotated[str, typer.Option(help="First month, like 2026-01.")] = "",
    until: Annotated[str, typer.Option(help="Last month, like 2026-12.")] = "",
) -> None:
    """Export for finance tools, streamed: a year of usage needs no more memory than a day."""
    ledger = _ledger()
    owner = _organisation(ledger, organisation) if organisation else ""
    if out is not None and out.suffix == ".parquet":
        with Console(stderr=True).status("exporting"):
            count = write_parquet(ledger.store, ledger.books, name, owner, since, until, out)
        typer.echo(f"{count} rows written to {out}")
        return
    rows = export_rows(ledger.store, ledger.books, name, owner, since, until)
    if out is None:
        for part in rows:
            sys.stdout.buffer.write(part)
        return
    with Console(stderr=True).status("exporting"), out.open("wb") as file:
        file.writelines(rows)
    typer.echo(f"written to {out}")


@prices.command("check")
def check_prices(
    file: Annotated[Path, typer.Argument(help="A price book in TOML.", exists=True, dir_okay=False)],
    as_json: JsonFlag = False,
) -> None:
    """Check a price book: overlaps refuse it (exit code 2), gaps are listed."""
    book = _book(file)
    findings = [finding.as_dict() for finding in check(book)]
    counts = {"prices": len(book.prices), "fees": len(book.fees), "discounts": len(book.discounts)}
    if as_json:
        print_json({"file": str(file), **counts, "commitments": len(book.commitments), "findings": findings})
        return
    for finding in findings:
        typer.echo(f"{finding['severity']}: {finding['where']}: {finding['message']}")
    typer.echo(f"{file}: {', '.join(f'{count} {name}' for name, count in counts.items())}, no overlap")


@prices.command("publish")
def publish_prices(
    file: Annotated[Path, typer.Argument(help="A price book in TOML.", exists=True, dir_okay=False)],
    as_json: JsonFlag = False,
) -> None:
    """Make a price book the current one. Published entries may end, but not change or vanish."""
    version = _ledger().publish_prices(_book(file))
    if as_json:
        print_json({"version": version})
    else:
        typer.echo(f"version {version} of the price book is current")


@prices.command("show")
def show_prices(as_json: JsonFlag = False) -> None:
    """Show the current price book."""
    book = _ledger().prices()
    if as_json:
        print_json({"version": book.version, **book.content})
        return
    rows = [
        {
            "id": price.id,
            "meter": price.meter,
            "match": ", ".join(f"{name}={value}" for name, value in price.match),
            "kind": price.kind,
            "for": price.organisation or "everybody",
            "currency": price.currency,
        }
        for price in book.prices
    ]
    columns = {"id": "id", "meter": "meter", "match": "match", "kind": "kind", "for": "for", "currency": "in"}
    print_rows(rows, columns, "no prices yet; `sublet prices publish FILE` publishes a book")


def _book(file: Path) -> PriceBook:
    try:
        return book_from_toml(file.read_text(), str(file))
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{file} is not UTF-8 text") from error


@budget.command("create")
def create_budget(
    organisation: Organisation,
    limit: Annotated[str, typer.Argument(help="In the organisation's currency, like 500.")],
    scope: Annotated[str, typer.Option(help="organisation, project or key.")] = "organisation",
    scope_id: Annotated[str, typer.Option(help="The project's name or the key's id.")] = "",
    period: Annotated[str, typer.Option(help="day, month or ever.")] = "month",
    soft: Annotated[bool, typer.Option("--soft", help="Raise alerts, refuse nothing.")] = False,
    webhook: Annotated[str, typer.Option(help="Where alerts are posted, signed.")] = "",
    secret: Annotated[str, typer.Option(help="What signs them.")] = "",
    email: Annotated[str, typer.Option(help="Where alerts are mailed.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Set up a budget; what its scope has spent in the present period counts already."""
    ledger = _ledger()
    wanted = new_budget(
        _organisation(ledger, organisation),
        nano_from_decimal(limit),
        scope=scope,
        scope_id=scope_id,
        period=period,
        hard=not soft,
        webhook_url=webhook,
        webhook_secret=secret,
        email=email,
    )
    made = ledger.create_budget(wanted)
    if as_json:
        print_json(made.as_dict())
    else:
        typer.echo(f"{made.id}  {made.as_dict()['limit']} a {made.period}, {'hard' if made.hard else 'soft'}")


@budget.command("ls")
def list_budgets(organisation: Organisation, as_json: JsonFlag = False) -> None:
    """List an organisation's budgets with what is spent, held and free."""
    ledger = _ledger()
    rows = [state.as_dict() for state in ledger.budgets(_organisation(ledger, organisation))]
    if as_json:
        print_json({"budgets": rows})
        return
    columns = {
        name: name for name in ("id", "scope", "scope_id", "period", "kind", "limit", "spent", "held", "free", "hard")
    }
    print_rows(rows, columns, "no budgets yet; `sublet ledger budget create ORGANISATION LIMIT` makes one")


@budget.command("set")
def change_budget(
    budget_id: Annotated[str, typer.Argument(help="As `sublet ledger budget ls` shows it.")],
    limit: Annotated[str, typer.Argument(help="In the organisation's currency, like 500.")],
) -> None:
    """Give a budget another limit, at once; what is spent and held stays."""
    changed = _ledger().change_budget(budget_id, nano_from_decimal(limit))
    typer.echo(f"{budget_id}  {changed.as_dict()['limit']} a {changed.period}")


@budget.command("end")
def end_budget(budget_id: Annotated[str, typer.Argument(help="As `sublet ledger budget ls` shows it.")]) -> None:
    """End a budget: from now on it limits nothing."""
    _ledger().end_budget(budget_id)
    typer.echo(f"{budget_id} ended")
