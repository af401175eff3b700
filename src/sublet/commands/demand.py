"""`sublet demand`: what the owner needs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress
from sqlalchemy import Connection

from sublet.config import settings
from sublet.demand.feeds.alibaba import read_jobs, series_of_model
from sublet.demand.feeds.csv_series import write_series
from sublet.demand.feeds.prometheus import PrometheusCollector, query_of
from sublet.demand.feeds.slurm import parse_sacct, series_of_jobs, told_of
from sublet.demand.model import ACCELERATORS_MAX
from sublet.demand.service import Demand, Recorded
from sublet.fleet.service import Fleet
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.screen import Screen
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.surplus.model import PoolFacts
from sublet.surplus.record import store as surplus_sql
from sublet.surplus.rule.peaks import HORIZONS_DEFAULT_S, QUANTILES_DEFAULT, peaks_of
from sublet.surplus.service import Surplus
from sublet.values.clock import SystemClock, format_time, from_micros, parse_time
from sublet.values.errors import InvalidInputError
from sublet.values.windows import Window

app = typer.Typer(no_args_is_help=True, help="Demand: what the owner needs, observed and claimed.")

PoolName = Annotated[str, typer.Argument(help="Pool, by id or name.")]
SAMPLES_SHOWN_MAX = 100_000
HOURS_MAX = 3660 * 24


def _open() -> tuple[Demand, Fleet]:
    loaded = settings.load()
    store = Store(loaded.database_url)
    migrate(store)
    return Demand(store, loaded.demand.history_days), Fleet(store)


def _surplus(demand: Demand, fleet: Fleet) -> Surplus:
    """The surplus as far as it forecasts: nothing is sold by it."""

    def facts(pool_id: str, connection: Connection) -> PoolFacts:
        found = fleet.pool(pool_id, connection)
        return PoolFacts(found.id, found.name, found.in_service)

    def learned(pool_id: str, connection: Connection) -> Mapping[str, Any] | None:
        return surplus_sql.learned(connection, pool_id)

    return Surplus(demand, facts, lambda pool_id, connection: (), (), demand.clock, learned)


@app.command("import")
def import_file(
    pool: PoolName,
    file: Annotated[Path, typer.Argument(help="CSV with time,capacity,in_use; also gzipped.")],
    as_json: JsonFlag = False,
) -> None:
    """Import history from CSV, all or nothing; importing it again changes nothing."""
    demand, fleet = _open()
    _report(demand, demand.import_csv(fleet.pool(pool).id, file), pool, as_json)


@app.command("prometheus")
def collect_prometheus(
    pool: PoolName,
    url: Annotated[str, typer.Argument(help="Address of Prometheus, such as http://127.0.0.1:9090.")],
    exporter: Annotated[str, typer.Option(help="Exporter of the metrics: dcgm, slurm or kubernetes.")] = "",
    select: Annotated[str, typer.Option(help="Hosts or nodes as a regular expression, or a partition.")] = "",
    in_use: Annotated[str, typer.Option(help="PromQL for the owner's accelerators in use, one number per time.")] = "",
    capacity: Annotated[str, typer.Option(help="PromQL or a number; the exporter's if left out.")] = "",
    pending: Annotated[str, typer.Option(help="PromQL for accelerators that queued work waits for.")] = "",
    hours: Annotated[float, typer.Option(min=0.01, help="How far back.")] = 24.0,
    step_s: Annotated[int, typer.Option(min=1, help="Seconds between two samples.")] = 60,
    as_json: JsonFlag = False,
) -> None:
    """Collect a pool's demand from Prometheus once; with pools.prometheus in the settings the service does so by itself."""
    demand, fleet = _open()
    found = fleet.pool(pool)
    now = SystemClock().now()
    _not_too_long(hours)
    query = query_of(exporter, select, in_use, capacity, pending, found.accelerators)
    since = now - timedelta(hours=hours)
    numbers = PrometheusCollector(url).numbers(query, since, now, step_s)
    recorded = demand.record_samples(found.id, numbers.samples())
    if recorded.taken or as_json:
        _report(demand, recorded, pool, as_json)
        return
    say(f"no sample of {pool} came in: from {format_time(since)} to {format_time(now)} {numbers.lack()}")
    queries = [text for text in (query.in_use, query.capacity) if isinstance(text, str)]
    say(f"  try in Prometheus' own page: {' and '.join(queries)}")


