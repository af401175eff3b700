"""The report's sections out of a desk: what each question came to, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sublet.desk.capacity import CapacityRow, refusal
from sublet.desk.desk import Desk
from sublet.desk.montecarlo import Fan, SimulatedResult
from sublet.desk.phrases import METRICS
from sublet.desk.plausible import doubts
from sublet.desk.report import (
    charts,
    grids,
    pages_business,
    pages_decision,
    pages_market,
    pages_sensitivity,
    pages_time,
)
from sublet.desk.report.blocks import Block, Cell, Figure, Paragraph, Ref, Section, TableBlock, rows_of
from sublet.desk.report.charts import Dot
from sublet.desk.report.drawing import short
from sublet.desk.report.wording import Wording

DOUBTS_SHOWN = 5


def sections(
    desk: Desk, simulated: Sequence[SimulatedResult], fans: Sequence[Fan], w: Wording | None = None
) -> list[Section]:
    """All sections that the case has something for, in reading order; in English unless `w` says otherwise."""
    w = w or Wording(desk)
    found = [
        _headline(desk, w),
        *pages_business.bridge(w),
        pages_decision.decision(w),
        pages_time.timeline(w),
        pages_market.comparables(w),
        pages_business.channels(w),
        pages_market.verdicts(w),
        pages_market.surplus(w),
        pages_business.capital(w),
        pages_business.customers(w),
        pages_market.signals(w),
        _uncertainty(desk, simulated, fans, w),
        pages_sensitivity.sensitivities(w),
        _scenarios(desk, w),
        _capacity(desk, w),
        pages_market.positioning(w),
        _statements(desk, w),
        _numbers(desk, w),
    ]
    return _with_reasons(desk, [section for section in found if section is not None], w)


def _with_reasons(desk: Desk, parts: list[Section], w: Wording) -> list[Section]:
    """Each part that lacks something says why, in its place; one that is missing altogether has a section for that."""
    by_id = {part.id: part for part in parts}
    for name, (id_, title) in PLACES.items():
        reasons = tuple(
            Paragraph(
                w("{a} can't be calculated: {b}", a=w.name(problem.name) if problem.name else w(title), b=problem.reason),
                "warn",
            )
            for problem in desk.problems_of(name)
        )  # fmt: skip
        if reasons:
            section = by_id.get(id_, Section(id_, w(title), ""))
            by_id[id_] = replace(section, blocks=(*reasons, *section.blocks))
    return [by_id[id_] for id_ in ORDER if id_ in by_id]


PLACES: Mapping[str, tuple[str, str]] = {
    "results": ("headline", "Results"),
    "claims": ("headline", "Results"),
    "capacity": ("capacity", "Capacity ledger"),
    "comparables": ("comparables", "Comparable deals"),
    "bridge": ("bridge", "Earnings"),
    "decision": ("decision", "Lease or keep"),
    "series": ("timeline", "Over time"),
    "capex": ("capex", "Capital"),
    "channels": ("channels", "Raw against managed"),
    "counterparties": ("customers", "Customers"),
    "signals": ("signals", "Signals"),
    "positioning": ("positioning", "Positioning"),
    "verdicts": ("verdicts", "Verdicts on evidence"),
    "surplus": ("surplus", "Surplus and glut"),
    "sensitivity": ("sensitivities", "What the results follow"),
    "monte_carlo": ("uncertainty", "Uncertainty"),
    "scenarios": ("scenarios", "Scenarios"),
    "formulas": ("numbers", "Every number"),
}
"""Where a part of the case that can't be calculated says so: the id and title of its section."""

ORDER = (
    "headline", "bridge", "sensitivity", "decision", "timeline", "comparables", "channels", "verdicts", "surplus", "capex",
    "customers", "signals", "uncertainty", "sensitivities", "scenarios", "capacity", "positioning", "statements", "numbers",
)  # fmt: skip
"""The sections by id, in reading order."""


