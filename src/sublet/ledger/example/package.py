"""The closing package of a month: what an accountant gets, as files in a directory with an index."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from sublet.ledger.exports import export_rows, write_parquet
from sublet.ledger.invoices.page import invoice_page
from sublet.ledger.invoices.pdf import invoice_pdf
from sublet.ledger.invoices.ubl import ubl_xml
from sublet.ledger.model import amount_text
from sublet.ledger.proof.checklist import checklist
from sublet.ledger.revenue.breakdown import revenue_breakdown
from sublet.ledger.service import Ledger
from sublet.shown import money_text
from sublet.values.money import nano_from_decimal

OF_THE_MONTH = ("revenue", "focus-1.2", "focus-1.4", "focus-commitments", "gl", "usage")
UP_TO_IT = ("journal", "trial-balance", "receivables", "deferred")
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;margin:1rem 0}}td,th{{padding:.2rem .8rem;border-bottom:1px solid #ccc;text-align:left}}
td.n{{text-align:right;font-variant-numeric:tabular-nums}}</style><h1>{title}</h1>{body}</html>
"""


@dataclass(frozen=True, slots=True)
class Package:
    """What a closing package has: its documents, and whether the books are proved and the month is ready."""

    invoices: int
    notes: int
    difference: str
    ready: bool
    files: int


def write_package(ledger: Ledger, label: str, owners: list[str], out: Path, *, pdfs: bool = True) -> Package:
    """Write the closing package of the month `label` to the directory `out`, which is created. The books are proved first. PDFs
    take most of the time; `pdfs` says whether there are any."""
    out.mkdir(parents=True, exist_ok=True)
    proof = ledger.prove_nightly().as_dict()
    _json(out / "proof.json", proof)
    for name in (*OF_THE_MONTH, *UP_TO_IT):
        since = label if name in OF_THE_MONTH else ""
        with (out / f"{name}.csv").open("wb") as file:
            file.writelines(export_rows(ledger.store, ledger.books, name, "", since, label, ledger.seller))
    write_parquet(ledger.store, ledger.books, "focus-1.2", "", label, label, out / "focus-1.2.parquet", ledger.seller)
    with ledger.store.read() as connection:
        steps = checklist(connection, label, ledger.store.clock.now())
        found = revenue_breakdown(connection, label, label, ("product", "pool"))
    _json(out / "checklist.json", steps)
    _json(out / "revenue.json", {"revenue": found.rows(), "totals": found.totals()})
    counts = {"invoices": 0, "credit-notes": 0}
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for kind, document in _documents(ledger, label, owners):
        counts[kind] += 1
        sums[kind, document["currency"]] += nano_from_decimal(document["total"])
        _write_document(out / kind, document, pdfs=pdfs)
    for owner in owners:
        _json(out / "statements" / f"{owner}.json", ledger.statement(owner, label))
    body = _index(out, proof, steps, found.rows(), sums)
    (out / "index.html").write_text(_PAGE.format(title=f"Closing package of {escape(label)}", body=body))
    files = sum(path.is_file() for path in out.rglob("*"))
    return Package(counts["invoices"], counts["credit-notes"], proof["difference"], steps["ready"], files)


def _documents(ledger: Ledger, label: str, owners: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The invoices for the month, and the credit notes that were issued in it."""
    for owner in owners:
        for document in ledger.invoices(owner):
            if document["period"]["label"] == label:
                yield "invoices", document
        for document in ledger.settling.notes(owner):
            if document["issued_at"].startswith(label):
                yield "credit-notes", document


def _write_document(folder: Path, document: dict[str, Any], *, pdfs: bool) -> None:
    """As a page, a PDF and JSON, and in euros as an e-invoice."""
    folder.mkdir(exist_ok=True)
    number = document["number"]
    _json(folder / f"{number}.json", document)
    (folder / f"{number}.html").write_text(invoice_page(document))
    if pdfs:
        (folder / f"{number}.pdf").write_bytes(invoice_pdf(document))
    if document["currency"] == "EUR":
        (folder / f"{number}.xml").write_bytes(ubl_xml(document))


def _json(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")


def _index(
    out: Path,
    proof: dict[str, Any],
    steps: dict[str, Any],
    revenue: list[dict[str, Any]],
    sums: dict[tuple[str, str], int],
) -> str:
    counts = f"{proof['events']:,} events, {proof['lines']:,} lines, {proof['transactions']:,} transactions"
    parts = [f"<p>Proof: difference {escape(proof['difference'])} ({counts}).</p>"]
    done = [[step["name"], "done" if step["done"] else step["missing"]] for step in steps["steps"]]
    parts.append(_table("Checklist", ("step", "state"), done))
    rows = [[row["product"], row["pool"] or "–", row["currency"], money_text(row["amount"])] for row in revenue]
    parts.append(_table("Revenue", ("product", "pool", "currency", "amount"), rows))
    totals = [[kind, currency, money_text(amount_text(nano))] for (kind, currency), nano in sorted(sums.items())]
    parts.append(_table("Documents", ("kind", "currency", "total"), totals))
    links = [str(path.relative_to(out)) for path in sorted(out.rglob("*")) if path.is_file() and path.suffix != ".html"]
    pages = [str(path.relative_to(out)) for path in sorted(out.rglob("*/*.html"))]
    found = "".join(f'<li><a href="{escape(name)}">{escape(name)}</a></li>' for name in (*pages, *links))
    return "".join([*parts, f"<h2>Files</h2><ul>{found}</ul>"])


def _table(title: str, heads: tuple[str, ...], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=n' if place == len(row) - 1 else ''}>{escape(cell)}</td>" for place, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table>"
