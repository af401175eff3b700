"""`[decision]`: lease a block for a time, or keep it for the owner's own work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sublet.desk.case import Build
from sublet.desk.documents import Table, at_line
from sublet.desk.earnings import lease_revenue
from sublet.desk.errors import CaseError
from sublet.desk.leasing import displaced_at_most, indifference_price, lease_over_keeping, replacement_capex
from sublet.desk.sheet import Sheet
from sublet.desk.terms import Term, constant, on_axis_of

CELLS_MAX = 200


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision's values by their names in the sheet; `cells[row][column]` are displaced share by rent."""

    power: str
    price: str
    displaced: str
    worth: str
    rows: tuple[str, ...]
    indifference: str
    result: str
    axis_displaced: tuple[float, ...]
    axis_price: tuple[float, ...]
    cells: tuple[tuple[str, ...], ...]


def read(root: Table, build: Build) -> Decision | None:
    """The `[decision]` table; None where the case has none."""
    if not root.has("decision"):
        return None
    table = root.table("decision")
    power, price = build.named(table, "power", "MW"), build.named(table, "price", "USD/W-yr")
    cost, tax = build.named(table, "cost", "USD/W-yr"), build.named(table, "tax", "rate")
    displaced, worth = build.named(table, "displaced", "share"), build.named(table, "worth", "USD/W-yr")
    shares, capex = build.optional(table, "shares", "bn shares"), build.optional(table, "capex", "USD/W")
    extra: dict[str, Term] = {}
    for key, unit in (("used", "share"), ("years", "yr")):
        found = build.optional(table, key, unit)
        if found is not None:
            extra[key] = found
    used = {key: term for key, term in extra.items() if key == "used"}
    axis_displaced, axis_price = tuple(table.numbers("axis_displaced")), tuple(table.numbers("axis_price"))
    if not 0 < len(axis_displaced) * len(axis_price) <= CELLS_MAX:
        raise table.fail("axis_price", f"the grid must have 1 to {CELLS_MAX} cells")
    if any(not 0 <= share <= 1 for share in axis_displaced):
        raise table.fail("axis_displaced", "a displaced share is a fraction from 0 to 1; write 20 % as 0.2")

    def result(at_displaced: Term, at_price: Term) -> Term:
        made: Term = at_line(table, None, lease_over_keeping, power, at_price, cost, at_displaced, worth, tax, **extra)
        return made if shares is None else made / shares

    unit = "USD m" if shares is None else "USD/share"
    rows = ["decision.revenue", "decision.displaced_power"]
    build.derive(table, rows[0], at_line(table, None, lease_revenue, power, price, **extra), "USD bn")
    build.derive(table, rows[1], power * displaced, "MW")
    build.derive(table, "decision.result", result(displaced, price), unit)
    rows.append("decision.result")
    if capex is not None:
        build.derive(table, "decision.replacement_capex", replacement_capex(power, displaced, capex), "USD bn")
        rows.append("decision.replacement_capex")
    indifference = at_line(table, None, indifference_price, cost, displaced, worth, **used)
    build.derive(table, "decision.indifference_price", indifference, "USD/W-yr")
    build.derive(
        table,
        "decision.displaced_at_most",
        at_line(table, None, displaced_at_most, price, cost, worth, **used),
        "share",
    )
    rows += ["decision.indifference_price", "decision.displaced_at_most"]
    cells = []
    for share in axis_displaced:
        line = []
        for rent in axis_price:
            name = f"decision.at_{rent:g}_{share * 100:g}"
            build.derive(table, name, result(constant(share), on_axis_of(rent, "USD/W-yr", price)), unit)
            line.append(name)
        cells.append(tuple(line))
    made = Decision(
        power.name, price.name, displaced.name, worth.name, tuple(rows), "decision.indifference_price", "decision.result",
        axis_displaced, axis_price, tuple(cells),
    )  # fmt: skip
    table.finish()
    return made


ADVICE_BYTES_MAX = 2**20


def read_advice(path: Path) -> Mapping[str, Any]:
    """What `sublet block advise --json` printed. Raises CaseError for a file that is not that."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(ADVICE_BYTES_MAX))
    except (OSError, ValueError) as error:
        raise CaseError(f"{path} can't be read as the JSON of `sublet block advise --json`; save it again") from error
    rows = found.get("rows") if isinstance(found, dict) else None
    keys = {"accelerators", "days", "share_90"}
    if not isinstance(rows, list) or not all(isinstance(row, dict) and keys <= set(row) for row in rows):
        raise CaseError(f"{path} has no blocks; save what `sublet block advise --json` prints")
    return {"rows": rows}


@dataclass(frozen=True, slots=True)
class Block:
    """One block of an advice, and what leasing it comes to for the share of it that own work would have used."""

    label: str
    basis: str
    displaced: float
    result: float
    indifference: float


def blocks(decision: Decision, sheet: Sheet, advice: Mapping[str, Any]) -> list[Block]:
    """The decision for each block of `sublet block advise --json`: with the share displaced in nine of ten spans of the history.

    Blocks of which too little is known are left out. Raises CalculationError where a result isn't a number.
    """
    found = []
    for row in advice.get("rows", []):
        if row.get("share_90") is None:
            continue
        change = {decision.displaced: float(row["share_90"])}
        found.append(
            Block(
                f"{row['accelerators']} for {row['days']} d", str(row.get("basis", "")), float(row["share_90"]),
                sheet.recalculated(decision.result, change), sheet.recalculated(decision.indifference, change),
            )
        )  # fmt: skip
    return found
