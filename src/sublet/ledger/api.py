"""Routes of the ledger: usage in, prices, credits, budgets, invoices and exports."""

import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.conditions import Tagged, changed, if_match, shown
from sublet.accounts.model import Actor, Require
from sublet.ledger import wire
from sublet.ledger.budgets.model import Budget
from sublet.ledger.credits.crediting import Credit
from sublet.ledger.exports import EXPORT_NAMES, export_rows, write_parquet
from sublet.ledger.exports.datev import DATEV
from sublet.ledger.invoices.api import document_response, note_routes
from sublet.ledger.invoices.invoicing import Made
from sublet.ledger.invoices.profiles import Terms
from sublet.ledger.invoices.taxes import Profile
from sublet.ledger.model import IntakeResult, amount_text
from sublet.ledger.payments.api import settling_routes
from sublet.ledger.payments.owing import owed
from sublet.ledger.plans.api import plan_routes
from sublet.ledger.prices.api import card_routes
from sublet.ledger.prices.book import BOOK_BYTES_MAX, book_from_toml, check
from sublet.ledger.revenue.api import revenue_routes
from sublet.ledger.service import Ledger, new_budget
from sublet.ledger.usage.cloudevents import BATCHED, STRUCTURED, read_request, renumbered
from sublet.ledger.usage.meters import METERS
from sublet.ledger.wire import (
    BillingProfile,
    Dismissal,
    MistakenPayment,
    NewBudget,
    NewCredit,
    NewInvoice,
    NewLimit,
    NewPayment,
    Reason,
)
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_request
from sublet.values.errors import ForbiddenError, InvalidInputError, NotFoundError
from sublet.values.etags import Condition
from sublet.values.moments import Moment
from sublet.values.money import nano_from_decimal
from sublet.values.wire import as_answer

