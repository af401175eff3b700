"""The report's sections out of a desk: what each question came to, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sublet.desk.capacity import refusal
from sublet.desk.desk import Desk
from sublet.desk.montecarlo import Fan, SimulatedResult
from sublet.desk.plausible import doubts
from sublet.desk.report import charts, pages_business, pages_market
from sublet.desk.report.blocks import Block, Cell, Figure, Paragraph, Ref, Section, TableBlock, rows_of
from sublet.desk.report.drawing import short

DOUBTS_SHOWN = 5


def sections(desk: Desk, simulated: Sequence[SimulatedResult], fans: Sequence[Fan]) -> list[Section]:
    """All sections that the case has something for, in reading order."""
    found = [
        _headline(desk),
        _capacity(desk),
        pages_market.comparables(desk),
        *pages_business.bridge(desk),
        pages_business.capital(desk),
        pages_business.channels(desk),
        pages_business.customers(desk),
        pages_market.signals(desk),
        pages_market.positioning(desk),
        pages_market.verdicts(desk),
        pages_market.surplus(desk),
        _uncertainty(desk, simulated, fans),
        _scenarios(desk),
        _statements(desk),
        _numbers(desk),
    ]
    return _with_reasons(desk, [section for section in found if section is not None])


def _with_reasons(desk: Desk, parts: list[Section]) -> list[Section]:
    """Each part that lacks something says why, in its place; one that is missing altogether has a section for that."""
    by_id = {part.id: part for part in parts}
    for name, (id_, title) in PLACES.items():
        reasons = tuple(
            Paragraph(f"{desk.title(problem.name) or title} can't be calculated: {problem.reason}", "warn")
            for problem in desk.problems_of(name)
        )
        if reasons:
            section = by_id.get(id_, Section(id_, title, ""))
            by_id[id_] = replace(section, blocks=(*reasons, *section.blocks))
    return [by_id[id_] for id_ in ORDER if id_ in by_id]


PLACES: Mapping[str, tuple[str, str]] = {
    "results": ("headline", "In one table"),
    "claims": ("headline", "In one table"),
    "capacity": ("capacity", "Capacity ledger"),
    "comparables": ("comparables", "Comparable deals"),
    "bridge": ("bridge", "Earnings bridge"),
    "capex": ("capex", "Capital"),
    "channels": ("channels", "Raw against managed"),
    "counterparties": ("customers", "Counterparties"),
    "signals": ("signals", "Signals"),
    "positioning": ("positioning", "Positioning"),
    "verdicts": ("verdicts", "Verdicts on evidence"),
    "surplus": ("surplus", "Surplus and glut"),
    "monte_carlo": ("uncertainty", "Uncertainty"),
    "scenarios": ("scenarios", "Scenarios"),
    "formulas": ("numbers", "Every number"),
}
"""Where a part of the case that can't be calculated says so: the id and title of its section."""

ORDER = (
    "headline", "capacity", "comparables", "bridge", "sensitivity", "capex", "channels", "customers", "signals", "positioning",
    "verdicts", "surplus", "uncertainty", "scenarios", "statements", "numbers",
)  # fmt: skip
"""The sections by id, in reading order."""


def _headline(desk: Desk) -> Section:
    blocks: list[Block] = []
    claim = next((claim.text for claim in desk.claims if claim.language == "en" and claim.part == "claim"), "")
    if claim:
        blocks.append(Paragraph(f"The claim: {claim}", "claim"))
    rows = [
        (desk.title(name), Ref(name), desk.sheet[name].formula or desk.sheet[name].source)
        for name in desk.heading.results
    ]
    if rows:
        blocks.append(TableBlock(("result", "value", "how"), tuple(rows), "The numbers that this case is about."))
    unlikely = [Paragraph(f"Line {doubt.line}: {doubt.message}", "warn") for doubt in doubts(desk.sheet)]
    blocks += unlikely[:DOUBTS_SHOWN]
    if len(unlikely) > DOUBTS_SHOWN:
        blocks.append(
            Paragraph(f"{len(unlikely) - DOUBTS_SHOWN} more numbers are unlikely; `sublet desk check` lists them.")
        )
    return Section("headline", "In one table", desk.heading.summary, tuple(blocks))


def _capacity(desk: Desk) -> Section | None:
    if not desk.capacity:
        return None
    rows: list[tuple[Cell, ...]] = [
        (f"{row.owner}: {row.id}", Ref(row.id), row.family, str(row.basis), str(row.kind), row.period, row.source)
        for row in desk.capacity
    ]
    bars = []
    unit, scale = ("GW", 1.0) if max(row.capacity_gw for row in desk.capacity) >= 1 else ("MW", 1000.0)
    for row in desk.capacity:
        extent = row.range_gw
        low, high = (extent.low, extent.high) if extent is not None else (row.capacity_gw, row.capacity_gw)
        bars.append((f"{row.id} {row.owner}"[:26], low * scale, high * scale, row.family.startswith("capacity.it")))
    by_id = {row.id: row for row in desk.capacity}
    checks: list[tuple[Cell, ...]] = []
    for summed in desk.refused_sums:
        verdict = refusal([by_id[name] for name in summed])
        checks.append(
            (" + ".join(summed), "refused" if verdict else "allowed", verdict or "same family, basis and period")
        )
    blocks: list[Block] = [
        Figure(
            charts.ranges(bars, unit),
            "Side by side and never on top of each other: IT power in the darker blue, other families in the lighter. "
            "The pale part is what a phrase such as “about” leaves open.",
        ),
        TableBlock(("row", "capacity", "family", "basis", "kind", "period", "source"), tuple(rows)),
    ]
    if checks:
        blocks.append(
            TableBlock(("sum", "verdict", "why"), tuple(checks), "Sums that people make, and what the ledger says.")
        )
    names = [value.name for value in desk.sheet if value.name.startswith("cap.") and value.term is not None]
    shown = [name for name in names if "lease_share" not in name]
    if shown:
        blocks.append(TableBlock(("derived inside one family", "value"), rows_of([(name, name) for name in shown])))
    lead = "Figures of different institutions measure different things. Each row keeps its family, basis and period."
    return Section("capacity", "Capacity ledger", lead, tuple(blocks))


