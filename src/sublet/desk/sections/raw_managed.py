"""`[channels]`: raw against managed per installed accelerator-hour, the three break-evens and the frontier."""

from __future__ import annotations

from dataclasses import dataclass

from sublet.desk.case import Build
from sublet.desk.channels import break_even_throughput, break_even_token_price, break_even_utilization, managed_over_raw
from sublet.desk.documents import Table, at_line
from sublet.desk.terms import Term, constant

_THROUGHPUT_UNIT = "tok/s/GPU (in+out)"


@dataclass(frozen=True, slots=True)
class RawPrice:
    """One raw price and the break-evens against it, by their names in the sheet."""

    id: str
    title: str
    price: str
    throughput: str
    token_price: str
    utilizations: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Channels:
    """The frontier is `ratios[row][column]`: throughput by utilization."""

    token_price: str
    label: str
    utilization: float
    throughput: float
    raw: tuple[RawPrice, ...]
    axis_throughput: tuple[float, ...]
    axis_utilization: tuple[float, ...]
    frontier_raw: str
    ratios: tuple[tuple[str, ...], ...]


def read(root: Table, build: Build) -> Channels | None:
    """The `[channels]` table; None where the case has none."""
    if not root.has("channels"):
        return None
    table = root.table("channels")
    price, label = build.named(table, "token_price", "USD/Mtok"), table.text("label")
    used, throughput = table.number("utilization"), table.number("throughput")
    extra = build.optional(table, "extra_cost", "USD/GPU-h")
    axis_throughput, axis_used = tuple(table.numbers("axis_throughput")), tuple(table.numbers("axis_utilization"))
    if not 0 < used <= 1 or any(not 0 < point <= 1 for point in axis_used):
        raise table.fail("utilization", "utilization is a fraction above 0 and at most 1; write 60 % as 0.6")
    checks = table.numbers("check_throughput", [throughput])
    extras = {} if extra is None else {"extra": extra}
    raw = []
    terms: dict[str, Term] = {}
    for entry in table.tables("raw"):
        terms[entry.text("id")] = build.named(entry, "price", "USD/GPU-h")
        raw.append(_raw(entry, build, terms[entry.text("id")], price, extra, label, used, throughput, checks))
        entry.finish()
    frontier = table.text("frontier_raw")
    if frontier not in terms:
        raise table.fail(
            "frontier_raw", f"{frontier!r} is not the id of a [[channels.raw]]; use one of {', '.join(terms)}"
        )
    ratios = []
    for point in axis_throughput:
        row = []
        for share in axis_used:
            name = f"mgd.ratio.{frontier}.{point:g}tok_u{share * 100:g}"
            term = at_line(
                table,
                "axis_throughput",
                managed_over_raw,
                price,
                constant(point),
                constant(share),
                terms[frontier],
                **extras,
            )
            build.derive(table, name, term, "ratio", "modeled")
            row.append(name)
        ratios.append(tuple(row))
    made = Channels(
        price.name, label, used, throughput, tuple(raw), axis_throughput, axis_used, frontier, tuple(ratios)
    )
    table.finish()
    return made


def _raw(
    entry: Table, build: Build, raw: Term, price: Term, extra: Term | None, label: str, used: float, throughput: float,
    checks: list[float],
) -> RawPrice:  # fmt: skip
    id_ = entry.text("id")
    extras = {} if extra is None else {"extra": extra}
    share = constant(used)
    speed_name = f"mgd.breakeven_tok_s.{id_}.{label}_u{used * 100:g}"
    speed = break_even_throughput(raw, price, share, **extras)
    note = f"managed at u = {used:g}, {price.value:g} USD/Mtok"
    build.derive(entry, speed_name, speed, _THROUGHPUT_UNIT, "modeled", note)
    price_name = f"mgd.breakeven_price.{id_}.{throughput:g}tok_u{used * 100:g}"
    token_price = break_even_token_price(raw, constant(throughput), share, **extras)
    build.derive(entry, price_name, token_price, "USD/Mtok", "modeled")
    utilizations = []
    for point in checks:
        name = f"mgd.breakeven_util.{id_}.{point:g}tok.{price.value:g}usd"
        needed = at_line(entry, None, break_even_utilization, raw, price, constant(point), **extras)
        note = "above 1: managed can't beat raw" if needed.value > 1 else ""
        build.derive(entry, name, needed, "utilization", "modeled", note)
        utilizations.append((point, name))
    return RawPrice(id_, entry.text("title"), raw.name, speed_name, price_name, tuple(utilizations))
