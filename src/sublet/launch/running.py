"""The running system as `sublet up` has it: prepared, started, told of, and ended; its leases only when that is said."""

from __future__ import annotations

import json
import os
import shlex
import signal
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from sublet.accounts.service import Accounts
from sublet.config import logs
from sublet.config.data_dir import running_system
from sublet.config.settings import Settings
from sublet.fleet.nodes import take_control
from sublet.launch.supervisor import Supervisor
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.tls.files import TRUSTED
from sublet.values.errors import UnavailableError
from sublet.wiring.system import Sublet

HEALTH_TIMEOUT_S = 2.0
LEASES_S_MAX = 60.0
EXPORT = "\n  export "


class Running:
    """One system on one data directory, from this process."""

    def __init__(self, settings: Settings, config: Path | None = None) -> None:
        self.settings = settings
        self.supervisor = Supervisor(settings, config)
        self.operator_key: str | None = None
        self._taken = False
        self._stopping = False

    @property
    def control_url(self) -> str:
        return self.supervisor.address("control")

    @property
    def console_url(self) -> str:
        """Where people open the console: by a name, since browsers allow passkeys for no IP address."""
        stated = self.settings.control.public_url
        return stated or self.control_url.replace("//127.0.0.1:", "//localhost:", 1)

    @property
    def gateway_url(self) -> str:
        return self.supervisor.address("gateway")

    def start(self) -> None:
        """Prepare the database and start every process; return when all answer.

        Raises AlreadyRunningError, ControlPlaneRunningError, PortTakenError, StorageFullError, UnavailableError; nothing is
        left running then.
        """
        self.supervisor.take()
        self._taken = True
        logs.configure("supervisor", self.settings.data_dir, self.settings.log.level)
        # Its control plane would be refused anyway, again and again; say so once, before anything serves.
        take_control(self.settings.database_url, self.settings.data_dir).close()
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
        """End `run`; a second call lets `end` wait no longer for answers under way."""
        if self._stopping:
            self.supervisor.hurry()
        self._stopping = True
        self.supervisor.stop()

    def end(self) -> None:
        """End every process that was started. Leases are no such: they run on by themselves, and the next start finds them."""
        if not self._taken:
            return
        self.supervisor.end()
        self._taken = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "control": self.control_url,
            "console": self.console_url,
            "gateway": self.gateway_url,
            "ssh": {"host": self.settings.ssh.host, "ports": [self.settings.ssh.port_min, self.settings.ssh.port_max]},
            "data_dir": str(self.settings.data_dir),
            "operator_key": self.operator_key,
        }

    def welcome(self) -> str:
        """What a person needs first: the addresses, the operator's key once, and three things to try."""
        door = f"{self.settings.ssh.host}, ports {self.settings.ssh.port_min} to {self.settings.ssh.port_max}, one per lease"
        if self.operator_key:
            key = f"{self.operator_key}\n                 (shown only once, because only its hash is stored)"
            variable = self.operator_key
        else:
            key = "made at the first start; `sublet admin operator-key` makes another"
            variable = "<the operator's key>"
        model = self.settings.models.default or "<a model>"
        files = self.settings.tls.files
        authority = files.certificate.with_name(TRUSTED) if files else None
        own = shlex.quote(str(authority)) if authority is not None and authority.exists() else ""
        trust = f"{EXPORT}SUBLET_CA_FILE={own}" if own else ""
        return f"""Sublet runs on {self.settings.data_dir}. Ctrl-C ends it; leases run on (`sublet down --end-leases` ends them too).

  console, API   {self.control_url}
  model API      {self.gateway_url}/v1
  SSH door       {door}
  operator's key {key}

Three things to try, in another terminal:

  export SUBLET_URL={self.control_url} SUBLET_KEY={variable}{data_dir_export(self.settings.data_dir)}{trust}

  1. Look at the console: open {self.console_url} and sign in with the key.
  2. Ask the model:
       curl {f"--cacert {own} " if own else ""}{self.gateway_url}/v1/chat/completions -H "Authorization: Bearer $SUBLET_KEY" \\
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


def data_dir_export(data_dir: Path) -> str:
    """The line that a second terminal needs if the data is not in the default directory; empty if it is.

    Without it, commands that read the database there open another one, and find nothing in it.
    """
    if data_dir == Path(Settings.model_fields["data_dir"].default).expanduser():
        return ""
    return f"{EXPORT}SUBLET_DATA_DIR={shlex.quote(str(data_dir))}"


def stop_running(data_dir: Path, patience_s: float) -> bool:
    """End the system that runs on `data_dir` as Ctrl-C does, and wait; False where none runs. Raises UnavailableError where it
    has not ended after `patience_s` seconds."""
    found = running_system(data_dir)
    if found is None:
        return False
    try:
        os.kill(int(found["pid"]), signal.SIGTERM)
    except ProcessLookupError:
        return False
    deadline = time.monotonic() + patience_s
    while running_system(data_dir) is not None:
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"process {found['pid']} has not ended after {patience_s:.0f} s; run the command again or kill the process"
            )
        time.sleep(0.05)
    return True


def end_leases(settings: Settings) -> list[str]:
    """End every lease of this machine, bill it and prove that nothing is left; the ids of those that ended. To be called while
    nothing runs on the data directory. Raises UnavailableError naming the leases that did not end in LEASES_S_MAX seconds."""
    system = Sublet(settings)
    try:
        # A simulated lease without a file of its own was held by the process that has ended: nobody else can end it.
        backends = {"local"} if settings.leasing.simulated_file else {"local", "simulated"}
        here = {None, system.node_id()}
        mine = {
            pool.id
            for pool in system.fleet.pools()
            if pool.backend in backends and (not pool.node_ids or pool.node_ids & here)
        }

        def live() -> list[str]:
            return [lease.id for lease in system.leases.live_leases() if lease.pool_id in mine]

        ending = live()
        for lease_id in ending:
            system.leases.end(lease_id)
        deadline = time.monotonic() + LEASES_S_MAX
        while left := live():
            if time.monotonic() > deadline:
                raise UnavailableError(f"{', '.join(left)} did not end; `sublet lease show ID` shows why")
            system.leases.tick()
            time.sleep(0.05)
        # What no book knows any more is ended too, and what is over is forgotten.
        system.leases.tick()
        return ending
    finally:
        system.close()


def _anybody() -> ssl.SSLContext:
    """Takes any certificate: what is asked has no secret, and the name in the certificate may be that of a public address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def healthy(address: str) -> bool:
    """Whether a process answers on its /health."""
    try:
        with urllib.request.urlopen(  # noqa: S310  our own address
            f"{address}/health", timeout=HEALTH_TIMEOUT_S, context=_anybody()
        ) as answer:
            return bool(json.load(answer))
    except (OSError, ValueError, urllib.error.URLError):
        return False
