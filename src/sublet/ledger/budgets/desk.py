"""The hold desk: reservations and settlements that arrive together share one transaction.

Holds on one budget must wait for each other, and each commit flushes the disk, so single transactions would be limited by the
disk. The desk takes everything that waits, carries it out in one transaction in order of arrival, and answers each caller once
that is durable. Several desks (of several gateways) are kept apart by the rows of the budgets, which the transaction locks.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future

from sqlalchemy import Connection

from sublet.ledger.budgets.model import HoldOutcome, HoldRequest, Settlement
from sublet.ledger.budgets.spending import Spending
from sublet.store import Store
from sublet.store.writer import gather
from sublet.values.errors import UnavailableError

TOGETHER_MAX = 256
WAITING_MAX = 10_000

_Work = tuple[HoldRequest | Settlement, "Future[HoldOutcome]"]


class HoldDesk:
    """Places and settles holds for many threads."""

    def __init__(self, store: Store, spending: Spending) -> None:
        self._store = store
        self._spending = spending
        self._waiting: queue.Queue[_Work | None] = queue.Queue(maxsize=WAITING_MAX)
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="hold-desk", daemon=True)
        self._thread.start()

    def reserve(self, request: HoldRequest) -> HoldOutcome:
        """Place a hold. The outcome says whether it was placed. Raises UnavailableError if the desk is full or closed."""
        return self.submit(request).result()

    def settle(self, settlement: Settlement) -> HoldOutcome:
        """Settle a hold. Raises UnavailableError if the desk is full or closed."""
        return self.submit(settlement).result()

    def submit(self, work: HoldRequest | Settlement) -> Future[HoldOutcome]:
        """The same without waiting. The future is done once the outcome is durable."""
        if self._closed:
            raise UnavailableError("no more holds are accepted, because the gateway is shutting down")
        done: Future[HoldOutcome] = Future()
        try:
            self._waiting.put_nowait((work, done))
        except queue.Full as error:
            raise UnavailableError(f"{WAITING_MAX} holds are already waiting; try again in a second") from error
        return done

    def close(self) -> None:
        """Finish what waits, then stop."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
            self._thread.join()

    def _loop(self) -> None:
        while True:
            first = self._waiting.get()
            if first is None:
                return
            batch, last = gather(self._waiting, first, TOGETHER_MAX)
            self._carry_out(batch)
            if last:
                return

    def _carry_out(self, batch: list[_Work]) -> None:
        """Settlements go first, so that what they release can be reserved in the same transaction."""
        settlements = [(work, done) for work, done in batch if isinstance(work, Settlement)]
        requests = [(work, done) for work, done in batch if isinstance(work, HoldRequest)]

        def write(connection: Connection) -> list[HoldOutcome]:
            now = self._store.clock.now()
            outcomes: list[HoldOutcome] = []
            if settlements:
                outcomes += self._spending.settle(connection, [work for work, _ in settlements], now)
            if requests:
                outcomes += self._spending.reserve(connection, [work for work, _ in requests], now)
            return outcomes

        try:
            outcomes = self._store.write(write)
        except BaseException as error:
            for _, done in batch:
                done.set_exception(error)
            return
        for (_, done), outcome in zip([*settlements, *requests], outcomes, strict=True):
            done.set_result(outcome)