Seen = Annotated[Condition, Depends(if_match)]
Paged = Annotated[PageRequest, Depends(page_request)]
_STATUS = {"event_conflict": 409, "not_found": 404}
_USAGE_BODY = {
    "requestBody": {
        "required": True,
        "description": "One CloudEvent, or a batch of them.",
        "content": {
            STRUCTURED: {"schema": {"type": "object"}},
            BATCHED: {"schema": {"type": "array", "items": {}}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}
_PRICES_BODY = {
    "requestBody": {
        "required": True,
        "description": "A price book.",
        "content": {"application/toml": {"schema": {"type": "string", "maxLength": BOOK_BYTES_MAX}}},
    }
}


def router(ledger: Ledger, require: Require) -> APIRouter:
    """Usage and writes for the operator (`operate`); reading of one's own for everybody with `billing`."""
    routes = APIRouter(tags=["ledger"], route_class=AnswerRoute)
    for part in (
        _usage_routes,
        _price_routes,
        card_routes,
        plan_routes,
        _money_routes,
        _invoice_routes,
        _period_routes,
        note_routes,
        settling_routes,
        _budget_routes,
        _report_routes,
        revenue_routes,
    ):
        part(routes, ledger, require)
    return routes


def _usage_routes(routes: APIRouter, ledger: Ledger, require: Require) -> None:
    @routes.post("/v1/usage", dependencies=[Depends(require("usage:write"))], openapi_extra=_USAGE_BODY)
    async def take_usage(request: Request) -> wire.UsageTaken | Response:
        """Record usage events as CloudEvents 1.0: structured, batched or binary. A single event that is refused gets a 4xx
        response. Of a batch, valid events are recorded, and invalid ones are returned with reasons."""
        body = await request.body()
        content_type = request.headers.get("content-type", "")
        result = await run_in_threadpool(_take, ledger, content_type, dict(request.headers), body)
        if not result.refused or content_type.lower().startswith(BATCHED):
            return as_answer(wire.UsageTaken, result.as_dict())
        refusal = result.refused[0]
        problem = {"code": refusal.code, "message": refusal.message, "details": dict(refusal.details)}
        return JSONResponse({**result.as_dict(), "error": problem}, _STATUS.get(refusal.code, 400))


def _take(ledger: Ledger, content_type: str, headers: dict[str, str], body: bytes) -> IntakeResult:
    events, unreadable = read_request(content_type, headers, body)
    result = ledger.take_now(events) if events else IntakeResult(0, 0)
    if not unreadable:
        return result
    return IntakeResult(result.accepted, result.duplicates, renumbered(list(result.refused), unreadable))


def _price_routes(routes: APIRouter, ledger: Ledger, require: Require) -> None:
    @routes.get("/v1/prices")
    def read_prices(
        request: Request, actor: Annotated[Actor, Depends(require("prices:read"))]
    ) -> Tagged[wire.PriceBook]:
        """Show the current price book: general prices, and those of your organization with its rate card."""
        book = ledger.prices()
        card = None if actor.everywhere else book.card(actor.organization_id)
        content = dict(book.content)
        for section in ("prices", "discounts", "commitments"):
            mine = ("", actor.organization_id)
            entries = content.get(section, [])
            content[section] = [entry for entry in entries if actor.everywhere or entry.get("organization", "") in mine]
            content[section] += card.content.get(section, []) if card else []
        state = book.state if actor.everywhere else [book.state, actor.organization_id, card.version if card else 0]
        units = {meter.name: meter.unit for meter in METERS.values()}
        return shown(
            request, wire.PriceBook, {"version": book.state, "name": book.name, "units": units, **content}, state
        )

    @routes.put("/v1/prices", dependencies=[Depends(require("prices:write"))], openapi_extra=_PRICES_BODY)
    async def publish_prices(request: Request, seen: Seen) -> Tagged[wire.PricesPublished]:
        """Publish a price book (TOML). A book with overlapping prices is refused. The response lists gaps."""
        body = await request.body()
        if len(body) > BOOK_BYTES_MAX:
            raise InvalidInputError(f"a price book has at most {BOOK_BYTES_MAX} bytes")
        try:
            book = book_from_toml(body.decode(), "the body")
        except UnicodeDecodeError as error:
            raise InvalidInputError("a price book is UTF-8 text") from error
        version = await run_in_threadpool(ledger.publish_prices, book, seen)
        built_in = {price.meter for price in await run_in_threadpool(ledger.built_in_prices)}
        findings = [finding.as_dict() for finding in check(book)]
        answer = {"version": version, "findings": findings, "built_in": sorted(built_in)}
        return changed(wire.PricesPublished, answer, ledger.prices().state)


def _money_routes(routes: APIRouter, ledger: Ledger, require: Require) -> None:
    @routes.get("/v1/credits")
    def list_credits(
        actor: Annotated[Actor, Depends(require("credits:read"))], page: Paged, organization_id: str = ""
    ) -> wire.CreditList:
        """List the credits of an organization and what is left of each, oldest first."""
        found = ledger.lists.credits(actor.whose(organization_id), page)
        return as_answer(wire.CreditList, found.map(lambda credit: credit.as_dict()).as_dict("credits"))

    @routes.post(
        "/v1/credits", status_code=201, dependencies=[Depends(require("credits:write", effect=Effect(Credit)))]
    )
    def give_credit(body: NewCredit) -> wire.CreditState:
        """Grant a credit, once for each `source_id`. `prepaid` is money received in advance."""
        nano = nano_from_decimal(body.amount)
        if body.kind == "prepaid":
            ledger.ensure_payable(body.organization_id, nano)
        return as_answer(
            wire.CreditState,
            ledger.store.write(
                lambda connection: ledger.credit(
                    connection,
                    body.organization_id,
                    nano,
                    body.reason,
                    body.source_id,
                    kind=body.kind,
                    expires_at=body.expires_at,
                    tax_mode=body.tax_mode,
                )
            ).as_dict(),
        )

    @routes.get("/v1/balances")
    def read_balances(
        actor: Annotated[Actor, Depends(require("reports:read"))], organization_id: str = ""
    ) -> wire.Balances:
        """Show the balance of each account. Debits are positive."""
        found = ledger.balances(actor.whose(organization_id))
        return as_answer(
            wire.Balances, {"balances": {account: amount_text(nano) for account, nano in sorted(found.items())}}
        )

    @routes.get("/v1/owed")
    def read_owed(actor: Annotated[Actor, Depends(require("reports:read"))], organization_id: str = "") -> wire.Owed:
        """Show what an organization owes now: usage by product and project, credits, open invoices, a forecast for the
        month, and the date of the next invoice."""
        return as_answer(wire.Owed, owed(ledger, actor.whose(organization_id)))

    @routes.get("/v1/billing-profiles/{organization_id}")
    def read_profile(
        request: Request, organization_id: str, actor: Annotated[Actor, Depends(require("profiles:read"))]
    ) -> Tagged[wire.Profile]:
        """Show the customer details that appear on an organization's invoices."""
        return shown(request, wire.Profile, asdict(ledger.profile(actor.whose(organization_id))))

    @routes.put("/v1/billing-profiles/{organization_id}")
    def set_profile(
        organization_id: str,
        body: BillingProfile,
        seen: Seen,
        actor: Annotated[Actor, Depends(require("profiles:write"))],
    ) -> Tagged[wire.Profile]:
        """Set the customer details that appear on an organization's future invoices."""
        owner = actor.whose(organization_id)
        said = asdict(body)
        terms = Terms(said.pop("payment_days"), by_operator=actor.everywhere)
        ledger.set_profile(owner, Profile(**said), seen, terms)
        return changed(wire.Profile, asdict(ledger.profile(owner)))


def _invoice_routes(routes: APIRouter, ledger: Ledger, require: Require) -> None:
    reader = Annotated[Actor, Depends(require("invoices:read"))]
    billed = Depends(require("invoices:write", effect=Effect(Made)))
    made = Depends(require("invoices:write", effect=Effect(dict, dict)))

    @routes.get("/v1/invoices")
    def list_invoices(actor: reader, page: Paged, organization_id: str = "") -> wire.InvoiceList:
        """List the invoices of an organization, newest first."""
        return as_answer(
            wire.InvoiceList, ledger.lists.invoices(actor.whose(organization_id), page).as_dict("invoices")
        )

    @routes.get("/v1/invoices/draft")
    def read_draft(actor: reader, organization_id: str = "", period: str = "") -> wire.InvoiceDraft:
        """Preview what would be invoiced now."""
        return as_answer(wire.InvoiceDraft, ledger.draft(actor.whose(organization_id), period))

    @routes.post(
        "/v1/invoices",
        status_code=201,
        dependencies=[billed],
    )
    def make_invoice(body: NewInvoice) -> wire.InvoiceMade:
        """Create an invoice on demand, and a credit note for months that cost less than was invoiced. Each is null if there
        is nothing to bill or credit."""
        return as_answer(wire.InvoiceMade, ledger.bill(body.organization_id, body.period, body.digest).as_dict())

    @routes.get("/v1/invoices/{invoice_id}")
    def read_invoice(
        invoice_id: str, actor: reader, format: Annotated[str, Query()] = "json"
    ) -> wire.Invoice | Response:
        """Show an invoice. `format` is `json`, `html`, `pdf`, or for an e-invoice, `ubl` or `factur-x` (a PDF/A-3 with
        embedded XML)."""
        document = _invoice_for(ledger, actor, invoice_id)
        return document_response(wire.Invoice, document, format, ledger.logo)

    @routes.post("/v1/invoices/{invoice_id}/payments", status_code=201, dependencies=[made])
    def pay_invoice(invoice_id: str, body: NewPayment) -> wire.Invoice:
        """Record a payment, once for each `source_id`. The response is the invoice, including what has been paid."""
        return as_answer(wire.Invoice, ledger.pay(invoice_id, nano_from_decimal(body.amount), body.source_id))

    @routes.post("/v1/invoices/{invoice_id}/payments/reverse", dependencies=[made])
    def reverse_payment(invoice_id: str, body: MistakenPayment) -> wire.Invoice:
        """Reverse a payment that was recorded by mistake. The invoice is open again."""
        return as_answer(wire.Invoice, ledger.reverse_payment(invoice_id, body.source_id, body.reason))

    @routes.post("/v1/invoices/{invoice_id}/void", dependencies=[made])
    def void_invoice(invoice_id: str, body: Reason) -> wire.Invoice:
        """Void a final invoice. Its number is not reused, and its charges are invoiced again."""
        return as_answer(wire.Invoice, ledger.void(invoice_id, body.reason))


def _period_routes(routes: APIRouter, ledger: Ledger, require: Require) -> None:
    operate = Depends(require("invoices:write"))

    @routes.post("/v1/periods/{organization_id}/{label}/close", dependencies=[operate])
    def close_period(organization_id: str, label: str) -> wire.PeriodClosed:
        """Close a month that is over and create its invoice. Repeating this has no effect."""
        closed = ledger.close(organization_id, label)
        found = {"invoice": closed.invoice, "credit_note": closed.note}
        return as_answer(wire.PeriodClosed, {"period": label, "closed_now": closed.by_this_call, **found})

    @routes.post("/v1/periods/{label}/close", dependencies=[operate])
    def close_all_periods(label: str) -> wire.PeriodsClosed:
        """Close a month for every organization in whose time zone it is over. Repeating this closes the remaining ones."""
        found = ledger.close_all(label)
        numbers = [closed.invoice["number"] for closed in found if closed.by_this_call and closed.invoice]
        return as_answer(
            wire.PeriodsClosed,
            {"period": label, "closed_now": sum(closed.by_this_call for closed in found), "invoices": numbers},
        )

    @routes.post("/v1/periods/{organization_id}/{label}/rerate", dependencies=[operate])
    def rerate_period(organization_id: str, label: str) -> wire.RerateReport:
        """Rate the usage of a month again with the current price book. Postings are reversed, never rewritten."""
        return as_answer(wire.RerateReport, vars(ledger.rerate(organization_id, label)))


def _invoice_for(ledger: Ledger, actor: Actor, invoice_id: str) -> dict[str, Any]:
    """Raises NotFoundError, the same for another organization's invoice."""
    document = ledger.invoice_by(invoice_id)
    if document["customer"]["organization_id"] != actor.organization_id and not actor.everywhere:
        raise NotFoundError(f"there is no invoice {invoice_id!r}")
    return document


def _budget_routes(routes: APIRouter, ledger: Ledger, require: Require) -> None:
    @routes.get("/v1/budgets")
    def list_budgets(
        actor: Annotated[Actor, Depends(require("budgets:read"))], page: Paged, organization_id: str = ""
    ) -> wire.BudgetList:
        """List the budgets of an organization, oldest first, with what was spent and is reserved in the current period."""
        found = ledger.lists.budgets(actor.whose(organization_id), page)
        return as_answer(wire.BudgetList, found.map(lambda state: state.as_dict()).as_dict("budgets"))

    @routes.post(
        "/v1/budgets", status_code=201, dependencies=[Depends(require("budgets:write", effect=Effect(Budget)))]
    )
    def create_budget(body: NewBudget) -> wire.Budget:
        """Create a budget. Spend in the current period counts from its start."""
        fields = {name: value for name, value in asdict(body).items() if name not in ("organization_id", "limit")}
        fields["thresholds"] = tuple(fields["thresholds"])
        return as_answer(
            wire.Budget,
            ledger.create_budget(new_budget(body.organization_id, nano_from_decimal(body.limit), **fields)).as_dict(),
        )

    @routes.get("/v1/budgets/{budget_id}")
    def show_budget(
        request: Request, budget_id: str, actor: Annotated[Actor, Depends(require("budgets:read"))]
    ) -> Tagged[wire.Budget]:
        """Show a budget as it was set up."""
        own = None if actor.everywhere else actor.organization_id
        return shown(request, wire.Budget, ledger.budget(budget_id, own).as_dict())

    @routes.patch("/v1/budgets/{budget_id}", dependencies=[Depends(require("budgets:write"))])
    def change_budget(budget_id: str, body: NewLimit, seen: Seen) -> Tagged[wire.Budget]:
        """Change the limit of a budget from now on. What is spent and reserved stays the same."""
        return changed(wire.Budget, ledger.change_budget(budget_id, nano_from_decimal(body.limit), seen).as_dict())

    @routes.delete("/v1/budgets/{budget_id}", status_code=204, dependencies=[Depends(require("budgets:write"))])
    def end_budget(budget_id: str, seen: Seen) -> None:
        """End a budget. It no longer limits spend or sends alerts."""
        ledger.end_budget(budget_id, seen)


def _report_routes(routes: APIRouter, ledger: Ledger, require: Require) -> None:
    reader = Annotated[Actor, Depends(require("reports:read"))]

    @routes.get("/v1/ledger/health", dependencies=[Depends(require("books:read"))])
    def read_health() -> wire.BooksHealth:
        """Show how far rating has progressed, which events are waiting and why, and the last proof."""
        return as_answer(wire.BooksHealth, ledger.health())

    @routes.post(
        "/v1/ledger/dismissals",
        status_code=201,
        dependencies=[Depends(require("books:write", effect=Effect(dict, dict)))],
    )
    def dismiss(body: Dismissal) -> wire.DismissedEvent:
        """Dismiss a correction whose event never arrives. It stays dismissed."""
        return as_answer(wire.DismissedEvent, ledger.dismiss(body.source, body.id, body.reason))

    @routes.get("/v1/ledger/dismissals", dependencies=[Depends(require("books:read"))])
    def list_dismissed(page: Paged, organization_id: str = "") -> wire.DismissedList:
        """List the corrections that were dismissed and why, newest first, of one organization or of all."""
        return as_answer(wire.DismissedList, ledger.dismissed(organization_id, page).as_dict("dismissed"))

    @routes.post("/v1/ledger/rate", dependencies=[Depends(require("books:write"))])
    def rate() -> wire.RatingReport:
        """Rate and post all usage events that have arrived, without waiting for the next round."""
        return as_answer(wire.RatingReport, vars(ledger.rate()))

    @routes.post("/v1/ledger/prove")
    def prove(actor: reader, organization_id: str = "", invoice_id: str = "") -> wire.ProofReport:
        """Recompute an invoice, an organization, or all books (operator only) from the raw events."""
        if invoice_id:
            _invoice_for(ledger, actor, invoice_id)
            return as_answer(wire.ProofReport, ledger.prove(invoice_id=invoice_id).as_dict())
        if organization_id or not actor.everywhere:
            return as_answer(wire.ProofReport, ledger.prove(actor.whose(organization_id)).as_dict())
        return as_answer(wire.ProofReport, ledger.prove().as_dict())

    @routes.get("/v1/statements")
    def read_statement(actor: reader, organization_id: str = "", period: str = "") -> wire.Statement:
        """Show the receivable of an organization over a month: opening balance, movements and closing balance."""
        return as_answer(wire.Statement, ledger.statement(actor.whose(organization_id), period))

    @routes.get("/v1/receivables", dependencies=[Depends(require("books:read"))])
    def list_receivables(page: Paged, as_of: Moment | None = None) -> wire.ReceivableList:
        """List receivables by organization and age, now or at `as_of`."""
        return as_answer(wire.ReceivableList, ledger.receivables(page, as_of).as_dict("receivables"))

    @routes.get("/v1/exports/{name}")
    def read_export(
        name: str,
        actor: reader,
        organization_id: str = "",
        since: str = "",
        until: str = "",
        format: Annotated[str, Query()] = "csv",
    ) -> Response:
        """Export `deferred`, `focus-1.2`, `focus-1.4`, `focus-commitments`, `gl`, `gl-quickbooks`, `gl-xero`, `journal`,
        `receivables`, `revenue`, `trial-balance` or `usage` as CSV or JSON (streamed), or as Parquet, or `gl-datev` for one month.
        The export covers the months from `since` through `until`."""
        if name not in EXPORT_NAMES:
            raise InvalidInputError(f"export {name!r} must be one of {', '.join(EXPORT_NAMES)}")
        wanted = "" if actor.everywhere and not organization_id else actor.whose(organization_id)
        if format == "parquet":
            return _parquet(ledger, name, wanted, since, until)
        media_type = _media_type(actor, name, format)
        rows = export_rows(
            ledger.store, ledger.books, name, wanted, since, until, ledger.seller, as_json=format == "json"
        )
        disposition = {"content-disposition": f'attachment; filename="{name}.{format}"'}
        return StreamingResponse(rows, media_type=media_type, headers=disposition)


_MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


def _media_type(actor: Actor, name: str, form: str) -> str:
    """Raises InvalidInputError for a form that the export does not have, and ForbiddenError."""
    if form not in _MEDIA_TYPES:
        raise InvalidInputError(f"format {form!r} must be csv, json or parquet")
    if name != DATEV:
        return _MEDIA_TYPES[form]
    if not actor.everywhere:
        # It names the operator's numbers at its tax consultant.
        raise ForbiddenError(f"the export {name!r} is the operator's")
    if form != "csv":
        raise InvalidInputError(f"export {name!r} is CSV only", field="format")
    return "text/csv; charset=windows-1252"


def _parquet(ledger: Ledger, name: str, organization_id: str, since: str, until: str) -> FileResponse:
    """A file that is made first and gone once it is sent: Parquet's directory stands at its end."""
    handle, made = tempfile.mkstemp(suffix=".parquet")
    os.close(handle)
    path = Path(made)
    try:
        write_parquet(ledger.store, ledger.books, name, organization_id, since, until, path, ledger.seller)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    gone = BackgroundTask(path.unlink, missing_ok=True)
    return FileResponse(path, media_type="application/vnd.apache.parquet", filename=f"{name}.parquet", background=gone)
