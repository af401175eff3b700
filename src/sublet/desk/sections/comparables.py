"""`[[comparables]]`: other people's deals, each turned into the same price, and checked against what was printed."""

from __future__ import annotations

from dataclasses import dataclass

from sublet.desk.case import PRINTED, RECOMPUTED, Build, Flag
from sublet.desk.documents import Table, at_line
from sublet.desk.errors import nearest
from sublet.desk.intervals import ABOUT
from sublet.desk.lineage import DEAL
from sublet.desk.prices import (
    WattPrice,
    hourly_price_of_payment,
    per_kilowatt_month,
    price_of_contract,
    price_of_payment,
)
from sublet.desk.slips import Slip, find_slip, kinds_of
from sublet.desk.terms import Term
from sublet.desk.units import Basis


@dataclass(frozen=True, slots=True)
class ComparableDeal:
    """One deal. `price` names its price in the sheet: USD/W-yr, or USD/GPU-h where only accelerators are known."""

    id: str
    title: str
    price: str
    is_per_watt: bool
    basis: Basis
    term: str
    cancellable: str
    includes: tuple[str, ...]
    slip: Slip | None
    printed: str

    def watt_price(self, usd_per_watt_year: float) -> WattPrice:
        """The price with its basis, for conversions."""
        return WattPrice(usd_per_watt_year, self.basis, includes=self.includes)


def read(root: Table, build: Build) -> tuple[ComparableDeal, ...]:
    """All `[[comparables]]`; gives `comp.ID.usd_per_w_year` or `comp.ID.usd_per_gpu_hour`."""
    found = []
    for table in root.tables("comparables"):
        with build.faults.attempted("comparables"):
            found.append(_read_one(table, build))
    return tuple(found)


def _read_one(table: Table, build: Build) -> ComparableDeal:
    id_ = table.text("id")
    title = table.text("title")
    status = table.text("status", "external")
    note = table.text("note", "")
    basis = table.text("basis", "unknown")
    if basis not in [str(member) for member in Basis]:
        raise table.fail("basis", f"basis {basis!r} is not known; {nearest(basis, [str(member) for member in Basis])}")
    term, is_per_watt = at_line(table, None, _price, table, build)
    name = f"comp.{id_}.{'usd_per_w_year' if is_per_watt else 'usd_per_gpu_hour'}"
    build.derive(table, name, term, "USD/W-yr" if is_per_watt else "USD/GPU-h", status, note, family=f"{DEAL}{id_}")
    price = build.ref(name).value
    if price < 0:
        raise table.cannot(
            None, f"the price comes to {price:g}, and no deal is let for less than nothing; check its parts"
        )
    slip, printed = None, None
    if is_per_watt:
        build.derive(table, f"comp.{id_}.usd_per_kw_month", per_kilowatt_month(build.ref(name)), "USD/kW-month", status)
        printed = build.optional(table, "printed", "USD/W-yr")
        slip = None if printed is None else _slip(table, build, printed, build.ref(name))
        if printed is not None and slip is not None:
            _flag(table, build, printed.name, slip, build.ref(name))
    deal = ComparableDeal(
        id_, title, name, is_per_watt, Basis(basis), table.text("term", "not stated"),
        table.text("cancellable", "not stated"), tuple(table.texts("includes", [])), slip,
        "" if printed is None else printed.name,
    )  # fmt: skip
    table.finish()
    return deal


def _price(table: Table, build: Build) -> tuple[Term, bool]:
    if table.has("accelerators"):
        payment = build.named(table, "payment", "USD/month")
        return hourly_price_of_payment(payment, build.named(table, "accelerators", "accelerators")), False
    power = build.named(table, "power", "MW")
    if table.has("value"):
        return price_of_contract(build.named(table, "value", "USD"), build.named(table, "years", "yr"), power), True
    return price_of_payment(build.named(table, "payment", "USD/month"), power), True


def _slip(table: Table, build: Build, printed: Term, calculated: Term) -> Slip:
    """The printed price against the deal's, in the unit that was printed; how wide a match is follows from its digits."""
    unit = printed.unit
    assert unit is not None
    row = next((row for row in build.statements if row.id == printed.name), None)
    about = row is not None and row.qualifier in ABOUT
    kinds = kinds_of(unit, "" if row is None else row.source.language)
    return at_line(
        table, "printed", find_slip, table.text("printed_as", f"{printed.value:.15g}"), calculated.in_unit(unit).value,
        kinds, about=about, rates=build.rates,
    )  # fmt: skip


def _flag(table: Table, build: Build, name: str, slip: Slip, calculated: Term) -> None:
    """A price that its own deal contradicts enters a formula only by the case's explicit choice."""
    use = table.text("use", "")
    if use not in ("", *USES):
        raise table.fail("use", f"use {use!r} is not known; {nearest(use, USES)}")
    if slip.is_slip:
        recomputed = f"{name}.recomputed"
        if use == RECOMPUTED:
            unit = build.sheet[name].unit
            build.derive(
                table, recomputed, calculated, unit, note=f"what the deal comes to, in place of {name} as printed"
            )
        build.flagged[name] = Flag(slip.kind, use, table.line("printed"), recomputed)


USES = (PRINTED, RECOMPUTED)
