"""What the documents and the kernel say of a lease, as a backend tells it."""

from __future__ import annotations

from sublet.leases.backends.base import Delivery, Endpoint, Observation, RunState
from sublet.leases.backends.local.files import Spec, State
from sublet.leases.backends.local.teardown import shim_alive
from sublet.values.clock import from_micros


def _counted(state: State) -> dict[str, int] | None:
    if state.traffic is None:
        return None
    return {name: int(state.traffic.get(name, 0)) for name in ("bytes_out", "bytes_in", "connections", "refused")}


def observation_of(spec: Spec, state: State | None, held: bool, host: str) -> Observation:
    """`held`: a shim has the lease's lock. `host` is where customers log in."""
    endpoint = None
    if state is None:
        return Observation(
            spec.lease_id,
            RunState.STARTING if held else RunState.PAUSED,
            ends_at=from_micros(spec.ends_at_us),
            reclaim_at=from_micros(spec.reclaim_at_us) if spec.reclaim_at_us else None,
        )
    status = RunState(state.state)
    if not status.over and not (held and shim_alive(state)):
        # The shim that wrote this is gone, and its sandbox with it. Either another one has just begun, or `start` brings
        # the lease back from the files.
        status = RunState.STARTING if held else RunState.PAUSED
    if state.port and status is RunState.RUNNING:
        endpoint = Endpoint(host, state.port, "tenant", spec.host_key, spec.fingerprint)
    deliveries = tuple(
        Delivery(
            from_micros(run.started_us),
            from_micros(run.alive_us),
            run.accelerators or len(spec.devices),
            open=status.live and not run.closed,
        )
        for run in state.runs
    )
    return Observation(
        lease_id=spec.lease_id,
        state=status,
        endpoint=endpoint,
        guarantees=state.guarantees,
        deliveries=deliveries,
        ends_at=from_micros(state.ends_at_us),
        reclaim_at=from_micros(state.reclaim_at_us) if state.reclaim_at_us is not None else None,
        reason=state.reason,
        clean=state.clean,
        error="; ".join(filter(None, [state.error, *(f"left: {item}" for item in state.left)])) or None,
        traffic=_counted(state),
    )
