"""What became of the messages that tell of budgets, for the console."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from sublet.ledger.budgets.standing import Standing, Told
from sublet.ledger.events import THRESHOLD_REACHED
from sublet.notifications import store as sql
from sublet.notifications.kinds import selected
from sublet.notifications.model import DeliveryState


class Messages:
    """Read once for all budgets of a page."""

    def __init__(self, connection: Connection, standings: Sequence[Standing]) -> None:
        self._states = sql.states_of_events(connection, [told.event_id for item in standings for told in item.told])
        owners = {item.budget.organization_id for item in standings}
        self._subscriptions = [
            item
            for item in sql.enabled_for(connection, owners)
            if item.organization_id is not None and selected(item.kinds, THRESHOLD_REACHED.name)
        ]

    def channels(self, organization_id: str, budget_id: str) -> int:
        """How many subscriptions of the organization are told of the budget."""
        return sum(
            item.organization_id == organization_id and item.subject in (None, budget_id)
            for item in self._subscriptions
        )

    def trouble(self, told: Told) -> str:
        """What failed in telling of a threshold; a message that waits for its first attempt is no trouble yet."""
        troubles = []
        for channel, state, error in self._states.get(told.event_id, []):
            name = "e-mail" if channel == "email" else channel
            if state == DeliveryState.GIVEN_UP:
                troubles.append(f"{name} given up: {error}")
            elif state == DeliveryState.WAITING and error:
                troubles.append(f"{name} will be tried again: {error}")
        return "; ".join(troubles)
