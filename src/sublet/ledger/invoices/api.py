"""Routes of credit notes, and invoices and notes as pages and files."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import HTMLResponse

from sublet.accounts.model import Actor, Require
from sublet.ledger.invoices import wire
from sublet.ledger.invoices.facturx import factur_x
from sublet.ledger.invoices.logos import Logo
from sublet.ledger.invoices.page import invoice_page
from sublet.ledger.invoices.pdf import invoice_pdf
from sublet.ledger.invoices.price_reductions import Wanted
from sublet.ledger.invoices.ubl import ubl_xml
from sublet.ledger.service import Ledger
from sublet.ledger.wire import NewCreditNote
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_request
from sublet.values.errors import InvalidInputError, NotFoundError
from sublet.values.money import nano_from_decimal
from sublet.values.wire import as_answer

_FILES: dict[str, tuple[Callable[[dict[str, Any], Logo | None], bytes], str, str]] = {
    "pdf": (lambda document, logo: invoice_pdf(document, logo=logo), "application/pdf", "pdf"),
    "factur-x": (lambda document, logo: factur_x(document, logo=logo), "application/pdf", "pdf"),
    "ubl": (lambda document, logo: ubl_xml(document), "application/xml", "xml"),
}
T = TypeVar("T")
FORMATS = ("json", "html", *_FILES)
Paged = Annotated[PageRequest, Depends(page_request)]


def document_response(kind: type[T], document: dict[str, Any], format: str, logo: Logo | None) -> T | Response:
    """An invoice or credit note as `format`, one of FORMATS; `logo` is the issuer's. Raises InvalidInputError for another format,
    EInvoiceError."""
    if format == "html":
        return HTMLResponse(invoice_page(document))
    if format in _FILES:
        write, media_type, ending = _FILES[format]
        name = f'inline; filename="{document["number"]}.{ending}"'
        return Response(write(document, logo), media_type=media_type, headers={"content-disposition": name})
    if format != "json":
        raise InvalidInputError(f"format {format!r} must be one of {', '.join(FORMATS)}", field="format")
    return as_answer(kind, document)


def note_routes(routes: APIRouter, ledger: Ledger, require: Require) -> None:
    """Credit notes: made for invoices by the operator, read by whose they are."""
    reader = Annotated[Actor, Depends(require("invoices:read"))]
    made = Depends(require("invoices:write", effect=Effect(dict, dict)))

    @routes.get("/v1/credit-notes")
    def list_notes(actor: reader, page: Paged, organization_id: str = "") -> wire.CreditNoteList:
        """List the credit notes of an organization, newest first."""
        return as_answer(
            wire.CreditNoteList, ledger.lists.notes(actor.whose(organization_id), page).as_dict("credit_notes")
        )

    @routes.get("/v1/credit-notes/{note_id}")
    def read_note(note_id: str, actor: reader, format: Annotated[str, Query()] = "json") -> wire.CreditNote | Response:
        """Show a credit note. `format` is `json`, `html`, `pdf`, `ubl` or `factur-x`."""
        document = ledger.settling.note(note_id)
        if document["customer"]["organization_id"] != actor.organization_id and not actor.everywhere:
            raise NotFoundError(f"there is no credit note {note_id!r}")
        return document_response(wire.CreditNote, document, format, ledger.logo)

    @routes.post("/v1/invoices/{invoice_id}/credit-notes", status_code=201, dependencies=[made])
    def credit_invoice(invoice_id: str, body: NewCreditNote) -> wire.CreditNote:
        """Create a credit note for an invoice: for lines, for an amount, or for everything that is left. With `preview`,
        nothing is written."""
        return as_answer(
            wire.CreditNote,
            ledger.settling.credit(invoice_id, _wanted(body), body.reason, digest=body.digest, preview=body.preview),
        )


def _wanted(body: NewCreditNote) -> Wanted:
    if body.amount is not None:
        if body.lines:
            raise InvalidInputError("specify either lines or an amount to credit", field="amount")
        return Wanted(gross_nano=nano_from_decimal(body.amount))
    lines = {line.line: None if line.amount is None else nano_from_decimal(line.amount) for line in body.lines}
    if len(lines) != len(body.lines):
        raise InvalidInputError("list each line only once", field="lines")
    return Wanted(lines or None)