def _headline(desk: Desk, w: Wording) -> Section:
    blocks: list[Block] = []
    rows = [(w.name(name), Ref(name), w.status(desk.sheet[name].status)) for name in desk.heading.results]
    if rows:
        blocks.append(TableBlock((w("result"), w("value"), w("status")), tuple(rows)))
    found = doubts(desk.sheet)
    for doubt in found[:DOUBTS_SHOWN]:
        told = doubt.message.replace(doubt.name, w.name(doubt.name), 1)
        told = told if w.language == "en" else w.name(doubt.name)
        words = f"{doubt.place}: {told}" if doubt.file else w("Line {a}: {b}", a=str(doubt.line), b=told)
        blocks.append(Paragraph(words, "warn"))
    if len(found) > DOUBTS_SHOWN:
        more = str(len(found) - DOUBTS_SHOWN)
        blocks.append(Paragraph(w("{a} more numbers are unlikely; `sublet desk check` lists them.", a=more)))
    return Section("headline", w("Results"), w.called(desk.heading.summary), tuple(blocks))


FAMILIES = {
    "it": "IT power", "footprint": "Total footprint", "utility": "Power at the utility's meter",
    "contracted_power": "Contracted power", "demand": "Contracted demand",
}  # fmt: skip
"""Families of capacity that are never added: what the panel of each is called."""


def _family(row: CapacityRow) -> str:
    parts = row.family.split(".")
    return FAMILIES.get(parts[0], FAMILIES.get(parts[1] if len(parts) > 1 else "", row.family.replace(".", ", ")))


def _row_label(desk: Desk, row: CapacityRow, w: Wording) -> str:
    """Whose it is, what it measures and when: "Meta, IT capacity in place, end of 2025"."""
    statement = next((item for item in desk.statements if item.id == row.id), None)
    metric = statement.metric if statement is not None else row.family
    words = METRICS.get(metric, {}).get(w.language) or w.called(metric.replace("_", " "))
    owner = w.called(row.owner)
    return w.joined([owner, words, w.period(row.period)])


def _capacity(desk: Desk, w: Wording) -> Section | None:
    if not desk.capacity:
        return None
    rows: list[tuple[Cell, ...]] = [
        (
            _row_label(desk, row, w), Ref(row.id), w(_family(row)), w(pages_market.BASES[row.basis]), w(str(row.kind)),
            w.called(row.source),
        )
        for row in desk.capacity
    ]  # fmt: skip
    unit, scale = ("GW", 1.0) if max(row.capacity_gw for row in desk.capacity) >= 1 else ("MW", 1000.0)
    axis = w.axis(unit)[1]
    panels: dict[str, list[Dot]] = {}
    for row in desk.capacity:
        extent = row.range_gw
        low, high = (extent.low, extent.high) if extent is not None else (row.capacity_gw, row.capacity_gw)
        dot = Dot(
            _row_label(desk, row, w), low * scale, row.capacity_gw * scale, high * scale, str(row.kind) == "stock"
        )
        panels.setdefault(_family(row), []).append(dot)
    more = w("{number} or more")
    blocks: list[Block] = [
        Figure(lambda width, drawn=tuple(drawn): charts.dots(width, drawn, axis, more), w(family))  # type: ignore[misc]
        for family, drawn in panels.items()
    ]
    blocks.append(
        Paragraph(
            w("A filled dot is in place, a hollow one is to be added; the line is what a phrase such as “about” leaves open."),
            "fine",
        )
    )  # fmt: skip
    by_id = {row.id: row for row in desk.capacity}
    checks: list[tuple[Cell, ...]] = []
    for summed in desk.refused_sums:
        chosen = [by_id[name] for name in summed]
        label = " + ".join(_row_label(desk, row, w) for row in chosen)
        why = "".join([_reason(chosen, w), *(_scopes(desk, chosen, w) if refusal(chosen) else [])])
        checks.append((label, w("refused") if refusal(chosen) else w("allowed"), why))
    if checks:
        caption = w("Sums that people make, and what the ledger says.")
        blocks.append(TableBlock((w("sum"), w("verdict"), w("why")), tuple(checks), caption))
    heads = (w("what"), w("capacity"), w("family"), w("basis"), w("kind"), w("source"))
    blocks.append(TableBlock(heads, tuple(rows), folded=w("Every row of the ledger")))
    names = [value.name for value in desk.sheet if value.name.startswith("cap.") and value.term is not None]
    if names:
        pairs = rows_of([(w.name(name), name) for name in names])
        blocks.append(TableBlock((w("what"), w("value")), pairs, folded=w("Derived inside one family")))
    lead = w("Figures of different institutions measure different things. Each row keeps its family, basis and period.")
    return Section("capacity", w("Capacity ledger"), lead, tuple(blocks))


