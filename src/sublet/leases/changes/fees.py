"""What giving time back costs: charged once, written down with the lease, and billed by the ledger."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from sublet.leases import store as sql
from sublet.leases.changes.model import LeaseChange
from sublet.leases.ports import Fee, LeasePorts


def charge(connection: Connection, ports: LeasePorts, change: LeaseChange, which: str, now: datetime) -> None:
    """Charge the fee of a change, known by its lease and `which`; the same again changes nothing with the ledger."""
    lease = change.before
    sql.update_lease(connection, lease.id, fee_nano=lease.fee_nano + change.fee_nano)
    ports.charge(connection, Fee(lease, which, change.fee_nano, now))
