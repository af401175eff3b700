"""`sublet demand`: what the owner needs. What files and exporters say is read here; what is kept is the running Sublet's."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.client.remote import LONG_S, connect, pool_named
from sublet.output import JsonFlag, note, print_json, print_rows, progress, say, waiting
from sublet.shown import Columns, counted, history_text, seconds, span_text, time, time_text
from sublet.values.clock import SystemClock, format_time, parse_time
from sublet.values.errors import InvalidInputError

if TYPE_CHECKING:
    from sublet.demand.model import Series

app = typer.Typer(no_args_is_help=True, help="Demand: what the owner needs, observed and claimed.")

PoolName = Annotated[str, typer.Argument(help="Pool, by id or name.")]
SAMPLES_SHOWN_MAX = 100_000
SAMPLES_PER_PAGE = 5_000
SAMPLES_PER_REQUEST = 10_000
FILE_BYTES_MAX = 2**30
HOURS_MAX = 3660 * 24
PATIENCE_MINUTES_MAX = 24 * 60
SACCT_CAPACITY_MAX = 10_000_000
CSV, GZIP = "text/csv", "application/gzip"
GZIP_MARK = b"\x1f\x8b"


@app.command("import")
def import_file(
    pool: PoolName,
    file: Annotated[Path, typer.Argument(help="CSV with time,capacity,in_use; also gzipped.")],
    force: Annotated[
        bool, typer.Option("--force", help="Import even if the file seems to be from another, larger pool.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Import history from CSV, all or nothing; importing the same file again changes nothing. To undo an import, use
    `sublet demand undo`."""
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            raise InvalidInputError(f"{file} is larger than {FILE_BYTES_MAX >> 20} MiB; split it by time")
        content = file.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{file} can't be read ({error.strerror}); specify a readable CSV file") from error
    try:
        _report(_upload(pool, content, {"source": file.name, "force": force or None}), pool, as_json)
    except InvalidInputError as error:
        # The service does not know what its caller's file is called.
        raise type(error)(error.message.replace("the file", str(file), 1), **error.details) from error


@app.command("prometheus")
def collect_prometheus(
    pool: PoolName,
    url: Annotated[str, typer.Argument(help="Address of Prometheus, such as http://127.0.0.1:9090.")],
    exporter: Annotated[str, typer.Option(help="Exporter of the metrics: dcgm, slurm or kubernetes.")] = "",
    select: Annotated[str, typer.Option(help="Hosts or nodes as a regular expression, or a partition.")] = "",
    in_use: Annotated[str, typer.Option(help="PromQL for the owner's accelerators in use, one number per time.")] = "",
    capacity: Annotated[str, typer.Option(help="PromQL or a number; by default the exporter's.")] = "",
    pending: Annotated[str, typer.Option(help="PromQL for the accelerators that queued work is waiting for.")] = "",
    hours: Annotated[float, typer.Option(min=0.01, help="How far back.")] = 24.0,
    step_s: Annotated[int, typer.Option(min=1, help="Seconds between two samples.")] = 60,
    as_json: JsonFlag = False,
) -> None:
    """Collect a pool's demand once from a Prometheus that this machine reaches; with pools.prometheus in the settings the
    service does so by itself."""
    from sublet.demand.feeds.prometheus import PrometheusCollector, query_of

    _not_too_long(hours)
    client = connect()
    now = SystemClock().now()
    found = pool_named(client, pool)
    query = query_of(exporter, select, in_use, capacity, pending, found["accelerators"])
    since = now - timedelta(hours=hours)
    with waiting("asking Prometheus"):
        numbers = PrometheusCollector(url).numbers(query, since, now, step_s)
    samples = [
        {"time": format_time(item.time), "capacity": item.capacity, "in_use": item.in_use, "pending": item.pending}
        for item in numbers.samples()
    ]
    if samples:
        _report(_send(found["id"], samples), pool, as_json)
        return
    if as_json:
        print_json({"pool_id": found["id"], "taken": 0, "expired": 0})
        return
    say(f"no samples were found for {pool}: from {time_text(since)} to {time_text(now)} {numbers.lack()}")
    queries = [text for text in (query.in_use, query.capacity) if isinstance(text, str)]
    note(f"try this in the Prometheus UI: {' and '.join(queries)}")