def _reason(rows: Sequence[CapacityRow], w: Wording) -> str:
    """Why the ledger refuses a sum, in the reader's words: the fields that differ."""
    fields = [
        name
        for name in ("family", "basis", "source", "kind", "period")
        if len({str(getattr(row, name)) for row in rows}) > 1
    ]
    if fields:
        return w("they differ in {a}", a=w.joined([w(field) for field in fields]))
    if refusal(rows) is None:
        return w("same family, basis and period")
    banned = any(other.id in row.not_with for row in rows for other in rows)
    return w("the row itself says that it must not be combined") if banned else w("one owner would be counted twice")


def _scopes(desk: Desk, rows: Sequence[CapacityRow], w: Wording) -> list[str]:
    """What statements say of rows that do not count one kind of thing."""
    limits = {row.scope for row in rows} - {""}
    return [
        w("; {a}: {b}", a=w.called(item.speaker), b=w.called(str(item.content)))
        for item in desk.statements
        if item.id in limits
    ]


def _uncertainty(desk: Desk, simulated: Sequence[SimulatedResult], fans: Sequence[Fan], w: Wording) -> Section | None:
    if not simulated or desk.simulation is None:
        return None
    blocks: list[Block] = [_histogram(desk, found, simulated, w) for found in simulated]
    for band in fans:
        factor, axis = w.axis(desk.sheet[band.name].unit)
        bands = {point: [value * factor for value in values] for point, values in band.bands.items()}
        titles = (w.axis(desk.sheet[band.over].unit)[1], axis)

        def draw(
            width: int, band: Fan = band, bands: Mapping[float, list[float]] = bands, titles: tuple[str, str] = titles
        ) -> str:
            return grids.fan(width, band.points, bands, titles=titles, median=w("median"))

        words = w("{a}, by {b}; every other assumption resampled.", a=w.name(band.name), b=w.name(band.over))
        blocks.append(Figure(draw, words))
    percentiles = list(simulated[0].quantiles)
    rows: list[tuple[Cell, ...]] = [_scaled_row(desk, found, percentiles, w) for found in simulated]
    heads = (w("result"), *(f"{point:.0%}" for point in percentiles), w("mean"), w("standard deviation"), w("unit"))
    blocks.append(TableBlock(heads, tuple(rows), folded=w("Quantiles of the simulated results")))
    inputs = list(dict.fromkeys(name for found in simulated for name in found.contributions))
    shares: list[tuple[Cell, ...]] = [
        (w.name(name), *(f"{found.contributions.get(name, 0.0):.1%}" for found in simulated)) for name in inputs
    ]
    heads = (w("assumption"), *(w.name(found.name) for found in simulated))
    caption = w("Contribution to variance: shares of squared correlation, scaled to 100%.")
    if desk.sheet.correlations:
        caption = w(
            "Contribution to variance: Shapley shares, as some assumptions move together. A straight line through all of them "
            "explains at least {a} of it.",
            a=f"{min(found.explained for found in simulated):.0%}",
        )
    blocks.append(TableBlock(heads, tuple(shares), caption, w("Which assumptions the spread comes from")))
    lead = w(
        "{a} draws from seed {b}; the same seed gives the same page.",
        a=f"{simulated[0].samples:,}", b=str(desk.simulation.seed),
    )  # fmt: skip
    return Section("uncertainty", w("Uncertainty"), lead, tuple(blocks))


def _scaled_row(desk: Desk, found: SimulatedResult, percentiles: Sequence[float], w: Wording) -> tuple[Cell, ...]:
    factor, unit = w.axis(desk.sheet[found.name].unit)
    numbers = [*(found.quantiles[point] for point in percentiles), found.mean, found.sd]
    return (w.name(found.name), *(short(number * factor) for number in numbers), unit)


def _histogram(desk: Desk, found: SimulatedResult, simulated: Sequence[SimulatedResult], w: Wording) -> Figure:
    """Results in one unit share an axis, so that they can be compared."""
    unit = desk.sheet[found.name].unit
    factor, axis = w.axis(unit)
    alike = [item for item in simulated if desk.sheet[item.name].unit == unit]
    extent = (min(item.edges[0] for item in alike) * factor, max(item.edges[-1] for item in alike) * factor)
    at = {point: found.quantiles[point] for point in (0.05, 0.5, 0.95)}
    marks = [
        (at[0.05] * factor, "5%"), (at[0.5] * factor, w("median {a}", a=w.number(at[0.5], unit))), (at[0.95] * factor, "95%"),
    ]  # fmt: skip
    edges = [edge * factor for edge in found.edges]
    caption = w(
        "{a}: median {b}, nine in ten draws from {c} to {d}; mean {e}; below zero in {f} of draws. With every assumption as "
        "given it is {g}.",
        a=w.name(found.name), b=w.number(at[0.5], unit), c=w.number(at[0.05], unit), d=w.number(at[0.95], unit),
        e=w.number(found.mean, unit), f=f"{found.below_zero:.1%}", g=w.number(desk.sheet[found.name].number, unit),
    )  # fmt: skip
    return Figure(lambda width: grids.histogram(width, found.histogram, edges, marks, axis, extent), caption)


