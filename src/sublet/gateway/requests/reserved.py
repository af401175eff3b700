"""Shares of a model's slots that are reserved for organizations: nobody else gets them, whether they are used or not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sublet.gateway.model import KeyGrant, ModelRoute, ReservedShare
from sublet.gateway.requests.fair import Tiers

EPSILON = 1e-9


class Reservations:
    """Who has reserved how much of what, by the ids of organizations."""

    def __init__(self, rules: Sequence[ReservedShare]) -> None:
        self._rules = rules
        self._shares: dict[str, dict[str, float]] = {}

    def adopt(self, grants: Iterable[KeyGrant]) -> None:
        """The rules name organizations by id or name; keys know both."""
        if not self._rules:
            return
        ids: dict[str, str] = {}
        for grant in grants:
            ids[grant.organization_id] = ids[grant.organization_name] = grant.organization_id
        self._shares = {}
        for rule in self._rules:
            if (found := ids.get(rule.organization)) is not None:
                own = self._shares.setdefault(rule.model, {})
                own[found] = own.get(found, 0.0) + rule.share

    def of(self, model: ModelRoute) -> dict[str, int]:
        """The slots that organizations have reserved of a model, as it is now; of a share that is no whole number, the whole part."""
        shares = self._shares.get(model.name)
        return {name: int(share * model.slots + EPSILON) for name, share in shares.items()} if shares else {}


def within(reserved: dict[str, int], queue: Tiers[Any], grant: KeyGrant) -> bool:
    """Whether a request of `grant` that starts now would use a reserved slot."""
    own = reserved.get(grant.organization_id, 0)
    return bool(own) and queue.usual.running_of(grant.organization_id) < own


def held_back(reserved: dict[str, int], queue: Tiers[Any], besides: str = "") -> int:
    """Slots that are free for nobody but those who reserved them."""
    return sum(max(0, own - queue.usual.running_of(name)) for name, own in reserved.items() if name != besides)
