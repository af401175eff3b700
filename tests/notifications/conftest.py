"""Events to tell of, and messages that tell of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from sublet.notifications.channels.base import Message
from sublet.notifications.signing import new_secret
from sublet.store.outbox import Event

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def event(number: int = 1, **payload: Any) -> Event:
    data = {"lease": "lse_1", "deadline": "2026-01-05T12:05:00Z", "credit": "1.10", **payload}
    return Event(number, f"oev_{number:024d}", "lease.notice_given", "org_1", "lse_1", NOW, 1, data)


def message(address: str, *events: Event, **fields: Any) -> Message:
    given: dict[str, Any] = {"format": "standard", "internal": True, "signers": (new_secret(),)} | fields
    return Message("sub_1", "ops", address, events=events or (event(),), at=NOW, **given)


Make = Callable[..., Message]


@pytest.fixture
def make_message() -> Make:
    return message