def _scenarios(desk: Desk, w: Wording) -> Section | None:
    if not desk.scenarios:
        return None
    moved = [
        name
        for name in desk.heading.results
        if any(scenario.results[name] != desk.sheet[name].number for scenario in desk.scenarios)
    ]
    rows: list[tuple[Cell, ...]] = [(w("as given"), "", *(w.quantity(desk.sheet[name]) for name in moved))]
    for scenario in desk.scenarios:
        moves = [f"{w.name(name)} {w.number(value, desk.sheet[name].unit)}" for name, value in scenario.changes.items()]
        changes = w.joined(list(dict.fromkeys(moves)))  # two values of one name that move together are told once
        results = (w.number(scenario.results[name], desk.sheet[name].unit) for name in moved)
        rows.append((w.called(scenario.title), changes, *results))
    table = TableBlock((w("scenario"), w("what changes"), *(w.name(name) for name in moved)), tuple(rows))
    return Section("scenarios", w("Scenarios"), w("Other worlds, with everything else as given."), (table,))


def _statements(desk: Desk, w: Wording) -> Section | None:
    if not desk.statements:
        return None
    rows: list[tuple[Cell, ...]] = []
    for row in desk.statements:
        content = w.called(row.content) if isinstance(row.content, str) else Ref(row.id)
        shown: Cell = content
        if isinstance(row.content, tuple):
            shown = w.joined([w.number(item, row.unit) for item in row.content])
        caution = w.joined([w.called(row.flag)] if row.flag else [])
        what = w("{a}: {b}", a=w.called(row.subject), b=w.called(row.metric.replace("_", " ")))
        status = w.status(desk.sheet[row.id].status)
        rows.append(
            (w.called(row.speaker), what, w.called(row.qualifier), shown, w.period(row.period), status, caution)
        )
    heads = (w("speaker"), w("what"), w("qualifier"), w("value"), w("period"), w("status"), w("caution"))
    lead = w("All {a} statements, with who said it and what to beware of.", a=str(len(rows)))
    return Section("statements", w("Statements"), lead, (TableBlock(heads, tuple(rows)),), is_folded=True)


def _numbers(desk: Desk, w: Wording) -> Section:
    rows: list[tuple[Cell, ...]] = []
    for value in desk.sheet:
        if value.is_number and not _is_cell(value.name) and not _is_end(desk, value.name):
            called = w.name(value.name)
            unit = value.unit if value.range is None else f"{value.unit}; {value.range}"
            name = "" if called == value.name else called
            rows.append(
                (value.name, name, Ref(value.name, 8), unit, _source(value.source, w), value.date, value.formula)
            )
    heads = (w("id"), w("what"), w("value"), w("unit; range"), w("source"), w("date"), w("formula"))
    lead = w(
        "Every number by its id; `sublet desk explain` prints the tree behind each. Grid cells are in the JSON and the XLSX."
    )
    return Section("numbers", w("Every number"), lead, (TableBlock(heads, tuple(rows)),), is_folded=True)


def _source(source: str, w: Wording) -> str:
    """Titles of publications stay as they were published; what the desk says of itself is in the reader's language."""
    return "; ".join(w.called(part) if part == "assumption of this case" else part for part in source.split("; "))


def _is_end(desk: Desk, name: str) -> bool:
    """NAME.low and NAME.high stand in the line of NAME, as its range."""
    stem, _, end = name.rpartition(".")
    return end in ("low", "high") and stem in desk.sheet and desk.sheet[stem].range is not None


def _is_cell(name: str) -> bool:
    """Cells of grids and frontiers have their own charts, and are in the JSON and the workbook by name."""
    return name.startswith(("grid.eps_", "grid.upside_", "grid.envelope_", "mgd.ratio.", "decision.at_"))
