"""The desk against numpy by hand, squigglepy, modelx and LibreOffice, in one run on one machine.

    python bench/desk.py [--rounds 5] [--no-office] [--out bench/results/desk.json]

squigglepy and modelx are measured if they are installed, LibreOffice if `soffice` is on the path; the desk and numpy by
hand always are. Rounds alternate between the contestants, so that a busy neighbor slows all of them; medians are given.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import math
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xlsxwriter
import xlsxwriter.utility

from sublet.desk.actuals import PoolRecord, UsageRecord, gather
from sublet.desk.correlation import score_correlation
from sublet.desk.desk import Desk, open_case
from sublet.desk.earnings import eps_increment
from sublet.desk.montecarlo import simulate
from sublet.desk.report import workbook
from sublet.desk.report.actuals_page import actuals_json, render_actuals
from sublet.desk.service import write_reports
from sublet.values.windows import Window

ROOT = Path(__file__).parents[1]
CASE = ROOT / "examples" / "hyperscaler-2026.toml"
EXPECTED = ROOT / "tests" / "desk" / "data" / "expected.json"
SAMPLES = 1_000_000
POINTS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
Z95 = 1.6448536269514722
TOGETHER = 0.5
"""The rank correlation of inputs that move together."""


def lognormal(p5: float, p95: float) -> tuple[float, float]:
    low, high = math.log(p5), math.log(p95)
    return (low + high) / 2, (high - low) / (2 * Z95)


def monte_carlo_by_hand() -> list[np.ndarray]:
    g, n = np.random.default_rng(1), SAMPLES
    mw, price, util = g.triangular(100, 250, 1000, n), g.lognormal(*lognormal(10, 45), n), g.beta(18, 2, n)
    pue, power, support = (
        g.uniform(1.08, 1.30, n),
        g.lognormal(*lognormal(45, 95), n),
        g.lognormal(*lognormal(1.5, 6), n),
    )
    tax, shares = g.uniform(0.12, 0.21, n), g.normal(2.55, 0.04, n)
    capex, life = g.lognormal(*lognormal(30, 60), n), g.uniform(4, 6, n)
    sunk = mw * (price * util - 8760e-6 * power * pue - support) / 1000 * (1 - tax) / shares
    full = sunk - mw * capex / life / 1000 * (1 - tax) / shares
    return [np.quantile(sunk, POINTS), np.quantile(full, POINTS)]


def correlated_by_hand() -> list[np.ndarray]:
    """The same with price, electricity price and capital cost correlated by 0.5 in rank: scores mixed by a Cholesky factor."""
    g, n = np.random.default_rng(1), SAMPLES
    rho = score_correlation(TOGETHER)
    score = np.linalg.cholesky(np.full((3, 3), rho) + np.eye(3) * (1 - rho)) @ g.standard_normal((3, n))

    def lognormals(p5: float, p95: float, scores: np.ndarray) -> np.ndarray:
        mu, sigma = lognormal(p5, p95)
        return np.exp(mu + sigma * scores)

    price, power, capex = lognormals(10, 45, score[0]), lognormals(45, 95, score[1]), lognormals(30, 60, score[2])
    mw, util, pue = g.triangular(100, 250, 1000, n), g.beta(18, 2, n), g.uniform(1.08, 1.30, n)
    support, tax, shares = g.lognormal(*lognormal(1.5, 6), n), g.uniform(0.12, 0.21, n), g.normal(2.55, 0.04, n)
    life = g.uniform(4, 6, n)
    sunk = mw * (price * util - 8760e-6 * power * pue - support) / 1000 * (1 - tax) / shares
    full = sunk - mw * capex / life / 1000 * (1 - tax) / shares
    return [np.quantile(sunk, POINTS), np.quantile(full, POINTS)]


def bench_correlated(rounds: int) -> dict[str, Any]:
    """With three inputs correlated, as `correlated_by_hand`, and with all ten."""
    desk, wide = open_case(CASE), open_case(CASE)
    three = ("mc.price", "mc.power_price", "mc.capex")
    desk.sheet.correlations.update(dict.fromkeys(map(frozenset, itertools.combinations(three, 2)), TOGETHER))
    drawn = [value.name for value in wide.sheet if value.distribution is not None]
    wide.sheet.correlations.update(dict.fromkeys(map(frozenset, itertools.combinations(drawn, 2)), TOGETHER / 2))
    results = ["mc.sunk", "mc.full"]
    seconds = compete({
        "desk, 3 correlated": lambda: simulate(desk.sheet, results, SAMPLES, 1),
        "desk, 10 correlated": lambda: simulate(wide.sheet, results, SAMPLES, 1),
        "numpy by hand, 3 correlated": correlated_by_hand,
    }, rounds)  # fmt: skip
    ratio = seconds["desk, 3 correlated"] / seconds["numpy by hand, 3 correlated"]
    return {
        "seconds": seconds,
        "samples": SAMPLES,
        "ratio_to_hand": ratio,
        "limit_ratio": 1.6,
        "load_1m": os.getloadavg()[0],
    }


def monte_carlo_squigglepy() -> list[np.ndarray]:
    import squigglepy as sq

    n = SAMPLES
    rv = {
        "mw": sq.triangular(100, 250, 1000), "price": sq.lognorm(10, 45, credibility=90), "util": sq.beta(18, 2),
        "pue": sq.uniform(1.08, 1.30), "power": sq.lognorm(45, 95, credibility=90), "support": sq.lognorm(1.5, 6, credibility=90),
        "tax": sq.uniform(0.12, 0.21), "shares": sq.norm(mean=2.55, sd=0.04), "capex": sq.lognorm(30, 60, credibility=90),
        "life": sq.uniform(4, 6),
    }  # fmt: skip
    x = {name: np.asarray(sq.sample(shape, n=n)) for name, shape in rv.items()}
    cost = 8760e-6 * x["power"] * x["pue"] + x["support"]
    sunk = x["mw"] * (x["price"] * x["util"] - cost) / 1000 * (1 - x["tax"]) / x["shares"]
    full = sunk - x["mw"] * x["capex"] / x["life"] / 1000 * (1 - x["tax"]) / x["shares"]
    return [np.quantile(sunk, POINTS), np.quantile(full, POINTS)]


def monte_carlo_modelx() -> list[np.ndarray]:
    import modelx as mx

    model = mx.new_model()
    space = model.new_space("Bridge")
    g, n = np.random.default_rng(1), SAMPLES
    draws = {
        "mw": g.triangular(100, 250, 1000, n), "price": g.lognormal(*lognormal(10, 45), n), "util": g.beta(18, 2, n),
        "pue": g.uniform(1.08, 1.30, n), "power": g.lognormal(*lognormal(45, 95), n),
        "support": g.lognormal(*lognormal(1.5, 6), n), "tax": g.uniform(0.12, 0.21, n), "shares": g.normal(2.55, 0.04, n),
        "capex": g.lognormal(*lognormal(30, 60), n), "life": g.uniform(4, 6, n),
    }  # fmt: skip
    for name, values in draws.items():
        setattr(space, name, values)
    space.new_cells("cost", formula=lambda: 8760e-6 * power * pue + support)  # noqa: F821
    space.new_cells("sunk", formula=lambda: mw * (price * util - cost()) / 1000 * (1 - tax) / shares)  # noqa: F821
    space.new_cells("full", formula=lambda: sunk() - mw * capex / life / 1000 * (1 - tax) / shares)  # noqa: F821
    found = [np.quantile(space.sunk(), POINTS), np.quantile(space.full(), POINTS)]
    model.close()
    return found


def grid_by_hand(mw: np.ndarray, price: np.ndarray) -> np.ndarray:
    return mw[:, None] * (price - 4.0385)[None, :] * ((1 - 0.15) / (1000 * 2.573))


def grid_of_desk(mw: np.ndarray, price: np.ndarray) -> np.ndarray:
    found: np.ndarray = eps_increment(mw[:, None], price[None, :], 4.0385, 0.15, 2.573)
    return found


def compete(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each, rounds interleaved, one warm-up each."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, act in contestants.items():
            start = time.perf_counter()
            act()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}


def installed(*modules: str) -> set[str]:
    return {name for name in modules if importlib.util.find_spec(name) is not None}


def bench_monte_carlo(desk: Desk, rounds: int) -> dict[str, Any]:
    contestants: dict[str, Callable[[], Any]] = {
        "desk": lambda: simulate(desk.sheet, ["mc.sunk", "mc.full"], SAMPLES, 1),
        "numpy by hand": monte_carlo_by_hand,
    }
    available = installed("squigglepy", "modelx")
    if "squigglepy" in available:
        contestants["squigglepy"] = monte_carlo_squigglepy
    if "modelx" in available:
        contestants["modelx"] = monte_carlo_modelx
    seconds = compete(contestants, rounds)
    return {
        "seconds": seconds, "samples": SAMPLES, "inputs": 10, "outputs": 2, "quantiles": 14,
        "ratio_to_hand": seconds["desk"] / seconds["numpy by hand"], "limit_ratio": 1.2, "peak_mb": peak_of_simulation(),
        "limit_mb": 400,
    }  # fmt: skip


def peak_of_simulation() -> float:
    """Peak memory of a process of its own that opens the case and draws a million samples.

    From VmHWM and not from getrusage, whose maximum a child inherits from the process that started it.
    """
    code = (
        "from pathlib import Path;from sublet.desk.desk import open_case;"
        "from sublet.desk.montecarlo import simulate;"
        f"simulate(open_case(Path({str(CASE)!r})).sheet,['mc.sunk','mc.full'],{SAMPLES},1);"
        "print(next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')) / 1024)"
    )
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def bench_grid(rounds: int) -> dict[str, Any]:
    mw, price = np.linspace(1, 1000, 1001), np.linspace(5, 60, 1001)
    assert np.allclose(grid_by_hand(mw, price), grid_of_desk(mw, price), rtol=1e-12)
    seconds = compete(
        {"desk": lambda: grid_of_desk(mw, price), "numpy by hand": lambda: grid_by_hand(mw, price)}, rounds * 20
    )
    return {
        "seconds": seconds,
        "shape": [1001, 1001],
        "ratio_to_hand": seconds["desk"] / seconds["numpy by hand"],
        "limit_ratio": 1.5,
    }


def bench_table(rounds: int, office: bool) -> dict[str, Any]:
    """The 101 x 101 table that people build in a model or a spreadsheet: one cell for each price and power."""
    mw, price = np.linspace(1, 1000, 101), np.linspace(5, 60, 101)
    contestants: dict[str, Callable[[], Any]] = {
        "desk": lambda: grid_of_desk(mw, price),
        "numpy by hand": lambda: grid_by_hand(mw, price),
    }
    seconds = compete(contestants, rounds * 20)
    if installed("modelx"):
        seconds |= compete({"modelx": lambda: table_of_modelx(mw, price)}, rounds)
    if office and shutil.which("soffice") is not None:
        seconds |= table_of_office(mw, price)
    return {"seconds": seconds, "shape": [101, 101]}


def table_of_modelx(mw: np.ndarray, price: np.ndarray) -> None:
    import modelx as mx

    model = mx.new_model()
    space = model.new_space("Table")
    space.new_cells("eps", formula=lambda power, at: power * (at - 4.0385) * 0.85 / (1000 * 2.573))
    for power in mw:
        for at in price:
            space.eps(float(power), float(at))
    model.close()


def table_of_office(mw: np.ndarray, price: np.ndarray) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.xlsx"
        book = xlsxwriter.Workbook(str(path))
        page = book.add_worksheet()
        for row, power in enumerate(mw, start=1):
            page.write_number(row, 0, float(power))
        for column, at in enumerate(price, start=1):
            page.write_number(0, column, float(at))
        for row in range(1, len(mw) + 1):
            for column in range(1, len(price) + 1):
                letters = xlsxwriter.utility.xl_col_to_name(column)
                page.write_formula(row, column, f"=$A{row + 1}*({letters}$1-4.0385)*0.85/(1000*2.573)", None, "")
        book.close()
        return compete({"LibreOffice": lambda: convert(path)}, 1)


def convert(path: Path) -> None:
    """LibreOffice opens the file, calculates it and writes its first sheet as CSV."""
    profile = f"-env:UserInstallation=file://{path.parent / 'profile'}"
    command = ["soffice", profile, "--headless", "--convert-to", "csv", "--outdir", str(path.parent), str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)


def bench_report(rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        seconds = compete({"inside a process": lambda: write_reports(open_case(CASE), Path(folder))}, rounds)
        code = (
            "from pathlib import Path;from sublet.desk.desk import open_case;from sublet.desk.service import write_reports;"
            f"write_reports(open_case(Path({str(CASE)!r})),Path({folder!r}))"
        )
        seconds |= compete({"whole process": lambda: subprocess.run([sys.executable, "-c", code], check=True)}, rounds)
    return {"seconds": seconds, "limit_s": 3.0}


def bench_actuals(rounds: int) -> dict[str, Any]:
    draw = random.Random(1)
    window = Window(datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 9, 1, tzinfo=UTC))
    names = ["h100", "a100", "gb200"]
    pools = [PoolRecord(name, name.upper(), 512, 1275.0, 400_000.0) for name in names]
    rows = [
        UsageRecord(
            draw.choice(names),
            draw.choice(("raw", "managed")),
            f"c{draw.randrange(200)}",
            draw.random(),
            draw.randrange(10**10),
        )
        for _ in range(1_000_000)
    ]

    def page() -> None:
        actuals = gather("bench", window, pools, rows)
        render_actuals(actuals, date(2026, 9, 1))
        json.dumps(actuals_json(actuals, date(2026, 9, 1)))

    return {"seconds": compete({"desk": page}, rounds), "rows": len(rows), "limit_s": 5.0}


def bench_expected(desk: Desk) -> dict[str, Any]:
    wanted = json.loads(EXPECTED.read_text())["values"]
    worst = max(
        abs(desk.sheet[name].number - row["value"]) / (abs(row["value"]) or 1.0) for name, row in wanted.items()
    )
    return {"values": len(wanted), "worst_relative_error": worst, "limit": 1e-9}


def bench_office(desk: Desk) -> dict[str, Any] | None:
    """LibreOffice opening and recalculating the workbook, headless: the way the same case is run in a spreadsheet."""
    if shutil.which("soffice") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.xlsx"
        path.write_bytes(workbook.write(desk, [], "bench", cached=False))
        seconds = compete({"LibreOffice": lambda: convert(path)}, 1)
    seconds |= compete({"desk": lambda: open_case(CASE)}, 3)
    return {
        "seconds": seconds,
        "what": "open the case (LibreOffice: the workbook, headless) and calculate every value once",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-office", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "desk.json")
    options = parser.parse_args()
    desk = open_case(CASE)
    found = {
        "machine": {
            "cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(),
            "numpy": np.__version__, "load_1m": os.getloadavg()[0],
        },
        "expected_values": bench_expected(desk),
        "monte_carlo": bench_monte_carlo(desk, options.rounds),
        "monte_carlo_correlated": bench_correlated(options.rounds),
        "eps_grid": bench_grid(options.rounds),
        "table_101": bench_table(options.rounds, not options.no_office),
        "report": bench_report(options.rounds),
        "actuals_page": bench_actuals(max(1, options.rounds // 2)),
        "workbook": None if options.no_office else bench_office(desk),
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    kept = (
        found["expected_values"]["worst_relative_error"] <= 1e-9
        and found["monte_carlo"]["ratio_to_hand"] <= 1.2
        and found["monte_carlo"]["peak_mb"] <= 400
        and found["monte_carlo_correlated"]["ratio_to_hand"] <= 1.6
        and found["eps_grid"]["ratio_to_hand"] <= 1.5
        and found["report"]["seconds"]["whole process"] < 3.0
        and found["actuals_page"]["seconds"]["desk"] < 5.0
    )
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
