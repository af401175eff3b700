"""What becomes of a request as time passes: it leaves the queue, its engine is given up, its client is told to wait on."""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

from sublet.gateway.front.client import Client
from sublet.gateway.model import GatewaySettings, KeyGrant, ModelRoute
from sublet.gateway.refusals import EngineTimeoutError, QueueTimeoutError
from sublet.gateway.requests.host import Host
from sublet.gateway.requests.reply import Reply
from sublet.gateway.upstream.attempt import Attempt
from sublet.values.errors import SubletError


class State(Enum):
    """Where a request is on its way: its hold is being placed, it waits for a slot, an engine is asked, its record is being
    written, its client's answer has ended."""

    HOLDING = auto()
    QUEUED = auto()
    ASKING = auto()
    CLOSING = auto()
    OVER = auto()


HOLDING, QUEUED, ASKING, CLOSING, OVER = State


class Timed(Protocol):
    """A request, as far as deadlines touch it. All times are on the gateway's monotonic clock."""

    gateway: Host
    client: Client
    model: ModelRoute
    grant: KeyGrant
    settings: GatewaySettings
    reply: Reply
    state: State
    attempt: Attempt | None
    started_at: float
    first_at: float
    last_at: float
    stalled_at: float

    @property
    def tier(self) -> str: ...

    @property
    def queue_s_max(self) -> float: ...

    def fail(self, error: SubletError) -> None: ...

    def client_gone(self) -> None: ...

    def send_head(self) -> None: ...


def check(request: Timed, now: float) -> None:
    """Enforce the deadlines that a request in the queue, or at an engine, has passed by `now`."""
    if request.state is QUEUED:
        if now - request.started_at > request.queue_s_max:
            _leave_queue(request)
    elif request.state is ASKING:
        settings = request.settings
        if request.stalled_at and now - request.stalled_at > settings.stalled_client_s_max:
            request.client.cut()
            request.client_gone()
        elif _overdue(request, now):
            _give_up(request, now)
        elif not request.stalled_at and now - request.last_at > settings.keep_alive_comment_s:
            _comment(request)


def _leave_queue(request: Timed) -> None:
    name, queue_s_max = request.model.name, request.queue_s_max
    wait_s = request.gateway.admission.wait_s(request.model, request.grant, request.tier)
    request.fail(
        QueueTimeoutError(
            f"no slot of {name} came free in {queue_s_max:.0f} s; try again in {wait_s:.0f} s", retry_after_s=wait_s
        )
    )


def _comment(request: Timed) -> None:
    """A sign of life in the stream, so that nothing between cuts the connection."""
    form = request.reply.form
    if form is not None:
        request.send_head()
        request.client.answer_part(form.keep_alive())


def _overdue(request: Timed, now: float) -> bool:
    if now - request.started_at > request.settings.answer_s_max:
        return True
    return not request.stalled_at and now - request.last_at > _patience_s(request)


def _patience_s(request: Timed) -> float:
    """Seconds of silence that are borne now: longer before the first token, or the first byte of a whole answer."""
    reply = request.reply
    begun = reply.meter.output or request.first_at if reply.streamed else reply.status
    return request.settings.silence_s_max if begun else request.settings.first_event_s_max


def _give_up(request: Timed, now: float) -> None:
    error = EngineTimeoutError()
    silent_s = now - request.last_at
    if request.attempt is not None and silent_s > min(_patience_s(request), request.settings.answer_s_max / 2):
        error.said = f"not a byte for {silent_s:.0f} s"
        request.attempt.failed(error)
    else:
        # It answered all the time, just not to the end.
        request.fail(error)
