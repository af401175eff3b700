"""Releases the accelerators that a tenant gives back, once they are due and the sandbox has stopped."""

from __future__ import annotations

from sqlalchemy import Connection

from sublet.leases import events
from sublet.leases import store as sql
from sublet.leases.lifecycle import moves
from sublet.leases.lifecycle.transitions import Transitions
from sublet.leases.model import LeaseState
from sublet.store import Store


def hand_back(store: Store, transitions: Transitions, lease_id: str, actor: str) -> bool:
    """Release the accelerators that are due. Returns False and changes nothing if there are none. The caller has stopped the
    sandbox."""

    def write(connection: Connection) -> bool:
        now = store.clock.now()
        lease = transitions.locked(connection, lease_id)
        if lease.state.terminal or lease.state is LeaseState.ENDING or lease.handing_back is None:
            return False
        gone = len(lease.handing_back.unit_ids)
        smaller = moves.hand_back(connection, lease, now)
        if smaller is None:
            return False
        why = f"{gone} accelerators were given back by the tenant; it goes on with {smaller.accelerators}"
        events.record_changed(connection, smaller, why, now)
        if lease.state is LeaseState.ACTIVE:
            transitions.change(connection, smaller, LeaseState.DEGRADED, actor, why, now)
        else:
            sql.record(connection, lease_id, lease.state, lease.state, now, actor, why)
        return True

    return store.write(write)