@app.command("sacct")
def import_sacct(
    pool: PoolName,
    file: Annotated[Path, typer.Argument(help="What sacct --parsable2 printed, with TZ=UTC; docs/demand.md says how.")],
    capacity: Annotated[int, typer.Option(min=0, max=ACCELERATORS_MAX, help="Accelerators of the pool.")],
    days: Annotated[int, typer.Option(min=1, max=3660, help="How far back.")] = 90,
    as_json: JsonFlag = False,
) -> None:
    """Import the owner's Slurm jobs as hourly demand, for the hours for which the file is complete."""
    demand, fleet = _open()
    pool_id = fleet.pool(pool).id
    try:
        with file.open(encoding="utf-8-sig") as lines:
            jobs = parse_sacct(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{file} can't be read ({error}); name what sacct printed") from error
    now = SystemClock().now().replace(minute=0, second=0, microsecond=0)
    since, until = told_of(jobs, now - timedelta(days=days), now)
    series = series_of_jobs(jobs, pool_id, capacity, since, until)
    _report(demand, demand.record_series(series), pool, as_json)


@app.command("alibaba")
def convert_alibaba(
    file: Annotated[Path, typer.Argument(help="The job file of Alibaba's spot-GPU trace (job_info_df.csv).")],
    model: Annotated[str, typer.Option(help="GPU model, as the file names it.")],
    capacity: Annotated[int, typer.Option(min=0, max=ACCELERATORS_MAX, help="Accelerators of that model.")],
    out: Annotated[Path, typer.Option(help="CSV to write: time,capacity,in_use.")],
    start: Annotated[str, typer.Option(help="The moment that the file calls 0.")] = "2024-03-01T00:00:00Z",
) -> None:
    """Turn the public Alibaba job file into a series that `sublet backtest` and `sublet shadow` read."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            jobs = read_jobs(lines, parse_time(start))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{file} can't be read ({error}); name the job file") from error
    except ValueError as error:
        raise InvalidInputError(f"--start: {error}") from error
    series = series_of_model(jobs.get(model, []), model, capacity)
    write_series(series, out)
    say(f"{len(series)} hours of {model} are in {out}")


def _not_too_long(hours: float) -> None:
    if hours > HOURS_MAX:
        raise InvalidInputError(f"--hours is {hours:g}; use at most {HOURS_MAX}")


def _report(demand: Demand, recorded: Recorded, pool: str, as_json: bool) -> None:
    if as_json:
        print_json(recorded.as_dict())
        return
    some = f"{recorded.taken:,} {'sample' if recorded.taken == 1 else 'samples'} of {pool}"
    singular = recorded.taken == 1
    newest = demand.latest(recorded.pool_id) if recorded.expired else None
    if newest is None:
        say(f"{some} {'is' if singular else 'are'} in")
    else:
        # Some of what expired may be older than what was just taken: how many of these stay is not known here.
        say(
            f"{some} {'was' if singular else 'were'} taken, and {recorded.expired:,} expired: what is from before "
            f"{format_time(newest.time - demand.kept)} is more than {demand.kept.days} days older than the pool's newest "
            "sample; demand.history_days keeps more"
        )
    for sentence in recorded.findings.sentences():
        say(f"  {sentence}")


@app.command("samples")
def list_samples(
    pool: PoolName,
    hours: Annotated[int, typer.Option(min=1, max=24 * 400, help="How far back.")] = 24,
    limit: Annotated[int, typer.Option(min=1, max=SAMPLES_SHOWN_MAX, help="Maximum number, newest first.")] = 50,
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


@app.command("forecast")
def show_forecast(
    pool: PoolName,
    horizon: Annotated[
        list[str] | None, typer.Option(help="How far ahead, such as 30m, 4h or 3d; more than once if wanted.")
    ] = None,
    quantile: Annotated[list[float] | None, typer.Option(help="Such as 0.95; more than once if wanted.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Forecast how high a pool's demand may rise, and show how often such forecasts held."""
    demand, fleet = _open()
    horizons = [_seconds(text) for text in horizon] if horizon else HORIZONS_DEFAULT_S
    with Progress(console=Screen(stderr=True), transient=True, disable=as_json) as bar:
        task = bar.add_task("forecasting", total=1.0)
        view = _surplus(demand, fleet).view(fleet.pool(pool).id)
        found = peaks_of(view, horizons, quantile or QUANTILES_DEFAULT, lambda done: bar.update(task, completed=done))
    if as_json:
        print_json(found.as_dict())
        return
    now = "unknown" if found.in_use is None else f"{found.in_use:g}"
    say(f"{pool}: {now} in use now; {found.history_s // 3600} h of history")
    rows: list[dict[str, str]] = []
    reasons: dict[str, list[str]] = {}
    for horizon_s, peaks in found.peaks.items():
        row: dict[str, str] = {"within": _span(horizon_s)}
        for peak in peaks:
            record = f" ({peak.held} of {peak.checks} held)" if peak.checks else ""
            row[f"{peak.quantile:g}"] = "unknown" if peak.accelerators is None else f"{peak.accelerators:.1f}{record}"
            if peak.accelerators is None:
                reasons.setdefault(f"{_span(horizon_s)}: {peak.why}", []).append(f"{peak.quantile:g}")
        rows.append(row)
    print_rows(rows, {key: key if key == "within" else f"peak at {key}" for key in rows[0]}, "")
    for why, levels in reasons.items():
        say(f"  {', '.join(levels)} within {why}")


def _seconds(text: str) -> int:
    unit = {"m": 60, "h": 3600, "d": 86_400}.get(text[-1:])
    try:
        return round(float(text[:-1]) * unit) if unit else int(text)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(f"--horizon {text!r} is no span; write 30m, 4h, 3d, or seconds") from error


def _span(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


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
    """Announce that an internal team needs accelerators; they are not sold for that time."""
    demand, fleet = _open()
    found = fleet.pool(pool)
    _not_too_long(hours)
    try:
        begin = parse_time(start) if start else SystemClock().now()
    except ValueError as error:
        raise InvalidInputError(f"--start: {error}") from error
    window = Window.starting(begin, hours * 3600)
    claim = demand.add_claim(found.id, count, window, reason)
    if as_json:
        print_json(claim.as_dict())
        return
    say(f"{claim.id}: {count} of {pool} from {format_time(claim.window.start)} to {format_time(claim.window.end)}")
    if count > found.accelerators:
        say(f"  {pool} has {found.accelerators}: until it has more, the claim keeps all of them from being sold")


@app.command("withdraw")
def withdraw_claim(claim: Annotated[str, typer.Argument(help="Id of a claim.")], as_json: JsonFlag = False) -> None:
    """Withdraw a claim; repeating this is harmless."""
    demand, _ = _open()
    withdrawn = demand.withdraw_claim(claim)
    if as_json:
        print_json(withdrawn.as_dict())
        return
    say(f"{withdrawn.id} is withdrawn")
