"""Operations of the ledger: usage, prices, invoices, payments, budgets, and reports."""

from __future__ import annotations

from sublet.client.operation import PAGE, PAGE_OF_ONE, Operation

LEDGER: tuple[Operation, ...] = (
    Operation("ledger.take_usage", "POST", "/v1/usage", body="raw", answer="ledger:UsageTaken"),
    Operation("ledger.read_prices", "GET", "/v1/prices", answer="ledger:PriceBook"),
    Operation("ledger.read_card", "GET", "/v1/rate-cards/{organization_id}", answer="ledger:RateCard"),
    Operation(
        "ledger.publish_card",
        "PUT",
        "/v1/rate-cards/{organization_id}",
        body="raw",
        answer="ledger:RateCard",
        edits=True,
    ),
    Operation("ledger.list_plans", "GET", "/v1/pricing-plans", query=PAGE, answer="ledger:PlanList", items="plans"),
    Operation("ledger.read_plan", "GET", "/v1/pricing-plans/{plan_id}", answer="ledger:PricingPlan"),
    Operation("ledger.publish_plan", "POST", "/v1/pricing-plans", body="raw", answer="ledger:PricingPlan"),
    Operation(
        "ledger.list_plan_subscriptions",
        "GET",
        "/v1/plan-subscriptions",
        query=PAGE_OF_ONE,
        answer="ledger:PlanSubscriptionList",
        items="subscriptions",
    ),
    Operation(
        "ledger.subscribe_to_plan",
        "POST",
        "/v1/plan-subscriptions",
        body="ledger:NewPlanSubscription",
        answer="ledger:PlanSubscription",
    ),
    Operation(
        "ledger.read_plan_subscription",
        "GET",
        "/v1/plan-subscriptions/{subscription_id}",
        answer="ledger:PlanSubscription",
    ),
    Operation(
        "ledger.change_plan_subscription",
        "POST",
        "/v1/plan-subscriptions/{subscription_id}/change",
        body="ledger:PlanChange",
        answer="ledger:PlanSubscription",
        edits=True,
    ),
    Operation(
        "ledger.end_plan_subscription",
        "POST",
        "/v1/plan-subscriptions/{subscription_id}/end",
        body="ledger:PlanEnd",
        answer="ledger:PlanSubscription",
        edits=True,
    ),
    Operation("ledger.publish_prices", "PUT", "/v1/prices", body="raw", answer="ledger:PricesPublished", edits=True),
    Operation(
        "ledger.list_credits", "GET", "/v1/credits", query=PAGE_OF_ONE, answer="ledger:CreditList", items="credits"
    ),
    Operation("ledger.give_credit", "POST", "/v1/credits", body="ledger:NewCredit", answer="ledger:CreditState"),
    Operation("ledger.read_owed", "GET", "/v1/owed", query=("organization_id",), answer="ledger:Owed"),
    Operation("ledger.read_balances", "GET", "/v1/balances", query=("organization_id",), answer="ledger:Balances"),
    Operation("ledger.read_profile", "GET", "/v1/billing-profiles/{organization_id}", answer="ledger:Profile"),
    Operation(
        "ledger.set_profile",
        "PUT",
        "/v1/billing-profiles/{organization_id}",
        body="ledger:BillingProfile",
        answer="ledger:Profile",
        edits=True,
    ),
    Operation(
        "ledger.list_invoices", "GET", "/v1/invoices", query=PAGE_OF_ONE, answer="ledger:InvoiceList", items="invoices"
    ),
    Operation("ledger.make_invoice", "POST", "/v1/invoices", body="ledger:NewInvoice", answer="ledger:InvoiceMade"),
    Operation(
        "ledger.read_draft",
        "GET",
        "/v1/invoices/draft",
        query=("organization_id", "period"),
        answer="ledger:InvoiceDraft",
    ),
    Operation(
        "ledger.list_payments", "GET", "/v1/payments", query=PAGE_OF_ONE, answer="ledger:ReceiptList", items="payments"
    ),
    Operation("ledger.receive_payment", "POST", "/v1/payments", body="ledger:NewReceipt", answer="ledger:Receipt"),
    Operation("ledger.read_checklist", "GET", "/v1/periods/{label}/checklist", answer="ledger:Checklist"),
    Operation(
        "ledger.close_period", "POST", "/v1/periods/{organization_id}/{label}/close", answer="ledger:PeriodClosed"
    ),
    Operation("ledger.close_all_periods", "POST", "/v1/periods/{label}/close", answer="ledger:PeriodsClosed"),
    Operation(
        "ledger.rerate_period", "POST", "/v1/periods/{organization_id}/{label}/rerate", answer="ledger:RerateReport"
    ),
    Operation("ledger.read_invoice", "GET", "/v1/invoices/{invoice_id}", query=("format",), answer="bytes"),
    Operation(
        "ledger.pay_invoice",
        "POST",
        "/v1/invoices/{invoice_id}/payments",
        body="ledger:NewPayment",
        answer="ledger:Invoice",
    ),
    Operation(
        "ledger.reverse_payment",
        "POST",
        "/v1/invoices/{invoice_id}/payments/reverse",
        body="ledger:MistakenPayment",
        answer="ledger:Invoice",
    ),
    Operation(
        "ledger.void_invoice", "POST", "/v1/invoices/{invoice_id}/void", body="ledger:Reason", answer="ledger:Invoice"
    ),
    Operation(
        "ledger.list_notes",
        "GET",
        "/v1/credit-notes",
        query=PAGE_OF_ONE,
        answer="ledger:CreditNoteList",
        items="credit_notes",
    ),
    Operation("ledger.read_note", "GET", "/v1/credit-notes/{note_id}", query=("format",), answer="bytes"),
    Operation(
        "ledger.credit_invoice",
        "POST",
        "/v1/invoices/{invoice_id}/credit-notes",
        body="ledger:NewCreditNote",
        answer="ledger:CreditNote",
    ),
    Operation(
        "ledger.list_refunds", "GET", "/v1/refunds", query=PAGE_OF_ONE, answer="ledger:RefundList", items="refunds"
    ),
    Operation("ledger.refund", "POST", "/v1/refunds", body="ledger:NewRefund", answer="ledger:Refund"),
    Operation(
        "ledger.return_deposit",
        "POST",
        "/v1/credits/{credit_id}/return",
        body="ledger:DepositReturn",
        answer="ledger:DepositReturned",
    ),
    Operation(
        "ledger.write_off",
        "POST",
        "/v1/invoices/{invoice_id}/write-off",
        body="ledger:NewWriteOff",
        answer="ledger:WriteOff",
    ),
    Operation(
        "ledger.reinstate",
        "POST",
        "/v1/invoices/{invoice_id}/write-off/reverse",
        body="ledger:NewWriteOff",
        answer="ledger:Invoice",
    ),
    Operation(
        "ledger.net", "POST", "/v1/invoices/{invoice_id}/netting", body="ledger:NewNetting", answer="ledger:Netting"
    ),
    Operation(
        "ledger.undo_netting",
        "POST",
        "/v1/invoices/{invoice_id}/netting/undo",
        body="ledger:UndoneNetting",
        answer="ledger:Netting",
    ),
    Operation(
        "ledger.list_budgets", "GET", "/v1/budgets", query=PAGE_OF_ONE, answer="ledger:BudgetList", items="budgets"
    ),
    Operation("ledger.create_budget", "POST", "/v1/budgets", body="ledger:NewBudget", answer="ledger:Budget"),
    Operation("ledger.show_budget", "GET", "/v1/budgets/{budget_id}", answer="ledger:Budget"),
    Operation(
        "ledger.change_budget",
        "PATCH",
        "/v1/budgets/{budget_id}",
        body="ledger:NewLimit",
        answer="ledger:Budget",
        edits=True,
    ),
    Operation("ledger.end_budget", "DELETE", "/v1/budgets/{budget_id}", answer="none", edits=True),
    Operation("ledger.read_health", "GET", "/v1/ledger/health", answer="ledger:BooksHealth"),
    Operation(
        "ledger.dismiss", "POST", "/v1/ledger/dismissals", body="ledger:Dismissal", answer="ledger:DismissedEvent"
    ),
    Operation(
        "ledger.list_dismissed",
        "GET",
        "/v1/ledger/dismissals",
        query=PAGE_OF_ONE,
        answer="ledger:DismissedList",
        items="dismissed",
    ),
    Operation("ledger.rate", "POST", "/v1/ledger/rate", answer="ledger:RatingReport"),
    Operation(
        "ledger.prove", "POST", "/v1/ledger/prove", query=("organization_id", "invoice_id"), answer="ledger:ProofReport"
    ),
    Operation(
        "ledger.read_statement", "GET", "/v1/statements", query=("organization_id", "period"), answer="ledger:Statement"
    ),
    Operation(
        "ledger.list_receivables",
        "GET",
        "/v1/receivables",
        query=("as_of", "limit", "after"),
        answer="ledger:ReceivableList",
        items="receivables",
    ),
    Operation(
        "ledger.read_revenue",
        "GET",
        "/v1/revenue",
        query=("since", "until", "organization_id"),
        answer="ledger:Revenue",
    ),
    Operation(
        "ledger.read_revenue_breakdown",
        "GET",
        "/v1/revenue/breakdown",
        query=("by", "since", "until", "organization_id", "limit", "after"),
        answer="ledger:RevenueBreakdown",
        items="revenue",
    ),
    Operation(
        "ledger.read_export",
        "GET",
        "/v1/exports/{name}",
        query=("organization_id", "since", "until", "format"),
        answer="bytes",
    ),
)
