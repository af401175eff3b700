"""`sublet prices`: on the database of this machine's settings, for whoever may read it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sublet.ledger.assembly import open_ledger
from sublet.ledger.book import PriceBook, book_from_toml, check
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.values.errors import InvalidInputError

app = typer.Typer(no_args_is_help=True, help="The price book: check, publish, show.")


@app.command("check")
def check_prices(
    file: Annotated[Path, typer.Argument(help="A price book in TOML.", exists=True, dir_okay=False)],
    as_json: JsonFlag = False,
) -> None:
    """Check a price book: overlaps are refused (exit code 2), gaps are listed."""
    book = _book(file)
    findings = [finding.as_dict() for finding in check(book)]
    counts = {"prices": len(book.prices), "fees": len(book.fees), "discounts": len(book.discounts)}
    if as_json:
        print_json({"file": str(file), **counts, "commitments": len(book.commitments), "findings": findings})
        return
    for finding in findings:
        say(f"{finding['severity']}: {finding['where']}: {finding['message']}")
    say(f"{file}: {', '.join(f'{count} {name}' for name, count in counts.items())}, no overlap")


@app.command("publish")
def publish_prices(
    file: Annotated[Path, typer.Argument(help="A price book in TOML.", exists=True, dir_okay=False)],
    as_json: JsonFlag = False,
) -> None:
    """Make a price book the current one. Published entries may end, but not change or vanish; built-in prices end where it
    has its own."""
    ledger = open_ledger()
    version = ledger.publish_prices(_book(file))
    built_in = sorted({price.meter for price in ledger.built_in_prices()})
    if as_json:
        print_json({"version": version, "built_in": built_in})
        return
    say(f"version {version} of the price book is current")
    if built_in:
        say(f"it has no price of its own for {', '.join(built_in)}: the built-in ones stay")


@app.command("show")
def show_prices(as_json: JsonFlag = False) -> None:
    """Show the current price book."""
    book = open_ledger().prices()
    if as_json:
        print_json({"version": book.version, **book.content})
        return
    rows = [
        {
            "id": price.id,
            "meter": price.meter,
            "match": ", ".join(f"{name}={value}" for name, value in price.match),
            "kind": price.kind,
            "for": price.organization or "everybody",
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
