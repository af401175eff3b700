"""What the gateway needs of the rest of Sublet: it imports none of it, and `wiring` fills this in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from sublet.gateway.batches.worker import Bill
from sublet.gateway.front.signed import OpenSecret
from sublet.gateway.metering.shipper import Emit
from sublet.gateway.model import RouteRule, Snapshot
from sublet.gateway.requests.held import Holds
from sublet.gateway.upstream.engine_watch import Trouble


class LoadSnapshot(Protocol):
    """Reads who may call and what is served."""

    def __call__(
        self, connection: Connection, version: int, weights: Mapping[str, float], routes: Sequence[RouteRule] = ()
    ) -> Snapshot:
        """The live keys, the deployed models with their replicas, and the names that several of them serve. `weights` are those
        of organizations (by id or name) and keys (by id) that are not 1."""
        ...


class ReportTroubles(Protocol):
    """Writes down which replicas fail, for the operator's list of models."""

    def __call__(self, connection: Connection, run: str, troubles: Sequence[Trouble], at: datetime) -> None:
        """What this run says now; it replaces what the run said before."""
        ...


class NoteUses(Protocol):
    """Writes down when keys were last used."""

    def __call__(self, connection: Connection, key_ids: Iterable[str], at: datetime) -> None:
        """The keys were used until `at`."""
        ...


@dataclass(frozen=True, slots=True)
class GatewayPorts:
    """`emit` takes usage events to the ledger, at least once each, on a thread. `holds` places holds for keys that a hard
    budget covers; without it they are served as all others. `open_secret` opens the secrets that keys sign with; without it
    signed requests are refused. `bill` takes usage events to the ledger within a transaction; without it there are no batches."""

    emit: Emit
    load_snapshot: LoadSnapshot
    report_troubles: ReportTroubles
    note_uses: NoteUses
    holds: Holds | None = None
    open_secret: OpenSecret | None = None
    bill: Bill | None = None
