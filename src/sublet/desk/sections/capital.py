"""`[capex]`: the path and what would change it, depreciation by vintage, full-cost price and payback."""

from __future__ import annotations

from dataclasses import dataclass

from sublet.desk.capex import (
    cut_path,
    delayed_path,
    depreciation,
    displaced_path,
    full_cost_price,
    payback,
    permanent_path,
)
from sublet.desk.case import Build
from sublet.desk.documents import Table, at_line
from sublet.desk.terms import Term, constant, on_axis_of
from sublet.desk.units import parse_unit


@dataclass(frozen=True, slots=True)
class Capital:
    """The section's results, by their names in the sheet."""

    years: tuple[int, ...]
    base: tuple[str, ...]
    scenarios: tuple[tuple[str, tuple[str, ...]], ...]
    depreciation: tuple[tuple[int, tuple[tuple[int, str], ...], str], ...]
    full_cost: tuple[tuple[str, tuple[tuple[float, str], ...]], ...]
    payback: tuple[tuple[str, tuple[tuple[float, str], ...]], ...]


def read(root: Table, build: Build) -> Capital | None:
    """The `[capex]` table; None where the case has none."""
    if not root.has("capex"):
        return None
    table = root.table("capex")
    label = table.text("label")
    path, additions = _path(table, build, label)
    years = tuple(sorted(path))
    if len(years) < 2 or years != tuple(range(years[0], years[-1] + 1)):
        raise table.fail("path", "the path needs at least two years without a gap; give one [[capex.path]] for each")
    _growth(table, build, years, path, additions)
    scenarios = [("temporary leasing", tuple(f"capex.{label}.{year}" for year in years))]
    build.derive(
        table, "capex.temporary_leasing.delta_sum", constant(0.0, parse_unit("USD bn")), "USD bn", "modeled",
        "sunk capacity: leasing it moves revenue, not capex",
    )  # fmt: skip
    scenarios += _permanent(table, build, years, path)
    scenarios += _what_ifs(table, build, years, path)
    capital = Capital(
        years, tuple(f"capex.{label}.{year}" for year in years), tuple(scenarios), _depreciation(table, build, years, path),
        *_prices(table, build),
    )  # fmt: skip
    table.finish()
    return capital


def _path(table: Table, build: Build, label: str) -> tuple[dict[int, Term], dict[int, Term]]:
    path: dict[int, Term] = {}
    additions: dict[int, Term] = {}
    for entry in table.tables("path"):
        year = entry.whole("year")
        if year in path:
            raise entry.fail("year", f"year {year} is there twice; give each year once")
        given = build.named(entry, "value", "USD bn")
        status = str(build.sheet[given.name].status)
        path[year] = build.derive(entry, f"capex.{label}.{year}", given, "USD bn", status)
        if entry.has("additions"):
            additions[year] = build.named(entry, "additions", "GW")
        entry.finish()
    return path, additions


def _growth(
    table: Table, build: Build, years: tuple[int, ...], path: dict[int, Term], additions: dict[int, Term]
) -> None:
    first, last = years[0], years[-1]
    total = path[first]
    for year in years[1:]:
        total = total + path[year]
        build.derive(table, f"capex.growth_{year}", path[year] / path[year - 1] - 1.0, "share")
    build.derive(table, f"capex.sum_{first}_{last}", total, "USD bn")
    rate = (path[last] / path[first]) ** (1.0 / (last - first)) - 1.0
    build.derive(table, f"capex.cagr_{first}_{last}", rate, "share")
    note = "same-year ratio: an upper bound, because capex leads capacity"
    for year, added in additions.items():
        build.derive(table, f"capex.per_gw_{year}", _per_gw(path[year], added), "USD bn/GW", note=note)
        if year - 1 in path:
            lagged = _per_gw(path[year - 1], added)
            name = "capex.per_gw_lag1" if "capex.per_gw_lag1" not in build.sheet else f"capex.per_gw_lag1_{year}"
            build.derive(table, name, lagged, "USD bn/GW", note=f"{year - 1} capex over {year} additions")
    if len(additions) > 1:
        spent = _sum([path[year] for year in additions])
        added = _sum(list(additions.values()))
        name = f"capex.per_gw_{min(additions)}_{max(additions)}"
        build.derive(table, name, _per_gw(spent, added), "USD bn/GW")


