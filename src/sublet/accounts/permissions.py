"""Who may do what, in one place: permissions, and the roles and scopes that they are given by.

A permission is a kind of thing and `read`, `write` or `use`. A role gives it for one's own organization or for all. A key has a
role; its scopes, if it has any, narrow the role.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

OWN, ALL = "own", "all"

KINDS: dict[str, str] = {
    "identity": "the organization and role of the key in use",
    "organizations": "organizations",
    "keys": "API keys of an organization",
    "limits": "limits on the model API for organizations, projects, keys and models",
    "audit": "the audit log",
    "people": "people of an organization, and invitations to it",
    "pools": "the list of pools, with their prices",
    "fleet": "accelerators, nodes, maintenance and quarantine",
    "demand": "the owner's own demand, and its forecast",
    "claims": "claims of internal teams for capacity that they will need",
    "blocks": "blocks: parts of pools that the owner puts up for sale, and what is booked of a pool",
    "surplus": "capacity on sale, the reasons for withholding the rest, and the record of promises",
    "leases": "quotes, leases, volumes and jobs",
    "reclaims": "reclaims, which return capacity to its owner",
    "firm": "breaking firm leases in a reclaim, a block change or maintenance",
    "plans": "plans: what would be done next",
    "deployments": "managed models and their deployments",
    "inference": "the model API",
    "usage": "usage events",
    "prices": "the price book, rate cards, and plans with their subscriptions",
    "credits": "credits",
    "invoices": "invoices, payments and closed months",
    "budgets": "budgets",
    "profiles": "customer details that appear on invoices",
    "reports": "balances, statements, exports, and proofs of them",
    "books": "receivables, the state of the ledger, and dismissed corrections",
    "subscriptions": "subscriptions to events, and the log of deliveries",
    "events": "events as they happen",
    "yield": "the best use of idle capacity, and what an hour of it is worth",
    "chargeback": "monthly charge-back statements of internal teams",
    "desk": "earnings, and how they compare",
    "system": "the state of loops and backends",
}

WRITES = frozenset(
    "organizations keys limits people demand claims blocks leases reclaims firm fleet deployments usage prices credits invoices "
    "budgets profiles books subscriptions".split()
)
PERMISSIONS: tuple[str, ...] = tuple(
    f"{kind}:{action}"
    for kind in KINDS
    for action in (("use",) if kind == "inference" else ("read", "write") if kind in WRITES else ("read",))
    if f"{kind}:{action}" != "firm:read"
)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a role or a scope gives: permissions for one's own organization, and for all."""

    meaning: str
    own: frozenset[str] = frozenset()
    all: frozenset[str] = frozenset()

    def reach(self, permission: str) -> str:
        """ALL, OWN, or nothing."""
        return ALL if permission in self.all else OWN if permission in self.own else ""


def _set(words: str) -> frozenset[str]:
    """`leases:rw` is both `leases:read` and `leases:write`."""
    found: set[str] = {"identity:read", "pools:read"}
    for word in words.split():
        kind, _, actions = word.partition(":")
        found |= {f"{kind}:{action}" for action in (("read", "write") if actions == "rw" else (actions,))}
    unknown = found - set(PERMISSIONS)
    if unknown:
        raise ValueError(f"there are no permissions {sorted(unknown)}")
    return frozenset(found)


_BILLING = "usage:read prices:read credits:read invoices:read budgets:read profiles:read reports:read"

ROLES: dict[str, Grant] = {
    "operator": Grant("runs everything", all=frozenset(PERMISSIONS)),
    "operator_read_only": Grant(
        "reads everything and changes nothing", all=frozenset(name for name in PERMISSIONS if name.endswith(":read"))
    ),
    "finance": Grant(
        "manages prices, credits, invoices, budgets and the books of all organizations",
        all=_set(
            "organizations:read usage:rw prices:rw credits:rw invoices:rw budgets:rw profiles:rw reports:read books:rw "
            "desk:read yield:read chargeback:read"
        ),
    ),
    "team": Grant(
        "is an internal team: claims the capacity that the owner needs, reclaims it, and reads its own charge-back",
        own=_set("subscriptions:rw events:read chargeback:read"),
        all=_set("claims:rw reclaims:rw demand:read surplus:read blocks:read"),
    ),
    "customer_admin": Grant(
        "manages a customer's account: keys, people, leases, models and billing",
        own=_set(
            f"organizations:read keys:rw limits:rw people:rw audit:read leases:rw inference:use profiles:write "
            f"subscriptions:rw events:read {_BILLING}"
        ),
    ),
    "customer_developer": Grant(
        "rents accelerators and calls models for a customer",
        own=_set("leases:rw inference:use limits:read usage:read prices:read"),
    ),
    "customer_billing": Grant(
        "reads a customer's usage and invoices, and manages its invoice details", own=_set(f"profiles:write {_BILLING}")
    ),
    "auditor": Grant(
        "checks the books and the record of promises, and changes nothing",
        all=_set(
            f"organizations:read keys:read limits:read people:read audit:read leases:read surplus:read blocks:read books:read "
            f"desk:read {_BILLING}"
        ),
    ),
}

SCOPES: dict[str, Grant] = {
    "operate": Grant(
        "run everything: pools, organizations, plans, and the leases and billing of all customers",
        all=frozenset(PERMISSIONS) - {"inference:use"},
    ),
    "claims": Grant(
        "claim capacity for the owner, reclaim it, and read the team's own charge-back",
        own=_set("chargeback:read"),
        all=_set("claims:rw reclaims:rw blocks:read"),
    ),
    "leases": Grant("quote, accept and use leases of the key's own organization", own=_set("leases:rw")),
    "models": Grant("call the model API", own=_set("inference:use")),
    "billing": Grant("read usage and invoices of the key's own organization", own=_set(_BILLING)),
    "notifications": Grant(
        "manage subscriptions to the events of the key's own organization, and read them",
        own=_set("subscriptions:rw events:read"),
    ),
}
"""What a key may be narrowed to."""

OF_WHOLE_ORGANIZATION = frozenset({"people:write", "limits:write", "profiles:write"})
"""What a key with a project may not do, whatever its role: an invited admin or a raised limit would concern every project."""

ROLES_BY_KIND: dict[str, tuple[str, ...]] = {
    "operator": ("operator", "operator_read_only", "finance", "auditor"),
    "internal": ("team",),
    "customer": ("customer_admin", "customer_developer", "customer_billing"),
}
"""The kinds of organization and the roles that a key of each may have; the first is what a key without a role has."""


def reach(role: str, scopes: Iterable[str], permission: str) -> str:
    """How far a key may use a permission: ALL, OWN, or nothing. Without a role the scopes alone count; without scopes the role."""
    by_scope = {SCOPES[scope].reach(permission) for scope in scopes if scope in SCOPES}
    narrowed = ALL if ALL in by_scope else OWN if OWN in by_scope else ""
    if role not in ROLES:
        return narrowed
    given = ROLES[role].reach(permission)
    if not by_scope:
        return given
    return given if given == narrowed else OWN if given and narrowed else ""


def covers(role: str, other: str) -> bool:
    """Whether `role` gives everything that `other` gives."""
    if role not in ROLES or other not in ROLES:
        return False
    wide, narrow = ROLES[role], ROLES[other]
    return narrow.all <= wide.all and narrow.own <= wide.own | wide.all


def roles_with(permission: str) -> list[str]:
    """The roles that give a permission, for a sentence."""
    return [name for name, grant in ROLES.items() if grant.reach(permission)]
