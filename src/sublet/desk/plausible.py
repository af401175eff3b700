"""Numbers that are possible and hardly meant: watts written as gigawatts, millions of shares as billions. They stop nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from sublet.desk.sheet import Value
from sublet.desk.units import parse_unit
from sublet.values.errors import SubletError


@dataclass(frozen=True, slots=True)
class Ordinary:
    """How large a number of a kind ordinarily is: from `low` to `high` in `unit`; `means` says where the ends come from."""

    unit: str
    low: float
    high: float
    means: str


ORDINARY = (
    Ordinary("GW", 0.0, 50.0, "all data centers of the largest owner come to less than 50 GW"),
    Ordinary("bn shares", 0.0005, 50.0, "listed companies have from half a million to 50 billion shares"),
    Ordinary("USD/W-yr", 0.05, 200.0, "a watt of accelerators is let for some 5 to 50 USD a year"),
    Ordinary("USD/W", 0.5, 500.0, "a watt of a data center with its accelerators costs some 10 to 60 USD to build"),
    Ordinary("USD/GPU-h", 0.01, 200.0, "an accelerator-hour is sold for cents to some ten USD"),
    Ordinary("USD/MWh", 1.0, 1000.0, "electricity costs some 20 to 300 USD/MWh"),
    Ordinary("USD/Mtok", 0.0001, 1000.0, "a million tokens are sold for cents to some hundred USD"),
    Ordinary(
        "USD/share", -1000.0, 10_000.0, "earnings of a share are ordinarily below its price, which is below 10,000 USD"
    ),
    Ordinary("USD bn", -20_000.0, 20_000.0, "no company is worth 20,000 billion USD"),
    Ordinary("W per accelerator", 30.0, 10_000.0, "an accelerator draws some 100 to 3,000 W"),
    Ordinary("tok/s/GPU", 0.0, 1_000_000.0, "an accelerator answers with some ten thousand tokens a second at most"),
)
"""Ends lie some order of magnitude beyond what was published by 2026: what is outside is more often a slip of a unit than news."""

LIFE_YEARS_MAX = 50.0
PUE_MAX = 3.0


@dataclass(frozen=True, slots=True)
class Doubt:
    """A given number that is hardly meant, with its line and what speaks against it; `file` is empty for the case's own file."""

    name: str
    line: int
    message: str
    file: str = ""

    @property
    def place(self) -> str:
        """Name and line of the other file, empty for the case's own."""
        return f"{Path(self.file).name}:{self.line}" if self.file else ""


def doubts(values: Iterable[Value]) -> list[Doubt]:
    """Each given number outside what numbers of its kind ordinarily are, in the order of the case."""
    found = []
    for value in values:
        if value.term is None and value.is_number and not value.name.endswith((".low", ".high")):
            words = _doubt(value)
            if words:
                found.append(
                    Doubt(
                        value.name,
                        value.file_line if value.file else value.line,
                        f"{value.name} is {value.number:g} {value.unit}: {words}; check number and unit",
                        value.file,
                    )
                )
    return found


def _doubt(value: Value) -> str:
    last = value.name.lower().rpartition(".")[2].rpartition("_")[2]
    if last == "pue" and value.number > PUE_MAX:
        return f"a PUE above {PUE_MAX:g} would mean that most of the power never reaches a server"
    for kind in ORDINARY:
        number = _in_unit(value, kind.unit)
        if number is not None and number != 0 and not kind.low <= number <= kind.high:
            return kind.means
    years = _in_unit(value, "yr")
    if years is not None and years > LIFE_YEARS_MAX:
        return f"no life, term or contract of hardware is ordinarily longer than {LIFE_YEARS_MAX:g} years"
    return ""


def _in_unit(value: Value, unit: str) -> float | None:
    """The number in another unit of its kind, None where it is of another kind.

    Energy is priced by the watt-hour and capacity by the watt-year: one dimension, told apart by how it is written.
    """
    if ("Wh" in unit) != ("Wh" in value.unit):
        return None
    try:
        factor = replace(value.parsed_unit, basis=None).factor_to(replace(parse_unit(unit), basis=None))
    except SubletError:
        return None
    return value.number * float(factor)
