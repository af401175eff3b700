"""Every operation of the API, one line each: what both clients call, and what a test compares with the OpenAPI document."""

from __future__ import annotations

from sublet.client.account_operations import ACCOUNTS
from sublet.client.fleet_operations import FLEET
from sublet.client.lease_operations import LEASES
from sublet.client.operation import BYTES as BYTES
from sublet.client.operation import DOCUMENT as DOCUMENT
from sublet.client.operation import NONE as NONE
from sublet.client.operation import PAGE, PAGE_OF_ONE
from sublet.client.operation import RAW as RAW
from sublet.client.operation import Operation as Operation
from sublet.client.system_operations import SYSTEM

ALL: tuple[Operation, ...] = (
    *ACCOUNTS,
    *FLEET,
    Operation(
        "demand.record", "POST", "/v1/demand/{pool_id}/samples", body="demand:NewSamples", answer="demand:SamplesTaken"
    ),
    Operation(
        "demand.import_history",
        "PUT",
        "/v1/demand/{pool_id}/history",
        query=("source", "force"),
        body="raw",
        answer="demand:SamplesTaken",
    ),
    Operation(
        "demand.list_imports",
        "GET",
        "/v1/demand/{pool_id}/imports",
        query=PAGE,
        answer="demand:DemandImportList",
        items="imports",
    ),
    Operation("demand.undo_import", "DELETE", "/v1/imports/{import_id}", answer="demand:DemandImport"),
    Operation(
        "demand.list_samples",
        "GET",
        "/v1/demand/{pool_id}/samples",
        query=("since", "until", "limit", "after"),
        answer="demand:SampleHistory",
        items="samples",
    ),
    Operation(
        "demand.list_claims",
        "GET",
        "/v1/claims",
        query=("pool_id", "limit", "after"),
        answer="demand:ClaimList",
        items="claims",
    ),
    Operation("demand.add_claim", "POST", "/v1/claims", body="demand:NewClaim", answer="demand:Claim"),
    Operation("demand.withdraw_claim", "DELETE", "/v1/claims/{claim_id}", answer="demand:Claim"),
    Operation("surplus.ladder", "GET", "/v1/surplus/{pool_id}", answer="surplus:SurplusLadder"),
    Operation(
        "surplus.sellable",
        "GET",
        "/v1/surplus/{pool_id}/{class_name}",
        query=("window_s", "start"),
        answer="surplus:Offer",
    ),
    Operation(
        "surplus.forecast",
        "GET",
        "/v1/demand/{pool_id}/forecast",
        query=("horizon_s", "quantile"),
        answer="surplus:DemandForecast",
    ),
    Operation(
        "surplus.list_record",
        "GET",
        "/v1/record",
        query=("pool", "days", "limit", "after"),
        answer="surplus:RecordList",
        items="pools",
    ),
    Operation("leases.list_classes", "GET", "/v1/classes", answer="leases:ClassList"),
    Operation(
        "surplus.shadow",
        "GET",
        "/v1/shadow",
        query=("pool", "window_h", "broken_per_1000", "long_share", "price", "currency", "warmup_days"),
        answer="surplus:ShadowTrials",
    ),
    Operation("leases.list_networks", "GET", "/v1/networks", answer="leases:AllowLists"),
    *LEASES,
    Operation("leases.quote", "POST", "/v1/quotes", body="leases:NewQuote", answer="leases:Quote"),
    Operation("leases.list_quotes", "GET", "/v1/quotes", query=PAGE, answer="leases:QuoteList", items="quotes"),
    Operation("leases.cancel_quote", "POST", "/v1/quotes/{quote_id}/cancel", answer="leases:Quote"),
    Operation("leases.accept", "POST", "/v1/leases", body="leases:NewLease", answer="leases:Lease"),
    Operation(
        "leases.list_leases",
        "GET",
        "/v1/leases",
        query=("live", "limit", "after"),
        answer="leases:LeasePage",
        items="leases",
    ),
    Operation("leases.show", "GET", "/v1/leases/{lease_id}", answer="leases:LeaseDetail"),
    Operation(
        "notifications.list_lease_events",
        "GET",
        "/v1/leases/{lease_id}/events",
        query=("since", "limit", "wait_s"),
        answer="notifications:EventList",
    ),
    Operation(
        "notifications.list_events",
        "GET",
        "/v1/events",
        query=("since", "limit", "wait_s", "organization_id"),
        answer="notifications:EventList",
    ),
    Operation("notifications.list_event_kinds", "GET", "/v1/event-kinds", answer="notifications:EventKindList"),
    Operation(
        "notifications.list_subscriptions",
        "GET",
        "/v1/subscriptions",
        query=("channel", "organization_id", "limit", "after"),
        answer="notifications:SubscriptionPage",
        items="subscriptions",
    ),
    Operation(
        "notifications.subscribe",
        "POST",
        "/v1/subscriptions",
        body="notifications:NewSubscription",
        answer="notifications:SubscriptionSecret",
    ),
    Operation(
        "notifications.show_subscription",
        "GET",
        "/v1/subscriptions/{subscription_id}",
        query=("organization_id",),
        answer="notifications:Subscription",
    ),
    Operation(
        "notifications.change_subscription",
        "PATCH",
        "/v1/subscriptions/{subscription_id}",
        query=("organization_id",),
        body="notifications:SubscriptionChange",
        answer="notifications:Subscription",
        edits=True,
    ),
    Operation(
        "notifications.unsubscribe",
        "DELETE",
        "/v1/subscriptions/{subscription_id}",
        query=("organization_id",),
        answer="none",
        edits=True,
    ),
    Operation(
        "notifications.confirm",
        "POST",
        "/v1/subscriptions/{subscription_id}/confirm",
        query=("organization_id",),
        body="notifications:ConfirmAddress",
        answer="notifications:Subscription",
    ),
    Operation(
        "notifications.rotate",
        "POST",
        "/v1/subscriptions/{subscription_id}/rotate",
        query=("organization_id",),
        answer="notifications:SubscriptionSecret",
    ),
    Operation(
        "notifications.send_test",
        "POST",
        "/v1/subscriptions/{subscription_id}/test",
        query=("organization_id",),
        answer="notifications:TestSent",
    ),
    Operation(
        "notifications.list_deliveries",
        "GET",
        "/v1/subscriptions/{subscription_id}/deliveries",
        query=("state", "organization_id", "limit", "after"),
        answer="notifications:DeliveryPage",
        items="deliveries",
    ),
    Operation(
        "notifications.redeliver",
        "POST",
        "/v1/deliveries/{delivery_id}/redeliver",
        query=("organization_id",),
        answer="notifications:Delivery",
    ),
    Operation("leases.end", "POST", "/v1/leases/{lease_id}/end", answer="leases:Lease"),
    Operation("leases.preview_end", "POST", "/v1/leases/{lease_id}/end/preview", answer="leases:LeaseChange"),
    Operation(
        "leases.change",
        "POST",
        "/v1/leases/{lease_id}/changes",
        body="leases:NewLeaseChange",
        answer="leases:LeaseChange",
    ),
    Operation(
        "leases.preview_change",
        "POST",
        "/v1/leases/{lease_id}/changes/preview",
        body="leases:NewLeaseChange",
        answer="leases:LeaseChange",
    ),
    Operation("leases.show_name", "GET", "/v1/leases/{lease_id}/name", answer="leases:LeaseName"),
    Operation(
        "leases.set_name",
        "PUT",
        "/v1/leases/{lease_id}/name",
        body="leases:NewLeaseName",
        answer="leases:LeaseName",
        edits=True,
    ),
    Operation("leases.list_ssh_keys", "GET", "/v1/leases/{lease_id}/ssh-keys", answer="leases:SshKeys"),
    Operation(
        "leases.set_ssh_keys",
        "PUT",
        "/v1/leases/{lease_id}/ssh-keys",
        body="leases:NewSshKeys",
        answer="leases:SshKeys",
        edits=True,
    ),
    Operation("leases.reclaim", "POST", "/v1/reclaims", body="leases:NewReclaim", answer="leases:ReclaimCarriedOut"),
    Operation("leases.list_reclaims", "GET", "/v1/reclaims", query=PAGE, answer="leases:ReclaimList", items="reclaims"),
    Operation(
        "leases.preview", "POST", "/v1/reclaims/preview", body="leases:NewReclaim", answer="leases:ReclaimPreview"
    ),
    Operation("leases.show_reclaim", "GET", "/v1/reclaims/{reclaim_id}", answer="leases:Reclaim"),
    Operation(
        "leases.list_owner_waits",
        "GET",
        "/v1/owner-waits",
        query=("pool", *PAGE),
        answer="leases:OwnerWaitsPage",
        items="owner_waits",
    ),
    Operation("leases.withdraw", "POST", "/v1/reclaims/{reclaim_id}/withdraw", answer="leases:LeaseList"),
    Operation("blocks.create", "POST", "/v1/blocks", body="leases:NewBlock", answer="leases:BlockMade"),
    Operation(
        "blocks.list_blocks",
        "GET",
        "/v1/blocks",
        query=("pool", "live", "limit", "after"),
        answer="leases:BlockPage",
        items="blocks",
    ),
    Operation(
        "blocks.advise",
        "GET",
        "/v1/blocks/advice",
        query=("pool", "accelerators", "length_days"),
        answer="leases:BlockAdvice",
    ),
    Operation("blocks.show", "GET", "/v1/blocks/{block_id}", answer="leases:BlockDetail"),
    Operation(
        "blocks.change",
        "POST",
        "/v1/blocks/{block_id}/change",
        body="leases:NewBlockChange",
        answer="leases:BlockChanged",
        edits=True,
    ),
    Operation(
        "blocks.preview",
        "POST",
        "/v1/blocks/{block_id}/preview",
        body="leases:NewBlockChange",
        answer="leases:BlockChanged",
    ),
    Operation(
        "maintenance.add", "POST", "/v1/maintenance", body="leases:NewMaintenance", answer="leases:MaintenancePlan"
    ),
    Operation(
        "maintenance.preview",
        "POST",
        "/v1/maintenance/preview",
        body="leases:NewMaintenance",
        answer="leases:MaintenancePlan",
    ),
    Operation(
        "maintenance.list_maintenance",
        "GET",
        "/v1/maintenance",
        query=("pool", "live", "limit", "after"),
        answer="leases:MaintenancePage",
        items="maintenance",
    ),
    Operation("maintenance.cancel", "POST", "/v1/maintenance/{maintenance_id}/cancel", answer="leases:Maintenance"),
    Operation("ledger.backlog", "GET", "/v1/backlog", answer="api:BacklogByMonth"),
    Operation("leases.next_plan", "GET", "/v1/lease-plan", answer="leases:Plan"),
    Operation(
        "leases.list_quarantine", "GET", "/v1/quarantine", query=PAGE, answer="leases:Quarantine", items="accelerators"
    ),
    Operation("leases.release", "POST", "/v1/quarantine/{unit_id}/release", body="leases:Release", answer="none"),
    Operation(
        "models.list_deployments", "GET", "/v1/deployments", query=PAGE, answer="models:ModelList", items="models"
    ),
    Operation("models.deploy", "POST", "/v1/deployments", body="models:NewDeployment", answer="models:DeploymentState"),
    Operation("models.show_deployment", "GET", "/v1/deployments/{model}", answer="models:DeploymentState"),
    Operation(
        "models.scale",
        "PUT",
        "/v1/deployments/{model}/scale",
        body="models:Scale",
        answer="models:DeploymentState",
        edits=True,
    ),
    Operation(
        "models.place",
        "PUT",
        "/v1/deployments/{model}/pools",
        body="models:Placement",
        answer="models:DeploymentState",
        edits=True,
    ),
    Operation("models.remove", "DELETE", "/v1/deployments/{model}", answer="none", edits=True),
    Operation("models.add_models", "POST", "/v1/catalog", body="raw", answer="models:ModelsAdded"),
    Operation("models.pull", "POST", "/v1/catalog/{model}/pull", answer="models:ModelFile"),
    Operation("ledger.take_usage", "POST", "/v1/usage", body="raw", answer="ledger:UsageTaken"),
    Operation("ledger.read_prices", "GET", "/v1/prices", answer="ledger:PriceBook"),
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
        "ledger.read_export",
        "GET",
        "/v1/exports/{name}",
        query=("organization_id", "since", "until", "format"),
        answer="bytes",
    ),
    *SYSTEM,
)
OPERATIONS: dict[str, Operation] = {operation.id: operation for operation in ALL}
