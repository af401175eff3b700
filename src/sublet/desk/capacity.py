"""The capacity ledger: rows that say what they measure, sums that are refused where rows measure different things."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from sublet.desk.errors import BasisError, FamilyError
from sublet.desk.intervals import Interval
from sublet.desk.units import Basis
from sublet.values.errors import InvalidInputError


class Tenure(StrEnum):
    """Who owns the site."""

    OWNED = "owned"
    LEASED = "leased"
    MIXED = "mixed"
    UNKNOWN = "unknown"


class RowKind(StrEnum):
    """A stock is held at a date; a flow is added during a period that ends at it."""

    STOCK = "stock"
    FLOW = "flow"


@dataclass(frozen=True, slots=True)
class CapacityRow:
    """One published or own figure of capacity. `at` is the date of a stock, the last day of a flow's period.

    `scope` is the id of a statement that limits what the figure counts, empty where there is none.
    """

    id: str
    owner: str
    source: str
    family: str
    basis: Basis
    kind: RowKind
    capacity_gw: float
    at: date
    period: str
    tenure: Tenure = Tenure.UNKNOWN
    generation: str = ""
    range_gw: Interval | None = None
    not_with: tuple[str, ...] = ()
    scope: str = ""

    def __post_init__(self) -> None:
        if not self.capacity_gw > 0:
            raise InvalidInputError(f"row {self.id!r}: capacity is {self.capacity_gw:g} GW; write a number above zero")


_SAME_FOR_SUM = ("family", "basis", "source", "kind", "period")
_SAME_FOR_STOCK = ("family", "basis", "owner", "source")


def total_gw(rows: Sequence[CapacityRow]) -> float:
    """Capacity of several owners: allowed if family, basis, source, kind and period agree and no owner is there twice.

    Raises FamilyError or BasisError that names the field that differs, and both of its values.
    """
    _require_same(rows, _SAME_FOR_SUM, "can't be added")
    owners = [row.owner for row in rows]
    twice = next((owner for owner in owners if owners.count(owner) > 1), None)
    if twice is not None:
        raise FamilyError(f"owner overlaps: {twice} is in the sum twice; leave out one of its rows", field="owner")
    return math.fsum(row.capacity_gw for row in rows)


def stock_gw(rows: Sequence[CapacityRow], at: date) -> float:
    """Stock at `at`: the latest stock on or before it, plus the flows after that stock and up to `at`, in one family."""
    _require_same(rows, _SAME_FOR_STOCK, "can't be carried forward together")
    stocks = sorted((row for row in rows if row.kind is RowKind.STOCK and row.at <= at), key=lambda row: row.at)
    if not stocks:
        raise InvalidInputError(f"no stock on or before {at}; give a row of kind `stock` to start from", field="kind")
    opening = stocks[-1]
    added = [row.capacity_gw for row in rows if row.kind is RowKind.FLOW and opening.at < row.at <= at]
    return math.fsum([opening.capacity_gw, *added])


def refusal(rows: Sequence[CapacityRow]) -> str | None:
    """Why these rows can't be added, or None where they can: what the ledger's page prints under them."""
    try:
        total_gw(rows)
    except (FamilyError, BasisError) as error:
        return error.message
    return None


def _require_same(rows: Sequence[CapacityRow], fields: Sequence[str], verdict: str) -> None:
    if not rows:
        raise InvalidInputError("there is no row to add; name at least one")
    first = rows[0]
    for row in rows[1:]:
        for name in fields:
            mine, other = getattr(first, name), getattr(row, name)
            if mine != other:
                kind = BasisError if name == "basis" else FamilyError
                raise kind(
                    f"{name} differs: {first.id!r} has {mine}, {row.id!r} has {other}; these rows {verdict}", field=name
                )
    for row in rows:
        banned = next((other.id for other in rows if other.id in row.not_with), None)
        if banned is not None:
            raise FamilyError(f"{row.id!r} must not be combined with {banned!r}: its own row says so", field="not_with")
