"""Change a lease while it is sold: longer, shorter, smaller, for another project, by another name; each with its price first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from sublet.leases import events
from sublet.leases import store as sql
from sublet.leases import unit_store as unit_sql
from sublet.leases.backends.base import checked_authorized_keys
from sublet.leases.changes.extending import Extensions
from sublet.leases.changes.fees import charge
from sublet.leases.changes.model import (
    CHANGES_MAX,
    NOT_BEGUN,
    ChangeKind,
    ChangeRequest,
    LeaseChange,
    PriceChangedError,
    checked_labels,
    checked_name,
    extended,
    given_back,
    refuse_change,
    shortened,
    shrunk,
)
from sublet.leases.jobs import store as jobs_sql
from sublet.leases.lifecycle.transitions import Transitions
from sublet.leases.model import Lease, LeaseState, UnitState, WrongStateError
from sublet.leases.ports import LeasePorts
from sublet.leases.quotes import calendar
from sublet.store import Store
from sublet.values.errors import LimitExceededError, NotFoundError
from sublet.values.etags import ANY_STATE, Condition
from sublet.values.money import price_from_nano, text_from_nano
from sublet.values.text import checked_line

PROJECT_MAX = 80


class Changes:
    """The use cases of changing a lease. Whatever decides is read inside the write transaction, under the pool's lock."""

    def __init__(self, store: Store, ports: LeasePorts, transitions: Transitions) -> None:
        self._store = store
        self._ports = ports
        self._transitions = transitions
        self._extensions = Extensions(ports)

    def preview(self, lease_id: str, request: ChangeRequest, organization_id: str | None) -> LeaseChange:
        """What the change would come to. Changes nothing; raises as `change`."""
        now = self._store.clock.now()
        with self._store.read() as connection:
            return self._plan(connection, _found(connection, lease_id, organization_id), request, now)

    def preview_end(self, lease_id: str, organization_id: str | None) -> LeaseChange:
        """What giving the lease back now would come to. Raises NotFoundError."""
        with self._store.read() as connection:
            return given_back(_found(connection, lease_id, organization_id), self._store.clock.now())

    def change(
        self, lease_id: str, request: ChangeRequest, organization_id: str | None, actor: str, key_id: str = ""
    ) -> LeaseChange:
        """Carry the change out: all of it, or nothing.

        Raises NotFoundError, InvalidInputError, WrongStateError, ExtensionRefusedError with the latest end that can be had,
        PriceChangedError, and LimitExceededError where a budget has not enough left."""

        def write(connection: Connection) -> LeaseChange:
            now = self._store.clock.now()
            _found(connection, lease_id, organization_id)
            lease = self._transitions.locked(connection, lease_id)
            change = self._plan(connection, lease, request, now)
            if organization_id is None:
                # The operator's own change costs its tenant nothing.
                change = replace(change, fee_nano=0)
            self._carry_out(connection, change, actor, key_id, now)
            return change

        return self._store.write(write)

    def end(self, lease_id: str, organization_id: str | None, actor: str) -> Lease:
        """Give a lease back, or cancel it before it began, for the fee of its terms; one that is over stays as it is. Raises
        NotFoundError."""
        with self._store.read() as connection:
            lease = _found(connection, lease_id, organization_id)
        if lease.state.terminal:
            return lease

        def fee(connection: Connection, lease: Lease, now: datetime) -> None:
            # The cancel of a job has charged it already, and its lease may be ended in between.
            if not jobs_sql.is_canceled(connection, lease.id):
                self.charge_end(connection, lease, organization_id, now)

        return self._transitions.release(lease_id, actor, fee)

    def charge_end(self, connection: Connection, lease: Lease, organization_id: str | None, now: datetime) -> None:
        """Charge what giving back all of a locked lease costs its tenant; the operator's own end costs nothing."""
        change = given_back(lease, now)
        if organization_id is not None and change.fee_nano:
            charge(connection, self._ports, change, "end", now)

    def name(
        self,
        lease_id: str,
        name: str | None,
        labels: Iterable[tuple[str, str]] | None,
        organization_id: str | None,
        seen: Condition = ANY_STATE,
    ) -> Lease:
        """What the lease is called. `labels` replace all that it has. Raises NotFoundError, InvalidInputError,
        PreconditionFailedError."""
        values: dict[str, Any] = {}
        if name is not None:
            values["name"] = checked_name(name) or None
        if labels is not None:
            values["labels"] = checked_labels(labels) or None

        def write(connection: Connection) -> Lease:
            _found(connection, lease_id, organization_id)
            lease = self._transitions.locked(connection, lease_id)
            seen.require(named(lease))
            if values:
                sql.update_lease(connection, lease_id, **values)
            return _found(connection, lease_id, organization_id)

        return self._store.write(write)

    def set_ssh_keys(
        self, lease_id: str, keys: tuple[str, ...], organization_id: str | None, actor: str, seen: Condition
    ) -> Lease:
        """Other SSH keys may log in from now on; the plan brings them to where the lease runs. Raises NotFoundError,
        InvalidInputError, WrongStateError where it is over, PreconditionFailedError."""
        checked = checked_authorized_keys(keys)

        def write(connection: Connection) -> Lease:
            _found(connection, lease_id, organization_id)
            lease = self._transitions.locked(connection, lease_id)
            seen.require(lease.keys_as_dict())
            if lease.state.terminal or lease.state is LeaseState.ENDING:
                raise WrongStateError(f"lease {lease_id} is {lease.state}, so its keys can't be changed")
            if lease.ssh_public_keys != checked:
                sql.update_lease(connection, lease_id, ssh_public_keys=list(checked))
                why = f"{f'{len(checked)} SSH keys' if len(checked) > 1 else 'one SSH key'} may log in from now on"
                sql.record(connection, lease_id, lease.state, lease.state, self._store.clock.now(), actor, why)
            return _found(connection, lease_id, organization_id)

        return self._store.write(write)

    def _plan(self, connection: Connection, lease: Lease, request: ChangeRequest, now: datetime) -> LeaseChange:
        kind = request.kind_for(lease)
        if jobs_sql.is_canceled(connection, lease.id):
            raise WrongStateError(f"lease {lease.id} ends: its job was canceled; nothing of it can be changed any more")
        if lease.hold_number >= CHANGES_MAX:
            raise LimitExceededError(f"lease {lease.id} was changed {CHANGES_MAX:,} times; end it and rent a new one")
        refuse_change(lease, kind)
        if kind is ChangeKind.MOVE:
            project = checked_line(request.project or "", "a project's name", PROJECT_MAX)
            return LeaseChange(kind, lease, lease, lease.price_at(now), project=project)
        if kind is ChangeKind.SHRINK:
            step = self._ports.engine_of(connection, lease.pool_id).step
            return shrunk(lease, request, step, now)
        assert request.end is not None
        if kind is ChangeKind.SHORTEN:
            return shortened(lease, request.end, now)
        price_nano = self._extensions.admit(connection, lease, request.end, now)
        if request.most_nano is not None and price_nano > request.most_nano:
            raise PriceChangedError(
                f"the added time costs {price_from_nano(price_nano)} {lease.currency} per accelerator-hour now, more than "
                f"the {price_from_nano(request.most_nano)} that you would pay",
                price_per_accelerator_hour=text_from_nano(price_nano),
            )
        return extended(lease, request.end, price_nano)

    def _carry_out(self, connection: Connection, change: LeaseChange, actor: str, key_id: str, now: datetime) -> None:
        before, after = change.before, replace(change.lease, hold_number=change.before.hold_number + 1)
        after = replace(after, hold_from_s=before.metered_s)
        clean_s = self._ports.timing_of(connection, before.pool_id).clean_s
        if change.kind is ChangeKind.EXTEND:
            self._ports.authorize(connection, before.organization_id, round(change.costs), before.currency)
        if change.fee_nano:
            charge(connection, self._ports, change, str(before.hold_number), now)
        buyer = (key_id, change.project) if change.project is not None else None
        self._ports.rebook(connection, replace(before, fee_nano=before.fee_nano + change.fee_nano), after, buyer)
        sql.update_lease(
            connection,
            before.id,
            end_at=after.window.end,
            accelerators=after.accelerators,
            unit_ids=list(after.unit_ids),
            devices=list(after.devices),
            handed_back=after.handed_back,
            handing_back=after.handing_back.kept() if after.handing_back else None,
            price_steps=[step.kept() for step in after.price_steps] or None,
            outages=[item.as_dict() for item in after.outages] or None,
            hold_number=after.hold_number,
            hold_from_s=after.hold_from_s,
        )
        if change.kind is ChangeKind.EXTEND:
            calendar.lengthen(connection, before.id, after.window.end, clean_s)
        elif change.kind is ChangeKind.SHORTEN:
            calendar.shorten(connection, before.id, after.window.end, clean_s)
        elif change.kind is ChangeKind.SHRINK:
            self._give_up(connection, change, clean_s, now)
        sql.record(connection, before.id, before.state, before.state, now, actor, change.sentence)
        if change.kind is not ChangeKind.MOVE:
            events.record_changed(connection, after, change.sentence, now)

    def _give_up(self, connection: Connection, change: LeaseChange, clean_s: int, now: datetime) -> None:
        """From then on the accelerators can be sold to others, though the lease may still run on them."""
        lease = change.before
        if lease.state in NOT_BEGUN and change.at is not None and change.at <= lease.window.start:
            calendar.release_units(connection, lease.id, list(change.given))
            unit_sql.set_unit_states(connection, lease.pool_id, change.given, UnitState.FREE, None, None, now)
        elif change.at is not None:
            calendar.shorten(connection, lease.id, change.at, clean_s, change.given)


def named(lease: Lease) -> dict[str, Any]:
    """What of a lease `name` changes."""
    return {"lease_id": lease.id, "name": lease.name, "labels": dict(lease.labels)}


def _found(connection: Connection, lease_id: str, organization_id: str | None) -> Lease:
    lease = sql.lease(connection, lease_id, organization_id)
    if lease is None:
        raise NotFoundError(f"there is no lease {lease_id!r}; `sublet lease ls` lists yours")
    return lease
