"""What people do with a case: open it, explain a number, simulate, compare, report, brief."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sublet import __version__
from sublet.desk.desk import Desk
from sublet.desk.errors import CalculationError, CaseError
from sublet.desk.faults import Problem
from sublet.desk.montecarlo import Fan, SimulatedResult, fan, simulate
from sublet.desk.report import workbook
from sublet.desk.report.figures import as_json
from sublet.desk.report.page import render
from sublet.desk.report.pages import sections
from sublet.desk.report.wording import Wording

FAN_SAMPLES = 20_000
"""Draws at each point of a fan: its 1 % quantile is then good to about a twentieth of a standard deviation."""


@dataclass(frozen=True, slots=True)
class Reports:
    """The files that a report wrote, and what they could not say."""

    html: Path
    xlsx: Path
    json: Path
    problems: tuple[Problem, ...] = ()
    pages: tuple[Path, ...] = ()


def run_simulation(
    desk: Desk, samples: int | None = None, seed: int | None = None, progress: Callable[[int], None] | None = None
) -> list[SimulatedResult]:
    """The case's Monte Carlo. Raises CaseError where the case has none."""
    plan = desk.simulation
    if plan is None:
        raise CaseError(f'{desk.path}: the case has no [monte_carlo]; add one with results = ["NAME"]')
    return simulate(
        desk.sheet, plan.results, samples or plan.samples, plan.seed if seed is None else seed, progress=progress
    )


def run_fans(desk: Desk) -> list[Fan]:
    """Each simulated result along the input that the case names; none where it names none."""
    plan = desk.simulation
    if plan is None or not plan.fan_over:
        return []
    return [fan(desk.sheet, name, plan.fan_over, plan.fan_points, FAN_SAMPLES, plan.seed) for name in plan.results]


def write_reports(desk: Desk, folder: Path, languages: Sequence[str] = ("en",)) -> Reports:
    """HTML, XLSX and JSON of a case into `folder`, named after the case; a page for each language, the first of which is `html`.

    Raises CaseError where they can't be written.
    """
    simulated: list[SimulatedResult] = []
    fans: list[Fan] = []
    try:
        simulated = run_simulation(desk) if desk.simulation is not None else []
        fans = run_fans(desk)
    except CalculationError as error:
        problem = Problem("monte_carlo", "", f"{desk.path}: {error.message}")
        desk = replace(desk, simulation=None, problems=(*desk.problems, problem))
    pages = {language: _page(desk, simulated, fans, language) for language in languages}
    book = workbook.write(desk, simulated, __version__)
    data = json.dumps(as_json(desk, simulated, fans, __version__), ensure_ascii=False, indent=1, allow_nan=False)
    stem = folder / desk.heading.name
    files = {language: folder / f"{desk.heading.name}{_suffix(language)}.html" for language in languages}
    html = files[languages[0]]
    reports = Reports(html, stem.with_suffix(".xlsx"), stem.with_suffix(".json"), desk.problems, tuple(files.values()))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for language, page in pages.items():
            files[language].write_text(page, encoding="utf-8")
        reports.xlsx.write_bytes(book)
        reports.json.write_text(data + "\n", encoding="utf-8")
    except OSError as error:
        raise CaseError(
            f"{folder}: the report can't be written there ({error.strerror}); choose a different folder with --out"
        ) from error
    return reports


def _page(desk: Desk, simulated: Sequence[SimulatedResult], fans: Sequence[Fan], language: str) -> str:
    w = Wording(desk, language)
    return render(desk, sections(desk, simulated, fans, w), __version__, w)


def _suffix(language: str) -> str:
    """English has the plain name."""
    return "" if language == "en" else f".{language}"


def write_text(path: Path, text: str) -> None:
    """Write a page. Raises CaseError where it can't be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CaseError(
            f"{path}: the page can't be written there ({error.strerror}); choose a different file with --out"
        ) from error
