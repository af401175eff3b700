"""A request's entry in the books: its slot on the progress board, and the record that bills it."""

from __future__ import annotations

from sublet.gateway.metering.journal import OnDurable
from sublet.gateway.metering.meter import Meter
from sublet.gateway.metering.records import Recorded, closing, opening, settled_line
from sublet.gateway.model import ReplicaRoute
from sublet.gateway.requests.host import Host
from sublet.values.errors import SubletError


class Entry:
    """Opened before an engine is asked, settled once when the request is over; between, the board has its running count.

    A request without a hold is opened on the board alone. One with a hold, or for which the board has no slot, is opened by a
    line in the journal.
    """

    __slots__ = ("_context", "_host", "_replica", "opened", "slot")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._context = b""
        self._replica: ReplicaRoute | None = None
        self.opened = False
        self.slot = -1

    def open(self, request: Recorded, replica: ReplicaRoute) -> None:
        """`replica` is about to be asked; nothing of what an earlier one said reached the client."""
        if self._replica is not None and self._replica.id == replica.id:
            return
        self._replica = replica
        self.opened = True
        journal = self._host.journal
        if not request.held:
            journal.board.clear(self.slot)
            context = self._host.context(request.grant, request.model, replica, request.tier)
            self._context = b'%b,"hold":"%b"' % (context, request.hold.encode()) if request.hold else context
            self.slot = journal.board.open(request.sequence, request.started_us, self._context)
            if self.slot >= 0:
                return
            self._context = b""
        if self.slot < 0:
            self.slot = journal.board.take(request.sequence)
        journal.reserve(opening(request, replica, self.slot))

    def count(self, request: Recorded, meter: Meter) -> None:
        """What the client is about to be sent brings it to the counts of `meter`."""
        self._host.journal.board.put(self.slot, request.sequence, meter.input, meter.input_cached, meter.output)

    def settle(
        self, request: Recorded, status: int, error: SubletError | None, on_durable: OnDurable, *, keep: bool
    ) -> None:
        """Write the record that closes an opened entry. `on_durable` and `keep` are as in Journal.settle."""
        slot, self.slot = self.slot, -1
        journal = self._host.journal
        if self._context:
            journal.settle_opened(settled_line(request, self._context, status, error), slot, on_durable, keep=keep)
        else:
            journal.settle(closing(request, self._replica, status, error), on_durable, keep=keep, slot=slot)
