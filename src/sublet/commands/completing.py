"""What the shell offers for an argument or option that names something: ids and names as the service lists them now.

By the parameter's name, so that every command offers the same for the same. Without a service, a profile, or an answer within
ANSWER_S, nothing is offered and nothing is said.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from sublet.client.operations import OPERATIONS

ANSWER_S = 1.0
OFFERED_MAX = 200
Listed = tuple[str, tuple[str, ...]]
_POOLS: Listed = ("fleet.list_pools", ("name", "id"))
_ORGANIZATIONS: Listed = ("accounts.list_organizations", ("name", "id"))
_SUBSCRIPTIONS: Listed = ("notifications.list_subscriptions", ("id",))
_INVOICES: Listed = ("ledger.list_invoices", ("number", "id"))
_MODELS: Listed = ("models.list_deployments", ("name",))

LISTED: dict[str, Listed] = {
    "pool": _POOLS,
    "organization": _ORGANIZATIONS,
    "lease_id": ("leases.list_leases", ("id",)),
    "quote_id": ("leases.list_quotes", ("id",)),
    "reclaim_id": ("leases.list_reclaims", ("id",)),
    "block_id": ("blocks.list_blocks", ("id",)),
    "claim": ("demand.list_claims", ("id",)),
    "node": ("fleet.list_nodes", ("name", "id")),
    "class_name": ("leases.list_classes", ("name",)),
    "budget_id": ("ledger.list_budgets", ("id",)),
    "plan_id": ("ledger.list_plans", ("id",)),
    "plan_subscription_id": ("ledger.list_plan_subscriptions", ("id",)),
    "credit_id": ("ledger.list_credits", ("id",)),
    "invoice_id": _INVOICES,
    "invoice": _INVOICES,
    "subscription_id": _SUBSCRIPTIONS,
    "unit": ("leases.list_quarantine", ("id",)),
    "models name": _MODELS,
    "model": _MODELS,
    "kind": ("notifications.list_event_kinds", ("name",)),
}
"""By a parameter's name (after its command's, where the name alone says too little): the operation that lists what it can be, and
the fields to offer, the first one first."""


def attach(command: Any, name: str) -> None:
    """Give the parameters of a command, and of the commands in it, what they offer."""
    for inner in getattr(command, "commands", {}).values():
        attach(inner, name)
    for parameter in command.params:
        listed = LISTED.get(f"{name} {parameter.name}") or LISTED.get(parameter.name or "")
        if listed is not None:
            parameter._custom_shell_complete = _offering(listed)


def _offering(listed: Listed) -> Callable[[Any, Any, str], list[Any]]:
    def offered(context: Any, parameter: Any, incomplete: str) -> list[Any]:
        # It takes longer to load than completing the name of a command should.
        from typer._click.shell_completion import CompletionItem

        profile = context.find_root().params.get("profile")
        if profile:
            os.environ["SUBLET_PROFILE"] = profile
        try:
            rows = _rows(listed[0])
        except Exception:
            # Whatever it is, a person in the middle of a line has no use for it: the command itself will say.
            return []
        for field in listed[1]:
            found = [str(row[field]) for row in rows if str(row.get(field) or "").startswith(incomplete)]
            if found:
                return [CompletionItem(text) for text in dict.fromkeys(found)]
        return []

    return offered


def _rows(operation_id: str) -> list[dict[str, Any]]:
    """The first page of a list, asked for once."""
    from sublet.client.clients import Client
    from sublet.client.core import request_for
    from sublet.client.profiles import target

    service, operation = target(), OPERATIONS[operation_id]
    query = {"limit": OFFERED_MAX} if "limit" in operation.query else {}
    with Client(service.url, service.key, timeout_s=ANSWER_S) as client:
        answer = client.once(request_for(operation, (), query=query))
    document = json.loads(answer.body)
    return next(value for value in document.values() if isinstance(value, list))
