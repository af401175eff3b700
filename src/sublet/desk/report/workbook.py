"""One XLSX: every derived number a live formula over the inputs, with the result cached so that it opens right anywhere."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import xlsxwriter

from sublet.desk.desk import Desk
from sublet.desk.montecarlo import SimulatedResult
from sublet.desk.report import sensitivities
from sublet.desk.report.cells import LISTS, Cells
from sublet.desk.sections.bridge import Grid
from sublet.desk.sheet import STATUS_MEANINGS, Sheet, Status, Value
from sublet.desk.terms import names_in

_COLORS = {
    Status.PUBLISHED: "#DCFCE7", Status.DERIVED: "#DBEAFE", Status.BOUND: "#EDE9FE",
    Status.ASSUMPTION: "#FEF3C7", Status.EXTERNAL: "#CCFBF1", Status.MODELED: "#E2E8F0",
}  # fmt: skip
_INPUT_COLUMNS = (("name", 38), ("value", 16), ("unit", 26), ("status", 12), ("source", 44), ("date", 12), ("low", 12),
                  ("high", 12), ("note", 60))  # fmt: skip
_VALUE_COLUMNS = (
    ("name", 46),
    ("value", 16),
    ("unit", 26),
    ("status", 12),
    ("formula", 70),
    ("source", 50),
    ("note", 50),
    ("reservation", 70),
)


def write(desk: Desk, simulated: Sequence[SimulatedResult], version: str, *, cached: bool = True) -> bytes:
    """The workbook's bytes. `cached` False leaves zeros for the results, which is how a recalculation is tested."""
    buffer = io.BytesIO()
    book = xlsxwriter.Workbook(buffer, {"in_memory": True})
    book.set_properties({"title": desk.heading.title, "comments": f"case hash {desk.digest}"})
    writer = Writer(book, desk.sheet, cached)
    writer.about(desk, version)
    writer.results(desk)
    writer.problems(desk)
    writer.inputs()
    writer.values()
    if desk.bridge is not None:
        for grid in desk.bridge.grids:
            writer.grid(desk, grid)
        writer.tornado(desk)
    writer.series(desk)
    for place, found in enumerate(desk.sensitivities, start=1):
        sensitivities.write(writer, desk, found, f"Sensitivity {place}")
    writer.statements(desk)
    writer.contracts(desk)
    writer.signals(desk)
    writer.simulation(simulated)
    writer.scenarios(desk)
    writer.lists()
    book.close()
    return buffer.getvalue()


FORMULA_MAX = 8000
"""Excel takes formulas of 8,192 characters."""