def _uncertainty(desk: Desk, simulated: Sequence[SimulatedResult], fans: Sequence[Fan]) -> Section | None:
    if not simulated or desk.simulation is None:
        return None
    blocks: list[Block] = []
    for found in simulated:
        value = desk.sheet[found.name]
        marks = [(found.quantiles[0.05], "5 %"), (found.quantiles[0.5], "median"), (found.quantiles[0.95], "95 %")]
        blocks.append(
            Figure(
                charts.histogram(found.histogram, found.edges, marks, value.unit),
                f"{desk.title(found.name)}: mean {short(found.mean)} {value.unit} (standard error {found.standard_error:.2g}), "
                f"below zero in {found.below_zero:.1%} of draws.",
            )
        )
    for band in fans:
        unit = desk.sheet[band.name].unit
        over = desk.sheet[band.over]
        figure = charts.fan(band.points, band.bands, x_title=over.unit, y_title=unit)
        blocks.append(
            Figure(figure, f"{desk.title(band.name)} along {desk.title(band.over)}, every other assumption resampled.")
        )
    percentiles = list(simulated[0].quantiles)
    rows: list[tuple[Cell, ...]] = [
        (
            desk.title(found.name),
            *(short(found.quantiles[point]) for point in percentiles),
            short(found.mean),
            short(found.sd),
        )
        for found in simulated
    ]
    heads = ("result", *(f"{point:.0%}" for point in percentiles), "mean", "sd")
    blocks.append(TableBlock(heads, tuple(rows), "Quantiles of the simulated results."))
    inputs = list(dict.fromkeys(name for found in simulated for name in found.contributions))
    shares: list[tuple[Cell, ...]] = [
        (
            desk.title(name),
            str(desk.sheet[name].distribution),
            *(f"{found.contributions.get(name, 0.0):.1%}" for found in simulated),
        )
        for name in inputs
    ]
    heads = ("assumption", "distribution", *(desk.title(found.name) for found in simulated))
    blocks.append(
        TableBlock(heads, tuple(shares), "Contribution to variance: shares of squared correlation, scaled to 100 %.")
    )
    lead = f"{simulated[0].samples:,} draws from seed {desk.simulation.seed}; the same seed gives the same page."
    return Section("uncertainty", "Uncertainty", lead, tuple(blocks))


def _scenarios(desk: Desk) -> Section | None:
    if not desk.scenarios:
        return None
    moved = [
        name
        for name in desk.heading.results
        if any(scenario.results[name] != desk.sheet[name].number for scenario in desk.scenarios)
    ]
    rows: list[tuple[Cell, ...]] = [("as given", "", *(Ref(name) for name in moved))]
    for scenario in desk.scenarios:
        changes = ", ".join(f"{name} = {value:g}" for name, value in scenario.changes.items())
        rows.append((scenario.title, changes, *(short(scenario.results[name]) for name in moved)))
    table = TableBlock(("scenario", "set", *(desk.title(name) for name in moved)), tuple(rows))
    return Section("scenarios", "Scenarios", "Other worlds, with everything else as given.", (table,))


def _statements(desk: Desk) -> Section | None:
    if not desk.statements:
        return None
    rows: list[tuple[Cell, ...]] = []
    for row in desk.statements:
        content = row.content if isinstance(row.content, str) else Ref(row.id)
        shown: Cell = ", ".join(short(item) for item in row.content) if isinstance(row.content, tuple) else content
        caution = "; ".join(
            part for part in (row.flag, f"not with {', '.join(row.not_with)}" if row.not_with else "") if part
        )
        rows.append((row.id, row.speaker, f"{row.subject}: {row.metric}", row.qualifier, shown, row.period, caution))
    table = TableBlock(("id", "speaker", "what", "qualifier", "value", "period", "caution"), tuple(rows))
    lead = f"All {len(rows)} statements, with who said it and what it must not be combined with."
    return Section("statements", "Statements", lead, (table,))


def _numbers(desk: Desk) -> Section:
    rows: list[tuple[Cell, ...]] = []
    for value in desk.sheet:
        if value.is_number and not _is_cell(value.name) and not _is_end(desk, value.name):
            unit = value.unit if value.range is None else f"{value.unit}; {value.range}"
            rows.append((value.name, Ref(value.name, 8), unit, value.source, value.date, value.formula))
    table = TableBlock(("name", "value", "unit; range", "source", "date", "formula"), tuple(rows))
    lead = "Every number by name; `sublet desk explain` prints the tree behind each. Grid cells are in the JSON and the XLSX."
    return Section("numbers", "Every number", lead, (table,))


def _is_end(desk: Desk, name: str) -> bool:
    """NAME.low and NAME.high stand in the line of NAME, as its range."""
    stem, _, end = name.rpartition(".")
    return end in ("low", "high") and stem in desk.sheet and desk.sheet[stem].range is not None


def _is_cell(name: str) -> bool:
    """Cells of grids and frontiers have their own charts, and are in the JSON and the workbook by name."""
    return name.startswith(("grid.eps_", "grid.upside_", "grid.envelope_", "mgd.ratio."))
