"""The gateway itself: what every connection shares, and the way of a request from its bytes to its exchange."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import msgspec
import structlog

from sublet.gateway.front.client import Client
from sublet.gateway.front.connections import Connections
from sublet.gateway.front.signed import OpenSecret, Signers
from sublet.gateway.limits.orders import Desk as LimitDesk
from sublet.gateway.limits.orders import Order, Placed
from sublet.gateway.limits.sharing import Claim, Limits
from sublet.gateway.metering.journal import ALLOWANCE, Journal, Record
from sublet.gateway.metering.metrics import Metrics
from sublet.gateway.metering.records import context_of
from sublet.gateway.model import GatewaySettings, KeyGrant, ModelRoute, ReplicaRoute, Snapshot, request_id
from sublet.gateway.refusals import (
    InvalidApiKeyError,
    InvalidRequestError,
    JournalError,
    ModelNotFoundError,
    StoppingError,
    too_large,
)
from sublet.gateway.requests.admission import Admission, KeyState
from sublet.gateway.requests.allowances import AllowanceRequest, Allowances, BudgetAllowance, Granted, Moment
from sublet.gateway.requests.bounds import check_structure
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.context import check_context
from sublet.gateway.requests.exchange import Exchange
from sublet.gateway.requests.form import COUNT
from sublet.gateway.requests.held import BudgetHold, HeldExchange, Holds, bound_output, tokens_max
from sublet.gateway.requests.host import UnderWay
from sublet.gateway.stored import Responses, StoredResponse, items_json
from sublet.gateway.surfaces.surface import Surface
from sublet.gateway.upstream.engine_watch import EngineWatch
from sublet.gateway.upstream.pool import EnginePool
from sublet.gateway.upstream.writer import check
from sublet.values.clock import Clock, SystemClock, from_micros, to_micros
from sublet.values.errors import ForbiddenError, SubletError, UnavailableError

log = structlog.get_logger(__name__)

SECRET_BYTES_MAX = 256
SWEEP_S = 0.5
CONTEXTS_MAX = 10_000


PREVIOUS = "previous_response_id"
Recalled = list[msgspec.Raw] | SubletError
"""The items of a conversation, or why they can't be had."""

_Wanted = TypeVar("_Wanted")
_Placed = TypeVar("_Placed")


def _found(done: asyncio.Future[list[msgspec.Raw]]) -> Recalled:
    error = done.exception()
    if error is None:
        return done.result()
    return error if isinstance(error, SubletError) else UnavailableError()


class Ticket:
    """An authenticated request that counts for its key already, before its body is there; one that was signed has no `secret`."""

    __slots__ = ("grant", "key_state", "secret", "snapshot")

    def __init__(self, grant: KeyGrant, key_state: KeyState, secret: bytes, snapshot: Snapshot) -> None:
        self.grant = grant
        self.key_state = key_state
        self.secret = secret
        self.snapshot = snapshot


