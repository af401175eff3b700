"""The system on a clock and a fleet of its own: everything real but the time, the sandboxes and the engines."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from sublet.config.settings import Settings
from sublet.demand.model import Sample
from sublet.fleet.model import Pool
from sublet.gateway.model import METER_INPUT, METER_OUTPUT, UsageRecord, event_id
from sublet.leases.backends.simulated import Faults, SimulatedBackend
from sublet.leases.model import LeaseState
from sublet.leases.quotes import calendar
from sublet.values.clock import SimulatedClock, to_micros
from sublet.values.errors import SubletError
from sublet.wiring.system import Sublet

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO60M/2O25imdiXUWHNEPX+zY9+15wAl3qvkRH7xFcm6 simulated"
SAMPLE_S = 300


class BrokenInvariantError(SubletError):
    """The simulated system violated an invariant; the message names the invariant and the seed that replays the run."""

    code = "broken_invariant"


def settings_for(folder: Path, accelerators: int, **classes: dict[str, Any]) -> Settings:
    """Settings of a world: one simulated pool, no model of its own."""
    return Settings.model_validate(
        {
            "data_dir": folder,
            "models": {"default": ""},
            "classes": classes,
            "pools": [
                {
                    "name": "simulated",
                    "backend": "simulated",
                    "generation": "h100",
                    "site": "nowhere",
                    "accelerators": accelerators,
                    "watts": "1275",
                    "price_per_accelerator_hour": "2.00",
                }
            ],
        }
    )


class World:
    """One owner's fleet in simulated time. `pass_time` is the only thing that moves the clock."""

    def __init__(
        self,
        folder: Path,
        seed: int = 0,
        accelerators: int = 16,
        faults: Faults | None = None,
        start: datetime | None = None,
        **classes: dict[str, Any],
    ) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.clock = SimulatedClock(start)
        self.settings = settings_for(folder, accelerators, **classes)
        self.backend = SimulatedBackend(self.clock, seed, faults)
        self.in_use = 0.0
        self._system: Sublet | None = None
        self.crash()
        self.system.sync_fleet()

    @property
    def system(self) -> Sublet:
        assert self._system is not None
        return self._system

    @property
    def pool(self) -> Pool:
        return self.system.fleet.pools()[0]

    def crash(self) -> None:
        """Everything in memory is lost; the system starts again from the database and what the backend shows."""
        if self._system is not None:
            self._system.close()
        self._system = Sublet(self.settings, self.clock, {"simulated": self.backend})

    def close(self) -> None:
        self.system.close()

    def remember(self, days: int, need: float, spread: float) -> None:
        """A history of hourly samples up to now: the owner used `need` give or take `spread` of the accelerators."""
        now = self.clock.now().replace(minute=0, second=0, microsecond=0)
        capacity = float(self.pool.accelerators)
        samples = []
        for hour in range(days * 24, 0, -1):
            used = min(capacity, max(0.0, capacity * self.chance.gauss(need, spread)))
            samples.append(Sample(now - timedelta(hours=hour), capacity, used))
        self.system.demand.record_samples(self.pool.id, samples)
        self.in_use = samples[-1].in_use

    def observe(self) -> None:
        """Take one sample of the owner's present need."""
        capacity = float(self.pool.accelerators)
        self.system.demand.record_samples(self.pool.id, [Sample(self.clock.now(), capacity, self.in_use)])

    def pass_time(self, seconds: float, tick_s: float = 60.0) -> None:
        """Let time pass, the loops doing their rounds, the need being observed, and the invariants being watched."""
        passed = 0.0
        since_sample = 0.0
        while passed < seconds:
            step = min(tick_s, seconds - passed)
            self.clock.advance(step)
            passed += step
            since_sample += step
            if since_sample >= SAMPLE_S:
                since_sample = 0.0
                self.observe()
            self.system.leases.tick()
            self.system.leases.waitlist.tend()
            self.watch()
        self.system.ledger.rate()

    def answer(
        self, organization_id: str, key_id: str, model: str, tokens_in: int, tokens_out: int, request: str
    ) -> None:
        """Usage of one request as the gateway ships it."""
        now_us = to_micros(self.clock.now())
        self.system.emit_tokens(
            [
                UsageRecord(
                    id=event_id(request, meter),
                    request_id=request,
                    organization_id=organization_id,
                    key_id=key_id,
                    model=model,
                    pool_id=self.pool.id,
                    replica_id="",
                    meter=meter,
                    quantity=quantity,
                    started_us=now_us,
                    ended_us=now_us,
                    status=200,
                    incomplete=False,
                )
                for meter, quantity in ((METER_INPUT, tokens_in), (METER_OUTPUT, tokens_out))
            ]
        )

    def watch(self) -> None:
        """Nothing is sold twice, and nobody holds on past a deadline. Raises BrokenInvariantError."""
        now = self.clock.now()
        with self.system.store.read() as connection:
            fences = calendar.all_fences(connection)
        spans: dict[str, list[tuple[datetime, datetime]]] = {}
        for fence in fences:
            spans.setdefault(fence.unit_id, []).append((fence.fenced.start, fence.fenced.end))
        for unit_id, held in spans.items():
            held.sort()
            for (_, end), (start, _) in pairwise(held):
                if start < end:
                    raise BrokenInvariantError(f"seed {self.seed}: {unit_id} is sold twice from {start} to {end}")
        for lease in self.system.leases.live_leases():
            late_s = (now - lease.deadline).total_seconds()
            if lease.state is LeaseState.NOTICE and late_s > 60:
                raise BrokenInvariantError(f"seed {self.seed}: {lease.id} is held {late_s:.0f} s past its deadline")

    def prove(self) -> None:
        """The books, worked out again from the raw events. Raises BrokenInvariantError where they differ."""
        proof = self.system.ledger.prove()
        if not proof.ok:
            raise BrokenInvariantError(f"seed {self.seed}: the books differ: {proof.as_dict()}")
