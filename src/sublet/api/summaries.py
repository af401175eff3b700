"""The summary of each operation in the OpenAPI document: its title in generated references and clients."""

from __future__ import annotations

import re

SUMMARY_MAX = 60
_FIRST_CLAUSE = re.compile(r"^.*?(?=[,:;] |\.(?:\s|$))", re.DOTALL)

SUMMARIES = {
    "accounts.whoami": "Show the caller's organization, role and permissions",
    "accounts.create_limit": "Create a rate limit",
    "accounts.invite": "Invite a person to an organization",
    "accounts.list_limits": "List rate limits",
    "accounts.show_limit": "Show a rate limit",
    "accounts.change_limit": "Replace the values of a rate limit",
    "accounts.remove_limit": "Remove a rate limit",
    "accounts.set_role": "Change the role of a person",
    "blocks.advise": "Estimate what blocks would displace",
    "blocks.change": "Change or withdraw a block",
    "blocks.create": "Create a block",
    "blocks.preview": "Preview a change of a block",
    "blocks.show": "Show a block",
    "demand.import_history": "Import the history of a pool from a CSV file",
    "demand.list_imports": "List the imports of a pool's history",
    "demand.list_samples": "List the demand samples of a pool",
    "demand.record": "Record demand samples",
    "fleet.list_pools": "List pools",
    "fleet.set_service": "Take an accelerator out of service, or return it",
    "fleet.show_pool": "Show a pool",
    "fleet.show_unit": "Show an accelerator",
    "images.create": "Create an image and start its upload",
    "images.list_images": "List images",
    "images.show": "Show an image",
    "images.upload": "Upload a part of an image",
    "jobs.log": "Read the output of a job",
    "jobs.show": "Show a job",
    "jobs.submit": "Submit a job",
    "leases.change": "Change a lease",
    "leases.end": "End or cancel a lease",
    "leases.list_owner_waits": "List how long the owner's work waited",
    "leases.list_quotes": "List open quotes",
    "leases.list_quarantine": "List the accelerators in quarantine",
    "leases.preview_change": "Preview what a change of a lease would cost or save",
    "leases.preview_end": "Preview what ending a lease now would cost and save",
    "leases.quote": "Request a quote",
    "leases.release": "Release an accelerator from quarantine",
    "leases.set_ssh_keys": "Replace the public keys of a lease",
    "leases.show": "Show a lease",
    "ledger.close_all_periods": "Close a month for all organizations",
    "ledger.list_credits": "List the credits of an organization",
    "ledger.list_dismissed": "List dismissed corrections",
    "ledger.make_invoice": "Create an invoice",
    "ledger.prove": "Recompute the books from the raw events",
    "ledger.read_draft": "Preview an invoice",
    "ledger.read_export": "Export usage and billing data",
    "ledger.read_health": "Show the state of rating and of the books",
    "ledger.read_profile": "Show a billing profile",
    "ledger.read_revenue": "Show revenue and deferred revenue by month",
    "ledger.read_statement": "Show an organization's statement for a month",
    "ledger.rerate_period": "Rerate a month",
    "ledger.return_deposit": "Return a deposit to the customer",
    "ledger.set_profile": "Set a billing profile",
    "models.add_models": "Add models to the catalog",
    "models.deploy": "Deploy a model",
    "models.list_deployments": "List models and their deployments",
    "models.place": "Set the pools of a deployment",
    "models.pull": "Download the file of a model",
    "models.scale": "Set the number of replicas of a model",
    "models.show_deployment": "Show a deployment",
    "notifications.change_subscription": "Change a subscription",
    "notifications.confirm": "Confirm an email address",
    "notifications.list_deliveries": "List messages and their delivery attempts",
    "notifications.list_event_kinds": "List kinds of events",
    "notifications.list_events": "List events",
    "notifications.list_lease_events": "List the events of a lease",
    "notifications.list_subscriptions": "List subscriptions",
    "notifications.redeliver": "Send a message again",
    "notifications.rotate": "Rotate the secret of a subscription",
    "notifications.send_test": "Send a test event",
    "notifications.subscribe": "Create a subscription",
    "notifications.unsubscribe": "Remove a subscription",
    "surplus.forecast": "Forecast the demand of a pool",
    "surplus.ladder": "Show what a pool has on sale",
    "surplus.list_record": "Compare promises with what happened",
    "surplus.sellable": "Show how many accelerators one class can sell",
    "surplus.shadow": "Replay recorded demand as if capacity had been sold",
    "system.actuals_figures": "Show earnings by pool, channel and customer",
    "system.actuals_page": "Show earnings as an HTML page",
    "system.next_plan": "Show the next plan and the last ones",
    "system.worth_line": "Show earnings per accelerator-hour and per watt-year",
    "volumes.create": "Create a volume",
    "volumes.remove": "Delete a volume",
    "volumes.show": "Show a volume",
}
"""The operations whose description does not begin with a summary, by operation id."""


def summary_of(operation_id: str, description: str) -> str:
    """The summary of an operation: its entry in `SUMMARIES`, or the first clause of its description."""
    if operation_id in SUMMARIES:
        return SUMMARIES[operation_id]
    first = _FIRST_CLAUSE.match(description)
    return " ".join((first.group() if first else description).split())
