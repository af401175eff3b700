"""A gateway with its ledger as a process of its own that kills itself at one of its writes:
`python served_batches.py DATABASE_URL DATA_DIR WRITE before|after|never`.

Of its writes those count that work on batches, from 1.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from sublet.gateway.batches.worker import BatchWorker, Pace
from sublet.gateway.model import GatewaySettings, UsageRecord
from sublet.gateway.server import run
from sublet.ledger.service import Ledger
from sublet.store import Store
from sublet.wiring.model_api import gateway_ports
from sublet.wiring.requests import take_usage


class FatalStore(Store):
    """Ends its process at the write that it is told of, before that is committed or right after."""

    def __init__(self, url: str, number: int, when: str) -> None:
        super().__init__(url)
        self.number = number
        self.when = when
        self.count = 0

    def write(self, fn: Callable[[Connection], Any]) -> Any:
        self.count += 1
        fatal = self.count == self.number

        def counted(connection: Connection) -> Any:
            found = fn(connection)
            if fatal and self.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        found = super().write(counted)
        if fatal and self.when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return found


def main(url: str, data_dir: str, number: str, when: str) -> None:
    store = Store(url)
    fatal = FatalStore(url, int(number), when)
    ledger = Ledger(store)

    def bill(connection: Connection, records: Sequence[UsageRecord]) -> None:
        take_usage(connection, ledger, "gateway", list(records), store.clock.now())

    def emit(records: list[UsageRecord]) -> None:
        store.write(lambda connection: bill(connection, records))

    class FatalWorker(BatchWorker):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self._store = fatal
            self._tidied_at = float("inf")

    from sublet.gateway import work as server

    vars(server)["BatchWorker"] = FatalWorker
    settings = GatewaySettings(data_dir=Path(data_dir), port=0, snapshot_interval_s=0.1, drain_s_max=2.0)
    on_ready = lambda address: print("READY", address, flush=True)  # noqa: E731
    run(settings, store, gateway_ports(emit, bill=bill), on_ready=on_ready, pace=Pace(poll_s=0.02, stale_s=0.1))
    fatal.close()
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
