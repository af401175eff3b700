"""Usage of requests, taken at once: the same rows as events taken one by one, and all of them or none."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from sublet.ledger.model import IntakeResult, UsageEvent
from sublet.ledger.service import Ledger
from sublet.ledger.usage.requests import RequestsTaken, RequestUsage
from sublet.values.clock import from_micros, to_micros
from sublet.values.errors import InvalidInputError


def usage(ledger: Ledger, organization: str, identifier: str = "req_1/tokens.output", **more: Any) -> RequestUsage:
    at = to_micros(ledger.store.clock.now())
    dimensions = (("model", "m"), ("counted", "estimate"))
    made = RequestUsage(
        identifier,
        organization,
        "key_1",
        "search",
        "tokens.output",
        7,
        at,
        identifier.partition("/")[0],
        dimensions,
        None,
    )
    return made._replace(**more)


def take(ledger: Ledger, items: list[RequestUsage]) -> RequestsTaken:
    now = ledger.store.clock.now()
    return ledger.store.write(lambda connection: ledger.requests.take(connection, "gateway", items, now))


def rows(ledger: Ledger) -> list[Any]:
    with ledger.store.read() as connection:
        return [tuple(row)[1:] for row in connection.execute(text("SELECT * FROM ledger_events ORDER BY event_id"))]


def as_event(item: RequestUsage) -> UsageEvent:
    return UsageEvent(
        source="gateway",
        id=item.id,
        organization_id=item.organization_id,
        meter=item.meter,
        quantity=item.quantity,
        at=from_micros(item.at_us),
        resource=item.request_id,
        project=item.project,
        key_id=item.key_id,
        dimensions=dict(item.dimensions),
        hold_id=item.hold_id,
    )


def test_a8_taken_either_way_it_is_the_same_row_and_twice_is_once(ledger: Ledger, acme: str) -> None:
    items = [
        usage(ledger, acme),
        usage(ledger, acme, "req_1/tokens.input", meter="tokens.input", quantity=0),
        usage(ledger, acme, "req_2/tokens.output", project="", key_id="", hold_id="req_2", dimensions=()),
    ]
    assert take(ledger, [*items, items[0]]) == RequestsTaken(3, 1, Counter(req_2=1))
    first = rows(ledger)
    assert take(ledger, items) == RequestsTaken(0, 3, Counter())
    assert ledger.take_now([as_event(item) for item in items]) == IntakeResult(0, 3, ())
    assert rows(ledger) == first


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"meter": "tokens.guessed"}, "not known"),
        ({"quantity": -1}, "negative"),
        ({"organization_id": "org_nobody"}, "no organization"),
        ({"id": ""}, "identify"),
        ({"id": "x" * 257}, "256"),
        ({"id": "a\nb"}, "U\\+000A"),
        ({"project": "new\nline"}, "project holds U\\+000A"),
        ({"at_us": 0}, "days ago"),
        ({"dimensions": tuple((str(number), "x") for number in range(17))}, "16 dimensions"),
    ],
)
def test_one_that_the_ledger_never_takes_stops_them_all(
    ledger: Ledger, acme: str, fields: dict[str, Any], named: str
) -> None:
    good = usage(ledger, acme)
    with pytest.raises(InvalidInputError, match=named):
        take(ledger, [good, usage(ledger, acme, "req_2/tokens.output")._replace(**fields)])
    assert rows(ledger) == []


def test_another_content_under_the_same_id_is_refused(ledger: Ledger, acme: str) -> None:
    take(ledger, [usage(ledger, acme)])
    for later in (
        [usage(ledger, acme, quantity=8)],
        [usage(ledger, acme, at_us=to_micros(ledger.store.clock.now()) - 1)],
    ):
        with pytest.raises(InvalidInputError, match="different content"):
            take(ledger, later)
    with pytest.raises(InvalidInputError, match="different content"):
        take(ledger, [usage(ledger, acme, "req_9/x"), usage(ledger, acme, "req_9/x", quantity=1)])
    ahead = usage(ledger, acme, "req_3/x", at_us=to_micros(ledger.store.clock.now() + timedelta(hours=1)))
    with pytest.raises(InvalidInputError, match="ahead of the server's clock"):
        take(ledger, [ahead])
