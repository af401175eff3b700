"""An invoice as a web page: one self-contained HTML document that prints well, in the customer's language."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from sublet.ledger.credits.kinds import CREDIT_NOTE
from sublet.ledger.invoices.parties import address_lines
from sublet.ledger.invoices.readable import Readable, ReadableLine, readable
from sublet.ledger.invoices.words import Words

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff;
  overflow-wrap:anywhere}
h1{font-size:1.5rem}h2{font-size:1.1rem}table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{text-align:left;padding:.35rem .5rem;border-bottom:1px solid #ddd;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.parties{display:flex;gap:1rem 3rem;flex-wrap:wrap}.parties p{margin:0;min-width:0}
.note{color:#555;font-size:.9rem}.status{text-transform:uppercase}
tr.total td{font-weight:bold;border-top:2px solid #1b1b1b}
@media(max-width:40rem){
  body{font-size:14px}.wide{display:none}th,td{padding:.35rem .3rem}td.n{white-space:normal;overflow-wrap:normal}
}
"""


def invoice_page(document: Mapping[str, Any]) -> str:
    """The HTML of an invoice, a credit note, or a draft of either."""
    read = readable(document)
    words, currency = read.words, escape(document["currency"])
    title = title_of(document, words)
    heads = f"<th>{words('Description')}<th class=n>{words('Quantity')}<th class='n wide'>{words('Price')}"
    return (
        f"<!doctype html><html lang={words.language}><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><body>"
        f"<h1>{escape(title)} <span class=status>({escape(status_of(document, words))})</span></h1>"
        f"<div class=parties>{_party('From', document['issuer'], words)}{_party('To', document['customer'], words)}"
        f"<p>{'<br>'.join(f'<b>{escape(name)}</b> {escape(value)}' for name, value in dates_of(read))}"
        + "".join(f"<br>{escape(text)}" for text in said_of(read))
        + f"</p></div><table><thead><tr>{heads}<th class=n>{currency}</thead>"
        f"<tbody>{''.join(_line(read, line) for line in read.lines)}</tbody></table>"
        f"{_projects(read)}<table><tbody>{''.join(_sum(*row) for row in summary(read))}</tbody></table>"
        + "".join(f"<p><b>{escape(words(heading))}</b><br>{escape(text)}</p>" for heading, text in bank_of(read))
        + f"<p class=note>{escape(words(ROUNDING))} "
        f'<a href="?format=json">{escape(words("Exact amounts"))}</a></p></body></html>'
    )


ROUNDING = "Amounts are exact before rounding; lines are shown in whole units of the currency and sum to the net."


def title_of(document: Mapping[str, Any], words: Words) -> str:
    """What a document is called, with its number."""
    kind = words("Credit note" if document.get("kind") == CREDIT_NOTE else "Invoice")
    return f"{kind} {document['number']}" if document["number"] else f"{kind} ({words('Draft')})"


def status_of(document: Mapping[str, Any], words: Words) -> str:
    """The state of a document."""
    status = str(document["status"]).replace("_", " ")
    return words("Draft" if status == "draft" else status)


def dates_of(read: Readable) -> list[tuple[str, str]]:
    """Period, dates, and the customer's reference, by their names."""
    words, document = read.words, read.document
    period = document["period"]
    found = [("Billing period", f"{words.month(period['label'])} ({period['timezone']})")]
    found.append(("Date", read.day("issued_at")))
    if document.get("due_at"):
        found.append(("Due date", read.day("due_at")))
    if document["customer"].get("reference"):
        found.append(("Your reference", document["customer"]["reference"]))
    return [(words(name), value) for name, value in found]


