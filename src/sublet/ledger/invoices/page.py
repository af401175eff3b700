"""An invoice as a web page: one self-contained HTML document that prints well."""

from __future__ import annotations

from html import escape
from typing import Any

from sublet.ledger.credits.kinds import CREDIT_NOTE
from sublet.ledger.invoices.typeset import amount, day, money, short

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff;
  overflow-wrap:anywhere}
h1{font-size:1.5rem}table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{text-align:left;padding:.35rem .5rem;border-bottom:1px solid #ddd;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.parties{display:flex;gap:1rem 3rem;flex-wrap:wrap}.parties p{margin:0;min-width:0}
.note{color:#555;font-size:.9rem}.status{text-transform:uppercase}
tr.total td{font-weight:bold;border-top:2px solid #1b1b1b}
table:first-of-type td:nth-child(2){white-space:nowrap}
@media(max-width:40rem){
  body{font-size:14px}.wide{display:none}th,td{padding:.35rem .3rem}td.n{white-space:normal;overflow-wrap:normal}
}
"""


def invoice_page(document: dict[str, Any]) -> str:
    """The HTML of an invoice, a credit note, or a draft of either."""
    currency = document["currency"]
    rows = "".join(_line(line, currency) for line in document["lines"])
    sums = "".join(_sum(name, value, currency, strong) for name, value, strong in summary(document))
    title = title_of(document)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><body>"
        f"<h1>{escape(title)} <span class=status>({escape(document['status'])})</span></h1>"
        f"<div class=parties>{_party('From', document['issuer'])}{_party('To', document['customer'])}"
        f"<p><b>Period</b><br>{escape(document['period']['label'])} ({escape(document['period']['timezone'])})<br>"
        f"<b>Issued</b> {day(document, 'issued_at')}"
        + (f"<br><b>Due</b> {day(document, 'due_at')}" if document.get("due_at") else "")
        + "".join(f"<br>{escape(text)}" for text in said_of(document))
        + "</p></div><table><thead><tr><th>What<th>Used in<th class=n>Quantity<th class='n wide'>Price"
        f"<th class=n>{escape(currency)}</thead><tbody>{rows}</tbody></table>"
        f"<table><tbody>{sums}</tbody></table>"
        f"<p class=note>{escape(document['rounding_rule'])}</p>"
        f"<p class=note>Digest {escape(document['digest'])}</p></body></html>"
    )


def title_of(document: dict[str, Any]) -> str:
    """What a document is called, with its number."""
    kind = "Credit note" if document.get("kind") == CREDIT_NOTE else "Invoice"
    return f"{kind} {document['number']}" if document["number"] else f"Draft {kind.lower()}"


def said_of(document: dict[str, Any]) -> list[str]:
    """What a credit note says beside its lines: which invoices it lowers, and why."""
    if document.get("kind") != CREDIT_NOTE:
        return []
    corrected = [
        f"Corrects {entry['invoice']} of {entry['issued_at'][:10]} by {money(entry['total'], document['currency'])}"
        for entry in document["corrects"]
    ]
    return [*corrected, f"Reason: {document['reason']}"] if document["reason"] else corrected


def summary(document: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """The rows below the lines: name, amount, whether it is a total."""
    rows = [("Subtotal", document["subtotal"], False)]
    rows += [(f"Credit: {used['reason'] or used['kind']}", used["amount"], False) for used in document["credits"]]
    rows.append(("Rounding", document["rounding"], False))
    rows.append(("Net", document["net"], False))
    rows += [(f"{tax['name']} {tax['percent']} %", tax["amount"], False) for tax in document["taxes"]]
    rows.append(("Total", document["total"], True))
    if document.get("kind") == CREDIT_NOTE:
        rows += [("Back to what was paid in advance", used["amount"], False) for used in document["prepaid"]]
        rows.append(("Taken off what is open", document["receivable"], True))
        rows.append(("Owed to you", document["balance"], True))
        return rows
    rows += [("Paid in advance", used["amount"], False) for used in document["prepaid"]]
    if not is_zero(document["carried"]):
        rows.append(("Carried over to your credits", document["carried"], False))
    rows.append(("To pay", document["due"], True))
    return rows


def is_zero(text: str) -> bool:
    return not text.strip("-0.")


def _line(line: dict[str, Any], currency: str) -> str:
    quantity = f"{short(line['quantity'])} {line['unit']}".strip()
    return (
        f"<tr><td>{escape(line['description'])}<td>{escape(line['used'])}<td class=n>{escape(quantity)}"
        f"<td class='n wide'>{escape(line['unit_price'])}<td class=n>{escape(amount(line['amount'], currency))}"
    )


def _sum(name: str, value: str, currency: str, strong: bool) -> str:
    shown = money(value, currency)
    return f"<tr{' class=total' if strong else ''}><td>{escape(name)}<td class=n>{escape(shown)}"


def _party(heading: str, party: dict[str, Any]) -> str:
    lines = [party["name"], *party["address"].splitlines(), party["tax_number"]]
    return f"<p><b>{heading}</b><br>" + "<br>".join(f"<bdi>{escape(line)}</bdi>" for line in lines if line) + "</p>"
