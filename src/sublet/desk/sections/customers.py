"""`[counterparties]` and `[[contracts]]`: shares, concentration as a range, renewal ladder and stress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from sublet.desk.case import Build
from sublet.desk.counterparties import (
    Backlogs,
    Contract,
    RenewalStress,
    backlogs,
    effective_customers,
    expected_loss,
    hhi_ceiling,
    hhi_floor,
    remaining_term,
    renewal_ladder,
)
from sublet.desk.documents import Table, at_line
from sublet.desk.terms import Term
from sublet.desk.units import parse_unit


@dataclass(frozen=True, slots=True)
class Customers:
    """The section's results; names are values of the sheet."""

    seller: str
    backlog: str
    contracts: tuple[Contract, ...]
    values: Mapping[str, str]
    shares: Mapping[str, str]
    competitors: tuple[str, ...]
    hhi: tuple[tuple[str, str], ...]
    effective: tuple[str, str]
    competitor_share: str
    backlogs: Backlogs
    remaining_years: float
    ladder: Mapping[int, Mapping[str, float]]
    stress: RenewalStress
    loss: Mapping[int, float]


def read(root: Table, build: Build, as_of: date) -> Customers | None:
    """The `[counterparties]` table with its `[[contracts]]`; None where the case has none."""
    tables = root.tables("contracts")
    if not root.has("counterparties"):
        if tables:
            raise root.fail("contracts", "contracts need a [counterparties] table with the seller's backlog; add one")
        return None
    table = root.table("counterparties")
    seller = table.text("seller")
    backlog = build.named(table, "backlog", "USD bn").in_unit(parse_unit("USD bn"))
    contracts, terms = _contracts(tables, build)
    if not contracts:
        raise table.fail(None, "there is no [[contracts]] to weigh against the backlog; add at least one")
    customers: dict[str, Term] = {}
    for contract in contracts:
        term = terms[contract.id]
        customers[contract.customer] = customers[contract.customer] + term if contract.customer in customers else term
    for name, term in customers.items():
        build.derive(table, f"cp.value.{_key(name)}", term, "USD bn")
        build.derive(table, f"cp.share.{_key(name)}", build.ref(f"cp.value.{_key(name)}") / backlog, "share")
    values = {name: f"cp.value.{_key(name)}" for name in sorted(customers, key=lambda name: -customers[name].value)}
    if sum(term.value for term in customers.values()) > backlog.value * (1 + 1e-12):
        raise table.cannot(
            "backlog", f"the contracts sum to more than the backlog of {backlog.value:g}; use the same kind for both"
        )
    competitors = tuple(dict.fromkeys(contract.customer for contract in contracts if contract.is_competitor))
    hhi, effective = _concentration(table, build, values, backlog)
    stress = at_line(table, "stress", _stress, table.table("stress"))
    last = max(contract.last_day.year for contract in contracts)
    made = Customers(
        seller, backlog.name, tuple(contracts), values, {name: f"cp.share.{_key(name)}" for name in values}, competitors,
        hhi, effective, _competitor_share(table, build, competitors), backlogs(contracts, as_of, backlog.value),
        remaining_term(contracts, as_of), renewal_ladder(contracts), stress,
        expected_loss(contracts, stress, range(as_of.year, last + 2)),
    )  # fmt: skip
    table.finish()
    return made


def _contracts(tables: list[Table], build: Build) -> tuple[list[Contract], dict[str, Term]]:
    contracts: list[Contract] = []
    terms: dict[str, Term] = {}
    for table in tables:
        source = build.source(table)
        term = build.named(table, "value", "USD bn").in_unit(parse_unit("USD bn"))
        id_ = table.text("id")
        if id_ in terms:
            raise table.fail("id", f"contract {id_!r} is there twice; give one of them another id")
        end = table.day("end") if table.has("end") else None
        made = at_line(
            table, "end" if end else None, Contract, id_, table.text("customer"), term.value, table.day("start"), end,
            table.flag("competitor", False), _optional(table, "recognized"), _optional(table, "performance_obligation"),
            source.title,
        )  # fmt: skip
        contracts.append(made)
        terms[id_] = term
        table.has("note")
        table.finish()
    return contracts, terms


def _concentration(
    table: Table, build: Build, values: Mapping[str, str], backlog: Term
) -> tuple[tuple[tuple[str, str], ...], tuple[str, str]]:
    listed = [build.ref(name) for name in values.values()]
    bare = [term.bare() for term in listed]
    whole = backlog.bare()
    largest = next(iter(values))
    floor = build.derive(table, "cp.hhi_floor", hhi_floor(bare, whole), "0..1", "modeled", "rest atomized")
    ceiling = build.derive(
        table, "cp.hhi_ceiling_any", hhi_ceiling(bare, whole), "0..1", "modeled", "rest is one customer"
    )
    capped_name = f"cp.hhi_ceiling_{_key(largest)}_largest"
    capped_term = hhi_ceiling(bare, whole, bare[0])
    build.derive(table, capped_name, capped_term, "0..1", "modeled", f"no other customer larger than {largest}")
    build.derive(table, "cp.effective_customers_max", effective_customers(floor.bare()), "customers", "modeled")
    build.derive(table, "cp.effective_customers_min", effective_customers(ceiling.bare()), "customers", "modeled")
    rows = [
        ("floor: the rest atomized", "cp.hhi_floor"),
        (f"ceiling: nobody larger than {largest}", capped_name),
        ("ceiling: the rest is one customer", "cp.hhi_ceiling_any"),
    ]
    for entry in table.tables("also"):
        customer = entry.text("customer")
        extra = build.named(entry, "value", "USD bn").in_unit(parse_unit("USD bn"))
        name = f"cp.hhi_with_{_key(customer)}_{extra.value:g}"
        term = hhi_floor([*bare, extra.bare()], whole)
        build.derive(entry, name, term, "0..1", "external", f"adds {customer}, the rest atomized")
        rows.insert(1, (f"floor with {customer} known", name))
        entry.finish()
    return tuple(rows), ("cp.effective_customers_min", "cp.effective_customers_max")


def _competitor_share(table: Table, build: Build, competitors: tuple[str, ...]) -> str:
    if not competitors:
        return ""
    total = build.ref(f"cp.share.{_key(competitors[0])}")
    for name in competitors[1:]:
        total = total + build.ref(f"cp.share.{_key(name)}")
    build.derive(table, "cp.competitor_share", total, "share", "modeled")
    return "cp.competitor_share"


def _stress(table: Table) -> RenewalStress:
    made = RenewalStress(
        table.number("renew"), table.number("reprice"), table.number("renew_competitor", table.number("renew"))
    )
    table.finish()
    return made


def _optional(table: Table, key: str) -> float | None:
    return table.number(key) if table.has(key) else None


def _key(name: str) -> str:
    return "_".join("".join(sign if sign.isalnum() else " " for sign in name.lower()).split())
