"""Routes of refunds, write-offs and netting."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from sublet.accounts.model import Actor, Require
from sublet.ledger.invoices.wire import Invoice
from sublet.ledger.payments import wire
from sublet.ledger.payments.received import Received
from sublet.ledger.payments.refunds import NewRefund
from sublet.ledger.service import Ledger
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_request
from sublet.values.money import nano_from_decimal
from sublet.values.wire import as_answer


def settling_routes(routes: APIRouter, ledger: Ledger, require: Require) -> None:
    """What settles invoices besides payments: for the operator, and read by whose it is."""
    reader = Annotated[Actor, Depends(require("credits:read"))]
    paged = Annotated[PageRequest, Depends(page_request)]
    credited = Depends(require("credits:write", effect=Effect(dict, dict)))
    invoices = Depends(require("invoices:write", effect=Effect(dict, dict)))

    @routes.get("/v1/refunds")
    def list_refunds(actor: reader, page: paged, organization_id: str = "") -> wire.RefundList:
        """List the refunds of an organization, newest first."""
        return as_answer(wire.RefundList, ledger.lists.refunds(actor.whose(organization_id), page).as_dict("refunds"))

    @routes.get("/v1/payments")
    def list_payments(actor: reader, page: paged, organization_id: str = "") -> wire.ReceiptList:
        """List the payments that were recorded for an organization as a whole, newest first."""
        found = ledger.lists.payments(actor.whose(organization_id), page).map(_summary)
        return as_answer(wire.ReceiptList, found.as_dict("payments"))

    @routes.post("/v1/payments", status_code=201, dependencies=[invoices])
    def receive_payment(body: wire.NewReceipt) -> wire.Receipt:
        """Record a payment of a customer, once for each `source_id`. It pays the oldest invoices first, and what is more than they
        come to becomes prepaid money."""
        nano = nano_from_decimal(body.amount)
        received = Received(body.organization_id, nano, body.source_id, tuple(body.invoices))
        return as_answer(wire.Receipt, ledger.settling.receive(received, preview=body.preview))

    @routes.post("/v1/refunds", status_code=201, dependencies=[credited])
    def refund(body: wire.NewRefund) -> wire.Refund:
        """Refund what is owed to a customer, once for each `source_id`: to the original payment method or to the wallet."""
        wanted = NewRefund(
            body.organization_id,
            nano_from_decimal(body.amount),
            body.source_id,
            body.reason,
            body.target,
            body.payment,
        )
        return as_answer(wire.Refund, ledger.settling.refund(wanted, preview=body.preview))

    @routes.post("/v1/credits/{credit_id}/return", dependencies=[credited])
    def return_deposit(credit_id: str, body: wire.DepositReturn) -> wire.DepositReturned:
        """Return what is left of a deposit, or part of it, to what is owed to the customer. A refund then pays it out."""
        nano = nano_from_decimal(body.amount)
        return as_answer(
            wire.DepositReturned, ledger.settling.return_deposit(credit_id, nano, body.reason, preview=body.preview)
        )

    @routes.post("/v1/invoices/{invoice_id}/write-off", dependencies=[invoices])
    def write_off(invoice_id: str, body: wire.NewWriteOff) -> wire.WriteOff:
        """Write off the open amount of an invoice as bad debt. A later payment recovers it."""
        return as_answer(wire.WriteOff, ledger.settling.write_off(invoice_id, body.reason, preview=body.preview))

    @routes.post("/v1/invoices/{invoice_id}/write-off/reverse", dependencies=[invoices])
    def reinstate(invoice_id: str, body: wire.NewWriteOff) -> Invoice:
        """Reverse a write-off. The invoice is open again."""
        return as_answer(Invoice, ledger.settling.reinstate(invoice_id, body.reason, preview=body.preview))

    @routes.post("/v1/invoices/{invoice_id}/netting", status_code=201, dependencies=[invoices])
    def net(invoice_id: str, body: wire.NewNetting) -> wire.Netting:
        """Pay an invoice from what is owed to its customer, once for each `source_id`."""
        nano = None if body.amount is None else nano_from_decimal(body.amount)
        return as_answer(
            wire.Netting, ledger.settling.net(invoice_id, body.source_id, body.reason, nano, preview=body.preview)
        )

    @routes.post("/v1/invoices/{invoice_id}/netting/undo", dependencies=[invoices])
    def undo_netting(invoice_id: str, body: wire.UndoneNetting) -> wire.Netting:
        """Reverse netting. The reversal refers to the original posting."""
        return as_answer(wire.Netting, ledger.settling.undo_netting(invoice_id, body.source_id, body.reason))


def _summary(receipt: dict[str, Any]) -> dict[str, Any]:
    kept = {name: receipt[name] for name in ("source_id", "amount", "currency", "received_at", "prepaid")}
    return kept | {"invoices": [part["invoice"] for part in receipt["invoices"]]}
