"""Who is asked after an attempt that came to nothing."""

from __future__ import annotations

from typing import Protocol

from sublet.gateway.model import ModelRoute
from sublet.gateway.refusals import EngineBusyError, EngineUnreachableError, NoReplicaError
from sublet.gateway.requests.admission import ReplicaState
from sublet.gateway.requests.host import Host
from sublet.values.errors import SubletError

ATTEMPTS_MAX = 3


class Failed(Protocol):
    """A request whose last attempt came to nothing: `attempts` so far, and the ids of the replicas that failed it (`tried`)."""

    @property
    def gateway(self) -> Host: ...

    @property
    def model(self) -> ModelRoute: ...

    @property
    def attempts(self) -> int: ...

    @property
    def tried(self) -> tuple[str, ...]: ...


def replica_for(request: Failed, error: SubletError, failed: str | None) -> ReplicaState | SubletError | None:
    """A replica other than those that failed it, its slot taken, as far as the model's allowance of retries goes; the error to
    answer with where there is none; None where the request is to wait in the queue.

    A request for an engine of our own that never left waits in turn like any other after the first time, so that two
    dead engines do not pass it to and fro until their host has restarted them.
    """
    gateway = request.gateway
    # The snapshot may know of other replicas by now.
    model = gateway.snapshot.models.get(request.model.name, request.model)
    unsent = isinstance(error, EngineUnreachableError) and model.timings
    free = unsent or failed is None
    replica = None
    try:
        if (request.attempts < ATTEMPTS_MAX or not model.replicas) and (free or _may_retry(request, model)):
            replica = gateway.admission.pick(model, gateway.monotonic(), request.tried)
    except (NoReplicaError, EngineBusyError) as refusal:
        return refusal if isinstance(error, EngineUnreachableError) else error
    if replica is None and not free:
        return error
    return replica


def _may_retry(request: Failed, model: ModelRoute) -> bool:
    others = any(route.id not in request.tried for route in model.replicas)
    return not others or request.gateway.admission.may_retry(model)
