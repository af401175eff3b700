"""The running system as `sublet up` has it: prepared, started, told of, and ended with everything it started."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from sublet import logs
from sublet.accounts.service import Accounts
from sublet.app import local_backend
from sublet.settings import Settings
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.supervisor import Supervisor

HEALTH_TIMEOUT_S = 2.0


class Running:
    """One system on one data directory, from this process."""

    def __init__(self, settings: Settings, config: Path | None = None) -> None:
        self.settings = settings
        self.supervisor = Supervisor(settings, config)
        self.operator_key: str | None = None
        self._taken = False

    @property
    def control_url(self) -> str:
        return self.supervisor.address("control")

    @property
    def gateway_url(self) -> str:
        return self.supervisor.address("gateway")

    def start(self) -> None:
        """Prepare the database and start every process; return when all answer.

        Raises AlreadyRunningError, PortTakenError, StorageFullError, UnavailableError; nothing is left running then.
        """
        self.supervisor.take()
        self._taken = True
        logs.configure("supervisor", self.settings.data_dir, self.settings.log.level)
        store = Store(self.settings.database_url)
        try:
            migrate(store)
            self.operator_key = Accounts(store).ensure_operator()
        finally:
            store.close()
        self.supervisor.launch()
        self.supervisor.wait_ready(self._ready)

    def run(self) -> None:
        """Tend the processes until `stop`."""
        self.supervisor.run()

    def stop(self) -> None:
        self.supervisor.stop()

    def end(self) -> None:
        """End every process, and pause the leases: their homes and host keys wait for the next start."""
        if not self._taken:
            return
        self.supervisor.end()
        backend = local_backend(self.settings)
        for lease_id, seen in backend.observe_all().items():
            if seen.state.live:
                backend.pause(lease_id)
        self._taken = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "control": self.control_url,
            "gateway": self.gateway_url,
            "ssh": {"host": self.settings.ssh.host, "ports": [self.settings.ssh.port_min, self.settings.ssh.port_max]},
            "data_dir": str(self.settings.data_dir),
            "operator_key": self.operator_key,
        }

    def welcome(self) -> str:
        """What a person needs first: the addresses, the operator's key once, and three things to try."""
        door = f"{self.settings.ssh.host}, ports {self.settings.ssh.port_min} to {self.settings.ssh.port_max}, one per lease"
        if self.operator_key:
            key = f"{self.operator_key}\n                 (shown this once; only its hash is kept)"
            variable = self.operator_key
        else:
            key = "made at the first start; `sublet key create operator` makes another"
            variable = "<the operator's key>"
        model = self.settings.models.default or "<a model>"
        return f"""Sublet runs on {self.settings.data_dir}. Ctrl-C ends everything that it started.

  console, API   {self.control_url}
  model API      {self.gateway_url}/v1
  SSH door       {door}
  operator's key {key}

Three things to try, in another terminal:

  export SUBLET_URL={self.control_url} SUBLET_KEY={variable}

  1. Look at the console: open {self.control_url} and log in with the key.
  2. Ask the model:
       curl {self.gateway_url}/v1/chat/completions -H "Authorization: Bearer $SUBLET_KEY" \\
         -H 'Content-Type: application/json' -d '{{"model": "{model}", "max_tokens": 60,
         "messages": [{{"role": "user", "content": "What is a sublet?"}}]}}'
  3. Rent an accelerator and log in:
       sublet lease take --class spot --minutes 10
       sublet lease ssh
"""

    def _ready(self, name: str) -> bool:
        if name == "engines":
            child = self.supervisor.children[name].process
            return child is not None and child.poll() is None
        return healthy(self.supervisor.address(name))


def healthy(address: str) -> bool:
    """Whether a process answers on its /health."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=HEALTH_TIMEOUT_S) as answer:  # noqa: S310  our own address
            return bool(json.load(answer))
    except (OSError, ValueError, urllib.error.URLError):
        return False
