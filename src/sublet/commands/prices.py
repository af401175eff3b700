"""`sublet prices`: what things cost. `check` needs no Sublet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.client.remote import connect, organization_id
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.shown import Columns, per_text, price_text, short, time
from sublet.values.clock import SystemClock, parse_time
from sublet.values.errors import InvalidInputError

if TYPE_CHECKING:
    from sublet.ledger.prices.book import PriceBook

app = typer.Typer(no_args_is_help=True, help="The price book: check, publish, show.")


@app.command("check")
def check_prices(
    file: Annotated[Path, typer.Argument(help="A price book in TOML.", exists=True, dir_okay=False)],
    as_json: JsonFlag = False,
) -> None:
    """Check a price book: overlaps are refused (exit code 2), gaps are listed."""
    from sublet.ledger.prices.book import check

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
    organization: Annotated[
        str, typer.Option(help="Publish it as the rate card of this organization, by id or name.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Make a price book the current one. Published entries may end, but not change or vanish; built-in prices end where it
    has its own. With --organization, publish the rate card of one customer."""
    if organization:
        _publish_card(file, organization, as_json)
        return
    _book(file)
    found = connect().document("ledger.publish_prices", body=file.read_bytes(), content_type="application/toml")
    if as_json:
        print_json({"version": found["version"], "built_in": found["built_in"]})
        return
    say(f"version {found['version']} of the price book is current")
    if found["built_in"]:
        say(f"it has no price for {', '.join(found['built_in'])}, so the built-in prices stay")


@app.command("show")
def show_prices(
    organization: Annotated[str, typer.Option(help="Show the rate card of this organization, by id or name.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Show the current price book, or the rate card of one customer."""
    client = connect()
    book = client.document("ledger.read_prices")
    if organization:
        card = client.document("ledger.read_card", organization_id(client, organization))
        book = card | {"units": book["units"]} if not as_json else card
    if as_json:
        print_json(book)
        return
    rows = [
        {
            "what": price.get("description") or price.get("meter") or price["id"],
            "meter": price.get("meter", ""),
            "match": ", ".join(f"{name} {value}" for name, value in sorted(price.get("match", {}).items())),
            "price": _price_text(price, book.get("units", {})),
            "for": price.get("organization"),
            "from": price["from"] if _is_ahead(price.get("from")) else None,
            "until": price.get("until"),
        }
        for price in book.get("prices", [])
    ]
    columns: Columns = {
        "what": "what",
        "price": "price",
        "match": "where",
        "for": short("only for"),
        "from": time("from"),
        "until": time("until"),
        "meter": "meter",
    }
    say(f"version {book['version']}" + (f", {book['name']}" if book["name"] else ""))
    print_rows(rows, columns, "no prices yet; publish a price book with `sublet prices publish FILE`")


def _publish_card(file: Path, organization: str, as_json: bool) -> None:
    from sublet.ledger.prices.cards import card_from_toml

    client = connect()
    owner = organization_id(client, organization)
    try:
        text = file.read_text()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{file} is not UTF-8 text") from error
    card_from_toml(text, owner, str(file))
    found = client.document("ledger.publish_card", owner, body=text.encode(), content_type="application/toml")
    if as_json:
        print_json(found)
    else:
        say(f"version {found['version']} of the rate card of {organization} is current")


def _is_ahead(moment: str | None) -> bool:
    return moment is not None and parse_time(moment) > SystemClock().now()


def _price_text(price: Mapping[str, Any], units: Mapping[str, str]) -> str:
    """What a price says, in words: one amount, or each of its steps."""
    unit, currency = units.get(price.get("meter", ""), "units"), price["currency"]
    per = price.get("per", 1)
    if price["kind"] == "flat":
        return f"{price_text(price['amount'])} {currency} flat"
    if price["kind"] == "package":
        return per_text(price["amount"], currency, price["size"], unit)
    if "tiers" not in price:
        free = f", the first {price['free']:,} free" if price.get("free") else ""
        return per_text(price["amount"], currency, per, unit) + free
    steps = []
    for tier in price["tiers"]:
        until = f"up to {int(tier['up_to']):,}" if tier.get("up_to") else "beyond"
        once = f" and {price_text(tier['flat'])} {currency} once" if tier.get("flat") else ""
        steps.append(f"{until}: {per_text(tier['amount'], currency, per, unit)}{once}")
    return f"{price['kind']}, " + "; ".join(steps)


def _book(file: Path) -> PriceBook:
    from sublet.ledger.prices.book import book_from_toml

    try:
        return book_from_toml(file.read_text(), str(file))
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{file} is not UTF-8 text") from error
