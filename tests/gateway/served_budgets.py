"""A gateway with its ledger as a process of its own, to be killed: `python served_budgets.py DATABASE_URL DATA_DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

from sqlalchemy import Connection

from sublet.gateway.model import GatewaySettings, UsageRecord
from sublet.gateway.server import run
from sublet.ledger.budgets.desk import HoldDesk
from sublet.ledger.service import Ledger
from sublet.store import Store
from sublet.wiring.model_api import gateway_ports
from sublet.wiring.requests import DeskHolds, take_usage


def main(url: str, data_dir: str) -> None:
    store = Store(url)
    ledger = Ledger(store)
    desk = HoldDesk(store, ledger.spending)

    def emit(records: list[UsageRecord]) -> None:
        def write(connection: Connection) -> None:
            take_usage(connection, ledger, "gateway", records, store.clock.now())

        store.write(write)

    settings = GatewaySettings(
        data_dir=Path(data_dir),
        port=0,
        snapshot_interval_s=0.1,
        drain_s_max=2.0,
        requests_per_minute_max=1_000_000,
        concurrency_max=1000,
    )
    on_ready = lambda address: print("READY", address, flush=True)  # noqa: E731
    run(settings, store, gateway_ports(emit, holds=DeskHolds(desk)), on_ready=on_ready)
    desk.close()
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