def said_of(read: Readable) -> list[str]:
    """What a credit note says beside its lines: which invoices it lowers, and why."""
    words, document = read.words, read.document
    if document.get("kind") != CREDIT_NOTE:
        return []
    corrected = [
        words(
            "Corrects {number} of {date} by {amount}",
            number=entry["invoice"],
            date=entry["issued_at"][:10],
            amount=read.money(entry["total"]),
        )
        for entry in document["corrects"]
    ]
    return [*corrected, f"{words('Reason')}: {document['reason']}"] if document["reason"] else corrected


def ids_of(party: Mapping[str, Any], words: Words) -> list[str]:
    """The tax numbers of a party with what each is."""
    labels = (("VAT ID", "vat_id"), ("Tax number", "tax_number"))
    return [f"{words(label)}: {party[name]}" for label, name in labels if party.get(name)]


def bank_of(read: Readable) -> list[tuple[str, str]]:
    """Where the customer pays an invoice, and with which reference."""
    document, issuer = read.document, read.document["issuer"]
    if document.get("kind") == CREDIT_NOTE or not issuer.get("iban"):
        return []
    iban = " ".join(issuer["iban"][place : place + 4] for place in range(0, len(issuer["iban"]), 4))
    account = [issuer["name"], f"IBAN {iban}", f"BIC {issuer['bic']}" if issuer.get("bic") else ""]
    found = [("Bank details", ", ".join(part for part in account if part))]
    return [*found, ("Payment reference", document["number"])] if document["number"] else found


def summary(read: Readable) -> list[tuple[str, str, bool]]:
    """The rows below the lines: name, amount, whether it is a total."""
    words, document = read.words, read.document
    rows = [(words("Subtotal"), f"{read.amount(sum(line.cents for line in read.lines))} {document['currency']}", False)]
    rows += [
        (f"{words('Credit')}: {name}", f"{read.amount(c)} {document['currency']}", False) for name, c in read.credits
    ]

    def add(name: str, text: str, strong: bool = False) -> None:
        rows.append((name, read.money(text), strong))

    add(words("Net"), document["net"])
    for tax in document["taxes"]:
        reason = f" ({tax['reason']})" if tax.get("reason") else ""
        add(f"{tax['name']} {words.number(tax['percent'])} %{reason}", tax["amount"])
    add(words("Total"), document["total"], True)
    note = document.get("kind") == CREDIT_NOTE
    for used in document["prepaid"]:
        add(words("Returned to what was paid in advance" if note else "Paid in advance"), used["amount"])
    if note:
        add(words("Deducted from what is open"), document["receivable"], True)
        add(words("Owed to you"), document["balance"], True)
        return rows
    if document.get("carried", "0").strip("-0."):
        add(words("Carried over to your credits"), document["carried"])
    add(words("To pay"), document["due"], True)
    return rows


def _line(read: Readable, line: ReadableLine) -> str:
    return (
        f"<tr><td>{escape(line.title)}<td class=n>{escape(line.quantity)}"
        f"<td class='n wide'>{escape(line.price)}<td class=n>{escape(read.amount(line.cents))}"
    )


def _projects(read: Readable) -> str:
    if not read.projects:
        return ""
    words = read.words
    rows = "".join(
        f"<tr><td>{escape(name or words('No project'))}<td class=n>{escape(read.amount(cents))}"
        for name, cents in read.projects
    )
    return (
        f"<h2>{escape(words('By project'))}</h2><table><thead><tr><th>{escape(words('Project'))}"
        f"<th class=n>{escape(read.document['currency'])}</thead><tbody>{rows}</tbody></table>"
    )


def _sum(name: str, shown: str, strong: bool) -> str:
    return f"<tr{' class=total' if strong else ''}><td>{escape(name)}<td class=n>{escape(shown)}"


def _party(heading: str, party: Mapping[str, Any], words: Words) -> str:
    lines = [party["name"], *address_lines(party), *ids_of(party, words), party.get("email", "")]
    texts = "<br>".join(f"<bdi>{escape(line)}</bdi>" for line in lines if line)
    return f"<p><b>{escape(words(heading))}</b><br>{texts}</p>"
