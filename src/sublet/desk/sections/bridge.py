"""`[bridge]`: what letting capacity adds to earnings, with its grids, envelope, break-evens, waterfall and tornado."""

from __future__ import annotations

from dataclasses import dataclass

from sublet.desk.case import Build
from sublet.desk.documents import Table, at_line
from sublet.desk.earnings import (
    break_even_price,
    eps_increment,
    lease_revenue,
    net_contribution,
    price_elasticity,
    proportional_eps,
    slope_of_power,
    slope_of_price,
    slope_of_price_at_cost,
    through_published_cell,
)
from sublet.desk.terms import Term, constant, on_axis_of
from sublet.desk.units import parse_unit

CELLS_MAX = 400


@dataclass(frozen=True, slots=True)
class TornadoBar:
    """One input moved from `low` to `high` while the others stay: the result at either end."""

    input: str
    low: float
    high: float
    at_low: float
    at_high: float

    @property
    def swing(self) -> float:
        return abs(self.at_high - self.at_low)


@dataclass(frozen=True, slots=True)
class Grid:
    """Power by price. `names[row][column]` are values of the sheet; `mode` says which costs are inside."""

    mode: str
    title: str
    names: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Bridge:
    """The bridge's results, by their names in the sheet."""

    result: str
    per_share: bool
    power: str
    price: str
    cost: str
    axis_power: tuple[float, ...]
    axis_price: tuple[float, ...]
    grids: tuple[Grid, ...]
    envelope: tuple[tuple[str, str], ...]
    waterfall: tuple[tuple[str, str], ...]
    tornado: tuple[TornadoBar, ...]
    break_evens: tuple[tuple[str, str], ...]
    published: str | None
    idle: str | None


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What the table names, as Terms."""

    power: Term
    price: Term
    cost: Term
    tax: Term
    shares: Term | None
    used: Term | None
    capex: Term | None
    life: Term | None
    increment: Term | None
    base_eps: Term | None
    power_cost: Term | None
    cost_high: str


def read(root: Table, build: Build) -> Bridge | None:
    """The `[bridge]` table; None where the case has none."""
    if not root.has("bridge"):
        return None
    table = root.table("bridge")
    inputs = _Inputs(
        build.named(table, "power", "MW"), build.named(table, "price", "USD/W-yr"), build.named(table, "cost", "USD/W-yr"),
        build.named(table, "tax", "rate"), build.optional(table, "shares", "bn shares"), build.optional(table, "used", "share"),
        build.optional(table, "capex", "USD/W"), build.optional(table, "life", "yr"),
        build.optional(table, "increment", "USD/share"), build.optional(table, "base_eps", "USD/share"),
        build.optional(table, "power_cost", "USD/W-yr"), table.text("cost_high", ""),
    )  # fmt: skip
    idle = build.optional(table, "idle", "MW")
    if (inputs.capex is None) != (inputs.life is None):
        raise table.fail(
            "capex", "capex and life go together: depreciation is one over the other; give both or neither"
        )
    if idle is not None and _megawatts(inputs.power) > _megawatts(idle):
        raise table.cannot("power", f"{inputs.power.name} is more than {idle.name}; what isn't idle can't be let")
    axis_power, axis_price = tuple(table.numbers("axis_power")), tuple(table.numbers("axis_price"))
    if not 0 < len(axis_power) * len(axis_price) <= CELLS_MAX:
        raise table.fail(
            "axis_power", f"the grid has {len(axis_power) * len(axis_price)} cells; 1 to {CELLS_MAX} are drawn"
        )
    result = "bridge.eps" if inputs.shares is not None else "bridge.contribution"
    build.derive(table, result, _result(inputs, inputs.power, inputs.price), _unit(inputs))
    bridge = Bridge(
        result, inputs.shares is not None, inputs.power.name, inputs.price.name, inputs.cost.name, axis_power, axis_price,
        _grids(table, build, inputs, axis_power, axis_price), _envelope(table, build, inputs, axis_power[0], axis_price),
        _waterfall(table, build, inputs), _tornado(table, build, result), _break_evens(table, build, inputs),
        None if inputs.increment is None else inputs.increment.name, None if idle is None else idle.name,
    )  # fmt: skip
    table.finish()
    return bridge


def _megawatts(power: Term) -> float:
    """In the unit of the grid's axis, whatever unit the case states."""
    return power.in_unit(parse_unit("MW")).value


