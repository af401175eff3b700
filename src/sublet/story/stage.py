"""Where the story plays: the running system, and the keys and facts that one step leaves to the next."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sublet.accounts.service import Accounts
from sublet.config.data_dir import running_system
from sublet.config.settings import Settings, load
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.story.client import Client
from sublet.story.ssh import ClientKey
from sublet.values.clock import SystemClock, format_time
from sublet.values.errors import SubletError, UnavailableError

START_S_MAX = 60.0
STOP_S_MAX = 12.0
POLL_S = 0.1
PUSH_S = 0.5
UP_S = 30
MADE_UP_SHARE = 0.1


class Theatre(Protocol):
    """The system that the story plays on."""

    settings: Settings

    def address(self, name: str) -> str:
        """The present URL of `control` or `gateway`. Raises UnavailableError while it does not run."""
        ...


class UpProcess:
    """`sublet up` as a child of this process, on a data directory and settings of its own."""

    def __init__(self, config: Path) -> None:
        self.config = config
        # The child is started without SUBLET_DATA_DIR: its directory is the one in its own settings file.
        folder = Path(tomllib.loads(config.read_text())["data_dir"])
        self.settings = load(config).model_copy(update={"data_dir": folder})
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or find it running; return when it answers. Raises UnavailableError with its last words."""
        environment = {
            name: value for name, value in os.environ.items() if name not in ("SUBLET_DATA_DIR", "SUBLET_CONFIG")
        }
        environment["SUBLET_CONFIG"] = str(self.config)
        self.settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        words = self.settings.data_dir / "up.stderr"
        with words.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sublet", "up", "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            said = words.read_text(errors="replace").strip().splitlines()
            raise UnavailableError(f"the system did not start: {said[-1] if said else 'it printed nothing'}")

    def address(self, name: str) -> str:
        found = running_system(self.settings.data_dir)
        if found is None:
            raise UnavailableError("the system is not running")
        return str(found[name])

    def pids(self) -> dict[str, int]:
        """The processes of the system now, the supervisor included."""
        found = running_system(self.settings.data_dir) or {}
        return {**found.get("processes", {}), **({"supervisor": found["pid"]} if found else {})}

    def stop(self) -> float:
        """End it as Ctrl-C does; the seconds that took. Raises UnavailableError where it does not obey."""
        if self.process is None:
            return 0.0
        started = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            self.process.wait()
            raise UnavailableError(f"`sublet up` did not end within {STOP_S_MAX:.0f} s") from error
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None
        return time.monotonic() - started


@dataclass
class Stage:
    """What a step knows: the system, who plays whom, and what was seen so far."""

    theatre: Theatre
    say: Callable[[str], None]
    key: ClientKey = field(default_factory=ClientKey.new)
    facts: dict[str, Any] = field(default_factory=dict)
    _clients: dict[str, Client] = field(default_factory=dict)
    _pusher: threading.Thread | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def demand_source(self) -> str:
        """Whose need the story decides on: this machine's own load, or a made-up owner's."""
        return "made up" if self._pusher is not None else "this machine"

    def push_demand(self, pool: dict[str, Any]) -> None:
        """Tell a small, made-up need of the pool's owner from now on, as a collector of another system would.

        For a machine that other work keeps busy: it has nothing to spare, and its real owner would keep it all.
        """
        if self._pusher is not None:
            return
        self.say(
            "this machine is busy with other work and has little to spare: an owner with a small, made-up need plays on"
        )

        def push() -> None:
            while not self._over.wait(PUSH_S):
                sample = {
                    "time": format_time(SystemClock().now()),
                    "capacity": pool["accelerators"],
                    "in_use": pool["accelerators"] * MADE_UP_SHARE,
                }
                with contextlib.suppress(SubletError):
                    self.operator.post(f"/v1/demand/{pool['id']}/samples", {"samples": [sample]})

        self._pusher = threading.Thread(target=push, name="made-up-owner", daemon=True)
        self._pusher.start()

    def close(self) -> None:
        """Stop what the stage itself keeps running."""
        self._over.set()
        if self._pusher is not None:
            self._pusher.join(5)

    def client(self, organization: str, kind: str) -> Client:
        """A client with a key of that organization, which is made where there is none."""
        if organization not in self._clients:
            accounts = self.accounts()
            known = {item.name for item in accounts.organizations()}
            if organization not in known:
                accounts.create_organization(organization, kind)
            secret = accounts.create_key(organization, "story")[1]
            self._clients[organization] = Client(lambda: self.theatre.address("control"), secret)
        return self._clients[organization]

    @property
    def operator(self) -> Client:
        return self.client("operator", "operator")

    @property
    def customer(self) -> Client:
        return self.client("Aurora Research", "customer")

    @property
    def team(self) -> Client:
        return self.client("training team", "internal")

    def accounts(self) -> Accounts:
        store = Store(self.theatre.settings.database_url)
        migrate(store)
        return Accounts(store)

    def wait(self, what: str, done: Callable[[], Any], seconds_max: float) -> Any:
        """Ask again until `done` gives something. Raises UnavailableError naming `what`."""
        deadline = time.monotonic() + seconds_max
        while True:
            found = done()
            if found:
                return found
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"waited {seconds_max:.0f} s for {what}; the logs are in {self.theatre.settings.data_dir}/logs"
                )
            time.sleep(POLL_S)

    def _control_url(self) -> str:
        """Where the control plane is, once it is: somebody may be starting the system again. Raises UnavailableError."""
        found: list[str] = []

        def is_up() -> bool:
            with contextlib.suppress(UnavailableError):
                found.append(self.theatre.address("control"))
            return bool(found)

        self.wait("the system", is_up, UP_S)
        return found[0]

    def sublet(self, *arguments: str) -> dict[str, Any]:
        """Run the `sublet` command itself with --json, as the operator would. Raises UnavailableError."""
        done = subprocess.run(
            [sys.executable, "-m", "sublet", *arguments, "--json"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={
                **os.environ,
                "SUBLET_DATA_DIR": str(self.theatre.settings.data_dir),
                "SUBLET_DATABASE__URL": self.theatre.settings.database_url,
                "SUBLET_URL": self._control_url(),
                "SUBLET_KEY": self.operator.key,
            },
        )
        if done.returncode:
            raise UnavailableError(f"`sublet {' '.join(arguments)}` failed: {done.stderr.strip()}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found
