"""`sublet demand`: what the owner needs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from sublet import settings
from sublet.demand.service import Demand
from sublet.fleet.service import Fleet
from sublet.output import JsonFlag, print_json, print_rows
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.values.clock import SystemClock, format_time, from_micros, parse_time
from sublet.values.errors import InvalidInputError
from sublet.values.windows import Window

app = typer.Typer(no_args_is_help=True, help="Demand: what the owner needs, observed and claimed.")

PoolName = Annotated[str, typer.Argument(help="Pool, by id or name.")]
SAMPLES_SHOWN_MAX = 100_000


def _open() -> tuple[Demand, Fleet]:
    loaded = settings.load()
    store = Store(loaded.database_url)
    migrate(store)
    return Demand(store, loaded.demand.history_days), Fleet(store)


@app.command("import")
def import_file(
    pool: PoolName,
    file: Annotated[Path, typer.Argument(help="CSV with time,capacity,in_use; also gzipped.")],
    as_json: JsonFlag = False,
) -> None:
    """Import history from CSV, all of it or nothing; importing it again changes nothing."""
    demand, fleet = _open()
    recorded = demand.import_csv(fleet.pool(pool).id, file)
    if as_json:
        print_json(recorded.as_dict())
        return
    typer.echo(f"{recorded.taken} samples of {pool} are in")
    for sentence in recorded.findings.sentences():
        typer.echo(f"  {sentence}")


@app.command("samples")
def list_samples(
    pool: PoolName,
    hours: Annotated[int, typer.Option(min=1, max=24 * 400, help="How far back.")] = 24,
    limit: Annotated[int, typer.Option(min=1, max=SAMPLES_SHOWN_MAX, help="At most so many, the newest.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Show the newest samples of a pool."""
    demand, fleet = _open()
    now = SystemClock().now()
    series = demand.history(fleet.pool(pool).id, now - timedelta(hours=hours), now + timedelta(seconds=1))
    rows = [
        {
            "time": format_time(from_micros(int(series.times_us[index]))),
            "capacity": float(series.capacity[index]),
            "in_use": float(series.in_use[index]),
            "pending": float(series.pending[index]),
        }
        for index in range(max(0, len(series) - limit), len(series))
    ]
    if as_json:
        print_json({"samples": rows, "findings": series.findings.as_dict()})
        return
    columns = {"time": "time", "capacity": "capacity", "in_use": "in use", "pending": "pending"}
    print_rows(rows, columns, "no samples in that time")


@app.command("claims")
def list_claims(
    pool: Annotated[str | None, typer.Option(help="Only this pool, by id or name.")] = None, as_json: JsonFlag = False
) -> None:
    """List standing claims."""
    demand, fleet = _open()
    rows = [claim.as_dict() for claim in demand.claims(fleet.pool(pool).id if pool else None)]
    if as_json:
        print_json({"claims": rows})
        return
    columns = {"id": "claim", "pool_id": "pool", "count": "count", "start": "start", "end": "end", "reason": "reason"}
    print_rows(rows, columns, "no claims")


@app.command("claim")
def add_claim(
    pool: PoolName,
    count: Annotated[int, typer.Argument(min=1, help="How many accelerators.")],
    hours: Annotated[float, typer.Option(min=0.01, help="For how long.")] = 24.0,
    start: Annotated[str | None, typer.Option(help="When, as 2026-07-02T14:00:00Z; now if left out.")] = None,
    reason: Annotated[str, typer.Option(help="Why; shown wherever capacity is withheld for it.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Announce that an internal team needs accelerators: they are not sold over that time."""
    demand, fleet = _open()
    try:
        begin = parse_time(start) if start else SystemClock().now()
    except ValueError as error:
        raise InvalidInputError(f"--start: {error}") from error
    claim = demand.add_claim(fleet.pool(pool).id, count, Window.starting(begin, hours * 3600), reason)
    if as_json:
        print_json(claim.as_dict())
        return
    typer.echo(
        f"{claim.id}: {count} of {pool} from {format_time(claim.window.start)} to {format_time(claim.window.end)}"
    )


@app.command("withdraw")
def withdraw_claim(claim: Annotated[str, typer.Argument(help="Id of a claim.")], as_json: JsonFlag = False) -> None:
    """Withdraw a claim; saying so twice is harmless."""
    demand, _ = _open()
    withdrawn = demand.withdraw_claim(claim)
    if as_json:
        print_json(withdrawn.as_dict())
        return
    typer.echo(f"{withdrawn.id} is withdrawn")
