"""What an input may be: a fraction, a possible tax or PUE, a number that its own distribution can draw."""

from __future__ import annotations

import math
import re

from sublet.desk.distributions import EMPIRICAL, MIXTURE, Distribution
from sublet.desk.documents import Table, at_line
from sublet.desk.formulas import LIMITS
from sublet.desk.units import Unit

Content = float | tuple[float, ...] | str


def check_fraction(table: Table, name: str, content: float | tuple[float, ...] | str, unit: str) -> None:
    if unit in ("rate", "prob", "share", "utilization") and isinstance(content, float) and abs(content) > 1:
        raise table.fail(
            "value", f"{name} is {content:g} as a {unit}; write a fraction, {content:g} % as {content / 100:g}"
        )


def check_limit(table: Table, name: str, content: Content, unit: Unit) -> None:
    """An input that is called tax, shares, life, PUE or power is held to what such a number can be, where it is given.

    Its distribution is held to the same: a draw of a PUE below 1 would be worth no more than a typed one.
    """
    words = re.split(r"[._]", name.lower())
    kind = "shares" if "shares" in words else words[-1]
    if kind not in LIMITS or not isinstance(content, float):
        return
    scale = float(unit.scale) if unit.is_number else 1.0
    at_line(table, "value", LIMITS[kind].check, name, content * scale)
    distribution = distribution_of(table)
    if distribution is not None:
        for end in distribution.reach:
            at_line(table, "distribution", LIMITS[kind].check, f"{name}: a draw of {distribution}", end * scale)


def check_inside(table: Table, content: float | tuple[float, ...] | str, distribution: Distribution | None) -> None:
    """An input that its own distribution never draws would make the headline contradict the simulation."""
    if distribution is None:
        return
    if not isinstance(content, float):
        raise table.fail("distribution", "a distribution belongs to one number; this value is a list or a text")
    low, high = distribution.reach
    if not low <= content <= high:
        raise table.fail(
            "value",
            f"value {content:g} is outside its own distribution {distribution}, which reaches from {low:g} to {high:g}; "
            "correct one of them",
        )


def distribution_of(table: Table) -> Distribution | None:
    if not table.has("distribution"):
        return None
    return _shape(table.table("distribution"), table)


def _shape(shape: Table, table: Table) -> Distribution:
    kind = shape.text("kind")
    if kind == EMPIRICAL:
        values = shape.numbers("values")
        shape.finish()
        return at_line(table, "distribution", Distribution.of_history, values)
    if kind == MIXTURE:
        parts = [(part.number("weight"), _shape(part, table)) for part in shape.tables("parts")]
        shape.finish()
        return at_line(table, "distribution", Distribution.of_parts, parts)
    limits = {key: shape.number(key) for key in ("at_least", "at_most") if shape.has(key)}
    parameters = {key: shape.number(key) for key in shape.data if key not in ("kind", "weight", *limits)}
    found = at_line(table, "distribution", Distribution.of, kind, **parameters)
    if limits:
        ends = limits.get("at_least", -math.inf), limits.get("at_most", math.inf)
        return at_line(table, "distribution", found.between, *ends)
    return found
