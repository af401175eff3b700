"""Sales measured with the real application: its surplus, prices and budgets. Used by bench/leases.py.

One pool of 2,000 accelerators with four weeks of demand. 1,000 leases stand on its books: one that was sold, and its rows again
for other accelerators and other windows.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select

from sublet.fleet.inventory import units
from sublet.leases.model import Lease
from sublet.leases.quotes.admission import QuoteRequest
from sublet.simulation.world import SSH_KEY, World
from sublet.store.tables.leases import fences, leases, quotes, unit_states

ACCELERATORS = 2_000
ROWS_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Seller:
    """A world that sells, and who buys."""

    world: World
    organizations: list[str]

    def sell(self, organization_id: str) -> Lease:
        """A quote and its acceptance, half an hour of one accelerator; the clock moves, so that no two windows are alike."""
        system = self.world.system
        self.world.clock.advance(0.001)
        end = self.world.clock.now() + timedelta(minutes=30)
        quote = system.leases.quote(organization_id, QuoteRequest(1, "spot", end, pool="simulated"))
        return system.leases.accept(organization_id, quote.id, [SSH_KEY])


def opened(folder: Path, clients: int) -> Seller:
    world = World(folder, accelerators=ACCELERATORS)
    world.remember(days=28, need=0.05, spread=0.01)
    world.observe()
    system = world.system
    while not system.surplus.warm(world.pool.id, 5):
        pass
    return Seller(world, [system.accounts.create_organization(f"customer {n}").id for n in range(clients)])


def fill(seller: Seller, count: int) -> None:
    """`count` leases on the books; those beyond the pool's accelerators follow one another over two years."""
    lease = seller.sell(seller.organizations[0])

    def write(connection: Connection) -> None:
        free = select(units.c.id).where(units.c.pool_id == lease.pool_id, units.c.id.not_in(lease.unit_ids))
        ids = list(connection.execute(free.order_by(units.c.position).limit(min(count, ACCELERATORS // 2))).scalars())
        sold = dict(connection.execute(select(leases).where(leases.c.id == lease.id)).mappings().one())
        asked = dict(connection.execute(select(quotes).where(quotes.c.id == lease.quote_id)).mappings().one())
        held = dict(connection.execute(select(fences).where(fences.c.holder_id == lease.id)).mappings().one())
        state = {"pool_id": lease.pool_id, "state": "fenced", "reason": None, "changed_at": lease.created_at}
        for first in range(0, count - 1, ROWS_AT_ONCE):
            rows: dict[str, list[dict[str, Any]]] = {"quotes": [], "leases": [], "fences": [], "unit_states": []}
            for n in range(first, min(count - 1, first + ROWS_AT_ONCE)):
                unit, turn = ids[n % len(ids)], n // len(ids)
                later = timedelta(hours=17 * turn, milliseconds=137 * (n % len(ids)))
                times = {name: held[name] + later for name in ("start_at", "end_at", "fence_start", "fence_end")}
                own = {"id": f"lse_{n:026d}", "quote_id": f"quo_{n:026d}", "idempotency_key": None}
                window = {"start_at": times["start_at"], "end_at": times["end_at"]}
                rows["quotes"].append({**asked, "id": own["quote_id"], "idempotency_key": None, **window})
                rows["leases"].append({**sold, **own, "unit_ids": [unit], "devices": [f"sim:{n}"], **window})
                rows["fences"].append({**held, "holder_id": own["id"], "unit_id": unit, **times})
                if not turn:
                    rows["unit_states"].append({**state, "unit_id": unit, "lease_id": own["id"]})
            for table in (quotes, leases, fences, unit_states):
                if rows[table.name]:
                    connection.execute(insert(table), rows[table.name])

    seller.world.system.store.write(write)


def sales(base: Path, count: int, clients: int, on_books: int) -> dict[str, Any]:
    """`count` sales by as many threads as clients, next to bare transactions on the same disk before and after."""
    folder = base / "sales"
    folder.mkdir()
    seller = opened(folder, clients)
    fill(seller, on_books)
    took: list[float] = []

    def buy(organization_id: str) -> None:
        for _ in range(count // clients):
            began = time.perf_counter()
            seller.sell(organization_id)
            took.append(time.perf_counter() - began)

    bare = bare_transactions(base)
    cpu, began = time.process_time(), time.perf_counter()
    run_all([lambda one=one: buy(one) for one in seller.organizations])
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    bare = max(bare, bare_transactions(base))
    seller.world.close()
    return {
        "per_s": round(len(took) / wall, 1),
        "p50_ms": ms(statistics.median(took)),
        "p99_ms": ms(sorted(took)[int(len(took) * 0.99)]),
        "cpu_ms_each": ms(cpu / len(took)),
        "clients": clients,
        "on_the_books": on_books,
        "bare_sqlite_transactions_per_s": round(bare),
        "bare_transactions_each": round(bare * wall / len(took), 1),
        "load": round(os.getloadavg()[0], 1),
    }


def quotes_on_a_full_book(base: Path, count: int, bookings: int) -> dict[str, Any]:
    """One quote after the other on a pool that is booked for two years."""
    folder = base / "quotes"
    folder.mkdir()
    seller = opened(folder, 50)
    fill(seller, bookings)
    took, cpu = [], []
    for turn in range(count):
        seller.world.clock.advance(5)
        seller.world.observe()
        end = seller.world.clock.now() + timedelta(minutes=30)
        customer = seller.organizations[turn % len(seller.organizations)]
        began, spent = time.perf_counter(), time.process_time()
        seller.world.system.leases.quote(customer, QuoteRequest(1, "spot", end, pool="simulated"))
        took.append(time.perf_counter() - began)
        cpu.append(time.process_time() - spent)
    seller.world.close()
    return {
        "bookings": bookings,
        "min_ms": ms(min(took)),
        "p50_ms": ms(statistics.median(took)),
        "p99_ms": ms(sorted(took)[int(len(took) * 0.99)]),
        "cpu_ms_p50": ms(statistics.median(cpu)),
        "quotes": count,
        "load": round(os.getloadavg()[0], 1),
    }


def bare_transactions(base: Path, count: int = 400) -> float:
    """Transactions of one insert each per second, as durable as Sublet's."""
    path = base / "bare.db"
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, word TEXT)")
    began = time.perf_counter()
    for number in range(count):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (?, 'x')", (number,))
        connection.execute("COMMIT")
    rate = count / (time.perf_counter() - began)
    connection.close()
    return rate


def run_all(calls: list[Callable[[], Any]]) -> None:
    """Every call in a thread of its own."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