@app.command("sacct")
def import_sacct(
    pool: PoolName,
    file: Annotated[Path, typer.Argument(help="Output of sacct --parsable2, with TZ=UTC; see docs/demand.md.")],
    capacity: Annotated[int, typer.Option(min=0, max=SACCT_CAPACITY_MAX, help="Number of accelerators in the pool.")],
    days: Annotated[int, typer.Option(min=1, max=3660, help="How far back.")] = 90,
    as_json: JsonFlag = False,
) -> None:
    """Import the owner's Slurm jobs as hourly demand, for the hours that the file covers completely."""
    from sublet.demand.feeds.csv_series import series_text
    from sublet.demand.feeds.slurm import parse_sacct, series_of_jobs, told_of

    try:
        with file.open(encoding="utf-8-sig") as lines:
            jobs = parse_sacct(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{file} can't be read ({error}); specify a file with the output of sacct") from error
    now = SystemClock().now().replace(minute=0, second=0, microsecond=0)
    since, until = told_of(jobs, now - timedelta(days=days), now)
    series: Series = series_of_jobs(jobs, pool, capacity, since, until)
    _report(_upload(pool, series_text(series).encode(), {"source": file.name}), pool, as_json)


@app.command("squeue")
def send_squeue(
    pool: PoolName,
    file: Annotated[Path, typer.Argument(help="Output of squeue, with TZ=UTC; see docs/demand.md.")],
    capacity: Annotated[int, typer.Option(min=0, max=SACCT_CAPACITY_MAX, help="Number of accelerators in the pool.")],
    as_json: JsonFlag = False,
) -> None:
    """Report the owner's running and waiting Slurm jobs, so that the capacity they will need is not sold."""
    from sublet.demand.feeds.slurm import known_jobs, parse_squeue

    try:
        with file.open(encoding="utf-8-sig") as lines:
            jobs = parse_squeue(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{file} can't be read ({error}); specify a file with the output of squeue") from error
    sample = {
        "time": format_time(SystemClock().now()),
        "capacity": capacity,
        "in_use": sum(job.accelerators for job in jobs if job.start is not None),
        "pending": sum(job.accelerators for job in jobs if job.start is None),
        "jobs": [
            {"accelerators": job.accelerators, "start": job.start and format_time(job.start), "limit_s": job.limit_s}
            for job in known_jobs(jobs)
        ],
    }
    found = pool_named(connect(), pool)
    _report(_send(found["id"], [sample]), pool, as_json)


@app.command("alibaba")
def convert_alibaba(
    file: Annotated[Path, typer.Argument(help="The job file of Alibaba's spot-GPU trace (job_info_df.csv).")],
    model: Annotated[str, typer.Option(help="GPU model, as the file names it.")],
    capacity: Annotated[int, typer.Option(min=0, max=SACCT_CAPACITY_MAX, help="Accelerators of that model.")],
    out: Annotated[Path, typer.Option(help="CSV to write: time,capacity,in_use.")],
    start: Annotated[str, typer.Option(help="Time that corresponds to 0 in the file.")] = "2024-03-01T00:00:00Z",
) -> None:
    """Convert the public Alibaba job file to a series for `sublet backtest` and `sublet shadow`."""
    from sublet.demand.feeds.alibaba import read_jobs, series_of_model
    from sublet.demand.feeds.csv_series import write_series

    try:
        with file.open(encoding="utf-8", newline="") as lines:
            jobs = read_jobs(lines, parse_time(start))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{file} can't be read ({error}); specify a readable job file") from error
    except ValueError as error:
        raise InvalidInputError(f"--start: {error}") from error
    series = series_of_model(jobs.get(model, []), model, capacity)
    write_series(series, out)
    say(f"{len(series)} hours of {model} are in {out}")


def _upload(pool: str, content: bytes, query: Mapping[str, Any]) -> dict[str, Any]:
    """What became of the content of a CSV file."""
    packed = content if content.startswith(GZIP_MARK) else gzip.compress(content, 6)
    with progress("sending") as tell:
        return connect(LONG_S).document(
            "demand.import_history",
            pool,
            body=packed,
            content_type=GZIP,
            query=query,
            progress=lambda sent: tell(sent / len(packed)),
        )


def _send(pool_id: str, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What became of samples, which go out in parts."""
    client, told = connect(LONG_S), {"taken": 0, "expired": 0}
    answer: dict[str, Any] = {}
    with progress("sending") as tell:
        for begin in range(0, len(samples), SAMPLES_PER_REQUEST):
            part = samples[begin : begin + SAMPLES_PER_REQUEST]
            answer = client.document("demand.record", pool_id, body={"samples": part})
            told = {name: told[name] + answer[name] for name in told}
            tell((begin + len(part)) / len(samples))
    return answer | told


def _not_too_long(hours: float) -> None:
    if hours > HOURS_MAX:
        raise InvalidInputError(f"--hours is {hours:g}; use at most {HOURS_MAX}")


def _report(recorded: Mapping[str, Any], pool: str, as_json: bool) -> None:
    if as_json:
        print_json(recorded)
        return
    taken = recorded["taken"]
    some = f"{counted(taken, 'sample')} of {pool}"
    if not recorded["expired"]:
        say(f"{some} {'is' if taken == 1 else 'are'} in")
    else:
        # Some of what expired may be older than what was just taken: how many of these stay is not known here.
        say(
            f"{some} {'was' if taken == 1 else 'were'} taken, and {recorded['expired']:,} expired: what is from before "
            f"{time_text(recorded['kept_from'])} is too old relative to the pool's newest sample; to keep more, raise "
            "demand.history_days"
        )
    for sentence in recorded["notes"]:
        note(sentence)


@app.command("samples")
def list_samples(
    pool: PoolName,
    hours: Annotated[int, typer.Option(min=1, max=24 * 400, help="How far back.")] = 24,
    limit: Annotated[
        int, typer.Option(min=1, max=SAMPLES_SHOWN_MAX, help="Maximum number of entries, newest first.")
    ] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Show the newest samples of a pool."""
    client, now = connect(), SystemClock().now()
    span = {"since": now - timedelta(hours=hours), "until": now + timedelta(seconds=1)}
    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {}
    after: str | None = None
    while len(rows) < limit:
        asked = {"limit": min(limit - len(rows), SAMPLES_PER_PAGE), "after": after}
        page = client.document("demand.list_samples", pool, query={**span, **asked})
        found = found or page
        rows += page["samples"]
        after = page["next"]
        if after is None:
            break
    rows.reverse()
    if as_json:
        print_json({**found, "samples": rows, "next": after})
        return
    columns: Columns = {"time": seconds("time"), "capacity": "capacity", "in_use": "in use", "pending": "pending"}
    shown = [{**row, **{name: f"{row[name]:g}" for name in ("capacity", "in_use", "pending")}} for row in rows]
    print_rows(
        shown, columns, f"no samples in the last {hours} h; import some with `sublet demand import`, or set up a feed"
    )


@app.command("forecast")
def show_forecast(
    pool: PoolName,
    horizon: Annotated[
        list[str] | None, typer.Option(help="How far ahead, such as 30m, 4h or 3d; can be repeated.")
    ] = None,
    quantile: Annotated[list[float] | None, typer.Option(help="Quantile, such as 0.95; can be repeated.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Forecast how high a pool's demand may rise, and show how often such forecasts were right."""
    query = {"horizon_s": [_seconds(text) for text in horizon] if horizon else None, "quantile": quantile or None}
    with waiting("forecasting"):
        found = connect(LONG_S).document("surplus.forecast", pool, query=query)
    if as_json:
        print_json(found)
        return
    now = "unknown" if found["in_use"] is None else f"{found['in_use']:g}"
    say(f"{pool}: {now} in use now; {history_text(found['history_s'])} of history")
    rows: list[dict[str, str]] = []
    reasons: dict[str, list[str]] = {}
    peaks = [peak for item in found["horizons"] for peak in item["quantiles"]]
    whys = {peak["why"] for peak in peaks}
    any_known = any(peak["accelerators"] is not None for peak in peaks)
    for item in found["horizons"]:
        within = span_text(item["horizon_s"])
        row: dict[str, str] = {"within": within}
        for peak in item["quantiles"]:
            record = f" ({peak['held']} of {peak['checks']} held)" if peak["checks"] else ""
            known = peak["accelerators"] is not None
            row[f"{peak['quantile']:g}"] = f"{peak['accelerators']:.1f}{record}" if known else "unknown"
            if not known:
                reasons.setdefault(f"{within}: {peak['why']}", []).append(f"{peak['quantile']:g}")
        rows.append(row)
    if len(whys) == 1 and not any_known:
        say(f"no forecast: {whys.pop()}; to add past demand, use `sublet demand import`")
        return
    print_rows(rows, {key: key if key == "within" else f"peak at {key}" for key in rows[0]}, "")
    for why, levels in reasons.items():
        note(f"{', '.join(levels)} within {why}")


def _seconds(text: str) -> int:
    unit = {"m": 60, "h": 3600, "d": 86_400}.get(text[-1:])
    try:
        return round(float(text[:-1]) * unit) if unit else int(text)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"--horizon {text!r} is not a duration; use 30m, 4h, 3d, or a number of seconds"
        ) from error


@app.command("imports")
def list_imports(pool: PoolName, as_json: JsonFlag = False) -> None:
    """List the files that were imported as a pool's history, newest first."""
    found = connect().collected("demand.list_imports", pool)
    if as_json:
        print_json(found)
        return
    columns: Columns = {
        "id": "import",
        "source": "file",
        "samples": "samples",
        "first_at": time("from"),
        "last_at": time("until"),
        "created_at": time("imported"),
        "undone_at": time("undone"),
    }
    print_rows(found["imports"], columns, f"no files were imported as history of {pool}")


@app.command("undo")
def undo_import(
    imported: Annotated[str, typer.Argument(metavar="IMPORT", help="Id of an import.")], as_json: JsonFlag = False
) -> None:
    """Undo an import: restore the samples that it replaced and rebuild the pool's record. It is safe to repeat."""
    undone = connect().document("demand.undo_import", imported)
    if as_json:
        print_json(undone)
        return
    say(f"{undone['id']} is undone: {undone['source'] or 'the file'} with {undone['samples']:,} samples")


@app.command("claims")
def list_claims(
    pool: Annotated[str | None, typer.Option(help="Only this pool, by id or name.")] = None, as_json: JsonFlag = False
) -> None:
    """List current claims."""
    client = connect()
    found = client.collected("demand.list_claims", query={"pool_id": pool})
    if as_json:
        print_json(found)
        return
    names = {item["id"]: item["name"] for item in client.collected("fleet.list_pools")["pools"]}
    rows = [{**claim, "pool": names.get(claim["pool_id"], claim["pool_id"])} for claim in found["claims"]]
    columns: Columns = {
        "id": "claim",
        "pool": "pool",
        "accelerators": "accelerators",
        "start": time("start"),
        "end": time("end"),
        "reason": "reason",
    }
    print_rows(rows, columns, "no claims; create one with `sublet demand claim POOL COUNT`")


@app.command("claim")
def add_claim(
    pool: PoolName,
    count: Annotated[int, typer.Argument(min=1, help="How many accelerators.")],
    hours: Annotated[float, typer.Option(min=0.01, help="For how long.")] = 24.0,
    start: Annotated[str | None, typer.Option(help="Start, such as 2026-07-02T14:00:00Z; now if omitted.")] = None,
    reason: Annotated[str, typer.Option(help="Reason; shown wherever capacity is withheld for the claim.")] = "",
    patience: Annotated[
        float, typer.Option(help="Minutes that the team can wait for the accelerators, at most one day.")
    ] = 0.0,
    replaces: Annotated[str | None, typer.Option(help="Id of a claim of the same pool that this one changes.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Claim accelerators for an internal team; they are not sold during that time."""
    _not_too_long(hours)
    try:
        begin: datetime = parse_time(start) if start else SystemClock().now()
        end = begin + timedelta(hours=hours)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(f"--start: {error}") from error
    client = connect()
    wanted: dict[str, Any] = {
        "pool": pool,
        "accelerators": count,
        "start": _sent(begin),
        "end": _sent(end),
        "reason": reason,
    }
    if patience:
        if not 0 <= patience <= PATIENCE_MINUTES_MAX:
            raise InvalidInputError(f"--patience is {patience:g}; write 0 to {PATIENCE_MINUTES_MAX} minutes")
        wanted["patience_s"] = round(60 * patience)
    if replaces is not None:
        wanted["replaces"] = replaces
    claim = client.document("demand.add_claim", body=wanted)
    if as_json:
        print_json(claim)
        return
    say(f"{claim['id']}: {count} of {pool} from {time_text(claim['start'])} to {time_text(claim['end'])}")
    owned = pool_named(client, pool)["accelerators"]
    if count > owned:
        note(f"{pool} has only {owned}: until it has more, the claim keeps all of them off sale")


def _sent(moment: datetime) -> str:
    return format_time(moment.astimezone(UTC).replace(microsecond=0))


@app.command("withdraw")
def withdraw_claim(claim: Annotated[str, typer.Argument(help="Id of a claim.")], as_json: JsonFlag = False) -> None:
    """Withdraw a claim; it is safe to repeat."""
    withdrawn = connect().document("demand.withdraw_claim", claim)
    if as_json:
        print_json(withdrawn)
        return
    say(f"{withdrawn['id']} is withdrawn")