def _permanent(
    table: Table, build: Build, years: tuple[int, ...], path: dict[int, Term]
) -> list[tuple[str, tuple[str, ...]]]:
    """Capacity built to be let: the path rises by its cost. What is displaced by leased-in capacity lowers it."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for kind, formula in (("permanent", permanent_path), ("displaced", displaced_path)):
        if not table.has(kind):
            continue
        entry = table.table(kind)
        capex = build.named(entry, "capex_per_gw", "USD bn/GW")
        steps = {step.whole("year"): build.named(step, "power", "GW") for step in entry.tables("years")}
        if not steps or not set(steps) <= set(years):
            raise entry.fail("years", f"give [[capex.{kind}.years]] with a year of the path and the power")
        powers = "_".join(f"{_megawatts(power):g}mw_{year}" for year, power in sorted(steps.items()))
        stem = f"capex.{kind}_{powers}_at_{capex.value:g}"
        names, delta = [], None
        for year in years:
            changed: Term = formula(path[year], steps[year], capex) if year in steps else path[year]
            build.derive(entry, f"{stem}.{year}", changed, "USD bn", "modeled")
            names.append(f"{stem}.{year}")
            if year in steps:
                step = build.ref(names[-1]) - path[year]
                delta = step if delta is None else delta + step
        assert delta is not None
        build.derive(entry, f"{stem}.delta_sum", delta, "USD bn", "modeled")
        found.append((entry.text("title"), tuple(names)))
        for step_table in entry.tables("years"):
            step_table.asked |= {"year", "power"}
            step_table.finish()
        entry.finish()
    return found


def _what_ifs(
    table: Table, build: Build, years: tuple[int, ...], path: dict[int, Term]
) -> list[tuple[str, tuple[str, ...]]]:
    found: list[tuple[str, tuple[str, ...]]] = []
    listed = [path[year] for year in years]
    if table.has("cut"):
        cut = table.number("cut")
        lower = at_line(table, "cut", cut_path, listed, cut)
        found.append((f"cut by {cut:.0%}", _put(table, build, f"capex.whatif_minus{cut * 100:g}", years, lower)))
        total = build.derive(table, f"capex.whatif_minus{cut * 100:g}_sum", _sum(lower), "USD bn", "derived")
        delta = total - build.ref(f"capex.sum_{years[0]}_{years[-1]}")
        build.derive(table, f"capex.whatif_minus{cut * 100:g}_delta", delta, "USD bn", "derived")
    if table.has("delay"):
        delay = table.number("delay")
        later = at_line(table, "delay", delayed_path, listed, delay)
        found.append(
            (f"{delay:.0%} a year later", _put(table, build, f"capex.whatif_delay{delay * 100:g}", years, later))
        )
    return found


def _put(table: Table, build: Build, stem: str, years: tuple[int, ...], terms: list[Term]) -> tuple[str, ...]:
    for year, term in zip(years, terms, strict=True):
        build.derive(table, f"{stem}.{year}", term, "USD bn", "derived")
    return tuple(f"{stem}.{year}" for year in years)


def _depreciation(
    table: Table, build: Build, years: tuple[int, ...], path: dict[int, Term]
) -> tuple[tuple[int, tuple[tuple[int, str], ...], str], ...]:
    life = build.named(table, "life", "yr").in_unit(parse_unit("yr"))
    bare = {year: term.bare() for year, term in path.items()}
    charges = at_line(table, "life", depreciation, bare, life.bare(), years[-1])
    found = []
    for year in years:
        names = []
        for vintage, term in charges[year].items():
            name = f"capex.depr.{year}.vintage_{vintage}"
            build.derive(table, name, term, "USD bn", "modeled")
            names.append((vintage, name))
        total = f"capex.depr_new_vintages.{year}"
        note = "straight line, half-year convention, all capex depreciable"
        build.derive(table, total, _sum([build.ref(name) for _, name in names]), "USD bn", "modeled", note)
        found.append((year, tuple(names), total))
    return tuple(found)


_PriceTable = tuple[tuple[str, tuple[tuple[float, str], ...]], ...]


def _prices(table: Table, build: Build) -> tuple[_PriceTable, _PriceTable]:
    """Full-cost price over capital cost and rate, payback over capital cost and price."""
    cost, life = build.named(table, "cost", "USD/W-yr"), build.named(table, "life", "yr")
    rates, prices = table.numbers("axis_rate", []), table.numbers("axis_price", [])
    full: list[tuple[str, tuple[tuple[float, str], ...]]] = []
    back: list[tuple[str, tuple[tuple[float, str], ...]]] = []
    for name in table.texts("axis_capex", []):
        capex = at_line(table, "axis_capex", build.ref, name).in_unit(parse_unit("USD/W"))
        label = f"K{capex.value:.4g}"
        full_row, back_row = [], []
        for rate in rates:
            key = f"capex.full_cost_price.{label}.r{rate * 100:02.0f}"
            term = at_line(table, "axis_rate", full_cost_price, capex, constant(rate), life, cost)
            build.derive(table, key, term, "USD/W-yr", "modeled")
            full_row.append((rate, key))
        for price in prices:
            key = f"capex.payback_years.{label}.p{price:g}"
            if price <= cost.in_unit(parse_unit("USD/W-yr")).value:
                raise table.cannot(
                    "axis_price", f"at {price:g} USD/W-yr the margin is not above zero, so nothing is paid back"
                )
            build.derive(table, key, payback(capex, on_axis_of(price, "USD/W-yr", capex), cost), "years", "modeled")
            back_row.append((price, key))
        full.append((label, tuple(full_row)))
        back.append((label, tuple(back_row)))
    return tuple(full), tuple(back)


def _per_gw(spent: Term, added: Term) -> Term:
    """Any power of the path's own ledger will do here: a ratio of the owner's two series, at that ledger's basis."""
    return spent / added


def _sum(terms: list[Term]) -> Term:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _megawatts(power: Term) -> float:
    unit = power.unit
    assert unit is not None
    return power.value * float(unit.scale) / 1e6
