"""Measures the ledger: intake, rating and invoicing, proof, holds, FOCUS export, rating by the terms of many customers.

Figures go to bench/results/ledger.json. `python bench/ledger.py` runs on SQLite; with SUBLET_TEST_POSTGRES (a server's URL)
on PostgreSQL too. `--events` scales it down, `--only` picks parts. Ratios compare with the same rows inserted raw, by the
sqlite3 module or by psycopg, in the same batches with the same durability, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, insert, select, text
from sqlalchemy.engine import make_url

import sublet.store.tables  # noqa: F401  registers every table
from sublet.accounts.service import Accounts
from sublet.ledger.budgets.desk import HoldDesk
from sublet.ledger.budgets.model import HoldRequest, Settlement
from sublet.ledger.exports import write_parquet
from sublet.ledger.exports.charges import Charges, Span
from sublet.ledger.exports.focus import focus_rows
from sublet.ledger.model import UsageEvent
from sublet.ledger.prices.book import book_from_toml
from sublet.ledger.prices.cards import card_from_dict
from sublet.ledger.service import Ledger, new_budget
from sublet.ledger.usage.cloudevents import BATCHED, read_request
from sublet.store import Store
from sublet.store.metadata import metadata
from sublet.store.tables.accounts import organizations as organizations_table
from sublet.values.clock import SimulatedClock

ROOT = Path(__file__).resolve().parent.parent
BATCH = 100
BLOCK = 10
ORGANIZATIONS = 1000
TERMS_ORGANIZATIONS = 10_000
START = datetime(2026, 1, 1, tzinfo=UTC)
METERS = ("tokens.input", "tokens.output", "tokens.input_cached", "accelerator.seconds")


def events_for(organizations: list[str], first: int, count: int) -> list[UsageEvent]:
    made = []
    for number in range(first, first + count):
        meter = METERS[number % 4]
        dimensions = {"model": "smollm2"} if meter[0] == "t" else {"generation": "h100", "class": "spot"}
        made.append(
            UsageEvent(
                "bench",
                f"req-{number:012d}/{meter}",
                organizations[number * 7919 % len(organizations)],
                meter,
                number * 31 % 4000 + 1,
                START + timedelta(seconds=number * 2_500_000 // 1_000_000),
                project=f"p{number % 5}",
                dimensions=dimensions,
            )
        )
    return made


def bodies_for(organizations: list[str], count: int) -> list[bytes]:
    """CloudEvents batches of 100, as they come over HTTP."""
    bodies = []
    for first in range(0, count, BATCH):
        batch = [
            {
                "specversion": "1.0",
                "id": event.id,
                "source": event.source,
                "type": "sublet.usage.v1",
                "time": event.at.isoformat(),
                "data": {
                    "organization": event.organization_id,
                    "meter": event.meter,
                    "quantity": event.quantity,
                    "project": event.project,
                    "dimensions": dict(event.dimensions),
                },
            }
            for event in events_for(organizations, first, BATCH)
        ]
        bodies.append(json.dumps(batch).encode())
    return bodies


class Bench:
    """One database with a ledger, a price book and organizations."""

    def __init__(self, url: str, organizations: int) -> None:
        self.url = url
        self.store = Store(url, SimulatedClock(START + timedelta(days=30)))
        metadata.create_all(self.store.engine)
        self.ledger = Ledger(self.store)
        accounts = Accounts(self.store)
        self.organizations = [accounts.create_organization(f"org {number}").id for number in range(organizations)]
        self.ledger.publish_prices(book_from_toml((ROOT / "examples" / "prices.toml").read_text(), "prices.toml"))


def timed(run: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall seconds, CPU seconds of this process, result."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = run()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def intake(bench: Bench, count: int, folder: Path) -> dict[str, Any]:
    """Three ways in, a block of ten batches each in turn, so that a noisy disk is noisy for all of them."""
    bodies = bodies_for(bench.organizations, count)
    batches = [events_for(bench.organizations, count + first, BATCH) for first in range(0, count, BATCH)]
    rows = raw_rows(bench, 2 * count, count)
    raw = RawSqlite(folder) if bench.store.is_sqlite else RawPostgres(bench.url)
    walls, cpus = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]

    def over_json(first: int) -> None:
        for body in bodies[first : first + BLOCK]:
            events, _ = read_request(BATCHED, {}, body)
            assert bench.ledger.take_now(events).accepted == BATCH

    def in_process(first: int) -> None:
        for batch in batches[first : first + BLOCK]:
            assert bench.ledger.take_now(batch).accepted == BATCH

    def inserted(first: int) -> None:
        for batch in rows[first : first + BLOCK]:
            raw.insert(batch)

    for first in range(0, len(batches), BLOCK):
        for index, way in enumerate((over_json, in_process, inserted)):
            wall, cpu, _ = timed(lambda way=way, first=first: way(first))
            walls[index] += wall
            cpus[index] += cpu
    raw.close()
    return {
        "events_each": count,
        "cloudevents_json_per_s": round(count / walls[0]),
        "in_process_per_s": round(count / walls[1]),
        "raw_inserts_per_s": round(count / walls[2]),
        "cloudevents_json_cpu_us_per_event": round(cpus[0] / count * 1e6, 1),
        "in_process_cpu_us_per_event": round(cpus[1] / count * 1e6, 1),
        "raw_cpu_us_per_event": round(cpus[2] / count * 1e6, 1),
        "ratio_in_process_to_raw": round(walls[2] / walls[1], 2),
        "ratio_json_to_raw": round(walls[2] / walls[0], 2),
    }


COLUMNS = (
    "source, event_id, kind, organization_id, meter, quantity, at, received_at, resource, project, key_id, dimensions, "
    "corrects_source, corrects_id, hold_id"
)


def raw_rows(bench: Bench, first: int, count: int) -> list[list[tuple[Any, ...]]]:
    """The same kind of events as rows, ready to be inserted."""
    now = int(bench.store.clock.now().timestamp() * 1e6)
    rows = [
        (
            event.source,
            event.id,
            "usage",
            event.organization_id,
            event.meter,
            event.quantity,
            int(event.at.timestamp() * 1e6),
            now,
            "",
            event.project,
            "",
            json.dumps(dict(event.dimensions)),
            None,
            None,
            None,
        )
        for event in events_for(bench.organizations, first, count)
    ]
    return [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]


class RawSqlite:
    """The same rows into the same table and indexes, by the sqlite3 module, one durable commit a batch."""

    def __init__(self, folder: Path) -> None:
        other = Store(f"sqlite:///{folder}/raw.db")
        metadata.create_all(other.engine)
        other.close()
        self._connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-32768"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._insert = f"INSERT INTO ledger_events ({COLUMNS}) VALUES ({', '.join('?' * 15)})"

    def insert(self, batch: list[tuple[Any, ...]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(self._insert, batch)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


class RawPostgres:
    """The same rows into the same table, by psycopg's executemany, one durable commit a batch."""

    def __init__(self, url: str) -> None:
        import psycopg

        dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection = psycopg.connect(dsn)
        self._insert = f"INSERT INTO ledger_events ({COLUMNS}) VALUES ({', '.join(['%s'] * 15)})"

    def insert(self, batch: list[tuple[Any, ...]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(self._insert, batch)
        self._connection.commit()

    def close(self) -> None:
        self._connection.close()


def rating(bench: Bench, count: int) -> dict[str, Any]:
    for first in range(0, count, 5000):
        bench.ledger.take_now(events_for(bench.organizations, first, min(5000, count - first)))
    wall, cpu, report = timed(lambda: bench.ledger.rate(batch=20_000))
    bench.store.clock.set(START + timedelta(days=32))  # type: ignore[attr-defined]

    def close_all() -> int:
        return sum(closed.invoice is not None for closed in bench.ledger.close_all("2026-01"))

    wall_close, cpu_close, invoices = timed(close_all)
    return {
        "events": count,
        "organizations": len(bench.organizations),
        "lines": report.rated,
        "transactions": report.transactions,
        "rating_s": round(wall, 1),
        "rating_cpu_s": round(cpu, 1),
        "invoicing_cpu_s": round(cpu_close, 1),
        "invoicing_s": round(wall_close, 1),
        "total_s": round(wall + wall_close, 1),
        "cpu_s": round(cpu + cpu_close, 1),
        "invoices": invoices,
        "memory_peak_mib": peak_mib(),
    }


def terms(bench: Bench, count: int) -> dict[str, Any]:
    """Rating while one of many organizations has terms of its own, against while each has: a price and a discount."""
    organizations = _many(bench, TERMS_ORGANIZATIONS)
    found: dict[str, Any] = {"organizations": len(organizations), "events": count}
    for month, (name, owners) in enumerate((("one", organizations[:1]), ("each", organizations))):
        bench.store.clock.set(START + timedelta(days=31 * month + 30))  # type: ignore[attr-defined]
        found[f"publish_{name}_s"] = round(timed(lambda owners=owners: _agree(bench, owners))[0], 1)
        for first in range(0, count, 5000):
            events = events_for(organizations, first, min(5000, count - first))
            moved = [replace(e, id=f"{month}/{e.id}", at=e.at + timedelta(days=31 * month)) for e in events]
            assert not bench.ledger.take_now(moved).refused
        bench.ledger.prices()
        before = bench.ledger.books.examined
        wall, cpu, report = timed(lambda: bench.ledger.rate(batch=20_000))
        assert report.rated == count, report
        examined = bench.ledger.books.examined - before
        found[name] = {
            "rating_s": round(wall, 2),
            "cpu_s": round(cpu, 2),
            "examined_per_event": round(examined / count, 2),
        }
    found["ratio_cpu"] = round(found["each"]["cpu_s"] / found["one"]["cpu_s"], 2)
    return found


def own_terms(bench: Bench, count: int) -> dict[str, Any]:
    """Rating and invoicing as in `rating`, where each organization has a rate card, a discount and a wallet of its own."""
    bench.store.clock.set(START)  # type: ignore[attr-defined]
    wall, _, _ = timed(lambda: _agree(bench, bench.organizations))
    _prepay(bench, bench.organizations)
    bench.store.clock.set(START + timedelta(days=30))  # type: ignore[attr-defined]
    found = rating(bench, count) | {"cards_s": round(wall, 1)}
    return {"rating": found, "prove": proving(bench)}


def _many(bench: Bench, count: int) -> list[str]:
    """Organizations like the first one, written at once."""
    with bench.store.read() as connection:
        like = dict(connection.execute(select(organizations_table)).mappings().first() or {})
    names = [f"org_terms{number:015d}" for number in range(count)]
    rows = [like | {"id": name, "name": name} for name in names]
    bench.store.write(lambda connection: connection.execute(insert(organizations_table), rows))
    return names


def _agree(bench: Bench, owners: list[str]) -> None:
    """A rate card for each of these customers: a price and a discount."""
    for number, owner in enumerate(owners):
        price = {
            "id": f"own-{owner}",
            "meter": METERS[number % 3],
            "kind": "per_unit",
            "amount": "0.1",
            "per": 1_000_000,
            "currency": "USD",
            "from": "2026-01-01T00:00:00Z",
        }
        discount = {"id": f"off-{owner}", "percent": str(1 + number % 40), "from": "2026-01-01T00:00:00Z"}
        card = card_from_dict({"prices": [price], "discounts": [discount]}, owner, "bench")
        bench.ledger.publishing.card(owner, card)


def _prepay(bench: Bench, owners: list[str]) -> None:
    """Ten dollars of prepaid money each."""
    for owner in owners:
        bench.store.write(
            lambda connection, owner=owner: bench.ledger.credit(
                connection, owner, 10 * 10**9, "bench", f"wallet {owner}", kind="prepaid"
            )
        )


def proving(bench: Bench) -> dict[str, Any]:
    wall, cpu, proof = timed(bench.ledger.prove)
    assert proof.ok, proof.findings
    return {
        "events": proof.events,
        "seconds": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "difference_nano": proof.difference_nano,
        "memory_peak_mib": peak_mib(),
    }


def export(bench: Bench, folder: Path) -> dict[str, Any]:
    """A row for each line, so that a million events are a million rows; memory is watched along the way."""
    charges = Charges(bench.store, bench.ledger.books, "", Span("", ""))
    seen: list[int] = []
    count = 0

    def run() -> None:
        nonlocal count
        with (folder / "focus.csv").open("w") as file:
            for row in focus_rows(charges, "1.2", by_line=True):
                file.write(",".join("" if value is None else str(value) for value in row.values()) + "\n")
                count += 1
                if count % 100_000 == 0:
                    seen.append(resident_mib())

    wall, cpu, _ = timed(run)
    (folder / "focus.csv").unlink()
    found = {"rows": count, "seconds": round(wall, 1), "cpu_s": round(cpu, 1), "resident_mib_each_100000": seen}
    wall, _, rows = timed(
        lambda: write_parquet(bench.store, bench.ledger.books, "focus-1.2", "", "", "", folder / "focus.parquet")
    )
    return found | {"parquet_by_hour_rows": rows, "parquet_by_hour_s": round(wall, 1), "memory_peak_mib": peak_mib()}


def holds(bench: Bench, clients: int, seconds: int) -> dict[str, Any]:
    """Clients that reserve and settle on one account, with a budget that they reach."""
    owner = bench.organizations[0]
    cost = 1_000_000
    limit = 10**15
    bench.ledger.create_budget(new_budget(owner, limit, thresholds=()))
    tight = new_budget(bench.organizations[1], cost * 1000, thresholds=())
    bench.ledger.create_budget(tight)
    desk = HoldDesk(bench.store, bench.ledger.spending)
    now = bench.store.clock.now()
    stop = time.perf_counter() + seconds
    done = [0] * clients
    granted = [0] * clients

    def client(number: int) -> None:
        serial = 0
        while time.perf_counter() < stop:
            serial += 1
            hold = f"hld_{number}_{serial}"
            outcome = desk.reserve(HoldRequest(hold, owner, cost, now + timedelta(seconds=60)))
            assert outcome.error is None
            assert desk.settle(Settlement(hold, cost // 2)).error is None
            done[number] += 1

    def greedy(number: int) -> None:
        for serial in range(100):
            request = HoldRequest(f"hld_g{number}_{serial}", tight.organization_id, cost, now + timedelta(seconds=60))
            granted[number] += desk.reserve(request).error is None

    wall, cpu, _ = timed(lambda: _together(client, clients))
    _together(greedy, clients)
    desk.close()
    [state] = bench.ledger.budgets(owner)
    assert state.spent_nano == sum(done) * (cost // 2) and state.held_nano == 0
    return {
        "clients": clients,
        "pairs_per_s": round(sum(done) / wall),
        "cpu_us_per_pair": round(cpu / max(1, sum(done)) * 1e6),
        "greedy_requests": clients * 100,
        "greedy_granted": sum(granted),
        "greedy_limit": 1000,
        "overshoot": max(0, sum(granted) - 1000),
    }


def _together(work: Callable[[int], None], clients: int) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def resident_mib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 2**20


def run_part(part: str, url: str, count: int) -> dict[str, Any]:
    """One part in this process, on a fresh database."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        bench = Bench(url or f"sqlite:///{folder}/ledger.db", {"holds": 50, "terms": 1}.get(part, ORGANIZATIONS))
        try:
            if part == "intake":
                return intake(bench, min(count, 100_000), Path(folder))
            if part == "holds":
                return holds(bench, 64, 5)
            if part == "own":
                return own_terms(bench, count)
            if part == "terms":
                return terms(bench, min(count, 100_000))
            found = {"rating": rating(bench, count)}
            found["prove"] = proving(bench)
            found["export"] = export(bench, Path(folder))
            return found
        finally:
            bench.store.close()


def in_own_process(part: str, server: str, count: int) -> dict[str, Any]:
    """Each part gets a process of its own, so that its peak of memory is its own."""
    name, url = f"bench_{uuid.uuid4().hex[:12]}", ""
    if server:
        admin = create_engine(make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        url = make_url(server).set(database=name).render_as_string(hide_password=False)
    try:
        command = [sys.executable, __file__, "--part", part, "--url", url, "--events", str(count)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            raise SystemExit(run.stderr)
        return json.loads(run.stdout)
    finally:
        if server:
            with admin.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", default=["intake", "holds", "books", "own", "terms"])
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "ledger.json")
    parser.add_argument("--part")
    parser.add_argument("--url", default="")
    options = parser.parse_args()
    if options.part:
        print(json.dumps(run_part(options.part, options.url, options.events)))
        return
    path = options.out
    results = json.loads(path.read_text()) if path.exists() else {}
    results["machine"] = f"{os.cpu_count()} shared cores, {platform.machine()}, Python {platform.python_version()}"
    for database, server in (("sqlite", ""), ("postgresql", os.environ.get("SUBLET_TEST_POSTGRES", ""))):
        if database == "postgresql" and not server:
            continue
        for part in options.only:
            before = os.getloadavg()[0]
            found = in_own_process(part, server, options.events)
            found["load_average"] = [round(before, 1), round(os.getloadavg()[0], 1)]
            results.setdefault(database, {})[part] = found
            print(database, part, json.dumps(results[database][part], indent=1), flush=True)
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
