"""The gateway's requests in the ledger: holds before each request begins, and settlements when it is over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import datetime
from itertools import groupby

from sqlalchemy import Connection

from sublet.gateway.model import METER_INPUT, METER_INPUT_CACHED, METER_OUTPUT, UsageRecord
from sublet.gateway.requests.allowances import AllowanceRequest, Granted
from sublet.gateway.requests.held import BudgetHold
from sublet.ledger.budgets.ceilings import Most
from sublet.ledger.budgets.desk import HoldDesk
from sublet.ledger.budgets.holds import announce, load_holds
from sublet.ledger.budgets.model import HoldOutcome, HoldRequest, Settlement
from sublet.ledger.budgets.spending import Spending
from sublet.ledger.service import Ledger
from sublet.ledger.usage.requests import RequestUsage
from sublet.values.clock import from_micros
from sublet.values.errors import UnavailableError


class DeskHolds:
    """Places the holds of requests at a desk, in the desk's thread; see gateway.requests.held.Holds."""

    def __init__(self, desk: HoldDesk) -> None:
        self._desk = desk

    def allow(self, wanted: AllowanceRequest) -> Future[Granted]:
        usage = _usage(wanted.model, wanted.input_max, wanted.output_max)
        request = HoldRequest(
            wanted.id,
            wanted.organization_id,
            0,
            wanted.expires_at,
            wanted.project,
            wanted.key_id,
            usage,
            wanted.at,
            times=max(2, wanted.times),
            until=wanted.until,
            spare=wanted.spare,
        )
        placed: Future[Granted] = Future()

        def done(asked: Future[HoldOutcome]) -> None:
            error = asked.exception()
            outcome = asked.result() if error is None else None
            if outcome is None or outcome.error is not None or outcome.ceiling is None:
                placed.set_exception(error or (outcome and outcome.error) or UnavailableError())
            else:
                most = outcome.ceiling
                placed.set_result(Granted(outcome.nano, most.fixed_nano, *most.step_nanos))

        self._desk.submit(request).add_done_callback(done)
        return placed

    def place(self, wanted: BudgetHold) -> Future[None]:
        usage = _usage(wanted.model, wanted.input_max, wanted.output_max, wanted.tier)
        request = HoldRequest(
            wanted.request_id,
            wanted.organization_id,
            0,
            wanted.expires_at,
            wanted.project,
            wanted.key_id,
            usage,
            wanted.at,
        )
        placed: Future[None] = Future()

        def done(outcome: Future[HoldOutcome]) -> None:
            error = outcome.exception() or outcome.result().error
            if error is None:
                placed.set_result(None)
            else:
                placed.set_exception(error)

        self._desk.submit(request).add_done_callback(done)
        return placed


def request_usage(records: Sequence[UsageRecord]) -> list[RequestUsage]:
    """The gateway's usage as usage events, with the gateway's own ids."""
    return [
        RequestUsage(
            record.id,
            record.organization_id,
            record.key_id,
            record.project,
            record.meter,
            record.quantity,
            usage_us(record),
            record.request_id,
            _described(record),
            record.hold or (record.request_id if record.held else None),
        )
        for record in records
        if record.quantity
    ]


def _described(record: UsageRecord) -> tuple[tuple[str, str], ...]:
    """The dimensions of a record's usage; the pool by its id, which stays the same where it is renamed."""
    optional = (("pool", record.pool_id), ("counted", record.counted), ("tier", record.tier))
    return (("model", record.model), *[item for item in optional if item[1]])


def usage_us(record: UsageRecord) -> int:
    """When the usage of a record counts: what was held counts when it was held, so that both fall into one period and
    have one price."""
    return record.started_us if record.held or record.hold else record.ended_us


def take_usage(
    connection: Connection, ledger: Ledger, source: str, records: Sequence[UsageRecord], now: datetime
) -> None:
    """Record the gateway's usage and settle its holds, in one transaction. Idempotent.

    Raises InvalidInputError with the first event that the ledger refuses. The transaction must then be rolled back.
    """
    spending = ledger.spending
    taken = ledger.requests.take(connection, source, request_usage(records), now)
    shared = {record.hold for record in records if record.hold}
    if shared:
        # All holds at once and before any budget, as everybody does who changes both: nobody then waits in a circle.
        load_holds(connection, shared | {record.request_id for record in records if record.held}, lock=True)
    for hold_id in sorted(shared):
        if taken.holds[hold_id]:
            announce(connection, hold_id, taken.holds[hold_id])
    settlements = _settlements(connection, spending, records)
    ends = {record.hold: None if record.nano < 0 else record.nano for record in records if record.closes}
    if ends:
        settlements += spending.endings(connection, ends)
    if settlements:
        spending.settle(connection, settlements, now)


def _usage(model: str, input_max: int, output_max: int, tier: str = "") -> tuple[Most, Most]:
    dimensions = _dimensions(model, tier)
    return (
        Most((METER_INPUT, METER_INPUT_CACHED), input_max, dimensions),
        Most((METER_OUTPUT,), output_max, dimensions),
    )


def _settlements(connection: Connection, spending: Spending, records: Sequence[UsageRecord]) -> list[Settlement]:
    """What the holds of the requests in `records` cost, each of which is there with all that it used.

    What was settled before stays so, and a hold that is not there any more holds nothing: neither is an error.
    """
    held = sorted((record for record in records if record.held), key=lambda record: record.request_id)
    if not held:
        return []
    settlements = []
    book = spending.book(connection)
    for request_id, group in groupby(held, key=lambda record: record.request_id):
        used = [record for record in group if record.quantity]
        if not used:
            settlements.append(Settlement(request_id, 0))
            continue
        first = used[0]
        usage = [Most((record.meter,), record.quantity, _dimensions(record.model, record.tier)) for record in used]
        nano = spending.most(connection, book, first.organization_id, usage, from_micros(usage_us(first)))
        settlements.append(Settlement(request_id, nano, len(used)))
    return settlements


def _dimensions(model: str, tier: str = "") -> str:
    return json.dumps(
        {"model": model} | ({"tier": tier} if tier else {}), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