class Writer:
    """Writes a case's sheets; the parts of the report that have sheets of their own use its cells and formulas."""

    def __init__(self, book: Any, sheet: Sheet, cached: bool) -> None:
        self._book, self.sheet, self._cached = book, sheet, cached
        self._head = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
        self._title = book.add_format({"bold": True, "font_size": 15})
        self._wrap = book.add_format({"text_wrap": True, "valign": "top"})
        self._number = book.add_format({"num_format": "#,##0.0000"})
        self._statuses = {status: book.add_format({"bg_color": color}) for status, color in _COLORS.items()}
        given = [value for value in sheet if value.term is None and value.is_number]
        derived = [value for value in sheet if value.term is not None]
        self._given, self._derived = given, derived
        self.cells = Cells(given, derived)

    def about(self, desk: Desk, version: str) -> None:
        page = self._book.add_worksheet("About")
        page.set_column(0, 0, 18)
        page.set_column(1, 1, 96)
        heading = desk.heading
        page.write_string(0, 0, heading.title, self._title)
        rows = [
            ("Owner", heading.owner), ("As of", heading.as_of.isoformat()), ("Case", f"{heading.name} version {heading.version}"),
            ("Case hash", desk.digest), ("Sublet", version), ("Summary", heading.summary),
            ("How to use", "Change a number on the sheet Inputs: Values, Results and the grids follow. Monte Carlo and "
             "Scenarios are results of a run and do not."),
        ]  # fmt: skip
        rows += [(str(status), meaning) for status, meaning in STATUS_MEANINGS.items()]
        for row, (label, words) in enumerate(rows, start=2):
            page.write_string(row, 0, label, self._head)
            page.write_string(row, 1, words, self._wrap)

    def results(self, desk: Desk) -> None:
        page = self.page("Results", (("result", 56), ("value", 16), ("unit", 22), ("status", 12), ("name", 44),
                                      ("reservation", 70)))  # fmt: skip
        for row, name in enumerate(desk.heading.results, start=1):
            value = self.sheet[name]
            page.write_string(row, 0, desk.title(name))
            self.formula(page, row, 1, self.cells[name], value.number)
            page.write_string(row, 2, value.unit)
            page.write_string(row, 3, str(value.status), self._statuses[value.status])
            page.write_string(row, 4, name)
            page.write_string(row, 5, "; ".join(map(str, value.marks)))

    def problems(self, desk: Desk) -> None:
        if not desk.problems:
            return
        page = self.page("Problems", (("part", 16), ("name", 40), ("why it can't be calculated", 110)))
        for row, problem in enumerate(desk.problems, start=1):
            for column, words in enumerate((problem.part, problem.name, problem.message)):
                page.write_string(row, column, words, self._wrap)

    def inputs(self) -> None:
        page = self.page("Inputs", _INPUT_COLUMNS)
        for row, value in enumerate(self._given, start=1):
            page.write_string(row, 0, value.name)
            page.write_number(row, 1, value.number)
            self._texts(page, row, 2, (value.unit, str(value.status), value.source, value.date), value)
            ends = (value.range.low, value.range.high) if value.range is not None else ()
            for column, end in enumerate(ends, start=6):
                if abs(end) != float("inf"):
                    page.write_number(row, column, end)
            page.write_string(row, 8, "; ".join(part for part in (value.formula, value.note) if part))

    def values(self) -> None:
        page = self.page("Values", _VALUE_COLUMNS)
        for row, value in enumerate(self._derived, start=1):
            assert value.term is not None
            page.write_string(row, 0, value.name)
            self.formula(page, row, 1, self.cells.formula(value.term), value.number)
            texts = (
                value.unit,
                str(value.status),
                value.formula,
                value.source,
                value.note,
                "; ".join(map(str, value.marks)),
            )
            self._texts(page, row, 2, texts, value)

    def grid(self, desk: Desk, grid: Grid) -> None:
        """Cells that point at the values, so that a changed input changes the grid. No data table: those open blank."""
        assert desk.bridge is not None
        page = self._book.add_worksheet(f"Grid {grid.mode}"[:31])
        page.write_string(0, 0, f"{grid.title}; rows MW, columns USD/W-yr", self._title)
        page.set_column(0, 0, 14)
        for column, price in enumerate(desk.bridge.axis_price, start=1):
            page.write_number(2, column, price, self._head)
        for row, (power, names) in enumerate(zip(desk.bridge.axis_power, grid.names, strict=True), start=3):
            page.write_number(row, 0, power, self._head)
            for column, name in enumerate(names, start=1):
                self.formula(page, row, column, self.cells[name], self.sheet[name].number)
        last = (3 + len(grid.names) - 1, len(desk.bridge.axis_price))
        page.conditional_format(3, 1, *last, {"type": "2_color_scale", "min_color": "#FFFFFF", "max_color": "#6FA8FF"})
        page.write_string(last[0] + 2, 0, "Only the published cell is published; every other cell is derived.")

    def tornado(self, desk: Desk) -> None:
        assert desk.bridge is not None
        if not desk.bridge.tornado:
            return
        columns = (
            ("input", 40),
            ("low", 12),
            ("high", 12),
            ("result at low", 16),
            ("result at high", 16),
            ("swing", 14),
        )
        page = self.page("Tornado", columns)
        result = self.sheet[desk.bridge.result].term
        assert result is not None
        for row, bar in enumerate(desk.bridge.tornado, start=1):
            page.write_string(row, 0, desk.title(bar.input))
            page.write_number(row, 1, bar.low)
            page.write_number(row, 2, bar.high)
            ends = (("B", bar.low, bar.at_low), ("C", bar.high, bar.at_high))
            for column, (letter, end, number) in enumerate(ends, start=3):
                if bar.input in names_in(result):
                    moved = {bar.input: (f"Tornado!${letter}${row + 1}", end)}
                    self.formula(page, row, column, self.cells.formula(result, moved), number)
                else:  # it is used further down, where the tornado holds what is calculated
                    page.write_number(row, column, number)
            self.formula(page, row, 5, f"ABS(E{row + 1}-D{row + 1})", bar.swing)

    def series(self, desk: Desk) -> None:
        """A sheet for each calendar: periods down, series across, each cell pointing at its value, and a chart of them."""
        for calendar in {series.calendar.name: series.calendar for series in desk.timeline}.values():
            group = [series for series in desk.timeline if series.calendar.name == calendar.name]
            name = f"Series {calendar.name}"[:31]
            heads = [(f"{desk.title(series.name)}, {series.unit}", 18.0) for series in group]
            page = self.page(name, [("period", 12), ("from", 12), ("until", 12), *heads])
            for row, period in enumerate(calendar.periods, start=1):
                for column, words in enumerate((period.label, period.start.isoformat(), period.until.isoformat())):
                    page.write_string(row, column, words)
                for column, series in enumerate(group, start=3):
                    value = series.names[row - 1]
                    self.formula(page, row, column, self.cells[value], self.sheet[value].number)
            last = len(calendar.periods)
            years = list(dict.fromkeys(year for series in group for year, _ in series.years))
            for row, year in enumerate(years, start=last + 2):
                page.write_string(row, 0, year, self._head)
                for column, series in enumerate(group, start=3):
                    value = dict(series.years).get(year, "")
                    if value:
                        self.formula(page, row, column, self.cells[value], self.sheet[value].number)
            for place, series in enumerate(group):
                chart = self._book.add_chart({"type": "column"})
                chart.add_series({
                    "name": [name, 0, 3 + place], "categories": [name, 1, 0, last, 0], "values": [name, 1, 3 + place, last, 3 + place],
                })  # fmt: skip
                chart.set_title({"name": desk.title(series.name), "name_font": {"size": 11}})
                chart.set_legend({"none": True})
                chart.set_y_axis({"name": series.unit})
                page.insert_chart(last + 4 + len(years) + 16 * (place // 2), 8 * (place % 2), chart)

    def statements(self, desk: Desk) -> None:
        if not desk.statements:
            return
        columns = (("id", 8), ("speaker", 24), ("subject", 22), ("metric", 22), ("value", 20), ("unit", 28), ("period", 20),
                   ("qualifier", 16), ("measures", 44), ("not with", 34), ("caution", 60), ("source", 40), ("date", 12))  # fmt: skip
        page = self.page("Statements", columns)
        for row, item in enumerate(desk.statements, start=1):
            texts = (item.id, item.speaker, item.subject, item.metric)
            for column, words in enumerate(texts):
                page.write_string(row, column, words)
            if isinstance(item.content, float):
                page.write_number(row, 4, item.content)
            else:
                words = (
                    item.content if isinstance(item.content, str) else ", ".join(f"{part:g}" for part in item.content)
                )
                page.write_string(row, 4, words)
            rest = (item.unit, item.period, item.qualifier, item.measures, "; ".join(item.not_with), item.flag,
                    item.source.title, item.source.date)  # fmt: skip
            for column, words in enumerate(rest, start=5):
                page.write_string(row, column, words)

    def contracts(self, desk: Desk) -> None:
        if desk.customers is None:
            return
        columns = (("contract", 20), ("customer", 22), ("signing value, USD bn", 16), ("start", 12), ("end", 12),
                   ("potential competitor", 12), ("remaining, USD bn", 16), ("source", 40))  # fmt: skip
        page = self.page("Contracts", columns)
        for row, contract in enumerate(desk.customers.contracts, start=1):
            page.write_string(row, 0, contract.id)
            page.write_string(row, 1, contract.customer)
            page.write_number(row, 2, contract.value)
            page.write_string(row, 3, contract.start.isoformat())
            page.write_string(row, 4, contract.last_day.isoformat())
            page.write_string(row, 5, "yes" if contract.is_competitor else "no")
            page.write_number(row, 6, contract.remaining(desk.heading.as_of))
            page.write_string(row, 7, contract.source)

    def signals(self, desk: Desk) -> None:
        if desk.signals is None:
            return
        columns = (("signal", 24), ("state", 12), ("due", 12), ("bull", 44), ("bear", 44), ("ratio bull", 10),
                   ("ratio bear", 10), ("test", 44), ("falsifier", 50))  # fmt: skip
        page = self.page("Signals", columns)
        for row, signal in enumerate(desk.signals.signals, start=1):
            state = str(signal.state_at(desk.signals.as_of))
            for column, words in enumerate((signal.id, state, signal.due.isoformat(), signal.bull, signal.bear)):
                page.write_string(row, column, words)
            page.write_number(row, 5, signal.lr_bull)
            page.write_number(row, 6, signal.lr_bear)
            page.write_string(row, 7, signal.test)
            page.write_string(row, 8, signal.falsifier)

    def simulation(self, simulated: Sequence[SimulatedResult]) -> None:
        if not simulated:
            return
        points = list(simulated[0].quantiles)
        heads = [("result", 30), ("samples", 12), ("mean", 12), ("sd", 12), ("below zero", 12)]
        page = self.page("Monte Carlo", (*heads, *((f"{point:.0%}", 12) for point in points)))
        for row, found in enumerate(simulated, start=1):
            page.write_string(row, 0, found.name)
            numbers = (found.samples, found.mean, found.sd, found.below_zero, *found.quantiles.values())
            for column, number in enumerate(numbers, start=1):
                page.write_number(row, column, number)

    def scenarios(self, desk: Desk) -> None:
        if not desk.scenarios:
            return
        columns = (("scenario", 34), ("set", 60), *((name, 20) for name in desk.heading.results))
        page = self.page("Scenarios", columns)
        for row, scenario in enumerate(desk.scenarios, start=1):
            page.write_string(row, 0, scenario.title)
            page.write_string(row, 1, ", ".join(f"{name} = {value:g}" for name, value in scenario.changes.items()))
            for column, name in enumerate(desk.heading.results, start=2):
                page.write_number(row, column, scenario.results[name])

    def lists(self) -> None:
        """The elements of lists that formulas calculate on the way: sum, npv, irr and lookup point at them."""
        if not self.cells.lists:
            return
        page = self.page(LISTS, (("element of a list", 20), ("value", 16)))
        for row, element in enumerate(self.cells.lists, start=1):
            if element is not None:
                self.formula(page, row, 1, *element)

    def page(self, name: str, columns: Sequence[tuple[str, float]]) -> Any:
        page = self._book.add_worksheet(name)
        for column, (title, width) in enumerate(columns):
            page.set_column(column, column, width)
            page.write_string(0, column, title, self._head)
        page.freeze_panes(1, 1)
        return page

    def _texts(self, page: Any, row: int, column: int, texts: Sequence[str], value: Value) -> None:
        for place, words in enumerate(texts, start=column):
            form = self._statuses[value.status] if words == str(value.status) and place == 3 else None
            page.write_string(row, place, words, form)

    def formula(self, page: Any, row: int, column: int, formula: str, number: float) -> None:
        """A live formula with its cached result; beyond a spreadsheet's length of formulas, the number."""
        if len(formula) > FORMULA_MAX:
            page.write_number(row, column, number, self._number)
            return
        page.write_formula(row, column, f"={formula}", self._number, number if self._cached else 0)