def _watt_price(price: Term) -> float:
    return price.in_unit(parse_unit("USD/W-yr")).value


def _unit(inputs: _Inputs) -> str:
    return "USD m" if inputs.shares is None else "USD/share"


def _result(inputs: _Inputs, power: Term, price: Term, full_cost: bool = False) -> Term:
    extra: dict[str, Term] = {} if inputs.used is None else {"used": inputs.used}
    if full_cost and inputs.capex is not None and inputs.life is not None:
        extra |= {"capex": inputs.capex, "life": inputs.life}
    if inputs.shares is None:
        found: Term = net_contribution(power, price, inputs.cost, inputs.tax, **extra)
    else:
        found = eps_increment(power, price, inputs.cost, inputs.tax, inputs.shares, **extra)
    return found


def _grids(
    table: Table, build: Build, inputs: _Inputs, axis_power: tuple[float, ...], axis_price: tuple[float, ...]
) -> tuple[Grid, ...]:
    modes = [("affine", "cash cost: constant cost per watt")]
    if inputs.increment is not None:
        modes.insert(0, ("proportional", "constant margin: the published cell scaled"))
    if inputs.capex is not None:
        modes.append(("full_cost", "full cost: cash cost and straight-line depreciation"))
    if inputs.increment is not None and inputs.base_eps is not None:
        modes.append(("upside_proportional", "upside on base EPS, constant margin"))
    grids = []
    for mode, title in modes:
        rows = []
        for power in axis_power:
            names = []
            for price in axis_price:
                name = f"grid.{'upside' if mode.startswith('upside') else 'eps'}_{power:g}_at_{price:g}.{mode.removeprefix('upside_')}"
                unit = "share" if mode.startswith("upside") else _unit(inputs)
                status = _status(inputs, power, price, mode)
                build.derive(table, name, _cell(inputs, mode, power, price), unit, status)
                names.append(name)
            rows.append(tuple(names))
        grids.append(Grid(mode, title, tuple(rows)))
    return tuple(grids)


def _cell(inputs: _Inputs, mode: str, power: float, price: float) -> Term:
    at_power, at_price = on_axis_of(power, "MW", inputs.power), on_axis_of(price, "USD/W-yr", inputs.price)
    if mode in ("affine", "full_cost"):
        return _result(inputs, at_power, at_price, full_cost=mode == "full_cost")
    assert inputs.increment is not None
    scaled: Term = proportional_eps(inputs.increment, inputs.power, inputs.price, at_power, at_price)
    if mode == "proportional":
        return scaled
    assert inputs.base_eps is not None
    return scaled / inputs.base_eps


def _status(inputs: _Inputs, power: float, price: float, mode: str) -> str | None:
    """Only the published cell is published, and only in the grid that repeats it; the constant-margin rest is derived."""
    if inputs.increment is None or mode != "proportional":
        return None
    is_published = power == _megawatts(inputs.power) and price == _watt_price(inputs.price)
    return "published" if is_published else "derived"


def _envelope(
    table: Table, build: Build, inputs: _Inputs, power: float, axis_price: tuple[float, ...]
) -> tuple[tuple[str, str], ...]:
    """The lowest and the highest cost that agree with the published cell, at the first power of the axis."""
    if inputs.increment is None or not inputs.cost_high:
        return ()
    high = build.named(table, "cost_high", "USD/W-yr")
    pairs = []
    for price in axis_price:
        names = []
        for end, cost in (("c_low", on_axis_of(0.0, "USD/W-yr", high)), ("c_high", high)):
            name = f"grid.envelope_{power:g}_at_{price:g}.{end}"
            at = on_axis_of(price, "USD/W-yr", inputs.price)
            build.derive(
                table, name, through_published_cell(inputs.increment, inputs.price, at, cost), "USD/share", "bound"
            )
            names.append(name)
        pairs.append((names[0], names[1]))
    return tuple(pairs)


