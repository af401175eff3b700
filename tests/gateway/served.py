"""A gateway as a process of its own, to be killed: `python served.py DATABASE_URL DATA_DIR EVENTS_FILE [durability]`.

Events go to a file, one JSON line each, synced before the ledger's stand-in says that it has them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from sublet.gateway.model import GatewaySettings, UsageRecord
from sublet.gateway.server import run
from sublet.store import Store
from sublet.wiring.model_api import gateway_ports


def main(url: str, data_dir: str, events: str, durability: str = "disk") -> None:
    def emit(records: list[UsageRecord]) -> None:
        with Path(events).open("a") as file:
            for item in records:
                file.write(json.dumps([item.id, item.request_id, item.meter, item.quantity, item.incomplete]) + "\n")
            file.flush()
            os.fsync(file.fileno())

    settings = GatewaySettings(
        data_dir=Path(data_dir),
        port=0,
        snapshot_interval_s=0.1,
        durability="process" if durability == "process" else "disk",
        drain_s_max=2.0,
        requests_per_minute_max=1_000_000,
        concurrency_max=1000,
    )
    store = Store(url)
    run(settings, store, gateway_ports(emit), on_ready=lambda address: print("READY", address, flush=True))
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