class Gateway:
    """One process's gateway. For the event loop's thread, except `adopt`."""

    def __init__(
        self,
        settings: GatewaySettings,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        journal: Journal,
        metrics: Metrics,
        snapshot: Snapshot,
        holds: Holds | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        open_secret: OpenSecret | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.loop = loop
        self.journal = journal
        self.metrics = metrics
        self.snapshot = snapshot
        self.signers = Signers(clock, open_secret)
        self.admission = Admission(settings)
        self.watch = EngineWatch(self)
        metrics.engine_errors = self.watch.errors
        self.live: set[UnderWay] = set()
        self.used_keys: set[str] = set()
        """Ids of keys that were used, until their last use is stored; no more than there are keys."""
        self.connections = Connections(settings, metrics.evicted)
        self.swept = [self.connections]
        """The connections of every listener."""
        self.stopping = False
        self.monotonic = monotonic
        self.hold_over: Callable[[], None] = lambda: None
        """Told when the record that settles a hold is written."""
        self._holds = holds
        self._placing: set[asyncio.Future[Any]] = set()
        # The system's clock is read the short way: a datetime for each request would cost more than its admission.
        self._real_clock = isinstance(clock, SystemClock)
        self._limits = {name: settings.of_model(name) for name in settings.overrides}
        self.received_bytes_max = settings.received_bytes_max
        self._engines: dict[tuple[str, str, str | None], EnginePool] = {}
        self._sequence = 0
        self.allowances = Allowances(self)
        self.limits = Limits(self)
        self.limit_desk: LimitDesk | None = None
        """Where limits are shared; None where there is no database."""
        self.responses: Responses | None = None
        """Where answers are kept that clients want kept; None where none are."""
        self.backgrounds = False
        """Whether requests may be carried out in the background."""
        self._contexts: dict[tuple[str, str, str], bytes] = {}

    def now_us(self) -> int:
        """The present in microseconds since the epoch."""
        return time.time_ns() // 1000 if self._real_clock else to_micros(self.clock.now())

    def next_request_id(self) -> tuple[int, str]:
        """The request's number in this run, and an id that no other run has: the client has no say in it."""
        self._sequence += 1
        return self._sequence, request_id(self.journal.run, self._sequence)

    def admit(self, grant: KeyGrant, secret: bytes) -> Ticket:
        """Count a request for its key, once its headers are there: what may not run is not received either.

        Raises the SubletError that refuses it; then it used nothing up.
        """
        if self.stopping:
            raise StoppingError(retry_after_s=1.0)
        if self.journal.failure is not None:
            raise JournalError(retry_after_s=5.0)
        now = self.monotonic()
        if grant.limits:
            self.limits.check(grant)
            state = self.admission.admit(grant.id, now, rate=grant.default_rate, concurrency=grant.default_concurrency)
        else:
            state = self.admission.admit(grant.id, now)
        return Ticket(grant, state, secret, self.snapshot)

    def withdraw(self, ticket: Ticket) -> None:
        """The request never came to be whole: it uses nothing up."""
        self.admission.refund(ticket.key_state)

    def begin(self, client: Client, surface: Surface, kind: str, ticket: Ticket, body: bytes) -> Exchange:
        """Check an admitted request, whose body is there, and start it. Raises the SubletError that refuses it; then it
        used nothing up."""
        taken: tuple[BudgetAllowance, int] | None = None
        try:
            grant = ticket.grant
            if ticket.snapshot is not self.snapshot or grant.expires_at is not None:
                # It may have been revoked or have expired while the body came.
                grant = self.authenticate(ticket.secret) if ticket.secret else self.signers.grant(grant.id)
            self.used_keys.add(grant.id)
            call, model = self.checked(surface, kind, body, grant)
            size = len(body) + call.earlier_bytes
            held = grant.budgeted and self._holds is not None and kind != COUNT
            if held and not call.tier:
                tokens = tokens_max(call, size, model)
                taken = self.allowances.take(grant, model, tokens, Moment(self.now_us(), self.monotonic()))
            kind_of = HeldExchange if held and taken is None else Exchange
            now = self.monotonic()
            exchange = kind_of(self, client, surface, call, model, grant, ticket.key_state, now, size)
            if taken is not None:
                bound_output(call, tokens[1], model)
                exchange.serve_from(*taken)
            self.start(exchange, grant, model, call)
        except SubletError:
            self.admission.refund(ticket.key_state)
            if taken is not None:
                taken[0].back(taken[1], None)
            raise
        return exchange

    def start(self, exchange: Exchange, grant: KeyGrant, model: ModelRoute, call: Call) -> None:
        """Start it within the limits that cover it, or let it wait for them. Raises the SubletError that refuses it; then it used
        nothing of the limits up."""
        claim: Claim | None = None
        try:
            if grant.limits or model.limits:
                exchange.claim = claim = self.limits.claim(grant, model, call, exchange.cleared)
            if claim is None or claim.granted:
                exchange.start()
            else:
                exchange.await_limits()
        except SubletError:
            if claim is not None:
                claim.back()
            raise

    @property
    def holds_budgets(self) -> bool:
        """Whether what a hard budget covers is held before it begins."""
        return self._holds is not None

    def checked(self, surface: Surface, kind: str, body: bytes, grant: KeyGrant) -> tuple[Call, ModelRoute]:
        """A request as it was read, and its model. Raises the SubletError that refuses it."""
        check_structure(body)
        call = surface.parse(kind, body)
        model = self.snapshot.models.get(call.model)
        if model is None or (grant.models is not None and call.model not in grant.models):
            raise ModelNotFoundError(
                f"The model {call.model[:80]!r} does not exist here; GET /v1/models lists those that do", param="model"
            )
        check(call, model)
        limits = self.limits_of(model.name)
        if len(body) > limits.body_bytes_max:
            raise too_large(limits.body_bytes_max)
        check_context(call, len(body) + call.earlier_bytes, model)
        if call.kept is not None and self.responses is None:
            raise InvalidRequestError(
                "store must be false: the operator has turned off stored responses", param="store"
            )
        return call, model

    def recall(self, grant: KeyGrant, response_id: str, told: Callable[[Recalled], None]) -> None:
        """Read what a stored answer and those before it have, off the loop; `told` on it, in a later turn."""
        if self.responses is None:
            told(InvalidRequestError("responses are not stored here; send the earlier items in input", param=PREVIOUS))
            return
        responses, whose = self.responses, grant.organization_id
        self._placed(lambda wanted: responses.conversation(whose, wanted), response_id, lambda done: told(_found(done)))

    def keep(self, exchange: Exchange, body: bytes, told: Callable[[bool], None]) -> None:
        """Have an answer kept, off the loop; `told` whether it is, on it, in a later turn."""
        responses, kept = self.responses, exchange.call.kept
        if responses is None or kept is None:
            told(False)
            return
        response_id = "resp_" + exchange.identity.request_id.removeprefix("req_")
        item = StoredResponse(
            response_id,
            exchange.grant.organization_id,
            kept.previous_id,
            exchange.model.name,
            from_micros(exchange.started_us),
            items_json(response_id, kept.items),
            body,
        )

        def done(placed: asyncio.Future[None]) -> None:
            error = placed.exception()
            if error is not None:
                log.error("a response was not stored", request=exchange.identity.request_id, error=str(error)[:300])
            told(error is None)

        self._placed(responses.keep, item, done)

    def limits_of(self, model: str) -> GatewaySettings:
        """The settings that hold for a model."""
        return self._limits.get(model, self.settings)

    def place(self, exchange: HeldExchange, wanted: BudgetHold) -> None:
        """Have a hold placed off the loop; the exchange is told on it, in a later turn."""
        assert self._holds is not None
        self._placed(self._holds.place, wanted, lambda done: exchange.placed(done.exception()))

    def place_work(
        self, place: Callable[[_Wanted], Future[None]], wanted: _Wanted, told: Callable[[BaseException | None], None]
    ) -> None:
        """Have something done off the loop; `told` on it, in a later turn, what went wrong, if anything did."""
        self._placed(place, wanted, lambda done: told(done.exception()))

    def allow(self, wanted: AllowanceRequest, placed: Callable[[Granted | None], None]) -> None:
        """See requests.allowances.AllowanceHost."""
        assert self._holds is not None
        self._placed(
            self._holds.allow, wanted, lambda done: placed(done.result() if done.exception() is None else None)
        )

    def write_allowance(self, record: Record) -> None:
        """See requests.allowances.AllowanceHost."""
        if record.kind == ALLOWANCE:
            self.journal.reserve(record)
        else:
            self.journal.settle(record, lambda ok: self.hold_over(), keep=True)

    def _placed(
        self,
        place: Callable[[_Wanted], Future[_Placed]],
        wanted: _Wanted,
        told: Callable[[asyncio.Future[_Placed]], None],
    ) -> None:
        try:
            asked = place(wanted)
        except SubletError as error:
            asked = Future()
            asked.set_exception(error)
        placing = asyncio.wrap_future(asked, loop=self.loop)
        self._placing.add(placing)

        def done(placed: asyncio.Future[_Placed]) -> None:
            self._placing.discard(placed)
            told(placed)

        placing.add_done_callback(done)

    @property
    def run(self) -> str:
        """The id of this process's run."""
        return self.journal.run

    def order(self, order: Order, placed: Placed) -> None:
        """See limits.sharing.LimitHost."""
        if self.limit_desk is None:
            self.loop.call_soon(placed, None)
            return
        self._placed(
            self.limit_desk.submit, order, lambda done: placed(done.result() if done.exception() is None else None)
        )

    async def settled(self, seconds: float) -> None:
        """Wait until no hold is being placed any more, at most so long."""
        if self._placing:
            await asyncio.wait(self._placing, timeout=seconds)
            # The callbacks of what is done just now.
            await asyncio.sleep(0)

    def authenticate(self, secret: bytes) -> KeyGrant:
        """Whose key this is. Raises InvalidApiKeyError, the same for every reason, or ForbiddenError."""
        grant = self.grant_of(secret)
        if not grant.may_call:
            raise ForbiddenError("this key lacks the scope 'models' (call the model API); ask the operator for one")
        self.used_keys.add(grant.id)
        return grant

    def grant_of(self, secret: bytes) -> KeyGrant:
        """Whose key this is, whatever it may do. Raises InvalidApiKeyError, the same for every reason."""
        grant = self.snapshot.keys.get(hashlib.sha256(secret).digest()) if 0 < len(secret) <= SECRET_BYTES_MAX else None
        if grant is None or (grant.expires_at is not None and self.clock.now() >= grant.expires_at):
            raise InvalidApiKeyError
        return grant

    def context(self, grant: KeyGrant, model: ModelRoute, replica: ReplicaRoute, tier: str = "") -> bytes:
        """What the records of requests of one key and tier to one replica have in common."""
        # By ids: the hash of a dataclass costs more than what is saved.
        key = grant.id, replica.id, model.name + tier
        found = self._contexts.get(key)
        if found is None:
            if len(self._contexts) >= CONTEXTS_MAX:
                self._contexts.clear()
            found = self._contexts[key] = context_of(grant, model, replica, tier)
        return found

    def engines(self, endpoint: str, model: ModelRoute) -> EnginePool:
        """The connections to one endpoint."""
        key = (endpoint, model.name, model.key_variable)
        pool = self._engines.get(key)
        if pool is None:
            connect_s_max = self.limits_of(model.name).connect_s_max
            pool = self._engines[key] = EnginePool(endpoint, model, connect_s_max, self.loop)
        return pool

    def adopt(self, snapshot: Snapshot) -> None:
        """Use `snapshot` from the next request on. To be called on the loop."""
        self.snapshot = snapshot
        self._contexts.clear()
        self.signers.adopt(snapshot)
        self.admission.adopt(snapshot)
        self.limits.adopt(snapshot)
        self._end_revoked({grant.id: grant for grant in snapshot.keys.values() if grant.may_call})
        known = {
            (route.endpoint, (route.served_as or model).name, (route.served_as or model).key_variable)
            for model in snapshot.models.values()
            for route in model.replicas
        }
        for key in [key for key in self._engines if key not in known]:
            self._engines.pop(key).close()
        now = self.monotonic()
        for model in snapshot.models.values():
            self.admission.serve_queue(model, now)

    def _end_revoked(self, keys: dict[str, KeyGrant]) -> None:
        """End what is under way for keys that are no longer there, or may no longer call models; the others may expire at
        another time by now."""
        for request in list(self.live):
            found = keys.get(request.grant.id)
            if found is None:
                request.revoke()
            else:
                request.grant = found

    def sweep(self) -> None:
        """Deadlines of requests and connections, keys that expire, and another try of a journal that failed."""
        now = self.monotonic()
        present = self.clock.now()
        for request in [request for request in self.live if request.grant.expires_at is not None]:
            if request.grant.expires_at is not None and present >= request.grant.expires_at:
                request.revoke()
        for exchange in list(self.live):
            exchange.tick(now)
        for connections in self.swept:
            connections.tick(now)
        for model in self.snapshot.models.values():
            if self.admission.waiting(model.name):
                self.admission.serve_queue(model, now)
        self.allowances.sweep(now)
        self.limits.sweep()
        self.watch.tick(now, {route.id for model in self.snapshot.models.values() for route in model.replicas})
        self.journal.retry()

    def measure(self) -> None:
        """Set the gauges to the present."""
        gauges = self.metrics.gauges
        gauges["in_flight"] = len(self.live)
        gauges["waiting"] = sum(self.admission.waiting(name) for name in self.snapshot.models)
        gauges["holding"] = len(self._placing)
        gauges["receiving_bytes"] = self.connections.bytes
        gauges["connections"] = len(self.connections)
        gauges["unauthenticated"] = self.connections.unauthenticated
        gauges["journal_failed"] = self.journal.failure is not None

    async def sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()

    def stop(self) -> None:
        """End what is still under way; what was delivered is billed."""
        self.stopping = True
        for exchange in list(self.live):
            exchange.stop()
        self.allowances.stop()
        self.limits.stop()
        for pool in self._engines.values():
            pool.close()
        if self.responses is not None:
            self.responses.close()