def _break_evens(table: Table, build: Build, inputs: _Inputs) -> tuple[tuple[str, str], ...]:
    used = {} if inputs.used is None else {"used": inputs.used}
    found = [("no loss on cash cost", "grid.breakeven_price.affine")]
    build.derive(
        table, "grid.breakeven_price.affine", break_even_price(inputs.cost, **used), "USD/W-yr", note="EPS = 0 at p = c"
    )
    if inputs.capex is not None and inputs.life is not None:
        found.append(("no loss on full cost", "grid.breakeven_price.full_cost"))
        term = break_even_price(inputs.cost, inputs.capex, inputs.life, **used)
        build.derive(table, "grid.breakeven_price.full_cost", term, "USD/W-yr", note="c + K/L")
    at = f"{_watt_price(inputs.price):g}"
    build.derive(table, f"grid.price_elasticity_at_{at}.affine", price_elasticity(inputs.price, inputs.cost), "x")
    if inputs.shares is not None:
        of = f"{_megawatts(inputs.power):g}"
        slope = slope_of_price_at_cost(inputs.power, inputs.tax, inputs.shares)
        build.derive(table, f"grid.slope_eps_per_usd_w_at_{of}.affine", slope, "USD/share per USD/W")
        base = inputs.increment if inputs.increment is not None else build.ref("bridge.eps")
        build.derive(table, f"grid.slope_eps_per_mw_at_{at}", slope_of_power(base, inputs.power), "USD/share per MW")
        if inputs.increment is not None:
            proportional = slope_of_price(inputs.increment, inputs.price)
            build.derive(table, f"grid.slope_eps_per_usd_w_at_{of}.proportional", proportional, "USD/share per USD/W")
    return tuple(found)


def _waterfall(table: Table, build: Build, inputs: _Inputs) -> tuple[tuple[str, str], ...]:
    """From revenue to the result: in USD bn with a last step per share, or in USD m for an owner without shares."""
    used = {} if inputs.used is None else {"used": inputs.used}
    money = "USD m" if inputs.shares is None else "USD bn"
    one_year = constant(1.0, parse_unit("yr"))
    steps: list[tuple[str, str, Term, str]] = [
        ("revenue", "bridge.waterfall.revenue", lease_revenue(inputs.power, inputs.price, **used), money)
    ]
    other = inputs.cost
    if inputs.power_cost is not None:
        steps.append(("power", "bridge.waterfall.power", -(inputs.power * inputs.power_cost * one_year), money))
        other = inputs.cost - inputs.power_cost
    steps.append(("support and other", "bridge.waterfall.other", -(inputs.power * other * one_year), money))
    for _, name, term, unit in steps:
        build.derive(table, name, term, unit)
    total = build.ref(steps[0][1])
    for _, name, _, _ in steps[1:]:
        total = total + build.ref(name)
    pre_tax = build.derive(table, "bridge.waterfall.pre_tax", total, money)
    tax = build.derive(table, "bridge.waterfall.tax", -(pre_tax * inputs.tax), money)
    net = build.derive(table, "bridge.waterfall.net_income", pre_tax + tax, money)
    names = [(label, name) for label, name, _, _ in steps]
    names += [("pre-tax", "bridge.waterfall.pre_tax"), ("tax", "bridge.waterfall.tax")]
    names += [("net income", "bridge.waterfall.net_income")]
    if inputs.shares is not None:
        build.derive(table, "bridge.waterfall.eps", net / inputs.shares, "USD/share")
        names.append(("EPS", "bridge.waterfall.eps"))
    return tuple(names)


def _tornado(table: Table, build: Build, result: str) -> tuple[TornadoBar, ...]:
    """Each `[[bridge.tornado]]` input moved alone; the inputs named here are held at their base, even calculated ones."""
    tables = table.tables("tornado")
    names = [entry.text("input") for entry in tables]
    base = {
        name: build.named(entry, "input", _any_unit(build, name)).value
        for entry, name in zip(tables, names, strict=True)
    }
    bars = []
    for entry, name in zip(tables, names, strict=True):
        low, high = entry.number("low"), entry.number("high")
        ends = [
            at_line(entry, key, build.sheet.recalculated, result, base | {name: end})
            for key, end in (("low", low), ("high", high))
        ]
        entry.finish()
        bars.append(TornadoBar(name, low, high, ends[0], ends[1]))
    return tuple(sorted(bars, key=lambda bar: -bar.swing))


def _any_unit(build: Build, name: str) -> str:
    return build.sheet[name].unit if name in build.sheet else "1"
