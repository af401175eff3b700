"""Quotes and leases from their rows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import Row

from sublet.leases.model import (
    GiveBack,
    HandingBack,
    Lease,
    LeaseState,
    Moved,
    OnFailure,
    OnReclaim,
    Outage,
    PlannedMove,
    PriceStep,
    Quote,
)
from sublet.values.clock import parse_time
from sublet.values.windows import Window


def quote_of(row: Row[Any]) -> Quote:
    """The quote that a row of `quotes` is."""
    return Quote(
        row.id,
        row.organization_id,
        row.pool_id,
        row.class_name,
        row.notice_s,
        row.accelerators,
        Window(row.start_at, row.end_at),
        row.price_nano,
        row.currency,
        row.created_at,
        row.expires_at,
        Decimal(row.credit_ratio),
        row.free_s,
        row.held_until if row.held_until is None or row.held_until > row.created_at else None,
        OnFailure(row.on_failure),
        row.block_id,
        tuple(row.network or ()),
        tuple((one, name) for one, name in row.volumes or ()),
        row.service_s,
        row.likely,
        GiveBack.read(row.give_back),
        _image(row),
        OnReclaim(row.on_reclaim),
        row.notice_rule or "",
    )


def lease_of(row: Row[Any]) -> Lease:
    """The lease that a row of `leases` is."""
    return Lease(
        id=row.id,
        organization_id=row.organization_id,
        pool_id=row.pool_id,
        quote_id=row.quote_id,
        class_name=row.class_name,
        notice_s=row.notice_s,
        accelerators=row.accelerators,
        unit_ids=tuple(row.unit_ids),
        devices=tuple(row.devices),
        window=Window(row.start_at, row.end_at),
        price_nano=row.price_nano,
        currency=row.currency,
        state=LeaseState(row.state),
        ssh_public_keys=tuple(row.ssh_public_keys),
        created_at=row.created_at,
        credit_ratio=Decimal(row.credit_ratio),
        free_s=row.free_s,
        active_at=row.active_at,
        ended_at=row.ended_at,
        end_reason=row.end_reason,
        reclaim_at=row.reclaim_at,
        reclaim_reason=row.reclaim_reason,
        credit_nano=row.credit_nano,
        metered_until=row.metered_until,
        metered_s=row.metered_s,
        endpoint=row.endpoint,
        guarantees=row.guarantees or {},
        last_error=row.last_error,
        on_failure=OnFailure(row.on_failure),
        shrunk_by=row.shrunk_by,
        outages=tuple(
            Outage(item["unit_id"], parse_time(item["start"]), parse_time(item["end"])) for item in row.outages or ()
        ),
        block_id=row.block_id,
        reclaim_origin=row.reclaim_origin,
        engine=row.engine,
        network=tuple(row.network or ()),
        volumes=tuple((one, name) for one, name in row.volumes or ()),
        image=_image(row),
        traffic=row.traffic or {},
        service_s=row.service_s,
        pauses=row.pauses,
        turned_at=row.turned_at,
        at_risk_at=row.at_risk_at,
        give_back=GiveBack.read(row.give_back),
        price_steps=tuple(PriceStep.read(item) for item in row.price_steps or ()),
        handing_back=HandingBack.read(row.handing_back) if row.handing_back else None,
        handed_back=row.handed_back,
        fee_nano=row.fee_nano,
        hold_number=row.hold_number,
        hold_from_s=row.hold_from_s,
        on_reclaim=OnReclaim(row.on_reclaim),
        move=PlannedMove.read(row.move) if row.move else None,
        moves=tuple(Moved.read(item) for item in row.moves or ()),
        name=row.name or "",
        labels=row.labels or {},
    )


def _image(row: Row[Any]) -> tuple[str, str, str] | None:
    return (str(row.image[0]), str(row.image[1]), str(row.image[2])) if row.image else None
